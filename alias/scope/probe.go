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
	// maxSilent is the number of probes in a row without an answer after which a
	// round does not ask a service any more.
	maxSilent = 2
	// probeFolder is the prefix of the objects that probes ask for. The folder stays
	// empty unless a server ignores the condition of a write probe.
	probeFolder = ".ixmage-probe/"
)

// Key holds the clients that sign with the key pair to check.
type Key struct {
	S3  *s3.Client  // also used to serve the alias
	IAM *iam.Client // nil: IAM is not probed
	STS *sts.Client // likewise
	// STSDefault is STS in the default region of the partition, which is asked once if
	// STS does not know the key. It may be nil.
	STSDefault *sts.Client
	// CustomIAM says that IAM and STS are not those of AWS.
	CustomIAM bool

	Now     func() time.Time // the time of a check
	Timeout time.Duration    // of one probe; zero: 5 s
}

// Target describes what a key must be able to do.
type Target struct {
	Location alias.Location
	Mode     alias.PolicyMode // empty for a key that an operator gave
	// Grants are all locations that the key may read: those of its policy, or
	// Location alone for a key that an operator gave.
	Grants []alias.Grant
	// Inside and Outside are whole object keys given by the operator, or empty.
	Inside, Outside string
	User            alias.IAMUser // zero for a key that an operator gave
	// Expect is what an operator says that a given key is meant to be: read-only-access,
	// or empty.
	Expect alias.PolicyMode
	// Session describes the keys of a credential that has none of its own; nil for others.
	Session *Session
	// ControlPlane is what reading IAM has shown of the key's user; nil if it was not read.
	ControlPlane *ControlPlane
}

// ControlPlane is what IAM shows of the user of a key to the server's own credentials.
type ControlPlane struct {
	// Checks replace the probes of the same names, which are not made. Their Evidence is
	// set by Check.
	Checks []alias.Check
	// Whole says that every policy of the user was read, so that no right of the user in
	// any service is untried. Rights that policies of resources grant may remain.
	Whole bool
	// Absent are checks whose calls the server does not support, also where it refuses the
	// key before it says so.
	Absent []string
}

// covers reports whether a grant covers an object key in the target's bucket.
func (t *Target) covers(key string) bool {
	for _, g := range t.Grants {
		if g.Bucket == t.Location.Bucket && len(key) >= len(g.Prefix) && key[:len(g.Prefix)] == g.Prefix {
			return true
		}
	}
	return false
}

// service is S3, IAM or STS.
type service int

const (
	serviceS3 service = iota
	serviceIAM
	serviceSTS
)

func (s service) String() string { return [...]string{"S3", "IAM", "STS"}[s] }

// round is one run of checks with its results so far. One goroutine uses it.
type round struct {
	Key
	Target

	checks   []alias.Check
	notTried []alias.NotTried

	who     awserr.Reply  // the answer of STS about the owner of the key
	arn     string        // of the key's user, from STS
	keys    *awserr.Reply // the answer for the keys of its user, nil before
	others  int           // of these keys
	version string        // of the object inside, if its bucket has versions
	reads   bool          // the key can read inside: proven or weak
	known   bool          // STS knows the key, or there is no STS that could say so
	missing awserr.Reply  // the answer for a missing object inside
	silent  [3]silent     // by service
}

// silent counts the probes in a row that a service did not answer.
type silent struct {
	probes int
	code   string
}

func newRound(key Key, t Target) *round { return &round{Key: key, Target: t} }

// send makes one call, with a timeout of its own.
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

// random returns a name that is not in use.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// probeKey is a new key of a missing object inside.
func (r *round) probeKey() string { return probeKey(r.Location.Prefix) }

func (r *round) bucket() *string { return &r.Location.Bucket }

// owner makes S3 refuse a bucket that belongs to another account.
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

// ReadMissing reads a missing object under a location's prefix, and returns the answer
// of S3.
func ReadMissing(ctx context.Context, client *s3.Client, at alias.Location) awserr.Reply {
	return awserr.ReplyOf(ReadByte(ctx, client, at, probeKey(at.Prefix)))
}

// probeKey is a new key of a missing object under a prefix.
func probeKey(prefix string) string { return prefix + probeFolder + random() }

func firstByte(at alias.Location, key string) *s3.GetObjectInput {
	in := &s3.GetObjectInput{Bucket: &at.Bucket, Key: &key, Range: aws.String("bytes=0-0")}
	if at.BucketOwner != "" {
		in.ExpectedBucketOwner = &at.BucketOwner
	}
	return in
}

