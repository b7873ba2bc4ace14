package provision

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
)

const (
	// probeTimeout bounds one probe, the SDK's retries included.
	probeTimeout = 5 * time.Second
	// maxSilent is after how many probes in a row without an answer a service
	// is asked no more in a round.
	maxSilent = 2
	// probeFolder holds, by name only, what probes ask for. Nothing is written
	// there as long as a server heeds what a probe for writing says.
	probeFolder = ".ixmage-probe/"
)

// prober probes with one key pair, on the S3 client that serves.
type prober struct {
	s3      *s3.Client
	iam     *iam.Client // nil: its checks are not proven
	sts     *sts.Client // likewise
	now     func() time.Time
	timeout time.Duration // of one probe; zero: probeTimeout
}

// target is what a key is held to.
type target struct {
	location alias.Location
	mode     alias.PolicyMode // empty for a pasted key
	// grants are all that the key may read: those of its policy, or the
	// location itself for a pasted key.
	grants []alias.Grant
	// inside and outside are whole object keys given by the operator, or empty.
	inside, outside string
	user            alias.IAMUser // zero for a pasted key
}

// covers reports whether a key may be read in the target's bucket.
func (t *target) covers(key string) bool {
	for _, g := range t.grants {
		if g.Bucket == t.location.Bucket && len(key) >= len(g.Prefix) && key[:len(g.Prefix)] == g.Prefix {
			return true
		}
	}
	return false
}

// service is one of the three that a key pair signs for.
type service int

const (
	serviceS3 service = iota
	serviceIAM
	serviceSTS
)

func (s service) String() string { return [...]string{"S3", "IAM", "STS"}[s] }

// round is one run of checks and what it has found so far. Its fields are
// those of one goroutine.
type round struct {
	*prober
	target

	arn     string    // of the key's user, as STS says
	version string    // of the object inside, where its bucket has versions
	reads   bool      // the key can read inside, as far as can be told
	known   bool      // IAM and STS know the key, as far as can be told
	missing reply     // what is said of an object inside that does not exist
	silent  [3]silent // by service
}

// silent counts the probes in a row that a service did not answer.
type silent struct {
	probes int
	code   string
}

func (p *prober) round(t target) *round { return &round{prober: p, target: t} }

// send makes one call, in a time of its own.
func (r *round) send(ctx context.Context, to service, fn func(context.Context) error) reply {
	if quiet := r.silent[to]; quiet.probes >= maxSilent {
		return reply{code: quiet.code}
	}
	limit := r.timeout
	if limit == 0 {
		limit = probeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	rep := replyOf(fn(ctx))
	if rep.code == gotTimeout || rep.code == gotNetwork {
		r.silent[to] = silent{r.silent[to].probes + 1, rep.code}
	} else {
		r.silent[to] = silent{}
	}
	return rep
}

// random is a name that nobody has.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// probeKey is the key of an object inside that does not exist.
func (r *round) probeKey() string { return r.location.Prefix + probeFolder + random() }

func (r *round) bucket() *string { return &r.location.Bucket }

// owner makes S3 refuse a bucket that has changed hands.
func (r *round) owner() *string {
	if r.location.BucketOwner == "" {
		return nil
	}
	return &r.location.BucketOwner
}

// get reads the first byte of an object.
func (r *round) get(ctx context.Context, key, version string) (reply, *s3.GetObjectOutput) {
	in := &s3.GetObjectInput{
		Bucket: r.bucket(), Key: &key, Range: aws.String("bytes=0-0"), ExpectedBucketOwner: r.owner(),
	}
	if version != "" {
		in.VersionId = &version
	}
	var out *s3.GetObjectOutput
	rep := r.send(ctx, serviceS3, func(ctx context.Context) error {
		var err error
		if out, err = r.s3.GetObject(ctx, in, oneByte); err != nil {
			return err
		}
		return readByte(out.Body)
	})
	return rep, out
}

// oneByte is for reading a part: the checksum of an object says nothing about
// it.
func oneByte(o *s3.Options) {
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
}

// readByte makes sure that a body begins; a server that knows no ranges would
// send it all.
func readByte(body io.ReadCloser) error {
	var one [1]byte
	_, err := body.Read(one[:])
	closeErr := body.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return closeErr
}

// write tries to write, in ways that cannot. sure says whether a refusal cannot
// mean anything else than that the key may not.
//
// First a part of an upload that does not exist: it needs the right to put the
// object and has nowhere to go, whatever the server. Only a key that is not
// found out by this puts an empty object under a condition that never holds. So
// something is written only where a server allows the one, does not do the
// other, and does not heed If-Match; written is then its key. Both are asked for
// because S3 hides what does not exist from who may not list the bucket: it may
// say AccessDenied in the second case to a key that could write.
func (r *round) write(ctx context.Context) (rep reply, sure bool, written string) {
	key := r.probeKey()
	part := r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.s3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: r.bucket(), Key: &key, PartNumber: aws.Int32(1), UploadId: aws.String(random()),
			ExpectedBucketOwner: r.owner(),
		})
		return err
	})
	if judge(checkWrite, part.code, part.status) == alias.VerdictViolated {
		return part, true, ""
	}
	put := r.put(ctx, key)
	if put.ok() {
		written = key
	}
	return put, part.refused() || r.tells(put, "s3:PutObject"), written
}

// put puts an empty object in place of one that is not there.
func (r *round) put(ctx context.Context, key string) reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.s3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: r.bucket(), Key: &key, IfMatch: aws.String(`"` + random() + `"`), ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}

// remove deletes an object, or one that does not exist.
func (r *round) remove(ctx context.Context, key string) reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.s3.DeleteObject(ctx, &s3.DeleteObjectInput{
			Bucket: r.bucket(), Key: &key, ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}

func (r *round) list(ctx context.Context, prefix string) reply {
	in := &s3.ListObjectsV2Input{Bucket: r.bucket(), MaxKeys: aws.Int32(1), ExpectedBucketOwner: r.owner()}
	if prefix != "" {
		in.Prefix = &prefix
	}
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.s3.ListObjectsV2(ctx, in)
		return err
	})
}

func (r *round) listBuckets(ctx context.Context) reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.s3.ListBuckets(ctx, &s3.ListBucketsInput{MaxBuckets: aws.Int32(1)})
		return err
	})
}

func (r *round) acl(ctx context.Context, key string) reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.s3.GetObjectAcl(ctx, &s3.GetObjectAclInput{
			Bucket: r.bucket(), Key: &key, ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}

func (r *round) tags(ctx context.Context, key string) reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.s3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{
			Bucket: r.bucket(), Key: &key, ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}

func (r *round) bucketPolicy(ctx context.Context) reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.s3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{
			Bucket: r.bucket(), ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}
