package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	// drainLimit is the longest unread rest that Close reads to keep the
	// connection: about what the connection's buffer holds already.
	drainLimit = readBuffer
	// drainTime is how long Close waits for that rest.
	drainTime = 20 * time.Millisecond
)

// body reads an object's bytes, counts and checks them. A read that breaks is resumed
// once where it stopped, with If-Match so that the rest is of the same object; the
// checksum continues across both replies.
type body struct {
	o       *Origin
	stats   *callStats
	release func()
	request Request
	start   time.Time // when S3 was first asked
	// ctx is the caller's, kept because a resumed body needs a new request;
	// cancel ends the request under way.
	ctx    context.Context //nolint:containedctx // the call lasts until the body ends
	cancel context.CancelCauseFunc

	closed atomic.Bool

	// mu guards the fields below. Read holds it while it waits for S3: Close
	// cancels ctx to get the lock.
	mu     sync.Mutex
	signer signer // whose request was answered last
	reply  *reply
	etag   string
	size   int64     // of the whole object, -1 unknown
	first  int64     // where in the object the body begins
	length int64     // of the body, -1 unknown
	done   int64     // bytes delivered
	sum    *checksum // nil: none, or a range
	// readErr is a failed read that may still be resumed.
	readErr *Error
	resumed bool
	end     error // the result of every later Read
}

// begin takes the first reply and returns its object.
func (b *body) begin(re *reply) (*Object, error) {
	size, err := b.checkFirst(re)
	if err != nil {
		return nil, badResponse(re.status, err)
	}
	b.reply = re
	b.size = size
	out := re.out
	b.etag = aws.ToString(out.ETag)
	obj := re.meta.object(out.ETag, out.ContentType, out.LastModified)
	obj.Size, obj.Checked, obj.Body = size, b.sum != nil, b
	return obj, nil
}

// checkFirst checks that the first reply answers the request, and sets the length and
// checksum of the body. It returns the object's size, -1 if it is unknown.
func (b *body) checkFirst(re *reply) (size int64, err error) {
	if b.request.Range != nil {
		got, total, err := rangeOf(re)
		if err != nil || !b.request.Range.covers(got, total) {
			return 0, ErrBadRange
		}
		b.length = got.Last - got.First + 1
		return total, nil
	}
	if re.status != http.StatusOK {
		return 0, ErrBadRange
	}
	if b.sum = checksumOf(re.out); b.sum == nil && re.chunked {
		b.sum = trailerChecksum(re.http)
	}
	if re.out.ContentLength == nil {
		if b.sum == nil && !re.chunked {
			b.sum = etagChecksum(aws.ToString(re.out.ETag))
		}
		if b.sum == nil && !re.chunked {
			return 0, ErrNoEnd
		}
		return -1, nil
	}
	b.length = *re.out.ContentLength
	return b.length, nil
}

// Read delivers the next bytes. It may return bytes together with the end.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if b.end == nil && b.readErr != nil {
			b.resume()
		}
		if b.end != nil || len(p) == 0 {
			return 0, b.end
		}
		if n := b.advance(p); n > 0 || b.end != nil {
			return n, b.end
		}
	}
}

// front is io.ReadAtLeast within the rest of CallTimeout. It returns the last Read's
// error as it is.
func (b *body) front(p []byte, least int) (n int, err error) {
	timer := time.AfterFunc(time.Until(b.start.Add(b.o.cfg.CallTimeout)), func() { b.cancel(errSlow) })
	defer timer.Stop()
	for err == nil && n < least {
		var k int
		k, err = b.Read(p[n:])
		n += k
	}
	return n, err
}

// advance reads once and decides whether the body has ended.
func (b *body) advance(p []byte) int {
	var n int
	var err error
	if b.length >= 0 {
		p = p[:min(int64(len(p)), b.length-b.done)]
	}
	if len(p) > 0 {
		n, err = b.reply.read(p)
		b.done += int64(n)
		if b.sum != nil {
			b.sum.Write(p[:n])
		}
	}
	switch {
	case b.done == b.length:
		// Usually the end comes with the last bytes, and the connection is free
		// already.
		if err == nil && b.hasMore() {
			b.end = badResponse(b.reply.status, ErrCorrupt)
			return n
		}
		b.end = b.checkSum()
	case err == nil:
	case errors.Is(err, io.EOF) && b.length < 0:
		b.end = b.checkSum()
	default:
		b.readErr = b.reply.readError(err)
	}
	return n
}

// hasMore reports whether bytes follow the last declared one. An error in place of the
// end does not matter: the body is complete.
func (b *body) hasMore() bool {
	var one [1]byte
	n, _ := b.reply.read(one[:])
	return n > 0
}

