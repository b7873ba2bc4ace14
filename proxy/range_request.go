package proxy

import (
	"context"
	"errors"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// separateRange returns the range that must be fetched by itself, because the object's
// fetch is not shared.
func (c *conditions) separateRange(r *cache.Reader) (byteRange, bool) {
	if c.byteRange == "" || !r.Exclusive() && !r.NoBody {
		return byteRange{}, false
	}
	obj := r.Meta.(*object)
	if obj.size < 0 || c.evaluate(obj.validators) != proceed {
		return byteRange{}, false
	}
	part, kind := c.selectRange(obj.validators, obj.size)
	return part, kind == rangeSatisfiable
}

// getRange answers a range of an object that the cache cannot store. A HEAD decides which
// bytes the range means, and only those are fetched.
func (p *Proxy) getRange(x *exchange, route alias.Route, ck cache.Key, cond *conditions) error {
	x.cache = cacheBypass
	obj, _, err := p.stat(p.base, route, ck)
	if err != nil {
		return err
	}
	if cond.evaluate(obj.validators) == proceed {
		r, kind := byteRange{}, rangeNone
		if obj.size >= 0 {
			r, kind = cond.selectRange(obj.validators, obj.size)
		}
		switch kind {
		case rangeSatisfiable:
			return p.sendRange(x, rangeRequest{route, ck, obj, r})
		case rangeNone:
			return p.fetched(x, route, ck, cond)
		case rangeUnsatisfiable:
		}
	}
	x.answer(&representation{obj: obj, age: obj.age(time.Now()), status: []byte(statusBypass)}, cond)
	return nil
}

// rangeRequest is a range of one version of an object, to be fetched by itself.
type rangeRequest struct {
	route alias.Route
	key   cache.Key
	obj   *object
	byteRange
}

// sendRange fetches and sends a rangeRequest.
func (p *Proxy) sendRange(x *exchange, w rangeRequest) error {
	x.cache = cacheBypass
	reader, err := p.openRange(w)
	if oe, ok := errors.AsType[*origin.Error](err); ok && oe.Outcome.Changed() {
		return errVersionGone
	}
	if err != nil {
		return err
	}
	x.reader = reader
	x.setContentRange(w.byteRange, w.obj.size)
	f := &representation{
		obj: w.obj, reader: reader, onlyRange: true, age: w.obj.age(time.Now()), status: []byte(statusBypass),
	}
	x.describe(&x.fc.Response.Header, f)
	x.send(f, w.byteRange)
	return nil
}

// openRange fetches the bytes of a rangeRequest, or the blocks that hold them if another
// client is being sent some of these bytes.
func (p *Proxy) openRange(w rangeRequest) (*rangeStream, error) {
	overlaps, leave := false, func() {}
	v := version{w.key, w.obj.etag, p.cache.Generation(w.key)}
	if w.shareable() {
		overlaps, leave = p.blocks.enter(v, w.byteRange)
	}
	var err error
	s := &rangeStream{leave: leave}
	if overlaps {
		s.chunkReader, err = p.openBlocks(w, v)
	} else {
		s.chunkReader, err = p.cache.Stream(p.base, w.key, p.loadRange(w))
	}
	if err != nil {
		leave()
		return nil, err
	}
	return s, nil
}

// rangeStream leaves the block group when it is closed.
type rangeStream struct {
	chunkReader

	leave func()
}

func (s *rangeStream) Close() error {
	s.leave()
	return s.chunkReader.Close()
}

// loadRange fetches the bytes of a rangeRequest, with its version as a condition. It checks
// the version of the reply too, because not every server applies the condition.
func (p *Proxy) loadRange(w rangeRequest) cache.Load {
	return func(ctx context.Context, _ *cache.Entry) (*cache.Source, error) {
		w.route = p.currentRoute(w.route)
		src, err := p.fetchRange(ctx, w)
		return src, p.checkCanary(ctx, w.route, err)
	}
}

func (p *Proxy) fetchRange(ctx context.Context, w rangeRequest) (*cache.Source, error) {
	o, err := p.origin.Get(ctx, origin.Request{
		Route: w.route, Key: w.route.Alias.Prefix + w.key.Object,
		Range: &origin.Range{First: w.first, Last: w.last}, IfMatch: strongTag(w.obj.etag),
	})
	if err != nil {
		return nil, err
	}
	return closeUnlessUsed(o, func() (*cache.Source, error) {
		if !sameVersion(w.obj.validators, w.obj.size, o) {
			return nil, errVersionGone
		}
		body, err := readFront(o, false)
		if err != nil {
			return nil, err
		}
		return &cache.Source{Meta: w.obj, MetaBytes: w.obj.bytes(), Size: w.length(), Body: body}, nil
	})
}
