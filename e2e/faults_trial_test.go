package e2e

import (
	"strings"
	"sync/atomic"

	"ixmage/internal/awstest/s3"
)

// verdict is what a client must see of a fault, and what is counted.
type verdict struct {
	kind    verdictKind
	status  int    // of a problem
	code    string // of a problem
	asked   int    // how often S3 is asked
	further bool   // or more often, as the connections happened to be
	outcome string // the label of ixmage_origin_requests_total, or several
	says    string // what the log line says
}

type verdictKind int

const (
	isWhole   verdictKind = iota // the right bytes, to the last
	isCut                        // right bytes, and a connection that breaks off
	isProblem                    // a problem document
	isFailed                     // cut or a problem, as the bytes happened to arrive
)

func whole(asked int) *verdict { return &verdict{asked: asked, outcome: "ok"} }

func cut(asked int, outcome string) *verdict {
	return &verdict{kind: isCut, asked: asked, outcome: outcome}
}

func fails(status int, code string, asked int, outcome string) *verdict {
	return &verdict{kind: isProblem, status: status, code: code, asked: asked, outcome: outcome}
}

func (v *verdict) logged(text string) *verdict {
	v.says = text
	return v
}

// orMore is for connections that end before an answer: net/http then tries its
// idle ones, however many there are; or before a deadline that a busy machine misses.
func (v *verdict) orMore() *verdict {
	v.further = true
	return v
}

// script is what S3 does with the requests of one client, one after the other. A
// nil fault is a right answer.
type script struct {
	faults []*s3.Fault
	always bool // the last one goes on; else right answers follow
}

func first(faults ...*s3.Fault) script { return script{faults: faults} }

func always(faults ...*s3.Fault) script { return script{faults: faults, always: true} }

func (s script) at(n int) *s3.Fault {
	switch {
	case n <= len(s.faults):
		return s.faults[n-1]
	case s.always:
		return s.faults[len(s.faults)-1]
	}
	return nil
}

// fault is a row of the table: what is wrong at S3, and what the three ways of
// asking must give. A nil way is not tried.
type fault struct {
	name     string
	object   s3.Object // with a body of its own unless there is one
	script   script
	replaced []byte // takes the body's place as the second request comes to S3
	unstored bool   // not an object for the cache

	get, head, part *verdict
}

// trial is one row asked for in one way, over an alias of its own.
type trial struct {
	*fault
	given
	alias string
	key   string

	well  atomic.Bool  // the fault is over
	asked atomic.Int64 // of S3, until then
}

func (tr *trial) path() string { return "/" + tr.alias + "/" + tr.key }

// stores reports whether the object is in the cache although S3 failed.
func (tr *trial) stores() bool {
	return tr.want.kind == isWhole && tr.method != "head" && !tr.unstored
}

// storesLater reports whether it is there when S3 is well. What could not be
// stored once is not tried for a minute; on a busy machine that may be over.
func (tr *trial) storesLater() bool {
	return tr.method == "head" || !tr.unstored || tr.got.Response != nil && strings.HasSuffix(tr.got.Header.Get("Cache-Status"), "; stored")
}

// png begins as a PNG file does; the rest is a picture.
func png(n int, seed string) []byte {
	return append([]byte("\x89PNG\r\n\x1a\n"), pic(n-8, seed)...)
}
