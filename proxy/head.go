package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// head answers a cold HEAD from S3's metadata, with the Cache-Status that a GET would
// have. It stores nothing.
func (p *Proxy) head(x *exchange, route alias.Route, ck cache.Key, cond *conditions) error {
	obj, joined, err := p.stat(origin.WithSpan(p.base, x.span), route, ck, false)
	if err != nil {
		return err
	}
	status, stale := p.cache.Predict(ck, obj.source())
	if joined && status == cache.Miss {
		status = cache.Collapsed
	}
	x.cache = label(status)
	x.answer(&representation{obj: obj, age: obj.age(time.Now()), status: []byte(cacheStatus(status, stale, false))}, cond)
	return nil
}

// stat asks S3 for an object's metadata, once for all requests at the same time. joined
// says that another request asked. With known, the type may be the remembered one of the same
// version.
func (p *Proxy) stat(
	ctx context.Context, route alias.Route, ck cache.Key, known bool,
) (obj *object, joined bool, err error) {
	if err := p.cache.Negative(ck, time.Now()); err != nil {
		return nil, false, err
	}
	joined = true
	// With the generation in it, a request that begins after a purge joins none from before.
	groupKey := fmt.Sprintf("%t/%d/%d/%d/%s", known, p.cache.Generation(ck), ck.Space, ck.Epoch, ck.Object)
	got, err, _ := p.heads.Do(groupKey, func() (any, error) {
		joined = false
		return p.statAlone(ctx, route, ck, known)
	})
	if err != nil {
		return nil, false, err
	}
	obj = got.(*object)
	if joined && !obj.isShareable() { // each request has to ask
		obj, err = p.statAlone(ctx, route, ck, known)
		return obj, false, err
	}
	return obj, joined, nil
}

// statAlone is stat for one request.
func (p *Proxy) statAlone(ctx context.Context, route alias.Route, ck cache.Key, known bool) (*object, error) {
	generation := p.cache.Generation(ck)
	route = p.currentRoute(route)
	obj, err := p.statObject(ctx, origin.Request{Route: route, Key: route.Alias.Prefix + ck.Object}, known)
	err = p.classify(ctx, route, err)
	if nf, ok := errors.AsType[*cache.NotFound](err); ok {
		if !isAmbiguous404(nf) {
			p.cache.AddNegative(ck, nf, generation)
		}
		return nil, nf.Unwrap()
	}
	return obj, err
}

func (p *Proxy) statObject(ctx context.Context, req origin.Request, known bool) (*object, error) {
	o, err := p.origin.Head(ctx, req)
	if err != nil {
		return nil, err
	}
	d, err := declarationOf(o)
	if err != nil {
		return nil, err
	}
	picture := d.picture
	if d.needsFront() {
		if picture, err = p.sniffOnce(ctx, req, o, known); err != nil {
			return nil, err
		}
	}
	return newObject(o, req.Route.Alias, picture), nil
}

// sniffOnce is sniff. With known, it returns the remembered type of the same version.
func (p *Proxy) sniffOnce(ctx context.Context, req origin.Request, o *origin.Object, known bool) (string, error) {
	id := sniffedKeyOf(req, o)
	if picture, ok := p.sniffed.get(id); ok && known {
		return picture, nil
	}
	d, err := declarationOf(o)
	if err != nil {
		return "", err
	}
	picture, err := p.sniff(ctx, req, o, d)
	if err == nil {
		p.sniffed.put(id, picture)
	}
	return picture, err
}

// sniff finds the type of an object from its first bytes, as source does: from a few, and
// from as many as an XML document may need if these do not decide.
func (p *Proxy) sniff(ctx context.Context, req origin.Request, o *origin.Object, d declaration) (string, error) {
	if o.Size == 0 {
		picture, _, err := d.typeOf(nil)
		return picture, err
	}
	front, err := p.readRange(ctx, req, o, sniffLen)
	if err != nil {
		return "", err
	}
	picture, more, err := d.typeOf(front)
	if !more || len(front) < sniffLen {
		return picture, err
	}
	if front, err = p.readRange(ctx, req, o, prologMax); err != nil {
		return "", err
	}
	picture, _, err = d.typeOf(front)
	return picture, err
}

// readRange reads the first n bytes of an object, or all of it.
func (p *Proxy) readRange(ctx context.Context, req origin.Request, o *origin.Object, n int64) ([]byte, error) {
	if o.Size > 0 {
		n = min(n, o.Size)
	}
	known := validatorsOf(o)
	req.Range, req.IfMatch = &origin.Range{First: 0, Last: n - 1}, strongTag(known.etag)
	front, err := p.origin.Get(ctx, req)
	if oe, ok := errors.AsType[*origin.Error](err); ok && oe.Status == http.StatusOK {
		// The server ignores ranges, or answers with a document of its own, as it answers
		// a GET. The body is closed after the first bytes.
		req.Range = nil
		front, err = p.origin.Get(ctx, req)
	}
	if err != nil {
		return nil, err
	}
	defer front.Body.Close()
	if !sameVersion(known, o.Size, front) {
		return nil, errVersionGone
	}
	buf := make([]byte, n)
	got, err := front.Front(buf, len(buf))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf[:got], nil
}
