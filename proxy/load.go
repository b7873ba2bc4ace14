package proxy

import (
	"context"
	"errors"
	"io"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// load fetches a whole object for the cache, or finds that what is stored of it is
// still the same.
func (p *Proxy) load(route alias.Route, key string) cache.Load {
	return func(ctx context.Context, old *cache.Entry) (*cache.Source, error) {
		route := p.currentRoute(route)
		req := origin.Request{Route: route, Key: route.Alias.Prefix + key}
		if old != nil && !old.Purged() && !old.Meta.(*object).wrong304.Load() {
			req.IfNoneMatch, req.IfModifiedSince = old.Meta.(*object).conditions()
		}
		src, err := p.fetch(ctx, req, old)
		err = p.classify(ctx, route, err)
		if outage, ok := errors.AsType[*cache.Outage](err); ok && old != nil {
			outage.Now = p.lifetimesNow(route, old)
		}
		return src, err
	}
}

// currentRoute is a route with the lifetimes and the credential that it has now. Those of a
// request may have changed since it looked the alias up:
//
//  1. A request looks up the alias, does not find the object, and is suspended.
//  2. The alias is changed: Lookup gives the new one, and only then is the cache told
//     (alias.Registry, which calls observers after it has shown a change).
//  3. The request has the object fetched. The cache takes it for new: its fetch began
//     after 2.
//  4. With the lifetimes from before 2, the object would keep them for good.
//
// So a load looks the alias up again when S3 has answered. If it began before 2, it may
// still find the old one, and the cache knows. For the same reason it begins by looking
// up whose key it signs with: what is refused to the old one is not to be noted as what
// the new one found.
func (p *Proxy) currentRoute(r alias.Route) alias.Route {
	now, ok := p.registry.Lookup(string(r.Alias.Name))
	if ok && now.Alias.ID == r.Alias.ID && now.Alias.Epoch == r.Alias.Epoch {
		return now
	}
	return r
}

// lifetimesNow is how long an entry would live if it came now: its alias may say
// otherwise than when it came.
func (p *Proxy) lifetimesNow(r alias.Route, e *cache.Entry) *cache.Lifetimes {
	l := lifetimesOf(e.Meta.(*object).said, p.currentRoute(r).Alias)
	return &cache.Lifetimes{Fresh: l.fresh, StaleError: l.staleError}
}

// fetch opens an object and reads its first bytes: they decide the type where
// the declared one is generic, and an origin that breaks before it has sent
// anything is then an error that the client can still be told.
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
		// Nobody learns from that what the object is now: it is asked for without a
		// condition, by the next flight if what is stored does until then.
		old.Meta.(*object).wrong304.Store(true)
		if old.Bridges(time.Now(), p.lifetimesNow(req.Route, old)) {
			return nil, &cache.Outage{Err: err}
		}
		req.IfNoneMatch, req.IfModifiedSince = "", time.Time{}
		o, err = p.origin.Get(ctx, req)
	}
	if err != nil {
		return nil, err
	}
	return closeUnlessUsed(o, func() (*cache.Source, error) { return source(o, p.currentRoute(req.Route).Alias) })
}

// unchangedSource is what the cache is told of an object that has not changed.
func unchangedSource(obj *object) *cache.Source {
	src := obj.source()
	src.Same = true
	return src
}

// closeUnlessUsed is what read makes of o. It closes o's body, and so gives its slot back, if
// that is nothing, or if read panics.
func closeUnlessUsed(o *origin.Object, read func() (*cache.Source, error)) (src *cache.Source, err error) {
	defer func() {
		if src == nil {
			o.Body.Close()
		}
	}()
	return read()
}

func source(o *origin.Object, a *alias.Alias) (*cache.Source, error) {
	picture, generic, err := pictureType(o)
	if err != nil {
		return nil, err
	}
	body, err := readFront(o, generic || picture == typeSVG)
	if err != nil {
		return nil, err
	}
	if generic {
		if picture, err = sniffType(body.front); err != nil {
			return nil, err
		}
	}
	if contradicts(picture, body.front) {
		return nil, errContradiction
	}
	src := newObject(o, a, picture).source()
	src.Body = body
	return src, nil
}

// frontBody is a body whose first bytes have been read already.
type frontBody struct {
	front []byte // read and not handed out yet
	err   error  // what followed front, if it is known
	rest  io.ReadCloser
}

// readFront reads until there is something to say: the first bytes, all that a type
// can be told from if full, or the end of an empty body. An origin that trickles
// holds nobody longer than one that is silent.
func readFront(o *origin.Object, full bool) (*frontBody, error) {
	buf, least := make([]byte, sniffLen), 1
	if full {
		least = sniffLen
	}
	n, err := o.Front(buf, least)
	if err != nil && !errors.Is(err, io.EOF) && (n == 0 || full) {
		return nil, err
	}
	return &frontBody{front: buf[:n], err: err, rest: o.Body}, nil
}

func (b *frontBody) Read(p []byte) (int, error) {
	if len(b.front) > 0 {
		n := copy(p, b.front)
		b.front = b.front[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.rest.Read(p)
}

func (b *frontBody) Close() error { return b.rest.Close() }
