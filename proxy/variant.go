package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
	"ixmage/proxy/transform"
)

// Transformer makes variants of pictures. It must be safe for concurrent use.
type Transformer interface {
	// Do does one job. Its errors are those of transform.Pool.
	Do(ctx context.Context, j transform.Job) (*transform.Result, error)
	// Busy reports whether jobs wait, so that a format that costs less should be chosen.
	Busy() bool
	// KilledBy reports whether a picture of an alias killed its worker lately; source and mark are
	// values of transform.Blob.ID.
	KilledBy(owner int64, source, mark string) bool
	// Err returns why no worker can be started now, nil if one can.
	Err() error
	// Version names the library that makes the variants.
	Version() string
}

var errSourceTooLarge = &transform.RefusedError{Why: transform.TooLarge}

// errAsStored means that the object itself is the answer to a request for a variant.
var errAsStored = errors.New("the object is served as it is stored")

// errUndecoded is an errAsStored for all clients: the answer does not depend on Accept.
var errUndecoded = fmt.Errorf("%w: its type is never decoded", errAsStored)

// errUnconfirmed means that S3 did not tell whether a variant is still that of its object.
var errUnconfirmed = errors.New("the object of the variant cannot be revalidated")

// variant is a picture that a request asks for instead of the stored one.
type variant struct {
	object  string             // its path in the alias
	options *transform.Options // not to be changed: requests share them
	accepts transform.Accepts  // what the client takes, if the options leave the format to it
	name    string             // in the cache
}

