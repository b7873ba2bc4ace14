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
	reply := r.refuseS3(refusal("NoSuchKey", "The specified key does not exist."), at)
	if id := s.buckets[at.Bucket].marker(at.Key); id != "" {
		reply.header.Set("x-amz-delete-marker", "true")
		reply.header.Set("x-amz-version-id", id)
	}
	return reply
}

func getObject(s *Server, r *request, at s3.Location) reply {
	st := s.buckets[at.Bucket].objects[at.Key]
	if id := r.params.Get("versionId"); id != "" && id != "null" {
		version, ok := s.buckets[at.Bucket].version(at.Key, id)
		switch {
		case !ok:
			return r.refuseS3(refusal("NoSuchVersion", "The specified version does not exist."), at)
		case version.stored == nil:
			return r.refuseS3(refusal("MethodNotAllowed", "The specified method is not allowed against this resource."), at)
		}
		st = version.stored
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
		return r.refuseS3(preconditionFailed(), at)
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
	b := s.buckets[at.Bucket]
	have := b.objects[at.Key]
	match, none := r.http.Header.Get("If-Match"), r.http.Header.Get("If-None-Match")
	switch {
	case match != "" && have == nil:
		return r.refuseS3(refusal("NoSuchKey", "The specified key does not exist."), at)
	case match != "" && !sameTag(match, have), none == "*" && have != nil:
		return r.refuseS3(preconditionFailed(), at)
	}
	st := s3.NewStored(s3.Object{
		Body: r.body, LastModified: r.now, ContentType: r.http.Header.Get("Content-Type"),
		CacheControl: r.http.Header.Get("Cache-Control"),
	})
	reply := s3Reply(200, nil)
	reply.header.Set("ETag", st.ETag)
	if id := b.put(at.Key, st); id != "" {
		reply.header.Set("x-amz-version-id", id)
	}
	return reply
}

// uploadPart finds no upload, because none can be begun here:
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html
func uploadPart(_ *Server, r *request, at s3.Location) reply {
	return r.refuseS3(refusal("NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the "+
		"upload may have been aborted or completed."), at)
}

func sameTag(match string, have *s3.Stored) bool {
	return match == "*" || strings.Trim(match, `"`) == strings.Trim(have.ETag, `"`)
}

func preconditionFailed() error {
	return refusal("PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
}

// deleteObject checks If-Match after the right to delete. An ETag needs the right to
// read too:
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
func deleteObject(s *Server, r *request, at s3.Location) reply {
	b := s.buckets[at.Bucket]
	have := b.objects[at.Key]
	if match := r.http.Header.Get("If-Match"); match != "" {
		if match != "*" {
			if err := s.authorizeS3Locked(r, "s3:GetObject", at); err != nil {
				return r.refuseS3(err, at)
			}
		}
		switch {
		case have == nil && s.cfg.DeleteHidesMissing:
			return s.notFound(r, at)
		case have == nil:
			return r.refuseS3(refusal("NoSuchKey", "The specified key does not exist."), at)
		case !sameTag(match, have):
			return r.refuseS3(preconditionFailed(), at)
		}
	}
	reply := s3Reply(204, nil)
	id, marker := b.remove(at.Key, r.params.Get("versionId"))
	if id != "" {
		reply.header.Set("x-amz-version-id", id)
	}
	if marker {
		reply.header.Set("x-amz-delete-marker", "true")
	}
	return reply
}

// createBucket makes a bucket in the region of the account, or in the one that is named:
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
func createBucket(s *Server, r *request, at s3.Location) reply {
	var in struct {
		LocationConstraint string `xml:"LocationConstraint"`
	}
	if err := xml.Unmarshal(r.body, &in); len(r.body) > 0 && err != nil { //nolint:gosec // one text, of a test's client
		return r.refuseS3(refusal("MalformedXML", "The XML you provided was not well-formed."), at)
	}
	if s.buckets[at.Bucket] != nil {
		return r.refuseS3(refusal("BucketAlreadyOwnedByYou",
			"Your previous request to create the named bucket succeeded and you already own it."), at)
	}
	s.bucketLocked(at.Bucket).region = in.LocationConstraint
	return s3Reply(200, nil)
}

func deleteBucket(s *Server, r *request, at s3.Location) reply {
	if b := s.buckets[at.Bucket]; len(b.objects)+len(b.versions) > 0 {
		return r.refuseS3(refusal("BucketNotEmpty", "The bucket you tried to delete is not empty"), at)
	}
	delete(s.buckets, at.Bucket)
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
	if s.ownerOf(at.Bucket) != s.cfg.Account {
		return r.refuseS3(refusal("MethodNotAllowed", "The specified method is not allowed against this resource."), at)
	}
	if policy == "" {
		return r.refuseS3(refusal("NoSuchBucketPolicy", "The bucket policy does not exist"), at)
	}
	reply := s3Reply(200, []byte(policy))
	reply.header.Set("Content-Type", "application/json")
	return reply
}

func getBucketLocation(s *Server, _ *request, at s3.Location) reply {
	region := s.regionOf(at.Bucket)
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
		if s.ownerOf(name) != s.cfg.Account {
			continue
		}
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