// readByte reads at most one byte of the body, because a server without ranges sends the
// whole object.
func readByte(ctx context.Context, client *s3.Client, in *s3.GetObjectInput) (version *string, err error) {
	out, err := client.GetObject(ctx, in, markS3, withoutChecksum)
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

// withoutChecksum is for range requests, whose bytes the checksum of the object does not
// fit.
func withoutChecksum(o *s3.Options) {
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
}

// leftover is an object, or a delete marker, that a probe has made against its purpose.
type leftover struct {
	key     string
	version *string // nil if the server named none
}

// write sends writes that cannot succeed. sure reports whether a refusal proves that the
// key may not write.
//
// The first call uploads a part to an upload that does not exist. It needs the
// permission to put the object, and stores nothing on any server. If its answer does not
// reveal the permission, the second call puts an empty object with an If-Match that
// never holds. It stores something only if the key may write and the server ignores
// If-Match; written is then the object. The put alone is not enough: S3 hides
// missing objects from a key that may not list the bucket, so it may answer AccessDenied
// to a key that may write.
func (r *round) write(ctx context.Context) (rep awserr.Reply, sure bool, written *leftover) {
	key := r.probeKey()
	part := r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: r.bucket(), Key: &key, PartNumber: aws.Int32(1), UploadId: aws.String(random()),
			ExpectedBucketOwner: r.owner(),
		}, markS3)
		return err
	})
	if denyVerdict(NameWrite, part) == alias.VerdictViolated {
		return part, true, nil
	}
	put, written := r.put(ctx, key)
	if part.Denied() && put.Unimplemented() {
		return part, true, nil
	}
	return put, part.Denied() || r.sure(put, NameWrite, "s3:PutObject"), written
}

// put puts an empty object, on the condition that it replaces a missing one.
func (r *round) put(ctx context.Context, key string) (rep awserr.Reply, written *leftover) {
	rep = r.send(ctx, serviceS3, func(ctx context.Context) error {
		out, err := r.S3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: r.bucket(), Key: &key, IfMatch: never(), ExpectedBucketOwner: r.owner(),
		}, markS3)
		if err == nil {
			written = &leftover{key, out.VersionId}
		}
		return err
	})
	return rep, written
}

// never is an entity tag that no object has.
func never() *string { return aws.String(`"` + random() + `"`) }

// removeMissing deletes an object that does not exist, on the condition that it has an
// entity tag that it cannot have. A delete without a condition would make a delete marker
// in a bucket with versions, and a bucket policy may allow conditional deletes only.
// marker is the delete marker that a server which ignores the condition has made.
func (r *round) removeMissing(ctx context.Context) (rep awserr.Reply, marker *leftover) {
	key := r.probeKey()
	rep = r.send(ctx, serviceS3, func(ctx context.Context) error {
		out, err := r.S3.DeleteObject(ctx, &s3.DeleteObjectInput{
			Bucket: r.bucket(), Key: &key, IfMatch: never(), ExpectedBucketOwner: r.owner(),
		}, markS3)
		if err == nil && out.VersionId != nil {
			marker = &leftover{key, out.VersionId}
		}
		return err
	})
	return rep, marker
}

// cleanUp deletes what a probe has made, and reports whether nothing is left of it. With a
// version the delete is final; without one it would make a delete marker in a bucket with
// versions.
func (r *round) cleanUp(ctx context.Context, left leftover) bool {
	var marker *string
	rep := r.send(ctx, serviceS3, func(ctx context.Context) error {
		out, err := r.S3.DeleteObject(ctx, &s3.DeleteObjectInput{
			Bucket: r.bucket(), Key: &left.key, VersionId: left.version, ExpectedBucketOwner: r.owner(),
		}, markS3)
		if err == nil && left.version == nil {
			marker = out.VersionId
		}
		return err
	})
	if marker != nil {
		r.cleanUp(ctx, leftover{left.key, marker})
		return false
	}
	return rep.OK()
}

func (r *round) list(ctx context.Context, prefix string) awserr.Reply {
	in := &s3.ListObjectsV2Input{Bucket: r.bucket(), MaxKeys: aws.Int32(1), ExpectedBucketOwner: r.owner()}
	if prefix != "" {
		in.Prefix = &prefix
	}
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.ListObjectsV2(ctx, in, markS3)
		return err
	})
}

func (r *round) listBuckets(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.ListBuckets(ctx, &s3.ListBucketsInput{MaxBuckets: aws.Int32(1)}, markS3)
		return err
	})
}

func (r *round) acl(ctx context.Context, key string) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.GetObjectAcl(ctx, &s3.GetObjectAclInput{
			Bucket: r.bucket(), Key: &key, ExpectedBucketOwner: r.owner(),
		}, markS3)
		return err
	})
}

func (r *round) tags(ctx context.Context, key string) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{
			Bucket: r.bucket(), Key: &key, ExpectedBucketOwner: r.owner(),
		}, markS3)
		return err
	})
}

func (r *round) bucketPolicy(ctx context.Context) awserr.Reply {
	return r.send(ctx, serviceS3, func(ctx context.Context) error {
		_, err := r.S3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{
			Bucket: r.bucket(), ExpectedBucketOwner: r.owner(),
		}, markS3)
		return err
	})
}
