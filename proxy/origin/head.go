package origin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Head reads the metadata of an object; it ignores r.Range. An error is an *Error with
// the outcome that a Get would have.
func (o *Origin) Head(ctx context.Context, r Request) (*Object, error) {
	t, release, err := o.startCall(ctx, opHead, r)
	if err != nil {
		return nil, err
	}
	defer release()
	defer t.endIfPanicked(func() {})
	obj, err := o.head(t.context(ctx), r)
	t.end(err)
	return obj, err
}

func (o *Origin) head(ctx context.Context, r Request) (*Object, error) {
	s, err := o.signer(ctx, r.Route)
	if err != nil {
		return nil, err
	}
	// One limit for all requests of the call.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(o.cfg.CallTimeout, func() { cancel(errSlow) })
	defer timer.Stop()
	obj, err := o.headWith(ctx, s.client, r)
	if next, ok := o.retrySigner(ctx, r.Route, s, err); ok {
		return o.headWith(ctx, next.client, r)
	}
	return obj, err
}

func (o *Origin) headWith(ctx context.Context, client *s3.Client, r Request) (*Object, error) {
	in := getInput(r)
	out, err := client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: in.Bucket, Key: in.Key, IfMatch: in.IfMatch, ExpectedBucketOwner: in.ExpectedBucketOwner,
	})
	if err != nil {
		failed := callError(ctx, opHead, err)
		if failed.isAmbiguous() {
			return o.getFirstByte(ctx, client, r, failed)
		}
		return nil, failed
	}
	t := callStatsOf(ctx)
	m := metaOf(out.ResultMetadata, t.delay())
	t.recordReply(opHead, m)
	obj := m.object(out.ETag, out.ContentType, out.LastModified)
	if out.ContentLength != nil {
		obj.Size = *out.ContentLength
	}
	return obj, nil
}

// isAmbiguous reports whether the reply to a failed HEAD does not show the cause: it has no
// body and so no code of S3, and the status alone does not distinguish a denied object from
// a refused key.
func (e *Error) isAmbiguous() bool {
	if e.Status == 0 || e.Code != "" {
		return false
	}
	switch e.Status {
	case http.StatusNotFound, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusTooManyRequests:
		return false
	}
	return true
}

// getFirstByte requests the first byte, to learn from the error document why HEAD
// failed. If S3 sends the byte after all, the headers that come with it are the answer.
func (o *Origin) getFirstByte(ctx context.Context, client *s3.Client, r Request, failed *Error) (*Object, error) {
	in := getInput(r)
	in.Range = aws.String("bytes=0-0")
	re, err := o.getObject(ctx, client, in, time.Now().Add(o.cfg.CallTimeout))
	if err != nil {
		// An empty object has no first byte: that says nothing about HEAD.
		if e, ok := errors.AsType[*Error](err); ok && e.Outcome == OutcomeRange {
			return nil, failed
		}
		return nil, err
	}
	defer re.close()
	got, total, err := rangeOf(re)
	if err != nil || got.First != 0 {
		return nil, failed
	}
	// Reading to the end lets the connection be used again.
	_, _ = re.read(make([]byte, 2))
	callStatsOf(ctx).recordReply(opGet, re.meta)
	obj := re.meta.object(re.out.ETag, re.out.ContentType, re.out.LastModified)
	obj.Size = total
	return obj, nil
}
