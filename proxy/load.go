package proxy

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// load fetches a whole object for the cache, or confirms that the stored one is still
// current. It is a part of parent, if that is traced.
func (p *Proxy) load(route alias.Route, key string, parent origin.Span) cache.Load {
	return func(ctx context.Context, old *cache.Entry) (*cache.Source, error) {
		ctx, span := startFetch(ctx, parent, old != nil)
		route := p.currentRoute(route)
		req := origin.Request{Route: route, Key: route.Alias.Prefix + key}
		if old != nil && !old.Purged() && !old.Meta.(*object).wrong304.Load() {
			req.IfNoneMatch, req.IfModifiedSince = old.Meta.(*object).conditions()
		}
		src, err := p.fetch(ctx, req, old)
		if errors.Is(err, errNotImage) {
			p.origin.Reject(req, briefRejection(err))
		}
		src, err = span.resolve(src, err)
		span.mark(src)
		err = p.classify(ctx, route, err)
		if outage, ok := errors.AsType[*cache.Unavailable](err); ok && old != nil {
			outage.Now = p.lifetimesNow(route, old)
		}
		return src, err
	}
}

// briefRejection bounds the memory of an error that stays: a header may be long.
func briefRejection(err error) error {
	if e, ok := errors.AsType[*codingError](err); ok {
		return &codingError{value: clip(e.value), contentType: clip(e.contentType), real: e.real}
	}
	return err
}

// clip copies the beginning of a header, as much as quote shows of it.
func clip(header string) string { return strings.Clone(header[:min(len(header), 64)]) }

// currentRoute returns a route with the current lifetimes and credential of its alias. They
// may have changed since the request looked up the alias:
//
//  1. A request looks up the alias, does not find the object, and is suspended.
//  2. The alias is changed: Lookup returns the new one, and the cache is notified after that
//     (alias.Registry, which calls observers after it has shown a change).
//  3. The request starts a fetch. For the cache it is a fetch after the change.
//  4. With the lifetimes from before 2, the object would keep them for good.
//
// So a load looks up the alias again when S3 has answered. A load that began before 2 may
// still find the old alias, and the cache knows that. For the same reason a load begins by
// looking up the credential: a refusal of the old key must not be stored as an answer to
// the new one.
func (p *Proxy) currentRoute(r alias.Route) alias.Route {
	now, ok := p.registry.Lookup(string(r.Alias.Name))
	if ok && now.Alias.ID == r.Alias.ID && now.Alias.Epoch == r.Alias.Epoch {
		return now
	}
	return r
}

// lifetimesNow returns the lifetimes of an entry under its alias as it is now.
func (p *Proxy) lifetimesNow(r alias.Route, e *cache.Entry) *cache.Lifetimes {
	l := lifetimesOf(e.Meta.(*object).said, p.currentRoute(r).Alias)
	return &cache.Lifetimes{Fresh: l.fresh, StaleIfError: l.staleError}
}

// fetch opens an object and reads its first bytes. They decide the type if the declared one
// is generic, and if S3 breaks before them, the client can still get an error.
func (p *Proxy) fetch(ctx context.Context, req origin.Request, old *cache.Entry) (*cache.Source, error) {
	o, err := p.origin.Get(ctx, req)
	if err == nil && o.NotModified {
		if obj := old.Meta.(*object); obj.isConfirmedBy(o) {
			p.series.get(string(req.Route.Alias.Name)).Saved(SavedByNotModified, 0, obj.size)
			return unchangedSource(obj.updatedBy(o, p.currentRoute(req.Route).Alias)), nil
		}
		err = origin.ErrOtherVersion
	}
	if errors.Is(err, origin.ErrOtherVersion) {
		// The 304 does not tell which version the object has. It is requested without a
		// condition: by the next fetch if the stored object may be served until then.
		old.Meta.(*object).wrong304.Store(true)
		if old.StaleIfErrorOK(time.Now(), p.lifetimesNow(req.Route, old)) {
			return nil, &cache.Unavailable{Err: err}
		}
		req.IfNoneMatch, req.IfModifiedSince = "", time.Time{}
		o, err = p.origin.Get(ctx, req)
	}
	if err != nil {
		return nil, err
	}
	return closeUnlessUsed(o, func() (*cache.Source, error) { return source(o, p.currentRoute(req.Route).Alias) })
}