// checkSum returns the end of a body whose bytes have all arrived.
func (b *body) checkSum() error {
	if !b.sum.ok() {
		return badResponse(b.reply.status, ErrCorrupt)
	}
	return io.EOF
}

// resume asks for the rest. It clears readErr or sets end.
func (b *body) resume() {
	broken := b.readErr
	b.readErr = nil
	b.reply.close()
	switch {
	case b.ctx.Err() != nil:
		broken.Outcome = outcomeOfCause(b.ctx, broken)
		b.end = broken
		return
	// A weak ETag matches nothing in If-Match (RFC 9110, 13.1.1), and without
	// one the rest could be another object's.
	case b.resumed || b.etag == "" || strings.HasPrefix(b.etag, "W/"):
		b.end = broken
		return
	}
	b.resumed = true
	re, err := b.requestRest()
	if err != nil {
		b.end = err
		return
	}
	b.o.log.LogAttrs(b.ctx, slog.LevelInfo, "resumed a broken body",
		slog.String("alias", b.stats.alias), slog.Int64("offset", b.done), slog.Any("cause", broken))
	b.reply = re
}

func (b *body) requestRest() (*reply, error) {
	at := b.first + b.done
	in := getInput(b.request)
	in.IfMatch = &b.etag
	in.Range = aws.String(fmt.Sprintf("bytes=%d-", at))
	if b.length >= 0 {
		in.Range = aws.String(Range{at, b.first + b.length - 1}.String())
	}
	re, err := b.getObject(in)
	if err != nil {
		return nil, restError(err)
	}
	if err := b.checkRest(re, at); err != nil {
		re.close()
		return nil, badResponse(re.status, err)
	}
	return re, nil
}

// getObject sends a GetObject for the body, and once more with another key if S3
// refuses the key. Both together may take CallTimeout. A resumed body begins with the
// key that was tried last.
func (b *body) getObject(in *s3.GetObjectInput) (*reply, error) {
	limit := time.Now().Add(b.o.cfg.CallTimeout)
	re, err := b.o.getObject(b.ctx, b.signer.client, in, limit)
	if next, ok := b.o.retrySigner(b.ctx, b.request.Route, b.signer, err); ok {
		b.signer = next
		return b.o.getObject(b.ctx, next.client, in, limit)
	}
	return re, err
}

// restError makes the body's error of a failed request for its rest: the body is
// truncated, or its object has changed.
func restError(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	cause := ErrTruncated
	if e.Outcome == OutcomePrecondition || e.Outcome == OutcomeRange || e.Outcome == OutcomeNotFound {
		e.Outcome, cause = OutcomeError, ErrChanged
	}
	e.err = errors.Join(cause, e.err)
	return e
}

// checkRest checks that a reply is the rest of this body.
func (b *body) checkRest(re *reply, at int64) error {
	got, total, err := rangeOf(re)
	if err != nil || got.First != at {
		return ErrBadRange
	}
	if aws.ToString(re.out.ETag) != b.etag {
		return ErrChanged
	}
	if b.size >= 0 && total != b.size {
		return ErrChanged
	}
	if b.length < 0 {
		// The first reply did not declare a length; this one must.
		if total < 0 {
			return ErrBadRange
		}
		b.size, b.length = total, total-b.first
	}
	if got.Last != b.first+b.length-1 {
		return ErrBadRange
	}
	return nil
}

// Close releases the slot and the connection and reports the call, once.
func (b *body) Close() error {
	if !b.closed.CompareAndSwap(false, true) {
		return nil
	}
	if !b.mu.TryLock() {
		// A Read is under way and may be waiting for S3.
		b.cancel(errClosed)
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	var failed error
	switch {
	case b.end == nil:
		b.drain()
		b.end = &Error{Outcome: OutcomeAborted, err: errClosed}
		failed = b.end
	case !errors.Is(b.end, io.EOF):
		failed = b.end
	}
	b.reply.close()
	b.cancel(errClosed)
	b.stats.rec.OriginOpenBodies(-1)
	b.stats.rec.OriginBytes(b.stats.alias, b.done)
	b.stats.end(failed)
	b.release() // after the breaker has the result, so that it applies to the next call
	return nil
}

// drain reads a small rest, so that the connection can be used again.
func (b *body) drain() {
	rest := b.length - b.done
	if b.readErr != nil || b.length < 0 || rest > drainLimit || b.ctx.Err() != nil {
		return
	}
	b.reply.idle, b.reply.waited = drainTime, 0
	buf := make([]byte, rest)
	for len(buf) > 0 {
		n, err := b.reply.read(buf)
		if err != nil {
			return
		}
		buf = buf[n:]
	}
}
