package proxy

import (
	"context"
	"errors"
	"math"
	"net/http"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// separateRange is that of the conditions. S3 has no ranges of a variant.
func (x *exchange) separateRange(r *cache.Reader, c *conditions) (byteRange, bool) {
	if x.terms.variant != nil {
		return byteRange{}, false
	}
	return c.separateRange(r)
}

// separateRange returns the range that must be fetched by itself, because the object's
// fetch is not shared.
func (c *conditions) separateRange(r *cache.Reader) (byteRange, bool) {
	have, filling := r.Filling()
	if c.byteRange == "" || !r.Exclusive() && !r.NoBody && !filling {
		return byteRange{}, false
	}
	obj := r.Meta.(*object)
	if obj.size < 0 || c.evaluate(obj.validators) != proceed {
		return byteRange{}, false
	}
	part, kind := c.selectRange(obj.validators, obj.size)
	return part, kind == rangeSatisfiable && (!filling || part.first > have+blockSize)
}

// needsLess reports whether a request with conditions may need less than the whole object,
// and would cost S3 all of it: the object is not in memory, no fetch of it is running, and
// the request has a range or the object is known to be large.
func (p *Proxy) needsLess(ck cache.Key, cond *conditions) bool {
	switch {
	case p.cache.Bypasses(ck):
		return true
	case p.cache.Has(ck) || p.cache.Fetching(ck):
		return false
	}
	return cond.hasRange() || p.demand.remembers(ck)
}

// getLess answers a request that may need less than the whole object. A HEAD decides what it
// needs, and only that is fetched. An object that the cache can store is fetched whole if
// the requests for it are worth that.
func (p *Proxy) getLess(x *exchange, route alias.Route, ck cache.Key, cond *conditions) error {
	bypass := p.cache.Bypasses(ck)
	obj, _, err := p.stat(origin.WithSpan(p.base, x.span), route, ck, true)
	switch {
	case err != nil && !bypass && isOfHeadAlone(err): // a GET says more, and its 404 is remembered
		return p.fetched(x, route, ck, cond)
	case err != nil:
		return err
	}
	part, kind := cond.needed(obj)
	w := rangeRequest{route: route, key: ck, obj: obj, span: x.span, byteRange: part, cold: !bypass && p.storable(ck, obj)}
	cond.earned = w.cold && kind != rangeNone && p.demand.whole(ck, obj.size, w.length())
	switch {
	case kind == rangeNone, cond.earned:
		return p.fetched(x, route, ck, cond)
	case kind == rangeUnsatisfiable:
		x.cache = w.label()
		x.answer(&representation{obj: obj, age: obj.age(time.Now()), status: []byte(w.statusOfHead())}, cond)
		return nil
	}
	err = p.sendRange(x, w)
	if w.cold && isNoRange(err) {
		return p.fetched(x, route, ck, cond)
	}
	return err
}

// statusOfHead is the Cache-Status of an answer that a HEAD decided.
func (w rangeRequest) statusOfHead() string {
	if w.cold {
		return cacheStatus(cache.Miss, false, false) // S3 answered a HEAD
	}
	return w.status()
}

// needed returns the range that the answer has: rangeNone stands for the whole object,
// rangeUnsatisfiable and no bytes for an answer without any.
func (c *conditions) needed(obj *object) (byteRange, rangeKind) {
	none := byteRange{0, -1}
	switch {
	case c.evaluate(obj.validators) != proceed:
		return none, rangeUnsatisfiable
	case obj.size < 0:
		return none, rangeNone
	}
	part, kind := c.selectRange(obj.validators, obj.size)
	if kind != rangeSatisfiable {
		part = none
	}
	return part, kind
}

// isOfHeadAlone reports whether S3 refused a HEAD and was not asked by a GET why, as it is
// where the status of the HEAD leaves the cause open. A throttled request is not repeated.
func isOfHeadAlone(err error) bool {
	oe, ok := errors.AsType[*origin.Error](err)
	return ok && oe.IsHead() && oe.Status != 0 && oe.Outcome != origin.OutcomeThrottled
}

// isNoRange reports whether a range could not be fetched because the object has changed, or
// the server has no ranges.
func isNoRange(err error) bool {
	oe, ok := errors.AsType[*origin.Error](err)
	return errors.Is(err, errVersionGone) || ok && oe.Status == http.StatusOK
}

// storable reports whether the cache can store an object.
func (p *Proxy) storable(ck cache.Key, obj *object) bool {
	status, _ := p.cache.Predict(ck, &cache.Source{MetaBytes: obj.bytes(), Size: obj.size})
	return obj.lifetimes.store && status != cache.Bypass
}

// rangeRequest is a range of one version of an object, to be fetched by itself.
type rangeRequest struct {
	route alias.Route
	key   cache.Key
	obj   *object
	byteRange
	cold bool        // the cache could store the object
	span origin.Span // of the request; nil: not traced
}

// sizeIn is the length of the range in an object whose length was not known.
func (w rangeRequest) sizeIn(o *origin.Object) int64 {
	if w.last == math.MaxInt64 {
		return o.Size - w.first
	}
	return w.length()
}

// label and status say how the cache took part in the answer.
func (w rangeRequest) label() string {
	if w.cold {
		return cacheMiss
	}
	return cacheBypass
}

func (w rangeRequest) status() string {
	if w.cold {
		return "ixmage; fwd=uri-miss; fwd-status=206"
	}
	return statusBypass
}

// sendRange fetches and sends a rangeRequest.
func (p *Proxy) sendRange(x *exchange, w rangeRequest) error {
	x.cache = w.label()
	reader, err := p.openRange(w)
	if oe, ok := errors.AsType[*origin.Error](err); ok && oe.Outcome.Changed() {
		return errVersionGone
	}
	if err != nil {
		return err
	}
	if w.cold {
		reader.done = func() { p.demand.add(w.key, x.bytes) }
	}
	x.reader = reader
	x.setContentRange(w.byteRange, w.obj.size)
	f := &representation{
		obj: w.obj, reader: reader, onlyRange: true, age: w.obj.age(time.Now()), status: []byte(w.status()),
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
	s := &rangeStream{leave: leave, done: func() {}}
	if overlaps {
		s.chunkReader, err = p.openBlocks(w, v)
	} else {
		s.alone = w.length()
		s.chunkReader, err = p.cache.Stream(p.base, w.key, p.loadRange(w))
	}
	if err != nil {
		leave()
		return nil, err
	}
	return s, nil
}

// rangeStream leaves the block group and calls done when it is closed for the first time.
type rangeStream struct {
	chunkReader

	alone       int64 // length of a range that is fetched by itself, 0 of one in blocks
	leave, done func()
	once        sync.Once
}

// Next leaves the block group with the last bytes of a range that is fetched by itself. The
// client may ask again as soon as it has them, and that range overlaps nothing.
func (s *rangeStream) Next(off int64) ([]byte, error) {
	chunk, err := s.chunkReader.Next(off)
	if s.alone > 0 && off+int64(len(chunk)) >= s.alone {
		s.leave()
	}
	return chunk, err
}

func (s *rangeStream) Close() error {
	s.once.Do(func() {
		s.leave()
		s.done()
	})
	return s.chunkReader.Close()
}

// loadRange fetches the bytes of a rangeRequest, with its version as a condition. It checks
// the version of the reply too, because not every server applies the condition.
func (p *Proxy) loadRange(w rangeRequest) cache.Load {
	return func(ctx context.Context, _ *cache.Entry) (*cache.Source, error) {
		ctx, span := startFetch(ctx, w.span, false)
		w.route = p.currentRoute(w.route)
		src, err := span.resolve(p.fetchRange(ctx, w))
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
		body, err := readFront(o, 1, frontSize)
		if err != nil {
			return nil, err
		}
		return &cache.Source{Meta: w.obj, MetaBytes: w.obj.bytes(), Size: w.sizeIn(o), Body: body}, nil
	})
}
