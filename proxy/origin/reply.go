package origin

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// reply is one answer of S3 whose body is being read.
type reply struct {
	out    *s3.GetObjectOutput
	status int
	// chunked says that the last chunk marks the body's end. Fields may follow it: http.Trailer
	// has their names from the beginning, and their values at the end.
	chunked bool
	http    *http.Response
	// meta holds the headers that out lacks or changes.
	meta meta
	// ctx is the request's own: its cause tells why a read failed.
	ctx    context.Context //nolint:containedctx // it lives as long as the reply
	cancel context.CancelCauseFunc
	timer  *time.Timer // cancels ctx with errSlow
	idle   time.Duration
	// waited is how long reads have waited for S3 since the last minProgress bytes
	// were complete, and got how many bytes have arrived since.
	waited time.Duration
	got    int
}

// minProgress is how many bytes S3 must send in each IdleTimeout of waiting: otherwise a
// body that trickles would hold its slot and its readers for hours.
const minProgress = 4 << 10

// getObject sends a GetObject and waits for the headers, until limit at most. If the
// server does not know x-amz-checksum-mode, it is asked again without, and without at
// once for some time.
func (o *Origin) getObject(
	ctx context.Context, client *s3.Client, in *s3.GetObjectInput, limit time.Time,
) (*reply, error) {
	get, endpoint := getRequest{client, in, limit}, callStatsOf(ctx).endpoint
	if in.Range != nil || o.unchecked.has(endpoint) {
		return o.sendGet(ctx, get, withoutChecksum)
	}
	re, err := o.sendGet(ctx, get)
	if !isUnimplemented(err) {
		return re, err
	}
	in.ChecksumMode = "" // the SDK has set it
	again, second := o.sendGet(ctx, get, withoutChecksum)
	if isUnimplemented(second) { // the checksum is not the cause
		return nil, err
	}
	// A request that was aborted, or met a failing S3, shows nothing about the server.
	if e, ok := errors.AsType[*Error](second); !ok || e.Status != 0 && e.Status < 500 {
		o.unchecked.add(endpoint)
	}
	return again, second
}

// getRequest is a GetObject that waits for the headers until limit at most.
type getRequest struct {
	client *s3.Client
	in     *s3.GetObjectInput
	limit  time.Time
}

func (o *Origin) sendGet(ctx context.Context, g getRequest, options ...func(*s3.Options)) (*reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	re := &reply{ctx: ctx, cancel: cancel, idle: o.cfg.IdleTimeout}
	re.timer = time.AfterFunc(time.Until(g.limit), func() { cancel(errSlow) })
	var err error
	re.out, err = g.client.GetObject(ctx, g.in, options...)
	re.timer.Stop()
	if err != nil {
		failed := callError(ctx, opGet, err)
		// Closes a connection that the SDK may have left open.
		cancel(nil)
		return nil, failed
	}
	re.meta = metaOf(re.out.ResultMetadata, callStatsOf(ctx).delay())
	if raw, ok := rawReply(re.out.ResultMetadata); ok {
		re.status = raw.StatusCode
		re.chunked = len(raw.TransferEncoding) > 0
		re.http = raw.Response
	}
	return re, nil
}

func rawReply(meta middleware.Metadata) (*smithyhttp.Response, bool) {
	raw, ok := awsmiddleware.GetRawResponse(meta).(*smithyhttp.Response)
	return raw, ok
}

// withoutChecksum is for ranges, because the checksum of an object does not check a part
// of it, and for servers that do not know x-amz-checksum-mode.
func withoutChecksum(o *s3.Options) {
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
}

// read is one Read of the body. The timer runs only during the Read, not while a slow
// client takes the bytes.
func (re *reply) read(p []byte) (int, error) {
	begun := time.Now()
	re.timer.Reset(re.idle - re.waited)
	n, err := re.out.Body.Read(p)
	re.timer.Stop()
	re.waited += time.Since(begun)
	if re.got += n; re.got >= minProgress {
		re.got, re.waited = 0, 0
	}
	return n, err
}

// close closes the connection, unless the body was read to its end: then the connection
// is already among the idle ones.
func (re *reply) close() {
	re.timer.Stop()
	re.cancel(errClosed)
	_ = re.out.Body.Close()
}

// readError is the *Error of a failed read.
func (re *reply) readError(err error) *Error {
	e := &Error{Operation: opGet, err: errors.Join(ErrTruncated, noEOF(err))}
	e.fail(re.ctx, err)
	e.Hint = "" // S3 has answered, so the configuration is right
	return e
}

// badResponse is the error of a reply that no working S3 sends.
func badResponse(status int, err error) *Error {
	return &Error{Outcome: OutcomeError, Operation: opGet, Status: status, err: err}
}

// covers reports whether got is the right answer to the range, which ends with the
// object if the object is shorter.
func (r Range) covers(got Range, total int64) bool {
	last := r.Last
	if total >= 0 {
		last = min(last, total-1)
	}
	return got.First == r.First && got.Last == last
}

// rangeOf reads the range of a 206; total is -1 if the reply does not tell it.
func rangeOf(re *reply) (r Range, total int64, err error) {
	r, total, ok := parseContentRange(aws.ToString(re.out.ContentRange))
	if !ok || re.status != http.StatusPartialContent {
		return r, 0, ErrBadRange
	}
	if n := re.out.ContentLength; n != nil && *n != r.Last-r.First+1 {
		return r, 0, ErrBadRange
	}
	return r, total, nil
}

// parseContentRange reads `bytes 0-9/100` and `bytes 0-9/*` (RFC 9110, 14.4).
func parseContentRange(s string) (r Range, total int64, ok bool) {
	span, size, ok1 := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !strings.HasPrefix(s, "bytes ") || !ok1 || !ok2 {
		return Range{}, 0, false
	}
	r.First, r.Last, total = decimal(first), decimal(last), -1
	if size != "*" {
		if total = decimal(size); total <= r.Last {
			return Range{}, 0, false
		}
	}
	return r, total, r.First >= 0 && r.First <= r.Last && r.Last < math.MaxInt64
}

// decimal returns -1 for a text that is not only digits.
func decimal(s string) int64 {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strings.HasPrefix(s, "+") {
		return -1
	}
	return int64(n)
}
