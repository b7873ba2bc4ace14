package origin

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	opGet  = "GetObject"
	opHead = "HeadObject"
)

// Get requests an object, or a range of it, and returns when its headers have arrived.
// ctx applies to the call and the body. An error is an *Error. With an error, or if the
// object is NotModified, there is no body to close.
func (o *Origin) Get(ctx context.Context, r Request) (*Object, error) {
	t, release, err := o.startCall(ctx, opGet, r)
	if err != nil {
		return nil, err
	}
	t.whole = r.Range == nil
	defer t.endIfPanicked(release)
	obj, err := o.open(ctx, r, t, release)
	if err == nil {
		t.handedOver = true
		return obj, nil
	}
	defer release() // after the breaker has the result, so that it applies to the next call
	obj, failed := notModified(r, t, err)
	if failed != nil {
		err = failed
	}
	t.end(err)
	return obj, failed
}

// open returns an object whose body owns the slot and the callStats.
func (o *Origin) open(ctx context.Context, r Request, t *callStats, release func()) (*Object, error) {
	s, err := o.signer(ctx, r.Route)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(t.context(ctx))
	b := &body{
		o: o, stats: t, release: release, signer: s, request: r,
		start: time.Now(), ctx: ctx, cancel: cancel, length: -1,
	}
	in := getInput(r)
	r.condition(in)
	if r.Range != nil {
		b.first = r.Range.First
		in.Range = aws.String(r.Range.String())
	}
	reply, err := b.getObject(in)
	if isUnimplemented(err) && (r.conditional() || r.IfMatch != "") {
		// The caller must check the version of the reply anyway: a server may ignore the
		// conditions instead.
		in.IfMatch, in.IfNoneMatch, in.IfModifiedSince = nil, nil, nil
		reply, err = b.getObject(in)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	obj, err := b.begin(reply)
	if err != nil {
		reply.close()
		cancel(nil)
		return nil, err
	}
	t.recordReply(opGet, reply.meta)
	t.permit.answered()
	t.rec.OriginOpenBodies(1)
	return obj, nil
}

// getInput holds the request's fields and nothing else. It leaves out the conditions for
// a 304, because the rest of a body is requested without them.
func getInput(r Request) *s3.GetObjectInput {
	in := &s3.GetObjectInput{Bucket: &r.Route.Alias.Bucket, Key: &r.Key}
	if r.IfMatch != "" {
		in.IfMatch = &r.IfMatch
	}
	if owner := r.Route.Alias.BucketOwner; owner != "" {
		in.ExpectedBucketOwner = &owner
	}
	return in
}

// conditional reports whether S3 may answer 304.
func (r Request) conditional() bool { return r.IfNoneMatch != "" || !r.IfModifiedSince.IsZero() }

// condition sends the date only without an ETag: with one, S3 ignores the date (RFC
// 9110, section 13.1.3).
func (r Request) condition(in *s3.GetObjectInput) {
	switch {
	case r.IfNoneMatch != "":
		in.IfNoneMatch = &r.IfNoneMatch
	case !r.IfModifiedSince.IsZero():
		in.IfModifiedSince = &r.IfModifiedSince
	}
}

// notModified turns the error that the SDK makes of a 304 into an answer. A 304 to a
// request without a condition stays an error.
func notModified(r Request, t *callStats, err error) (*Object, error) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Outcome != OutcomeNotModified || !r.conditional() {
		return nil, err
	}
	var resp *awshttp.ResponseError
	errors.As(e.err, &resp)
	h := headerOf(resp)
	etag, modified := h.Get("ETag"), parseDate(h, "Last-Modified")
	if r.IfNoneMatch != "" && etag != "" && opaque(etag) != opaque(r.IfNoneMatch) {
		return nil, badResponse(e.Status, ErrOtherVersion)
	}
	obj := metaOfHeader(h, t.delay()).object(&etag, nil, &modified)
	obj.NotModified = true
	return obj, nil
}

// opaque is the part of an entity tag that the weak comparison reads (RFC 9110, section
// 8.8.3.2), without the quotes, which some servers leave out.
func opaque(etag string) string { return strings.Trim(strings.TrimPrefix(etag, "W/"), `"`) }
