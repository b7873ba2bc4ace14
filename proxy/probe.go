package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"ixmage/alias"
	"ixmage/proxy/origin"
)

// ExplainedProbe is S3's answer to a request that Explain sent.
type ExplainedProbe struct {
	ExplainedAnswer

	// Size is the object's, -1 if S3 did not tell it or refused the object; Read is how
	// many bytes of it were read.
	Size        int64  `json:"size" description:"The size of the object; -1: not known."`
	Read        int64  `json:"read" description:"How many bytes of it were read."`
	ContentType string `json:"content_type" description:"The Content-Type that clients would get; empty if it is not served."`
	Checksum    string `json:"checksum" description:"right, none (S3 sent none) or unchecked (the object was not read whole)."`

	// broken says that clients get a 200 whose body breaks off.
	broken bool
}

// States of ExplainedProbe.Checksum.
const (
	checksumRight     = "right"
	checksumNone      = "none" // S3 sent none
	checksumUnchecked = "unchecked"
)

// probe asks S3 what a GET would ask: a HEAD may be answered although the object is
// archived, its key may not be used, or the server fails to read it. The first byte tells
// the size. A small object is then requested as a GET requests it, and of a larger one as
// many bytes as decide its type.
func (p *Proxy) probe(ctx context.Context, r alias.Route, key string) *ExplainedProbe {
	a := &ExplainedProbe{Size: -1, Checksum: checksumUnchecked, ExplainedAnswer: ExplainedAnswer{
		Key: key, Operation: "GetObject", Outcome: string(origin.OutcomeOK), Status: http.StatusOK,
	}}
	req := origin.Request{Route: r, Key: key, Force: true}
	err := p.probeRange(ctx, req, a)
	if errors.Is(err, errProbeWhole) {
		err = p.probeObject(ctx, req, a)
	}
	a.At = time.Now().UTC()
	a.fail(err)
	if oe, ok := errors.AsType[*origin.Error](err); ok {
		a.Operation = cmp.Or(oe.Operation, a.Operation)
		a.Outcome, a.Status, a.S3Code, a.S3RequestID = string(oe.Outcome), oe.Status, oe.Code, oe.S3RequestID
	}
	return a
}

// errProbeWhole means that a probe must request the object without a range.
var errProbeWhole = errors.New("the object has to be requested whole")

// errProbeMore means that sniffLen bytes do not decide the type.
var errProbeMore = errors.New("the first bytes do not decide the type")

// probeRange requests the first byte and, if the object is large, the bytes that decide
// its type. A failure that may be due to the range is no answer: a GET sends none.
func (p *Proxy) probeRange(ctx context.Context, req origin.Request, a *ExplainedProbe) error {
	req.Range = &origin.Range{}
	o, err := p.origin.Get(ctx, req)
	if err != nil {
		return unlessOfRange(err)
	}
	_, _ = o.Front(make([]byte, 1), 1)
	o.Body.Close()
	if o.Size <= sniffLen {
		return errProbeWhole
	}
	req.IfMatch = strongTag(validatorsOf(o).etag)
	for _, n := range []int64{sniffLen, prologMax} {
		req.Range = &origin.Range{Last: n - 1}
		if err = p.probeObject(ctx, req, a); !errors.Is(err, errProbeMore) {
			break
		}
	}
	if err != nil {
		return unlessOfRange(err)
	}
	return nil
}

// unlessOfRange returns errProbeWhole for an error that a request without a range might
// not get.
func unlessOfRange(err error) error {
	oe, ok := errors.AsType[*origin.Error](err)
	if ok && (oe.Outcome == origin.OutcomeError || oe.Outcome.Changed()) {
		return errProbeWhole
	}
	return err
}

// probeObject requests an object or the beginning of it, decides like a GET whether it is
// served, and reads on until sniffLen bytes or the end.
func (p *Proxy) probeObject(ctx context.Context, req origin.Request, a *ExplainedProbe) error {
	a.broken = false
	o, err := p.origin.Get(ctx, req)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	a.Size = o.Size
	picture, body, err := pictureOf(o, sniffLen)
	if req.Range != nil && body != nil && len(body.front) == sniffLen && wantsMore(o, body.front) {
		return errProbeMore
	}
	if err != nil {
		return err
	}
	a.ContentType = picture
	limit := max(sniffLen, int64(len(body.front))) + 1
	a.Read, err = io.Copy(io.Discard, io.LimitReader(body, limit))
	if err != nil {
		a.broken = true
		return err
	}
	if a.Read < limit && req.Range == nil {
		if a.Checksum = checksumNone; o.Checked {
			a.Checksum = checksumRight
		}
		a.Size = a.Read
	}
	return nil
}

// wantsMore reports whether a longer beginning of an object may decide its type.
func wantsMore(o *origin.Object, front []byte) bool {
	d, err := declarationOf(o)
	if err != nil {
		return false
	}
	_, more, _ := d.typeOf(front)
	return more
}

// refusal is the error that clients get instead of a picture.
func (a *ExplainedProbe) refusal() error {
	if a.broken {
		return nil
	}
	return a.err
}

// seen says what the probe has seen of an object, and no more.
func (a *ExplainedProbe) seen() string {
	switch {
	case a.broken:
		return remedyBroken + a.remedy()
	case a.Checksum != checksumUnchecked && a.Read == 0:
		return "S3 gave this credential the object, and it is empty: clients get a 200 without a picture. Upload it again."
	case a.Checksum == checksumRight:
		return fmt.Sprintf("S3 gave this credential the whole object, %d bytes that are served as %s; "+
			"their checksum is right.", a.Read, a.ContentType)
	case a.Checksum == checksumNone:
		return fmt.Sprintf("S3 gave this credential the whole object, %d bytes that are served as %s; "+
			"S3 sent no checksum for them.", a.Read, a.ContentType)
	}
	of := ""
	if a.Size >= 0 {
		of = fmt.Sprintf(" of %d", a.Size)
	}
	return fmt.Sprintf("S3 gave this credential the first %d%s bytes, and the object is served as %s. "+
		"The rest was not read, and the checksum of the whole was not checked.", a.Read, of, a.ContentType)
}
