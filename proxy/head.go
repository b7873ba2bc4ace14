package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// head answers a cold HEAD from S3's metadata, with the Cache-Status that a GET would
// have. It stores nothing.
func (p *Proxy) head(x *exchange, route alias.Route, ck cache.Key, cond *conditions) error {
	obj, joined, err := p.stat(p.base, route, ck)
	if err != nil {
		return err
	}
	status, stale := p.cache.Predict(ck, &cache.Source{MetaBytes: obj.bytes(), Size: obj.size})
	if joined && status == cache.Miss {
		status = cache.Collapsed
	}
	x.cache = label(status)
	x.answer(&representation{obj: obj, age: obj.age(time.Now()), status: []byte(cacheStatus(status, stale, false))}, cond)
	return nil
}

// stat asks S3 for an object's metadata, once for all requests at the same time. joined
// says that another request asked.
func (p *Proxy) stat(ctx context.Context, route alias.Route, ck cache.Key) (obj *object, joined bool, err error) {
	if err := p.cache.Negative(ck, time.Now()); err != nil {
		return nil, false, err
	}
	joined = true
	// With the generation in it, a request that begins after a purge joins none from before.
	groupKey := fmt.Sprintf("%d/%d/%d/%s", p.cache.Generation(ck), ck.Space, ck.Epoch, ck.Object)
	got, err, _ := p.heads.Do(groupKey, func() (any, error) {
		joined = false
		return p.statAlone(ctx, route, ck)
	})
	if err != nil {
		return nil, false, err
	}
	obj = got.(*object)
	if joined && !obj.isShareable() { // each request has to ask
		obj, err = p.statAlone(ctx, route, ck)
		return obj, false, err
	}
	return obj, joined, nil
}

// statAlone is stat for one request.
func (p *Proxy) statAlone(ctx context.Context, route alias.Route, ck cache.Key) (*object, error) {
	generation := p.cache.Generation(ck)
	route = p.currentRoute(route)
	obj, err := p.statObject(ctx, origin.Request{Route: route, Key: route.Alias.Prefix + ck.Object})
	err = p.classify(ctx, route, err)
	if nf, ok := errors.AsType[*cache.NotFound](err); ok {
		if !isAmbiguous404(nf) {
			p.cache.AddNegative(ck, nf, generation)
		}
		return nil, nf.Err
	}
	return obj, err
}

func (p *Proxy) statObject(ctx context.Context, req origin.Request) (*object, error) {
	o, err := p.origin.Head(ctx, req)
	if err != nil {
		return nil, err
	}
	picture, generic, err := pictureType(o)
	if err != nil {
		return nil, err
	}
	if generic {
		if picture, err = p.sniff(ctx, req, o); err != nil {
			return nil, err
		}
	}
	return newObject(o, req.Route.Alias, picture), nil
}

// sniff finds the type of an object from its first bytes.
func (p *Proxy) sniff(ctx context.Context, req origin.Request, o *origin.Object) (string, error) {
	if o.Size == 0 {
		return "", errNotImage
	}
	last := int64(sniffLen - 1)
	if o.Size > 0 {
		last = min(last, o.Size-1)
	}
	known := validatorsOf(o)
	req.Range, req.IfMatch = &origin.Range{First: 0, Last: last}, strongTag(known.etag)
	front, err := p.origin.Get(ctx, req)
	if err != nil {
		return "", err
	}
	defer front.Body.Close()
	if !sameVersion(known, o.Size, front) {
		return "", errVersionGone
	}
	body, err := readFront(front, true)
	if err != nil {
		return "", err
	}
	return sniffType(body.front)
}
