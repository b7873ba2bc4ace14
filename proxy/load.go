package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// load fetches a whole object for the cache, or finds that what is stored of it is
// still the same.
func (p *Proxy) load(route alias.Route, key string) cache.Load {
	return func(ctx context.Context, old *cache.Entry) (*cache.Source, error) {
		route := p.standing(route)
		req := origin.Request{Route: route, Key: route.Alias.Prefix + key}
		if old != nil && !old.Purged() && !old.Meta.(*object).doubted.Load() {
			req.IfNoneMatch, req.IfModifiedSince = old.Meta.(*object).conditions()
		}
		src, err := p.fetch(ctx, req, old)
		return src, p.verdict(ctx, route, err)
	}
}

// errContradiction is a page or an error that bears a picture's name: more likely
// something on the way to S3 than the object itself.
var errContradiction = fmt.Errorf("%w: the bytes are none of its type", errNotImage)

// verdict tells the cache what an error means for what is stored: an object that
// is gone goes, and everything that is nobody's fault but the origin's, or ours,
// leaves what there is to be served.
func (p *Proxy) verdict(ctx context.Context, route alias.Route, err error) error {
	err = p.judge(ctx, route, err)
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, errAliasDenied), errors.Is(err, errContradiction):
		return &cache.Outage{Err: err}
	case errors.Is(err, errNotImage): // any more
		return &cache.Gone{Err: err}
	}
	oe, ok := errors.AsType[*origin.Error](err)
	if !ok {
		return err
	}
	negative := p.standing(route).Alias.NegativeTTL
	switch oe.Outcome {
	case origin.OutcomeDenied:
		if p.unsure(route.Alias) {
			return &cache.Outage{Err: err}
		}
		return &cache.Gone{Err: gist(oe), For: negative}
	case origin.OutcomeNotFound:
		return &cache.Gone{Err: gist(oe), For: negative}
	case origin.OutcomeAborted:
		return err
	default:
		return &cache.Outage{Err: err}
	}
}

// unsure reports whether nobody can tell now what a refusal means: the alias has a
// canary, and S3 has no answer about that either.
func (p *Proxy) unsure(a *alias.Alias) bool {
	keeper, ok := p.canary.(canaryKeeper)
	return ok && a.Canary != "" && keeper.Unsure(a.ID)
}

// gist is what may be kept of an error: what it says, without what it holds.
func gist(e *origin.Error) error {
	return &origin.Error{
		Outcome: e.Outcome, Operation: e.Operation, Status: e.Status, Code: e.Code, S3RequestID: e.S3RequestID,
	}
}

// errAliasDenied means that S3 refuses not only the object that was asked for.
var errAliasDenied = errors.New("the alias's canary is refused too")

// judge finds out what a refusal means. Without the right to list a bucket, S3
// answers AccessDenied for an object that is not there as well; where the
// alias's canary is refused too, it is the alias that is broken.
func (p *Proxy) judge(ctx context.Context, route alias.Route, err error) error {
	if err == nil || p.canary == nil {
		return err
	}
	oe, ok := errors.AsType[*origin.Error](err)
	if ok && oe.Outcome == origin.OutcomeDenied && p.canary.Refused(ctx, route) {
		return fmt.Errorf("%w: %w", errAliasDenied, err)
	}
	return err
}

// fetch opens an object and reads its first bytes: they decide the type where
// the declared one is generic, and an origin that breaks before it has sent
// anything is then an error that the client can still be told.
func (p *Proxy) fetch(ctx context.Context, req origin.Request, old *cache.Entry) (*cache.Source, error) {
	o, err := p.origin.Get(ctx, req)
	if err == nil && o.NotModified {
		if obj := old.Meta.(*object); obj.confirmedBy(o) {
			p.series.of(string(req.Route.Alias.Name)).Saved(SavedByNotModified, 0, obj.size)
			return confirmed(obj.freshened(o, p.standing(req.Route).Alias)), nil
		}
		err = origin.ErrOtherVersion
	}
	if errors.Is(err, origin.ErrOtherVersion) {
		// Nobody learns from that what the object is now: it is asked for without a
		// condition, by the next flight if what is stored does until then.
		old.Meta.(*object).doubted.Store(true)
		if old.Bridges(time.Now()) {
			return nil, &cache.Outage{Err: err}
		}
		req.IfNoneMatch, req.IfModifiedSince = "", time.Time{}
		o, err = p.origin.Get(ctx, req)
	}
	if err != nil {
		return nil, err
	}
	return opened(o, func() (*cache.Source, error) { return source(o, p.standing(req.Route).Alias) })
}

