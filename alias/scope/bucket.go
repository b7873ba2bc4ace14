package scope

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// bucketTimeout bounds one look at a bucket: a connection to S3 and its answer, twice.
const bucketTimeout = 5 * time.Second

// BucketState is what S3 tells of a bucket without a signature.
type BucketState int

// States of a bucket.
const (
	BucketUntold    BucketState = iota // no objection: the bucket is there, or the server does not tell
	BucketMissing                      // there is no bucket of this name
	BucketElsewhere                    // the bucket is in another region
	BucketNoAnswer                     // S3 gave no answer
)

// Bucket is the outcome of LookUpBucket.
type Bucket struct {
	State  BucketState
	Region string // of the bucket, if it is elsewhere
	Err    error  // of the SDK, if there was no answer
}

// LookUpBucket asks S3 whether the bucket of a location exists, and in which region it is, with a
// HeadBucket that is not signed. S3 answers 404 for a missing bucket, and else names the
// bucket's region in the header x-amz-bucket-region, whatever the caller may do
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html). From a server that
// does not answer in this way nothing is concluded. mark is the id of the operation, for
// the user agent.
func LookUpBucket(ctx context.Context, client *s3.Client, at alias.Location, mark string) Bucket {
	ctx, cancel := context.WithTimeout(WithMark(ctx, mark), bucketTimeout)
	defer cancel()
	status, region, err := headBucket(ctx, client, at)
	switch state := bucketState(at, status, region); {
	case status == 0:
		return Bucket{State: BucketNoAnswer, Err: err}
	case state == BucketElsewhere:
		return Bucket{State: state, Region: region}
	case state == BucketMissing && at.Endpoint != "" && region == "":
		// The answer to a HEAD has no code, and a server that does not know the call may
		// answer 404 too.
		_, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &at.Bucket}, unsigned, markS3)
		if awserr.ReplyOf(err).Code != "NoSuchBucket" {
			return Bucket{}
		}
		return Bucket{State: state}
	default:
		return Bucket{State: state}
	}
}

// headBucket returns a status of 0 if there was no answer, and the region that the answer
// names.
func headBucket(ctx context.Context, client *s3.Client, at alias.Location) (status int, region string, err error) {
	out, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &at.Bucket}, unsigned, markS3)
	if err == nil {
		return http.StatusOK, plainRegion(aws.ToString(out.BucketRegion)), nil
	}
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return resp.HTTPStatusCode(), plainRegion(resp.Response.Header.Get("X-Amz-Bucket-Region")), err
	}
	return 0, "", err
}

// bucketState decides what an answer to HeadBucket means. A status of 5xx means nothing, nor
// does the region of a server that is not AWS if it is not named as those of AWS: Ceph
// calls it default, and accepts the signature for any.
func bucketState(at alias.Location, status int, region string) BucketState {
	switch {
	case status == http.StatusNotFound:
		return BucketMissing
	case status == 0, status >= http.StatusInternalServerError, region == "", region == at.Region:
		return BucketUntold
	case at.Endpoint != "" && !awsRegion.MatchString(region):
		return BucketUntold
	}
	return BucketElsewhere
}

var (
	anyRegion = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	awsRegion = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]{2,12}){1,3}-[0-9]{1,2}$`)
)

// plainRegion is a region as a server names it, and empty if it is no name of a region.
func plainRegion(s string) string {
	if !anyRegion.MatchString(s) {
		return ""
	}
	return s
}

// unsigned makes a call without a signature.
func unsigned(o *s3.Options) { o.Credentials = nil }
