package origin

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/smithy-go/middleware"
	smithytime "github.com/aws/smithy-go/time"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// usedHeaders are the headers of a reply that this package or the SDK's errors need, in
// their canonical form.
var usedHeaders = map[string]bool{
	"Age": true, "Cache-Control": true, "Content-Encoding": true, "Content-Length": true, "Content-Range": true,
	"Content-Type": true, "Date": true, "Etag": true, "Expires": true, "Last-Modified": true, "Retry-After": true,
	"Vary": true, "Via": true, "X-Amz-Bucket-Region": true, "X-Amz-Id-2": true, "X-Amz-Request-Id": true,
	"X-Amz-Checksum-Crc32": true, "X-Amz-Checksum-Crc32c": true, "X-Amz-Checksum-Crc64nvme": true,
	"X-Amz-Checksum-Sha1": true, "X-Amz-Checksum-Sha256": true, "X-Amz-Checksum-Sha512": true,
	"X-Amz-Checksum-Type": true, "X-Amz-Version-Id": true, // the version for alias/scope
}

// cleanHeaders removes from each reply, before the SDK reads it, the headers that nothing
// here uses: the SDK fails a whole call for a senseless value of any of them. Those that
// are used it gives the form that the SDK reads.
func cleanHeaders(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("CleanHeaders",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
			middleware.DeserializeOutput, middleware.Metadata, error,
		) {
			out, meta, err := next.HandleDeserialize(ctx, in)
			if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp.Response != nil {
				cleanHeader(resp.Response, time.Now())
			}
			return out, meta, err
		}), middleware.After)
}

func cleanHeader(resp *http.Response, now time.Time) {
	h := resp.Header
	for name := range h {
		if !usedHeaders[name] {
			delete(h, name)
		}
	}
	if modified, ok := lastModified(h, now); ok {
		h["Last-Modified"] = []string{modified.UTC().Format(http.TimeFormat)}
	} else {
		delete(h, "Last-Modified")
	}
	// The SDK reads a length with leading zeros as octal, HTTP as decimal (RFC 9110,
	// section 8.6).
	if _, ok := h["Content-Length"]; ok && resp.ContentLength >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
}

// maxClockSkew is how far the clock of S3 may be ahead of this host's.
const maxClockSkew = 24 * time.Hour

// lastModified reads a date in any form of HTTP (RFC 9110, section 5.6.7). Without one
// valid date there is no validator: neither with two different ones, nor with one in the
// future (section 8.8.2.1).
func lastModified(h http.Header, now time.Time) (t time.Time, ok bool) {
	lines := h["Last-Modified"]
	if len(lines) == 0 {
		return t, false
	}
	for _, line := range lines[1:] {
		if line != lines[0] {
			return t, false
		}
	}
	t, err := http.ParseTime(lines[0])
	if err != nil {
		t, err = smithytime.ParseHTTPDate(lines[0]) // with a day of one digit, or fractions of a second
	}
	return t, err == nil && !t.After(now.Add(maxClockSkew)) && t.Year() > 0
}