// confirmed is what the cache is told of an object that has not changed.
func confirmed(obj *object) *cache.Source {
	src := obj.source()
	src.Same = true
	return src
}

// opened is what read makes of o. It closes o's body, and so gives its slot back, if
// that is nothing, or if read panics.
func opened(o *origin.Object, read func() (*cache.Source, error)) (src *cache.Source, err error) {
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
	body, err := peek(o, generic || picture == typeSVG)
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

// mute reports whether a 404 leaves open what is missing: an answer to HEAD has no
// code, and the bucket may not be there.
func mute(gone *cache.Gone) bool {
	oe, ok := errors.AsType[*origin.Error](gone.Err)
	return ok && oe.Outcome == origin.OutcomeNotFound && oe.Code != "NoSuchKey"
}

// stat asks for an object's metadata alone, once for all who do so at the same time.
// joined says that another request asked.
func (p *Proxy) stat(ctx context.Context, route alias.Route, ck cache.Key) (obj *object, joined bool, err error) {
	if err := p.cache.Absent(ck, time.Now()); err != nil {
		return nil, false, err
	}
	joined = true
	// With the generation in it, a request that begins after a purge joins none from before.
	flight := fmt.Sprintf("%d/%d/%d/%s", p.cache.Generation(), ck.Space, ck.Epoch, ck.Object)
	got, err, _ := p.heads.Do(flight, func() (any, error) {
		joined = false
		return p.statAlone(ctx, route, ck)
	})
	if err != nil {
		return nil, false, err
	}
	obj = got.(*object)
	if joined && !obj.lasts() { // each request has to ask
		obj, err = p.statAlone(ctx, route, ck)
		return obj, false, err
	}
	return obj, joined, nil
}

// statAlone asks for one request.
func (p *Proxy) statAlone(ctx context.Context, route alias.Route, ck cache.Key) (*object, error) {
	asked := time.Now()
	route = p.standing(route)
	obj, err := p.look(ctx, origin.Request{Route: route, Key: route.Alias.Prefix + ck.Object})
	err = p.verdict(ctx, route, err)
	if gone, ok := errors.AsType[*cache.Gone](err); ok {
		if !mute(gone) {
			gone.Asked = asked
			p.cache.Missed(ck, gone)
		}
		return nil, gone.Err
	}
	return obj, err
}

func (p *Proxy) look(ctx context.Context, req origin.Request) (*object, error) {
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

// sniff reads the front of an object of generic type.
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
	body, err := peek(front, true)
	if err != nil {
		return "", err
	}
	return sniffType(body.front)
}

// sameVersion reports whether a reply is of the version that is known, as far as
// it is. A range need not tell the size of the whole.
func sameVersion(known validators, size int64, reply *origin.Object) bool {
	v := validatorsOf(reply)
	return (known.etag == "" || v.etag == known.etag) &&
		(known.modified.IsZero() || v.modified.Equal(known.modified)) &&
		(size < 0 || reply.Size < 0 || reply.Size == size)
}

// strongTag is what of an entity tag is good for If-Match: a weak one matches
// nothing (RFC 9110, section 13.1.1).
func strongTag(tag string) string {
	if strings.HasPrefix(tag, "W/") {
		return ""
	}
	return tag
}

// frontBody is a body whose first bytes have been read already.
type frontBody struct {
	front []byte // read and not handed out yet
	err   error  // what followed front, if it is known
	rest  io.ReadCloser
}

// peek reads until there is something to say: the first bytes, all that a type
// can be told from if full, or the end of an empty body. An origin that trickles
// holds nobody longer than one that is silent.
func peek(o *origin.Object, full bool) (*frontBody, error) {
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
