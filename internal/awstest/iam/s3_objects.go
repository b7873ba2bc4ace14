package iam

import (
	"encoding/xml"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ixmage/internal/awstest/s3"
)

// missing is the answer about an object that is not there: to who may not list
// the bucket it is as forbidden as one that is.
func (f *Server) missing(r *iamRequest, at s3.Location) iamReply {
	if err := f.mayLocked(r, "s3:ListBucket", s3.Location{Bucket: at.Bucket}); err != nil {
		return r.refuseS3(err, at)
	}
	return r.refuseS3(refusal("NoSuchKey", "The specified key does not exist."), at)
}

func getObject(f *Server, r *iamRequest, at s3.Location) iamReply {
	st := f.buckets[at.Bucket].objects[at.Key]
	if version := r.params.Get("versionId"); version != "" && version != "null" {
		return r.refuseS3(refusal("NoSuchVersion", "The specified version does not exist."), at)
	}
	if st == nil {
		return f.missing(r, at)
	}
	if err := f.mayDecryptLocked(r, at); err != nil {
		return r.refuseS3(err, at)
	}
	a := st.Answer(r.http.Header, at)
	reply := iamReply{status: a.Status, header: a.Header, body: a.Body}
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

// putObject looks at its conditions after the right to write, as S3 does.
func putObject(f *Server, r *iamRequest, at s3.Location) iamReply {
	objects := f.buckets[at.Bucket].objects
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

func deleteObject(f *Server, _ *iamRequest, at s3.Location) iamReply {
	delete(f.buckets[at.Bucket].objects, at.Key)
	return s3Reply(204, nil)
}

func headBucket(*Server, *iamRequest, s3.Location) iamReply { return s3Reply(200, nil) }

func objectACL(f *Server, r *iamRequest, at s3.Location) iamReply {
	if f.buckets[at.Bucket].objects[at.Key] == nil {
		return f.missing(r, at)
	}
	return s3Reply(200, []byte("<AccessControlPolicy><Owner><ID>"+f.cfg.Account+
		"</ID></Owner><AccessControlList></AccessControlList></AccessControlPolicy>"))
}

func objectTagging(f *Server, r *iamRequest, at s3.Location) iamReply {
	if f.buckets[at.Bucket].objects[at.Key] == nil {
		return f.missing(r, at)
	}
	return s3Reply(200, []byte("<Tagging><TagSet></TagSet></Tagging>"))
}

func getBucketPolicy(f *Server, r *iamRequest, at s3.Location) iamReply {
	policy := f.buckets[at.Bucket].policy
	if policy == "" {
		return r.refuseS3(refusal("NoSuchBucketPolicy", "The bucket policy does not exist"), at)
	}
	reply := s3Reply(200, []byte(policy))
	reply.header.Set("Content-Type", "application/json")
	return reply
}

func getBucketLocation(f *Server, _ *iamRequest, _ s3.Location) iamReply {
	region := f.cfg.Region
	if region == defaultRegion {
		region = "" // the oldest region has no name
	}
	return s3Reply(200, []byte("<LocationConstraint>"+region+"</LocationConstraint>"))
}

func listBuckets(f *Server, r *iamRequest, at s3.Location) iamReply {
	type bucket struct{ Name string }
	var out struct {
		XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		Buckets []bucket `xml:"Buckets>Bucket"`
	}
	for _, name := range slices.Sorted(maps.Keys(f.buckets)) {
		out.Buckets = append(out.Buckets, bucket{name})
	}
	return r.s3XML(out, at)
}

func listObjects(f *Server, r *iamRequest, at s3.Location) iamReply {
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
	objects := f.buckets[at.Bucket].objects
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

func (r *iamRequest) s3XML(v any, at s3.Location) iamReply {
	body, err := xml.Marshal(v)
	if err != nil {
		return r.refuseS3(err, at)
	}
	return s3Reply(200, append([]byte(xml.Header), body...))
}

// CreateBucket makes an empty bucket, if it is not there; PutObject does so
// too.
func (f *Server) CreateBucket(bucket string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bucketLocked(bucket)
}

func (f *Server) bucketLocked(bucket string) *iamBucket {
	b, ok := f.buckets[bucket]
	if !ok {
		b = &iamBucket{objects: map[string]*s3.Stored{}}
		f.buckets[bucket] = b
	}
	return b
}

// PutObject stores an object over whatever was there.
func (f *Server) PutObject(bucket, key string, obj s3.Object) {
	st := s3.NewStored(obj)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bucketLocked(bucket).objects[key] = st
}

// DeleteObject removes an object; that there is none is no error.
func (f *Server) DeleteObject(bucket, key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bucketLocked(bucket).objects, key)
}

// Objects are the keys of a bucket, to see what was written.
func (f *Server) Objects(bucket string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.bucketLocked(bucket).objects))
}

// SetBucketPolicy puts a policy on a bucket, such as one that grants everyone
// more than a user's own policy does. An empty document removes it.
func (f *Server) SetBucketPolicy(bucket, document string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if document != "" {
		if _, err := parsePolicy(document, bucketPolicy); err != nil {
			f.problemLocked("malformed bucket policy: " + err.Error())
		}
	}
	f.bucketLocked(bucket).policy = document
}

// Encrypt has every object of a bucket be encrypted with a key of KMS: reading
// takes kms:Decrypt on it too.
func (f *Server) Encrypt(bucket, keyARN string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bucketLocked(bucket).kmsKey = keyARN
}
