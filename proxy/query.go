package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"ixmage/alias"
	"ixmage/alias/signature"
	"ixmage/proxy/transform"
)

// terms are what the query of a request says about the answer. The zero value says nothing.
type terms struct {
	variant    *variant  // nil: the object itself is asked for
	signed     bool      // the answer is for those who have the URL
	until      time.Time // when the URL ends; zero: never
	negotiated bool      // the answer depends on Accept
}

// unsignedError is the refusal of a request that needs a signature. Clients get one answer for
// all reasons.
type unsignedError struct{ reason error }

func (e *unsignedError) Error() string { return "the URL needs a signature: " + e.reason.Error() }
func (e *unsignedError) Unwrap() error { return e.reason }

// errSigned is the reason if the request has no signature, and an option that needs one.
var errSigned = fmt.Errorf("%w, and an option needs it", signature.ErrMissing)

// readQuery decides what a request asks for, and whether it may: first the signature, then the
// options. It sets x.terms.
func (p *Proxy) readQuery(x *exchange, uri []byte, object string) error {
	a := x.route.Alias
	path, query, asks := bytes.Cut(uri, []byte{'?'})
	locked, transforms := a.Access == alias.AccessSigned, p.transforms != nil && a.Transforms != alias.TransformsOff
	if !locked && (!asks || !transforms) {
		return nil
	}
	if locked || a.Transforms != alias.TransformsOpen && hasSignature(query) {
		until, err := p.verify(x, pathOf(path), query)
		if err != nil {
			return &unsignedError{err}
		}
		x.terms = terms{signed: locked, until: until}
		if transforms {
			return p.readOptions(x, query, object, true)
		}
		return nil
	}
	return p.readOptions(x, query, object, a.Transforms == alias.TransformsOpen)
}

func hasSignature(query []byte) bool {
	for pair := range bytes.SplitSeq(query, []byte{'&'}) {
		if bytes.HasPrefix(pair, []byte("sig=")) {
			return true
		}
	}
	return false
}

// verify checks a signature and counts that.
func (p *Proxy) verify(x *exchange, path, query []byte) (until time.Time, err error) {
	v := p.keys.ready(x.route.Alias)
	until, kid, err := signature.Verify(v.keys, path, query, x.start)
	if err == nil {
		v.use(kid, x.start)
	}
	x.series.SignatureCheck(checkOutcome(err))
	return until, err
}

// checkOutcome is the outcome of a check of a signature in the metrics.
func checkOutcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, signature.ErrMissing):
		return "missing"
	case errors.Is(err, signature.ErrUnknownKey):
		return "unknown_kid"
	case errors.Is(err, signature.ErrExpired):
		return "expired"
	}
	return "bad"
}

// readOptions reads the options of a request; free says that it may use all of them.
func (p *Proxy) readOptions(x *exchange, query []byte, object string, free bool) error {
	q, err := p.queries.of(x.route.Alias, query, free)
	if _, refused := errors.AsType[*unsignedError](err); refused {
		x.series.SignatureCheck(checkOutcome(err))
	}
	if err != nil || q.options.IsZero() {
		return err
	}
	var accepts transform.Accepts
	if x.terms.negotiated = q.options.Negotiable(); x.terms.negotiated {
		accepts = p.accepted(x.fc.Request.Header.Peek(fasthttp.HeaderAccept))
	}
	x.terms.variant = &variant{object: object, options: &q.options, accepts: accepts, name: q.name(accepts)}
	return nil
}

// accepted are the formats that an automatic one may be.
func (p *Proxy) accepted(header []byte) transform.Accepts {
	a := transform.ParseAccept(header)
	if a&transform.AcceptsWebP != 0 && p.transforms.Busy() {
		a &^= transform.AcceptsAVIF // which takes longer
	}
	return a
}

// wanted returns the options of a query with those of its template.
func wanted(a *alias.Alias, query []byte, free bool) (transform.Options, error) {
	o, q, err := transform.Parse(query)
	if err != nil {
		return o, err
	}
	var t transform.Options
	if q.Template != "" {
		if t, err = templateOf(a, q.Template, free); err != nil {
			return o, err
		}
	}
	switch {
	case free || o.IsZero() && t.IsZero():
	case a.Transforms != alias.TransformsTemplates, o.Free(), !o.IsZero() && len(a.Widths) == 0: // it has a width
		return o, &unsignedError{errSigned}
	default:
		o, err = o.Snap(a.Widths)
	}
	o = o.With(t)
	if len(a.Prefix)+len(o.Mark()) > alias.MaxKey {
		return o, &transform.OptionError{Option: "wm", Detail: "wm is too long for the key of an object"}
	}
	return o, err
}

var errNoTemplate = &transform.OptionError{Option: "t", Detail: "t must be the name of a template of the alias"}

// templateOf returns the options of a template of an alias.
func templateOf(a *alias.Alias, name string, free bool) (transform.Options, error) {
	if !free && a.Transforms == alias.TransformsSigned {
		return transform.Options{}, &unsignedError{errSigned} // whether or not there is such a template
	}
	query, ok := a.Templates[name]
	if !ok {
		return transform.Options{}, errNoTemplate
	}
	o, _, err := transform.Parse([]byte(query))
	return o, err
}

// payer names the client whose worker time a job takes. It is empty for a loopback address, and
// for a trusted proxy that names no client.
func (x *exchange) payer() string {
	addr := x.client
	if o := x.open; o == nil {
		addr = addrOf(x.fc.RemoteAddr())
	} else if !addr.IsValid() && o.trusted {
		addr = clientOf(&x.fc.Request.Header, o.clients.trusts)
	} else if !addr.IsValid() {
		addr = o.peer.key.addr
	}
	if !addr.IsValid() || addr.IsLoopback() {
		return ""
	}
	return clientKey(addr).String()
}

// limit returns the Cache-Control of an answer of some age in seconds to a signed URL: no cache
// keeps it for longer than the URL lasts, and if the alias has no other answers, browsers alone
// keep it.
func (t terms) limit(control []byte, age int64, now time.Time) []byte {
	last := int64(-1) // the greatest max-age; negative: any
	if !t.until.IsZero() {
		last = age + max(0, int64(t.until.Sub(now)/time.Second))
	}
	list := slices.DeleteFunc(parseCacheControl(string(control)), func(d directive) bool {
		switch d.name {
		case "public", "private", "s-maxage":
			return t.signed
		case "stale-while-revalidate", "stale-if-error":
			return last >= 0
		}
		return false
	})
	if t.signed {
		list = slices.Insert(list, 0, directive{name: "private"})
	}
	bounded := last < 0 || has(list, "no-store")
	for i, d := range list {
		if last >= 0 && (d.name == "max-age" || d.name == "s-maxage") {
			seconds := min(last, int64(deltaSeconds(d.value)/time.Second))
			list[i] = directive{name: d.name, has: true, value: strconv.FormatInt(seconds, 10)}
			bounded = bounded || d.name == "max-age"
		}
	}
	if !bounded {
		list = append(list, directive{name: "max-age", has: true, value: strconv.FormatInt(last, 10)})
	}
	return []byte(formatCacheControl(list, 0))
}
