package origin

import (
	"errors"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// ErrOtherVersion is a 304 that would refresh one version with the headers of
// another (RFC 9111, section 4.3.4).
var ErrOtherVersion = errors.New("reply says that another version is unchanged")

// conditional reports whether S3 may answer 304.
func (r Request) conditional() bool { return r.IfNoneMatch != "" || !r.IfModifiedSince.IsZero() }

// condition sends the one condition that counts: with an ETag, a date would be
// ignored (RFC 9110, section 13.1.3).
func (r Request) condition(in *s3.GetObjectInput) {
	switch {
	case r.IfNoneMatch != "":
		in.IfNoneMatch = &r.IfNoneMatch
	case !r.IfModifiedSince.IsZero():
		in.IfModifiedSince = &r.IfModifiedSince
	}
}

// unchanged makes an answer of the error that the SDK makes of a 304. A 304 that
// was not asked for stays one.
func unchanged(r Request, t *tally, err error) (*Object, error) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Outcome != OutcomeNotModified || !r.conditional() {
		return nil, err
	}
	var resp *awshttp.ResponseError
	errors.As(e.err, &resp)
	h := headerOf(resp)
	etag, modified := h.Get("ETag"), date(h, "Last-Modified")
	if r.IfNoneMatch != "" && etag != "" && opaque(etag) != opaque(r.IfNoneMatch) {
		return nil, senseless(e.Status, ErrOtherVersion)
	}
	obj := metaOfHeader(h, t.delay()).object(&etag, nil, &modified)
	obj.NotModified = true
	return obj, nil
}

// opaque is what of an entity tag the weak comparison sees (RFC 9110, section
// 8.8.3.2), without the quotes that some servers forget.
func opaque(etag string) string { return strings.Trim(strings.TrimPrefix(etag, "W/"), `"`) }