// unchangedSource tells the cache that an object has not changed.
func unchangedSource(obj *object) *cache.Source {
	src := obj.source()
	src.Same = true
	return src
}

// closeUnlessUsed returns the source that read makes of o. If there is none, or read
// panics, it closes o's body, which releases its slot.
func closeUnlessUsed(o *origin.Object, read func() (*cache.Source, error)) (src *cache.Source, err error) {
	defer func() {
		if src == nil {
			o.Body.Close()
		}
	}()
	return read()
}

func source(o *origin.Object, a *alias.Alias) (*cache.Source, error) {
	picture, body, err := pictureOf(o, frontSize)
	if err != nil {
		return nil, err
	}
	src := newObject(o, a, picture).source()
	src.Body = body
	return src, nil
}

// pictureOf decides from the headers and first bytes of an object whether it is served,
// and as what. The body that it returns begins with these bytes, at first no more than room.
func pictureOf(o *origin.Object, room int) (picture string, body *frontBody, err error) {
	d, err := declarationOf(o)
	if err != nil {
		return "", nil, err
	}
	least := 1
	if d.needsFront() || d.picture == typeSVG {
		least = sniffLen
	}
	body, err = readFront(o, least, room)
	if err != nil {
		return "", nil, err
	}
	picture, err = body.typeOf(o, d)
	return picture, body, err
}

// frontBody is a body whose first bytes have been read already.
type frontBody struct {
	front []byte // read already, and not handed out yet
	err   error  // that came after front, if it is known
	rest  io.ReadCloser
	buf   *[frontSize]byte // of the pool, while front lies in it
}

// frontSize is what origin may have buffered of a body when its headers have arrived: a
// smaller object is complete then, and goes out to the client with its headers.
const frontSize = 16 << 10

var fronts = sync.Pool{New: func() any { return new([frontSize]byte) }}

// readFront reads the first bytes of a body, at least as many as least or all of them, at
// most room. It waits no longer for an S3 that trickles than for one that is silent.
func readFront(o *origin.Object, least, room int) (*frontBody, error) {
	buf := fronts.Get().(*[frontSize]byte)
	b := &frontBody{front: buf[:0:room], buf: buf, rest: o.Body}
	if err := b.readOn(o, least); err != nil && (least > 1 || len(b.front) == 0) {
		b.drop()
		return nil, err
	}
	return b, nil
}

// drop gives the buffer back, whose bytes must not be used after that.
func (b *frontBody) drop() {
	b.front = nil
	if b.buf != nil {
		fronts.Put(b.buf)
		b.buf = nil
	}
}

// readOn fills front, with least bytes or more. It returns an error that ends the body
// before it is complete.
func (b *frontBody) readOn(o *origin.Object, least int) error {
	have := len(b.front)
	n, err := o.Front(b.front[have:cap(b.front)], least)
	b.front, b.err = b.front[:have+n], err
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// typeOf finds the type of o, whose body b is. Of an XML document it reads as much as
// decides it, up to prologMax; each time it reads as much again, so that the whole time is
// linear.
func (b *frontBody) typeOf(o *origin.Object, d declaration) (string, error) {
	for {
		picture, more, err := d.typeOf(b.front)
		have := len(b.front)
		if !more || b.err != nil || have >= prologMax {
			return picture, err
		}
		if cap(b.front) < 2*have {
			front := append(make([]byte, 0, min(2*have, prologMax)), b.front...)
			b.drop()
			b.front = front
		}
		if err := b.readOn(o, min(have, cap(b.front)-have)); err != nil {
			return "", err
		}
	}
}

// Read returns the end of a short body with its last bytes, so that they can be handed on
// together.
func (b *frontBody) Read(p []byte) (int, error) {
	if len(b.front) > 0 {
		n := copy(p, b.front)
		if b.front = b.front[n:]; len(b.front) > 0 {
			return n, nil
		}
		b.drop()
		return n, b.err
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.rest.Read(p)
}

func (b *frontBody) Close() error {
	b.drop()
	return b.rest.Close()
}
