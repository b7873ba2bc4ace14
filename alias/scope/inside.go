package scope

import (
	"cmp"
	"context"
	"errors"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"ixmage/internal/awserr"
)

// Refusal is the answer of S3 to a key that reads inside, with all that it says about the
// reason.
type Refusal struct {
	awserr.Reply

	Object string // the key of the object
	Given  bool   // an operator gave the object, so that it should exist
	Fault  awserr.Fault
	Region string // of the bucket, if S3 names it
	KMSKey string // ARN of the KMS key, if S3 names it
}

// ReadInside makes the read of the check read-inside once more, for its reason.
func ReadInside(ctx context.Context, key Key, t Target) Refusal {
	r := newRound(key, t)
	out := Refusal{Object: r.Inside, Given: r.Inside != ""}
	if !out.Given {
		out.Object = r.probeKey()
	}
	var cause error
	out.Reply = r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, cause = readByte(ctx, r.S3, firstByte(r.Location, out.Object))
		return cause
	})
	api, ok := errors.AsType[smithy.APIError](cause)
	if !ok {
		return out
	}
	message := api.ErrorMessage()
	out.Fault = awserr.FaultOf(out.Code, message)
	if out.Fault == awserr.Region {
		header := ""
		if resp, ok := errors.AsType[*smithyhttp.ResponseError](cause); ok && resp.Response != nil {
			header = plainRegion(resp.Response.Header.Get("X-Amz-Bucket-Region"))
		}
		out.Region = cmp.Or(header, awserr.RegionOf(message))
	}
	if out.Denied() {
		out.KMSKey = awserr.KMSKeyOf(message)
	}
	return out
}
