package proxy

import (
	"errors"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"ixmage/alias"
	"ixmage/cache"
)

// errVersionGone means that an object changed between the request for its metadata and the
// request for its bytes.
var errVersionGone = errors.New("the object changes faster than it can be read")

// representation is an object that can be sent, from memory or from a reader.
type representation struct {
	obj       *object
	age       []byte
	status    []byte // Cache-Status (RFC 9211)
	whole     []byte
	reader    chunkReader
	onlyRange bool // the reader has only the requested range
	// rest fetches the bytes from an offset on, if the object outgrows the cache or cannot be
	// written to disk: see cache.ErrOutgrown.
	rest func(off int64) (chunkReader, error)
	key  cache.Key // names the object if it is on disk
}

// get answers GET and HEAD of /{alias}/{key}.
func (p *Proxy) get(c *fiber.Ctx) error {
	fc := c.Context()
	x := fc.UserValue(exchangeKey{}).(*exchange)
	t, err := resolve(fc.Request.Header.RequestURI())
	route, ok := p.attribute(x, t.alias)
	switch {
	case err != nil:
		x.fail(problemOf(err), err)
	case p.expired != nil && p.expired():
		x.fail(probRegistryStale, errRegistryStale)
	case !ok:
		x.fail(probNotFound, errNoAlias)
	case !route.Alias.Serves():
		x.fail(probNotFound, errDisabled)
	case len(route.Alias.Prefix)+len(t.key) > alias.MaxKey:
		x.fail(probBadKey, errBadKey)
	default:
		x.route = route
		if err := p.readQuery(x, fc.Request.Header.RequestURI(), t.key); err != nil {
			x.fail(problemOf(err), err)
			return nil
		}
		p.serveObject(x, t.key)
	}
	return nil
}

// attribute looks up an alias and, if it exists, counts x under it.
func (p *Proxy) attribute(x *exchange, name string) (alias.Route, bool) {
	route, ok := p.registry.Lookup(name)
	if ok {
		x.alias, x.series = name, p.series.get(name)
	}
	return route, ok
}

var (
	errNoAlias  = errors.New("no such alias")
	errDisabled = errors.New("the alias is not served")
	// errRegistryStale means that this node may not know of aliases, purges and keys that were
	// changed lately.
	errRegistryStale = errors.New("the registry is older than --max-registry-age")
)

// serveObject answers a hit from memory, which neither waits nor starts a goroutine, and
// all other requests with a fetch, a HEAD or a range.
func (p *Proxy) serveObject(x *exchange, key string) {
	cond := scanConditions(&x.fc.Request.Header)
	if x.fc.IsHead() {
		cond.byteRange, cond.ranges = "", 0 // ranges are for GET (RFC 9110, section 14.2)
	}
	ck := keyOf(x.route.Alias, key)
	if v := x.terms.variant; v != nil {
		ck = ck.Variant(v.name)
	}
	e, ok := p.cache.Hit(ck, x.start)
	if !ok && p.cache.Open(p.base, ck) {
		e, ok = p.cache.Hit(ck, x.start)
	}
	if !ok || !p.serveHit(x, ck, e, &cond) {
		p.serveMiss(x, ck, &cond)
	}
}

// serveHit answers with a fresh entry. It returns false if it cannot be read from disk.
func (p *Proxy) serveHit(x *exchange, ck cache.Key, e *cache.Entry, cond *conditions) bool {
	x.entry, x.cache = e, cacheHit
	if e.Due(x.start) {
		p.cache.Refresh(ck, e, p.loadOf(x, ck))
	}
	obj := e.Meta.(*object)
	l := obj.lines(e.Stored, e.Expires, x.start)
	f := &representation{obj: obj, age: l.age, status: l.status, whole: e.Bytes(), key: ck}
	if e.OnDisk() && !x.fromDisk(f, e, cond) {
		x.reader.Close()
		x.reader, x.entry = nil, nil
		e.Release()
		return false
	}
	x.answer(f, cond)
	return true
}

// serveMiss answers with a fetch, or with an entry that is not fresh.
func (p *Proxy) serveMiss(x *exchange, ck cache.Key, cond *conditions) {
	route := x.route
	x.cache = cacheMiss
	var err error
	switch {
	case x.terms.variant != nil:
		err = p.fetched(x, route, ck, cond)
		for range 2 { // it may meet another one again
			if x.isLimitOfOther(err) {
				err = p.fetched(x, route, ck, cond)
			}
		}
	case x.fc.IsHead() && !p.cache.Has(ck):
		err = p.head(x, route, ck, cond)
	case cond.any && p.needsLess(ck, cond):
		err = p.getLess(x, route, ck, cond)
	default:
		err = p.fetched(x, route, ck, cond)
	}
	if errors.Is(err, errAsStored) {
		object := x.terms.variant.object
		x.terms.variant = nil
		x.terms.negotiated = x.terms.negotiated && !errors.Is(err, errUndecoded)
		p.serveObject(x, object)
		return
	}
	if err != nil {
		p.failed(x, err)
		return
	}
	p.warmPlaceholder(route)
}

// keyOf names an object of an alias in the cache.
func keyOf(a *alias.Alias, object string) cache.Key {
	return cache.Key{Space: a.ID, Epoch: a.Epoch, Object: object}
}

// failed answers with the problem of an error, or with the alias's placeholder.
func (p *Proxy) failed(x *exchange, err error) {
	if _, known := errors.AsType[*cache.NegativeHit](err); known {
		x.cache = cacheNegative
	}
	prob := problemOf(err)
	x.prob, x.err = prob, err // send changes both if the placeholder cannot be sent
	if path := placeholderFor(prob, x.route.Alias); path != "" && p.servePlaceholder(x, path, prob) {
		return
	}
	x.fail(prob, err)
}

