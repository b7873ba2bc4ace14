package scope

import (
	"cmp"
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
	"ixmage/internal/awserr"
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

// Key is a key pair to be checked: the clients that sign with it.
type Key struct {
	S3  *s3.Client  // the client that serves
	IAM *iam.Client // nil: its checks are not proven
	STS *sts.Client // likewise

	Now     func() time.Time // the time of a check
	Timeout time.Duration    // of one probe; zero: 5 s
}

// Target is what a key is checked against.
type Target struct {
	Location alias.Location
	Mode     alias.PolicyMode // empty for a pasted key
	// Grants are all that the key may read: those of its policy, or the
	// location itself for a pasted key.
	Grants []alias.Grant
	// Inside and Outside are whole object keys given by the operator, or empty.
	Inside, Outside string
	User            alias.IAMUser // zero for a pasted key
}

// covers reports whether a key may be read in the target's bucket.
func (t *Target) covers(key string) bool {
	for _, g := range t.Grants {
		if g.Bucket == t.Location.Bucket && len(key) >= len(g.Prefix) && key[:len(g.Prefix)] == g.Prefix {
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
	Key
	Target

	arn     string       // of the key's user, as STS says
	version string       // of the object inside, where its bucket has versions
	reads   bool         // the key can read inside, as far as can be told
	known   bool         // IAM and STS know the key, as far as can be told
	missing awserr.Reply // what is said of an object inside that does not exist
	silent  [3]silent    // by service
}

// silent counts the probes in a row that a service did not answer.
type silent struct {
	probes int
	code   string
}

func newRound(key Key, t Target) *round { return &round{Key: key, Target: t} }

// send makes one call, in a time of its own.
func (r *round) send(ctx context.Context, to service, fn func(context.Context) error) awserr.Reply {
	if quiet := r.silent[to]; quiet.probes >= maxSilent {
		return awserr.Reply{Code: quiet.code}
	}
	limit := r.Timeout
	if limit == 0 {
		limit = probeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	rep := awserr.ReplyOf(fn(ctx))
	if rep.Code == awserr.TimedOut || rep.Code == awserr.Network {
		r.silent[to] = silent{r.silent[to].probes + 1, rep.Code}
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
func (r *round) probeKey() string { return probeKey(r.Location.Prefix) }

func (r *round) bucket() *string { return &r.Location.Bucket }

// owner makes S3 refuse a bucket that has changed hands.
func (r *round) owner() *string {
	if r.Location.BucketOwner == "" {
		return nil
	}
	return &r.Location.BucketOwner
}

// get reads the first byte of an object.
func (r *round) get(ctx context.Context, key, version string) (rep awserr.Reply, foundVersion *string) {
	in := firstByte(r.Location, key)
	if version != "" {
		in.VersionId = &version
	}
	rep = r.send(ctx, serviceS3, func(ctx context.Context) (err error) {
		foundVersion, err = readByte(ctx, r.S3, in)
		return err
	})
	return rep, foundVersion
}

// ReadByte reads the first byte of an object in a location's bucket. key is the
// whole key. It returns the SDK's error.
func ReadByte(ctx context.Context, client *s3.Client, at alias.Location, key string) error {
	_, err := readByte(ctx, client, firstByte(at, key))
	return err
}

// ReadMissing reads an object under a location's prefix that does not exist, and
// returns what S3 says to this key.
func ReadMissing(ctx context.Context, client *s3.Client, at alias.Location) awserr.Reply {
	return awserr.ReplyOf(ReadByte(ctx, client, at, probeKey(at.Prefix)))
}

// probeKey is the key of an object under a prefix that does not exist.
func probeKey(prefix string) string { return prefix + probeFolder + random() }

func firstByte(at alias.Location, key string) *s3.GetObjectInput {
	in := &s3.GetObjectInput{Bucket: &at.Bucket, Key: &key, Range: aws.String("bytes=0-0")}
	if at.BucketOwner != "" {
		in.ExpectedBucketOwner = &at.BucketOwner
	}
	return in
}

// readByte makes sure that the body begins, and reads no more of it: a server
// that knows no ranges would send it all.
func readByte(ctx context.Context, client *s3.Client, in *s3.GetObjectInput) (version *string, err error) {
	out, err := client.GetObject(ctx, in, withoutChecksum)
	if err != nil {
		return nil, err
	}
	var one [1]byte
	_, err = out.Body.Read(one[:])
	closeErr := out.Body.Close()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err := cmp.Or(err, closeErr); err != nil {
		return nil, err
	}
	return out.VersionId, nil
}

// withoutChecksum is for ranges: the checksum of an object says nothing about a
// part of it.
func withoutChecksum(o *s3.Options) {
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
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
func (r *round) write(ctx context.Context) (rep awserr.Reply, sure bool, written string) {
	key := r.probeKey()
	part := r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: r.bucket(), Key: &key, PartNumber: aws.Int32(1), UploadId: aws.String(random()),
			ExpectedBucketOwner: r.owner(),
		})
		return err
	})
	if denyVerdict(checkWrite, part.Code, part.Status) == alias.VerdictViolated {
		return part, true, ""
	}
	put := r.put(ctx, key)
	if put.OK() {
		written = key
	}
	return put, part.Denied() || r.conclusive(put, "s3:PutObject"), written
}

// put puts an empty object in place of one that is not there.
func (r *round) put(ctx context.Context, key string) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: r.bucket(), Key: &key, IfMatch: aws.String(`"` + random() + `"`), ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}

// remove deletes an object, or one that does not exist.
func (r *round) remove(ctx context.Context, key string) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.DeleteObject(ctx, &s3.DeleteObjectInput{
			Bucket: r.bucket(), Key: &key, ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}

func (r *round) list(ctx context.Context, prefix string) awserr.Reply {
	in := &s3.ListObjectsV2Input{Bucket: r.bucket(), MaxKeys: aws.Int32(1), ExpectedBucketOwner: r.owner()}
	if prefix != "" {
		in.Prefix = &prefix
	}
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.ListObjectsV2(ctx, in)
		return err
	})
}

func (r *round) listBuckets(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.ListBuckets(ctx, &s3.ListBucketsInput{MaxBuckets: aws.Int32(1)})
		return err
	})
}

func (r *round) acl(ctx context.Context, key string) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.GetObjectAcl(ctx, &s3.GetObjectAclInput{
			Bucket: r.bucket(), Key: &key, ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}

func (r *round) tags(ctx context.Context, key string) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{
			Bucket: r.bucket(), Key: &key, ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}

func (r *round) bucketPolicy(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{
			Bucket: r.bucket(), ExpectedBucketOwner: r.owner(),
		})
		return err
	})
}