// nameVariant names a variant: by the canonical form of its options, what is left of Accept, and
// the program that makes it. Equal names mean equal pictures, on all nodes.
func nameVariant(o transform.Options, a transform.Accepts, version string) string {
	var format transform.Format // 0: it depends on the object too
	if !o.Negotiable() {
		format = o.Format(0, transform.Header{}, false)
	}
	b := o.Append(make([]byte, 0, 256), format)
	b = append(b, '\n', byte('0'+a), '\n')
	b = append(strconv.AppendInt(b, transform.Generation, 10), '\n')
	b = append(b, version...)
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// key names the variant in the cache.
func (v *variant) key(a *alias.Alias) cache.Key { return keyOf(a, v.object).Variant(v.name) }

// loadOf returns the load of what an exchange is about: the object of ck, or a variant.
func (p *Proxy) loadOf(x *exchange, ck cache.Key) cache.Load {
	if v := x.terms.variant; v != nil {
		return p.loadVariant(x.route, v, x.payer(), x.span)
	}
	return p.load(x.route, ck.Object, x.span)
}

// loadVariant makes a variant for the cache, or confirms that the stored one is still that of the
// current object. One job serves all requests that wait for it; it takes worker time of client, see payer.
func (p *Proxy) loadVariant(route alias.Route, v *variant, client string, parent origin.Span) cache.Load {
	return func(ctx context.Context, old *cache.Entry) (*cache.Source, error) {
		m := &variantMaker{Proxy: p, route: p.currentRoute(route), variant: v, client: client, span: parent}
		src, err := m.load(ctx, old)
		if _, known := errors.AsType[*cache.NegativeHit](err); known { // it is remembered for the object
			return nil, &cache.NotFound{Err: err}
		}
		err = p.classify(ctx, m.route, err)
		if outage, ok := errors.AsType[*cache.Unavailable](err); ok && old != nil {
			outage.Now = p.lifetimesNow(m.route, old)
		}
		return src, err
	}
}

// variantMaker is one load of a variant.
type variantMaker struct {
	*Proxy
	*variant

	route  alias.Route
	client string // whose worker time the job takes; empty: nobody's but the alias's
	span   origin.Span
}

func (m *variantMaker) load(ctx context.Context, old *cache.Entry) (*cache.Source, error) {
	var stored *object // the variant, if it may be confirmed
	if old != nil && !old.Purged() {
		stored = old.Meta.(*object)
		if src, ok, err := m.renew(ctx, stored); ok || err != nil {
			return src, err
		}
	}
	var in sources
	defer in.Close()
	for i, path := range []string{m.object, m.options.Mark()} {
		if path == "" {
			continue
		}
		var err error
		if in[i], err = m.open(ctx, path); err != nil {
			return nil, err
		}
	}
	if stored != nil && in.stale() && old.StaleIfErrorOK(time.Now(), m.lifetimesNow(m.route, old)) {
		return nil, &cache.Unavailable{Err: errUnconfirmed} // what is stored is served
	}
	return m.make(ctx, in, stored)
}

// sources are the object of a variant, and its watermark or nil.
type sources [2]*sourcePicture

// Close closes those that are open.
func (s *sources) Close() {
	for _, p := range s {
		if p != nil {
			p.Close()
		}
	}
}

// stale reports whether S3 has not confirmed one of them.
func (s *sources) stale() bool {
	return slices.ContainsFunc(s[:], func(p *sourcePicture) bool { return p != nil && p.Status == cache.Stale })
}

func (m *variantMaker) make(ctx context.Context, in sources, stored *object) (*cache.Source, error) {
	source, mark := in[0], in[1]
	madeOf := identityOf(source.obj, mark.object())
	stale := in.stale()
	if stored != nil && madeOf != "" && madeOf == stored.madeOf {
		return unchangedSource(m.dated(stored.renewed(source.obj), source.obj, stale)), nil
	}
	r := transform.Request{
		Owner: m.route.Alias.ID, Client: m.client, Options: *m.options, Accepts: m.accepts, Source: source.blob,
	}
	if mark != nil {
		r.Mark = &mark.blob
	}
	if m.results.Load() >= maxResults {
		m.slow.CutForSlot(0) //nolint:contextcheck // the answer of another request
		return nil, m.failed(source.obj, errResults)
	}
	derived, err := transform.Derive(ctx, m.transforms.Do, r)
	if errors.Is(err, transform.ErrAsStored) {
		m.failures.note(m.key(m.route.Alias), nil)
	} else {
		m.failures.note(m.key(m.route.Alias), err)
	}
	if err != nil {
		return nil, m.failed(source.obj, err)
	}
	versions := cmp.Or(madeOf, versionsOf(source.obj, mark.object()))
	src := m.dated(source.obj.derived(m.name, versions, madeOf, derived), source.obj, stale).source()
	src.Body = newResult(derived.Body, &m.results)
	return src, nil
}

// maxResults is how many bytes of results may be outside of the cache until no further job begins.
const maxResults = 64 << 20

var errResults = fmt.Errorf("%w: clients that read slowly hold too many results that are not shared",
	transform.ErrOverloaded)

// result is the body of a variant. It is no part of the cache's budget: a variant that must not be
// shared, or has no room there, stays in memory for as long as its client reads.
type result struct {
	*bytes.Reader

	release func()
}

func newResult(body []byte, held *atomic.Int64) *result {
	n := int64(len(body))
	held.Add(n)
	return &result{bytes.NewReader(body), sync.OnceFunc(func() { held.Add(-n) })}
}

// Close may be called more than once.
func (r *result) Close() error {
	r.release()
	return nil
}

// pictureID names the version of an object that has a path in its alias.
func (o *object) pictureID(path string) string {
	return fmt.Sprintf("%s/%s/%s", path, o.etag, o.modified)
}

// payerError is why a job did not begin, with the client whose worker time it would have taken.
type payerError struct {
	client string
	err    error
}

func (e *payerError) Error() string { return e.err.Error() }
func (e *payerError) Unwrap() error { return e.err }

// isLimitOfOther reports whether err is the limit of a client other than that of x: x waited for its load.
func (x *exchange) isLimitOfOther(err error) bool {
	limited, ok := errors.AsType[*transform.LimitedError](err)
	payer, _ := errors.AsType[*payerError](err)
	return ok && limited.Client && payer != nil && payer.client != x.payer()
}

// dated gives a variant the lifetimes of its object. A variant of an object that is being
// revalidated, or cannot be, is made again soon after.
func (m *variantMaker) dated(obj, of *object, stale bool) *object {
	const soon = time.Second
	obj.setLifetimes(of.said, of.born, m.currentRoute(m.route).Alias)
	if l := &obj.lifetimes; stale && l.fresh > 0 {
		l.fresh = max(0, time.Since(of.born)) + soon
	}
	return obj
}

// failed tells the cache what the error of a job means. A picture that cannot be
// transformed is not tried again for the alias's negative_ttl, and one that is served as it is
// stored for as long as it is fresh.
func (m *variantMaker) failed(source *object, err error) error {
	negative := m.currentRoute(m.route).Alias.NegativeTTL
	switch {
	case errors.Is(err, transform.ErrAsStored):
		stored := errAsStored
		if errors.Is(err, transform.ErrUndecoded) {
			stored = errUndecoded
		}
		return &cache.NotFound{Err: stored, For: max(0, source.lifetimes.fresh-time.Since(source.born))}
	case errors.Is(err, transform.ErrOverloaded), errors.Is(err, transform.ErrLimited), errors.Is(err, transform.ErrOff):
		return &cache.Unavailable{Err: &payerError{m.client, err}}
	case errors.Is(err, transform.ErrSlowSource):
		return &cache.Unavailable{Err: err}
	case errors.Is(err, transform.ErrRefused), transform.Killed(err), errors.Is(err, transform.ErrInternal):
		return &cache.NotFound{Err: err, For: negative}
	}
	return err
}

// renew returns the source of a variant whose objects have not changed since. It is not ok if one
// has, or is not known well enough to tell. It reads no object.
func (m *variantMaker) renew(ctx context.Context, old *object) (src *cache.Source, ok bool, err error) {
	obj, ok, err := m.current(ctx, m.object)
	if err != nil || !ok {
		return nil, false, err
	}
	var mark *object
	if path := m.options.Mark(); path != "" {
		if mark, ok, err = m.current(ctx, path); err != nil || !ok {
			return nil, false, err
		}
	}
	if id := identityOf(obj, mark); id == "" || id != old.madeOf {
		return nil, false, nil
	}
	return unchangedSource(m.dated(old.renewed(obj), obj, false)), true, nil
}

// current returns the metadata of an object from the cache, or else from S3. It is not ok if the
// object is in the cache and has to be revalidated there.
func (m *variantMaker) current(ctx context.Context, path string) (obj *object, ok bool, err error) {
	ck := keyOf(m.route.Alias, path)
	m.cache.Open(ctx, ck)
	if e, ok := m.cache.Hit(ck, time.Now()); ok {
		defer e.Release()
		return e.Meta.(*object), true, nil
	}
	if m.cache.Has(ck) || m.cache.Fetching(ck) {
		return nil, false, nil
	}
	obj, _, err = m.stat(origin.WithSpan(ctx, m.span), m.route, ck, true)
	return obj, err == nil, err
}

// identityOf names the versions of the objects that a variant is made of; it is empty if S3 gives
// an object no strong entity tag.
func identityOf(objs ...*object) string {
	tags := make([]string, 0, len(objs))
	for _, o := range objs {
		switch {
		case o == nil:
		case strongTag(o.etag) == "":
			return ""
		default:
			tags = append(tags, o.etag)
		}
	}
	return strings.Join(tags, "")
}

// versionsOf tells the versions of objects apart by all that S3 says about them. It is for those without an
// identityOf: a variant of them is never confirmed, but its entity tag must differ from that of another version.
func versionsOf(objs ...*object) string {
	var b []byte
	for _, o := range objs {
		if o != nil {
			b = fmt.Appendf(b, "%s %s %d\n", o.etag, o.modified.Format(time.RFC3339Nano), o.size)
		}
	}
	return string(b)
}

// sourcePicture is an object that is being read for a job.
type sourcePicture struct {
	*cache.Reader

	obj  *object
	blob transform.Blob
}

func (s *sourcePicture) object() *object {
	if s == nil {
		return nil
	}
	return s.obj
}

// open opens an object for a job, through the cache. It returns when all bytes are here, so that no
// worker waits for S3, except for an object that the cache does not keep.
func (m *variantMaker) open(ctx context.Context, path string) (*sourcePicture, error) {
	r, err := m.cache.Get(ctx, keyOf(m.route.Alias, path), m.Proxy.load(m.route, path, m.span))
	if err != nil {
		return nil, err
	}
	s := &sourcePicture{Reader: r, obj: r.Meta.(*object)}
	s.blob.ID = s.obj.pictureID(path)
	if err := s.open(); err != nil {
		r.Close()
		return nil, m.failed(s.obj, err)
	}
	return s, nil
}

func (s *sourcePicture) open() error {
	if s.obj.size > transform.SourceMax {
		return errSourceTooLarge
	}
	if !s.Exclusive() {
		size, err := s.wait()
		if err != nil {
			return err
		}
		s.blob.Size = size
	} else if s.blob.Size = s.obj.size; s.blob.Size < 0 {
		return errNoLength
	}
	if whole, ok := s.Complete(); ok {
		s.blob.Reader = bytes.NewReader(whole)
		return nil
	}
	s.blob.Reader = &readerOf{next: s.Next}
	return nil
}

// wait waits for the last byte of a body that the cache keeps, and returns its size.
func (s *sourcePicture) wait() (size int64, err error) {
	if whole, ok := s.Complete(); ok {
		return int64(len(whole)), nil
	}
	if s.OnDisk() {
		return s.Size, nil
	}
	for {
		chunk, err := s.Next(size)
		switch {
		case err == io.EOF: //nolint:errorlint // only io.EOF itself is a good end
			return size, nil
		case err != nil:
			return 0, err
		}
		if size += int64(len(chunk)); size > transform.SourceMax {
			return 0, errSourceTooLarge
		}
	}
}

// readerOf reads what next returns, in order.
type readerOf struct {
	next  func(off int64) ([]byte, error)
	off   int64
	chunk []byte
}

func (r *readerOf) Read(p []byte) (int, error) {
	if len(r.chunk) == 0 {
		var err error
		if r.chunk, err = r.next(r.off); err != nil {
			return 0, err
		}
		r.off += int64(len(r.chunk))
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// derived returns the metadata of a variant of o with a name, of objects with some versions.
func (o *object) derived(name, versions, madeOf string, d *transform.Derived) *object {
	sum := sha256.Sum256([]byte(name + versions))
	obj := &object{
		validators: validators{
			etag:     `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`,
			modified: o.modified,
		},
		size: int64(len(d.Body)), contentType: []byte(d.ContentType), variant: true, madeOf: madeOf,
	}
	obj.setLines()
	return obj
}

// renewed returns the metadata of a variant o whose object is still the same.
func (o *object) renewed(from *object) *object {
	obj := &object{
		validators: validators{etag: o.etag, modified: from.modified},
		size:       o.size, contentType: o.contentType, variant: true, madeOf: o.madeOf,
	}
	obj.setLines()
	return obj
}
