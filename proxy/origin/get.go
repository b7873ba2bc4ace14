package origin

import (
	"context"
	"errors"
	"io"
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

const (
	opGet  = "GetObject"
	opHead = "HeadObject"
)

// Get asks for an object, or a range of it, and returns when its headers are
// here. ctx governs the call and the body. An error is an *Error; no body is
// open then, nor where the object is NotModified.
func (o *Origin) Get(ctx context.Context, r Request) (*Object, error) {
	t, release, err := o.begin(ctx, r)
	if err != nil {
		return nil, err
	}
	defer t.broken(release)
	obj, err := o.open(ctx, r, t, release)
	if err == nil {
		t.handed = true
		return obj, nil
	}
	defer release() // once the breaker knows: who has the slot next shall not go out in vain
	obj, failed := unchanged(r, t, err)
	if failed != nil {
		err = failed
	}
	t.end(err)
	return obj, failed
}

// open makes the body that from then on owns the slot and the tally.
func (o *Origin) open(ctx context.Context, r Request, t *tally, release func()) (*Object, error) {
	s, err := o.signer(r.Route)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(t.context(ctx))
	b := &body{
		o: o, tally: t, release: release, signer: s, request: r,
		start: time.Now(), ctx: ctx, cancel: cancel, length: -1,
	}
	in := getInput(r)
	r.condition(in)
	if r.Range != nil {
		b.first = r.Range.First
		in.Range = aws.String(r.Range.String())
	}
	reply, err := b.ask(in)
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
	t.replied(opGet, reply.meta)
	t.permit.answered()
	t.rec.OriginOpenBodies(1)
	return obj, nil
}

// getInput holds nothing but what the request says, its conditions for a 304
// left out: the rest of a body is asked for without them.
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

// reply is one answer of S3 whose body is being read.
type reply struct {
	out    *s3.GetObjectOutput
	status int
	// chunked says that the body's end is marked, whatever its length.
	chunked bool
	// meta has what is not in out, or not as it came.
	meta meta
	// ctx is the request's own: its cause tells why a read failed.
	ctx    context.Context //nolint:containedctx // it lives as long as the reply
	cancel context.CancelCauseFunc
	timer  *time.Timer // cancels ctx with errSlow
	idle   time.Duration
	// waited is how long S3 has kept us waiting for the piece that is coming,
	// and got how much of it is here.
	waited time.Duration
	got    int
}

// piece is what S3 must send in each IdleTimeout that we wait for it: a body that
// trickles would hold its slot and its readers for hours.
const piece = 4 << 10

// ask sends a GetObject and waits for the headers, until limit at most.
func (o *Origin) ask(
	ctx context.Context, client *s3.Client, in *s3.GetObjectInput, limit time.Time,
) (*reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	re := &reply{ctx: ctx, cancel: cancel, idle: o.cfg.IdleTimeout}
	re.timer = time.AfterFunc(time.Until(limit), func() { cancel(errSlow) })
	var err error
	if in.Range == nil {
		re.out, err = client.GetObject(ctx, in)
	} else {
		re.out, err = client.GetObject(ctx, in, withoutChecksum)
	}
	re.timer.Stop()
	if err != nil {
		failed := callError(ctx, opGet, err)
		// Ends what the SDK may have left open.
		cancel(nil)
		return nil, failed
	}
	re.meta = metaOf(re.out.ResultMetadata, tallyOf(ctx).delay())
	if raw, ok := rawReply(re.out.ResultMetadata); ok {
		re.status = raw.StatusCode
		re.chunked = len(raw.TransferEncoding) > 0
	}
	return re, nil
}

func rawReply(meta middleware.Metadata) (*smithyhttp.Response, bool) {
	raw, ok := awsmiddleware.GetRawResponse(meta).(*smithyhttp.Response)
	return raw, ok
}

// withoutChecksum is for ranges: the checksum of an object says nothing about
// a part of it.
func withoutChecksum(o *s3.Options) {
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
}

// read is one Read of the body. The timer runs only while we wait for S3, not
// while our reader takes its time.
func (re *reply) read(p []byte) (int, error) {
	begun := time.Now()
	re.timer.Reset(re.idle - re.waited)
	n, err := re.out.Body.Read(p)
	re.timer.Stop()
	re.waited += time.Since(begun)
	if re.got += n; re.got >= piece {
		re.got, re.waited = 0, 0
	}
	return n, err
}

// close hangs up, unless the body was read to its end: then the connection is
// already back among the idle ones.
func (re *reply) close() {
	re.timer.Stop()
	re.cancel(errClosed)
	_ = re.out.Body.Close()
}

// broken says why reading failed.
func (re *reply) broken(err error) *Error {
	return &Error{
		Outcome: outcomeOfCause(re.ctx, err), Operation: opGet,
		err: errors.Join(ErrTruncated, noEOF(err)),
	}
}

// senseless is a reply that S3 would not send.
func senseless(status int, err error) *Error {
	return &Error{Outcome: OutcomeError, Operation: opGet, Status: status, err: err}
}

// begin takes the first reply and says what the object is.
func (b *body) begin(re *reply) (*Object, error) {
	size, err := b.expect(re)
	if err != nil {
		return nil, senseless(re.status, err)
	}
	b.reply = re
	b.size = size
	out := re.out
	b.etag = aws.ToString(out.ETag)
	obj := re.meta.object(out.ETag, out.ContentType, out.LastModified)
	obj.Size, obj.Body = size, b
	return obj, nil
}

// expect checks that the first reply is what was asked for, and sets what the
// body must deliver. It returns the object's size.
func (b *body) expect(re *reply) (size int64, err error) {
	if b.request.Range != nil {
		got, total, err := rangeOf(re)
		if err != nil || !b.request.Range.covers(got, total) {
			return 0, errBadRange
		}
		b.length = got.Last - got.First + 1
		return total, nil
	}
	if re.status != http.StatusOK {
		return 0, errBadRange
	}
	b.sum = checksumOf(re.out)
	if re.out.ContentLength == nil {
		if !re.chunked && b.sum == nil {
			return 0, errNoEnd
		}
		return -1, nil
	}
	b.length = *re.out.ContentLength
	return b.length, nil
}

// covers reports whether got is what S3 answers to the range: it ends where
// the object does, if that is earlier.
func (r Range) covers(got Range, total int64) bool {
	last := r.Last
	if total >= 0 {
		last = min(last, total-1)
	}
	return got.First == r.First && got.Last == last
}

// rangeOf reads the range of a 206; total is -1 when the reply does not say it.
func rangeOf(re *reply) (r Range, total int64, err error) {
	r, total, ok := parseContentRange(aws.ToString(re.out.ContentRange))
	if !ok || re.status != http.StatusPartialContent {
		return r, 0, errBadRange
	}
	if n := re.out.ContentLength; n != nil && *n != r.Last-r.First+1 {
		return r, 0, errBadRange
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

// decimal is -1 for anything but digits.
func decimal(s string) int64 {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strings.HasPrefix(s, "+") {
		return -1
	}
	return int64(n)
}

// queueError is for calls that got no slot.
func queueError(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Outcome: outcomeOfCause(ctx, err), err: err}
}

// outcomeOf reads the outcome of an error that this package made.
func outcomeOf(err error) Outcome {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	return OutcomeError
}

var _ io.ReadCloser = (*body)(nil)
