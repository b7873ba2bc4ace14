package iam

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sigv4"
)

// bucket is a bucket that the requests of this account may name.
type bucket struct {
	policy    string // empty for none
	kmsKey    string // ARN, empty for none
	keyClosed bool   // the policy of that key grants nothing
	region    string // empty for that of the account
	owner     string // account, empty for this one
	versioned bool
	objects   map[string]*s3.Stored // the current ones
	versions  []ObjectVersion       // of a versioned bucket, oldest first
	made      int                   // counts versions, for their ids
}

// ObjectVersion is a version of an object, or a delete marker, in a versioned
// bucket.
type ObjectVersion struct {
	Key, ID      string
	DeleteMarker bool

	stored *s3.Stored // nil for a marker
}

func (s *Server) bucketLocked(name string) *bucket {
	b, ok := s.buckets[name]
	if !ok {
		b = &bucket{objects: map[string]*s3.Stored{}}
		s.buckets[name] = b
	}
	return b
}

// regionOf is the region of a bucket; one that is missing has that of the account.
func (s *Server) regionOf(name string) string {
	if b := s.buckets[name]; b != nil {
		return cmp.Or(b.region, s.cfg.Region)
	}
	return s.cfg.Region
}

// ownerOf is the account that owns a bucket; one that is missing has this account's.
func (s *Server) ownerOf(name string) string {
	if b := s.buckets[name]; b != nil {
		return cmp.Or(b.owner, s.cfg.Account)
	}
	return s.cfg.Account
}

// put makes an object the current one, and returns the id of its version.
func (b *bucket) put(key string, st *s3.Stored) string {
	b.objects[key] = st
	if !b.versioned {
		return ""
	}
	return b.addVersion(ObjectVersion{Key: key, stored: st})
}

func (b *bucket) addVersion(v ObjectVersion) string {
	b.made++
	v.ID = "version-" + strconv.Itoa(b.made)
	b.versions = append(b.versions, v)
	return v.ID
}

// remove deletes an object, or one version for good. In a versioned bucket it adds a
// delete marker instead, even for a key that never existed:
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html
func (b *bucket) remove(key, version string) (id string, marker bool) {
	if !b.versioned {
		delete(b.objects, key)
		return "", false
	}
	if version == "" {
		delete(b.objects, key)
		return b.addVersion(ObjectVersion{Key: key, DeleteMarker: true}), true
	}
	gone, _ := b.version(key, version)
	b.versions = slices.DeleteFunc(b.versions, func(v ObjectVersion) bool { return v.Key == key && v.ID == version })
	delete(b.objects, key)
	if last, ok := b.latest(key); ok && !last.DeleteMarker {
		b.objects[key] = last.stored
	}
	return version, gone.DeleteMarker
}

func (b *bucket) version(key, id string) (ObjectVersion, bool) {
	i := slices.IndexFunc(b.versions, func(v ObjectVersion) bool { return v.Key == key && v.ID == id })
	if i < 0 {
		return ObjectVersion{}, false
	}
	return b.versions[i], true
}

func (b *bucket) latest(key string) (ObjectVersion, bool) {
	for _, v := range slices.Backward(b.versions) {
		if v.Key == key {
			return v, true
		}
	}
	return ObjectVersion{}, false
}

// marker is the id of the delete marker that hides an object, or empty.
func (b *bucket) marker(key string) string {
	if last, ok := b.latest(key); ok && last.DeleteMarker {
		return last.ID
	}
	return ""
}

