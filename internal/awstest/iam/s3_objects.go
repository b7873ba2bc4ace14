package iam

import (
	"encoding/xml"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ixmage/internal/awstest/s3"
)

// notFound is the answer for a missing object: AccessDenied to callers without
// the right to list the bucket.
func (s *Server) notFound(r *request, at s3.Location) reply {
	if err := s.authorizeS3Locked(r, "s3:ListBucket", s3.Location{Bucket: at.Bucket}); err != nil {
		return r.refuseS3(err, at)
	}
	return r.refuseS3(refusal("NoSuchKey", "The specified key does not exist."), at)
}

func getObject(s *Server, r *request, at s3.Location) reply {
	st := s.buckets[at.Bucket].objects[at.Key]
	if version := r.params.Get("versionId"); version != "" && version != "null" {
		return r.refuseS3(refusal("NoSuchVersion", "The specified version does not exist."), at)
	}
	if st == nil {
		return s.notFound(r, at)
	}
	if err := s.authorizeDecryptLocked(r, at); err != nil {
		return r.refuseS3(err, at)
	}
	a := st.Answer(r.http.Header, at)
	reply := reply{status: a.Status, header: a.Header, body: a.Body}
	switch a.Status {
	case 412:
		return r.refuseS3(refusal("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"), at)
	case 416:
		return r.refuseS3(refusal("InvalidRange", "The requested range is not satisfiable"), at)
	}
	if r.http.Method == "HEAD" {
		reply.body = nil
	}
	return reply
}

// putObject checks its conditions after the right to write, as S3 does.
func putObject(s *Server, r *request, at s3.Location) reply {
	objects := s.buckets[at.Bucket].objects
	have := objects[at.Key]
	match, none := r.http.Header.Get("If-Match"), r.http.Header.Get("If-None-Match")
	switch {
	case match != "" && have == nil:
		return r.refuseS3(refusal("NoSuchKey", "The specified key does not exist."), at)
	case match != "" && strings.Trim(match, `"`) != strings.Trim(have.ETag, `"`),
		none == "*" && have != nil:
		return r.refuseS3(refusal("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"), at)
	}
	objects[at.Key] = s3.NewStored(s3.Object{
		Body: r.body, LastModified: r.now, ContentType: r.http.Header.Get("Content-Type"),
		CacheControl: r.http.Header.Get("Cache-Control"),
	})
	reply := s3Reply(200, nil)
	reply.header.Set("ETag", objects[at.Key].ETag)
	return reply
}

func deleteObject(s *Server, _ *request, at s3.Location) reply {
	delete(s.buckets[at.Bucket].objects, at.Key)
	return s3Reply(204, nil)
}

func headBucket(*Server, *request, s3.Location) reply { return s3Reply(200, nil) }

func objectACL(s *Server, r *request, at s3.Location) reply {
	if s.buckets[at.Bucket].objects[at.Key] == nil {
		return s.notFound(r, at)
	}
	return s3Reply(200, []byte("<AccessControlPolicy><Owner><ID>"+s.cfg.Account+
		"</ID></Owner><AccessControlList></AccessControlList></AccessControlPolicy>"))
}

func objectTagging(s *Server, r *request, at s3.Location) reply {
	if s.buckets[at.Bucket].objects[at.Key] == nil {
		return s.notFound(r, at)
	}
	return s3Reply(200, []byte("<Tagging><TagSet></TagSet></Tagging>"))
}

func getBucketPolicy(s *Server, r *request, at s3.Location) reply {
	policy := s.buckets[at.Bucket].policy
	if policy == "" {
		return r.refuseS3(refusal("NoSuchBucketPolicy", "The bucket policy does not exist"), at)
	}
	reply := s3Reply(200, []byte(policy))
	reply.header.Set("Content-Type", "application/json")
	return reply
}

func getBucketLocation(s *Server, _ *request, _ s3.Location) reply {
	region := s.cfg.Region
	if region == defaultRegion {
		region = "" // the oldest region has no name
	}
	return s3Reply(200, []byte("<LocationConstraint>"+region+"</LocationConstraint>"))
}

func listBuckets(s *Server, r *request, at s3.Location) reply {
	type bucket struct{ Name string }
	var out struct {
		XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		Buckets []bucket `xml:"Buckets>Bucket"`
	}
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		out.Buckets = append(out.Buckets, bucket{name})
	}
	return r.s3XML(out, at)
}

func listObjects(s *Server, r *request, at s3.Location) reply {
	type content struct {
		Key, LastModified, ETag string
		Size                    int
	}
	var out struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name, Prefix          string
		KeyCount              int
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
	}
	out.Name, out.Prefix = at.Bucket, r.params.Get("prefix")
	limit := 1000
	if n, err := strconv.Atoi(r.params.Get("max-keys")); err == nil && n >= 0 {
		limit = min(n, limit)
	}
	after := max(r.params.Get("continuation-token"), r.params.Get("start-after"))
	objects := s.buckets[at.Bucket].objects
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		if !strings.HasPrefix(key, out.Prefix) || key <= after {
			continue
		}
		if out.KeyCount == limit {
			out.IsTruncated = limit > 0
			break
		}
		st := objects[key]
		out.Contents = append(out.Contents, content{key, date(st.LastModified), st.ETag, len(st.Body)})
		out.NextContinuationToken = key
		out.KeyCount++
	}
	if !out.IsTruncated {
		out.NextContinuationToken = ""
	}
	return r.s3XML(out, at)
}

func (r *request) s3XML(v any, at s3.Location) reply {
	body, err := xml.Marshal(v)
	if err != nil {
		return r.refuseS3(err, at)
	}
	return s3Reply(200, append([]byte(xml.Header), body...))
}

// CreateBucket makes an empty bucket if it is missing; so does PutObject.
func (s *Server) CreateBucket(bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(bucket)
}

func (s *Server) bucketLocked(name string) *bucket {
	b, ok := s.buckets[name]
	if !ok {
		b = &bucket{objects: map[string]*s3.Stored{}}
		s.buckets[name] = b
	}
	return b
}

// PutObject stores an object and replaces an earlier one.
func (s *Server) PutObject(bucket, key string, obj s3.Object) {
	st := s3.NewStored(obj)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucketLocked(bucket).objects[key] = st
}

// DeleteObject removes an object, if it exists.
func (s *Server) DeleteObject(bucket, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bucketLocked(bucket).objects, key)
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
