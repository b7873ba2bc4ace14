package provision

import (
	"context"

	"ixmage/alias"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

// bucketTries is how often S3 is asked for a bucket before it counts as unreachable.
const bucketTries = 3

// checkBucket fails the operation if the bucket of its request is missing, in another region,
// or at an S3 server that cannot be reached. It needs no key, so it is the first thing that an
// operation does: a mistake in the request then leaves nothing in IAM.
func (t *task) checkBucket(ctx context.Context) error {
	return t.p.checkBucket(ctx, t.data.Request.Location, t.op.ID)
}

func (p *Provisioner) checkBucket(ctx context.Context, at alias.Location, operation string) error {
	client := p.cfg.S3(at, alias.KeyPair{})
	for i := 0; ; i++ {
		found := scope.LookUpBucket(ctx, client, at, operation)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if found.State != scope.BucketNoAnswer || i == bucketTries-1 {
			return p.bucketError(at, found)
		}
		if err := p.clock.Sleep(ctx, waits[i]); err != nil {
			return err
		}
	}
}

// bucketError is nil if nothing speaks against the bucket.
func (p *Provisioner) bucketError(at alias.Location, found scope.Bucket) error {
	switch found.State {
	case scope.BucketMissing:
		return bucketMissing(at)
	case scope.BucketElsewhere:
		return wrongRegion(at, found.Region)
	case scope.BucketNoAnswer:
		hint := "S3 gave no answer (" + awserr.Silence(found.Err) + "): check endpoint, region, and the network of this host"
		if p.cfg.S3Hint != nil {
			hint = p.cfg.S3Hint(at, found.Err)
		}
		return failf(codeS3Unreachable, "%s did not answer %d times for the bucket %s. %s",
			serverOf(at), bucketTries, at.Bucket, hint)
	case scope.BucketUntold:
	}
	return nil
}

func bucketMissing(at alias.Location) error {
	return failf(codeBucketMissing, "%s has no bucket %s: correct bucket in the request, or create the bucket",
		serverOf(at), at.Bucket)
}

// wrongRegion is the error for a bucket in another region, which may be unknown.
func wrongRegion(at alias.Location, region string) error {
	if region == "" {
		return failf(codeWrongRegion, "the bucket %s is not in the region %s: "+
			"set region in the request to that of the bucket", at.Bucket, at.Region)
	}
	also := ""
	if at.Endpoint != "" {
		also = ", and endpoint to that of this region if it has one of its own"
	}
	return failf(codeWrongRegion, "the bucket %s is in the region %s and not in %s: set region in the request to %s%s",
		at.Bucket, region, at.Region, region, also)
}

// serverOf names the S3 server of a location.
func serverOf(at alias.Location) string {
	if at.Endpoint == "" {
		return "S3 in " + at.Region
	}
	return "the S3 server " + at.Endpoint
}