// otherRegion refuses a request for a bucket of another region. The server stands for
// the endpoint of the region that a request is signed for, and without a signature
// for that of the account. The oldest region's name leads to the bucket all the same,
// and the signature is wrong there; the others redirect:
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html and
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func (s *Server) otherRegion(r *request, at s3.Location) error {
	region, asked := s.regionOf(at.Bucket), sigv4.Parse(r.http.Header.Get("Authorization")).Region
	if s.buckets[at.Bucket] == nil || region == cmp.Or(asked, s.cfg.Region) {
		return nil
	}
	if asked == defaultRegion {
		return &apiError{
			code: "AuthorizationHeaderMalformed",
			message: fmt.Sprintf("The authorization header is malformed; the region '%s' is wrong; expecting '%s'",
				asked, region),
			detail: [][2]string{{"Region", region}},
		}
	}
	return &apiError{
		code: "PermanentRedirect",
		message: "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all " +
			"future requests to this endpoint.",
		detail: [][2]string{{"Endpoint", at.Bucket + ".s3." + region + ".amazonaws.com"}, {"Bucket", at.Bucket}},
	}
}

// withRegion names the region of a bucket in an answer, as S3 does whatever the
// caller may do:
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
func (s *Server) withRegion(answer reply, call s3Call, at s3.Location) reply {
	if s.buckets[at.Bucket] == nil {
		return answer
	}
	if call.action == "HeadBucket" || answer.code == "PermanentRedirect" || answer.code == "AuthorizationHeaderMalformed" {
		answer.header.Set("x-amz-bucket-region", s.regionOf(at.Bucket))
	}
	return answer
}

// CreateBucket makes an empty bucket if it is missing; so does PutObject.
func (s *Server) CreateBucket(bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(bucket)
}

// Buckets are the names of the buckets.
func (s *Server) Buckets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.buckets))
}

// PutObject stores an object and replaces an earlier one.
func (s *Server) PutObject(bucket, key string, obj s3.Object) {
	st := s3.NewStored(obj)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(bucket).put(key, st)
}

// DeleteObject removes an object with all its versions, if it exists.
func (s *Server) DeleteObject(bucket, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucketLocked(bucket)
	delete(b.objects, key)
	b.versions = slices.DeleteFunc(b.versions, func(v ObjectVersion) bool { return v.Key == key })
}

// Objects are the keys of a bucket.
func (s *Server) Objects(bucket string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.bucketLocked(bucket).objects))
}

// SetBucketPolicy puts a policy on a bucket, such as one that grants everyone
// more than a user's own policy does. An empty document removes it.
func (s *Server) SetBucketPolicy(bucket, document string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if document != "" {
		if _, err := parsePolicy(document, bucketPolicy); err != nil {
			s.problemLocked("malformed bucket policy: " + err.Error())
		}
	}
	s.bucketLocked(bucket).policy = document
}

// Encrypt encrypts every object of a bucket with a key of KMS: reading needs
// kms:Decrypt on it too.
func (s *Server) Encrypt(bucket, keyARN string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(bucket).kmsKey = keyARN
}

// CloseKey makes the policy of a bucket's KMS key grant nothing to the account, so
// that no policy of IAM can:
// https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html
func (s *Server) CloseKey(bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(bucket).keyClosed = true
}

// SetBucketRegion moves a bucket to a region.
func (s *Server) SetBucketRegion(bucket, region string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(bucket).region = region
}

// SetBucketOwner gives a bucket to another account. It needs a bucket policy then, and
// denials give no reason.
func (s *Server) SetBucketOwner(bucket, account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(bucket).owner = account
}

// SetVersioning makes a bucket keep the versions of its objects from now on.
func (s *Server) SetVersioning(bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucketLocked(bucket)
	b.versioned = true
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		b.addVersion(ObjectVersion{Key: key, stored: b.objects[key]})
	}
}

// Versions are the versions of all objects of a versioned bucket, delete markers
// among them, oldest first.
func (s *Server) Versions(bucket string) []ObjectVersion {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bucketLocked(bucket).versions)
}

// DeleteMarkers are the keys of the delete markers of a bucket, oldest first.
func (s *Server) DeleteMarkers(bucket string) []string {
	var out []string
	for _, v := range s.Versions(bucket) {
		if v.DeleteMarker {
			out = append(out, v.Key)
		}
	}
	return out
}