// fetched answers through the cache: with a stale object, or by a fetch of the whole
// object, which other requests may share.
func (p *Proxy) fetched(x *exchange, route alias.Route, ck cache.Key, cond *conditions) error {
	get, load, open := p.cache.Get, p.loadOf(x, ck), func() {}
	if cond.byteRange != "" {
		get = p.cache.GetMeta
	} else if cond.any {
		load, open = gatedLoad(load)
		defer open()
	}
	r, err := get(p.base, ck, load)
	x.linkFetch(r, err)
	if err != nil {
		return err
	}
	part, separate := x.separateRange(r, cond)
	if r.NoBody && !separate {
		r.Close()
		if r, err = p.cache.Get(p.base, ck, p.loadOf(x, ck)); err != nil {
			return err
		}
		part, separate = x.separateRange(r, cond) // it may be of another version
	}
	if separate {
		leaveWhole(r)
		return p.sendRange(x, rangeRequest{route: route, key: ck, obj: r.Meta.(*object), span: x.span, byteRange: part})
	}
	x.reader, x.cache, x.triedS3 = r, label(r.Status), r.RefreshFailed
	f := representationOf(r, time.Now())
	if cond.evaluate(f.obj.validators) == proceed {
		open() // representationFor may wait for the body
		if f, err = p.representationFor(x, r, ck); err != nil {
			return err
		}
	}
	x.answer(f, cond)
	if x.code >= http.StatusMultipleChoices || x.fc.IsHead() { // these answers have no body from the reader
		p.leaveUnread(ck, r, cond.earned)
	}
	return nil
}

// leaveWhole closes the reader of a request for a range: the stream is of the whole object, or
// the range is far from what has arrived on disk.
func leaveWhole(r *cache.Reader) {
	if _, filling := r.Filling(); filling {
		r.KeepFetching()
	}
	r.Close()
}

// leaveUnread closes a reader whose bytes are not needed. Its fetch continues if that costs
// S3 no more than the requests for the object are worth, or replaces a stale object.
func (p *Proxy) leaveUnread(ck cache.Key, r *cache.Reader, earned bool) {
	if r.Stale || earned || ck.IsVariant() || p.demand.whole(ck, r.Size, 0) {
		r.KeepFetching()
	}
	r.Close()
}

// representationFor returns the object of a reader in a form that the client of x can get. A
// client without chunks (HTTP/1.0) has to wait for the end of an object of unknown length.
func (p *Proxy) representationFor(x *exchange, r *cache.Reader, ck cache.Key) (*representation, error) {
	f := representationOf(r, time.Now())
	f.key = ck
	_, filling := r.Filling() // the disk may fail
	if f.obj.size >= 0 && !filling || !x.fc.IsGet() {
		return f, nil
	}
	if f.obj.size < 0 && !x.fc.Request.Header.IsHTTP11() {
		err := f.complete(r)
		return f, err
	}
	w := rangeRequest{route: x.route, key: ck, obj: f.obj, span: x.span}
	if x.terms.variant == nil && strongTag(f.obj.etag) != "" {
		f.rest = func(off int64) (chunkReader, error) {
			w.byteRange = byteRange{off, math.MaxInt64}
			return p.cache.Stream(p.base, ck, p.loadRange(w))
		}
	}
	return f, nil
}

// complete waits until an object of unknown length is in memory. It leaves an object that the
// cache does not keep as it is.
func (f *representation) complete(r *cache.Reader) error {
	for off := int64(0); !r.Exclusive(); {
		chunk, err := r.Next(off)
		switch {
		case errors.Is(err, cache.ErrOutgrown):
			return errNoLength
		case err == io.EOF: //nolint:errorlint // only io.EOF itself is a good end
			f.whole, _ = r.Complete()
			f.obj = f.obj.measured(off)
			return nil
		case err != nil:
			return err
		}
		off += int64(len(chunk))
	}
	return nil
}

// representationOf returns the object of a reader.
func representationOf(r *cache.Reader, now time.Time) *representation {
	obj := r.Meta.(*object)
	f := &representation{obj: obj, reader: r, age: obj.age(now)}
	if whole, ok := r.Complete(); ok && obj.size >= 0 {
		f.whole = whole
	}
	switch r.Status {
	case cache.Hit, cache.Stale:
		f.status = hitStatus(r.Expires, now)
		if r.OnDisk() {
			f.status = diskHitStatus(r.Expires, now)
		}
	case cache.Miss, cache.Collapsed, cache.Bypass, cache.Revalidated:
		f.status = []byte(cacheStatus(r.Status, r.Stale, r.Stores))
	}
	return f
}

const statusBypass = "ixmage; fwd=bypass"

// cacheStatus is the Cache-Status of an object that was fetched (RFC 9211).
func cacheStatus(status cache.Status, stale, stores bool) string {
	fwd := "uri-miss"
	if stale {
		fwd = "stale"
	}
	switch status {
	case cache.Collapsed:
		return "ixmage; fwd=" + fwd + "; collapsed"
	case cache.Bypass:
		return statusBypass
	case cache.Revalidated:
		return "ixmage; fwd=stale; fwd-status=304"
	case cache.Hit, cache.Stale, cache.Miss:
	}
	if stores {
		return "ixmage; fwd=" + fwd + "; fwd-status=200; stored"
	}
	return "ixmage; fwd=" + fwd + "; fwd-status=200"
}

func label(s cache.Status) string {
	switch s {
	case cache.Hit:
		return cacheHit
	case cache.Collapsed:
		return cacheCollapsed
	case cache.Bypass:
		return cacheBypass
	case cache.Stale:
		return cacheStale
	case cache.Revalidated:
		return cacheRevalidated
	case cache.Miss:
	}
	return cacheMiss
}
