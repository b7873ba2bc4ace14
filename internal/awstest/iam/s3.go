package iam

import (
	"bytes"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"ixmage/internal/awstest/s3"
)

// s3Call is a call of S3: its action, the right that it needs and its effect
// when that is granted.
type s3Call struct {
	action, right string
	do            func(*Server, *request, s3.Location) reply
}

func (s *Server) serveS3(w http.ResponseWriter, req *http.Request) {
	r, err := s.newRequest(req)
	if err != nil {
		hangUp(w)
		return
	}
	at := s3.ParseTarget(req.RequestURI)
	call := s3CallOf(req, at)
	if call.action == "UploadPart" && !s.cfg.Uploads {
		call.do = nil
	}
	r.params = req.URL.Query()
	r.call.Service, r.call.Action, r.call.Params = "s3", call.action, s3Params(req, at)
	s.perform(w, r, func() reply { return s.withRegion(s.s3Locked(r, call, at), call, at) }, func(err error) reply {
		return r.refuseS3(err, at)
	})
}

// s3Params are the parameters of a call of S3 under their names in the SDK.
func s3Params(req *http.Request, at s3.Location) url.Values {
	out := req.URL.Query()
	out.Set("Bucket", at.Bucket)
	out.Set("Key", at.Key)
	for _, name := range []string{"Range", "If-Match", "If-None-Match"} {
		if value := req.Header.Get(name); value != "" {
			out.Set(name, value)
		}
	}
	return out
}

// s3CallOf tells which call a request is; the zero call is not implemented.
func s3CallOf(req *http.Request, at s3.Location) s3Call {
	query := req.URL.Query()
	switch {
	case at.Bucket == "":
		return s3Call{"ListBuckets", "s3:ListAllMyBuckets", listBuckets}
	case at.Key == "":
		return bucketCallOf(req.Method, query)
	}
	switch req.Method {
	case "GET":
		return readCallOf(query)
	case "HEAD":
		return s3Call{"HeadObject", "s3:GetObject", getObject}
	}
	return writeCallOf(req.Method, query)
}

func writeCallOf(method string, query url.Values) s3Call {
	switch {
	case method == "PUT" && (len(query) == 0 || query.Get("x-id") == "PutObject"):
		return s3Call{"PutObject", "s3:PutObject", putObject}
	case method == "PUT" && query.Has("uploadId"):
		return s3Call{"UploadPart", "s3:PutObject", uploadPart}
	case method == "DELETE" && query.Has("versionId"):
		return s3Call{"DeleteObject", "s3:DeleteObjectVersion", deleteObject}
	case method == "DELETE" && !query.Has("tagging"):
		return s3Call{"DeleteObject", "s3:DeleteObject", deleteObject}
	}
	return s3Call{}
}

func readCallOf(query url.Values) s3Call {
	switch {
	case query.Has("acl"):
		return s3Call{"GetObjectAcl", "s3:GetObjectAcl", objectACL}
	case query.Has("tagging"):
		return s3Call{"GetObjectTagging", "s3:GetObjectTagging", objectTagging}
	case query.Has("versionId"):
		return s3Call{"GetObject", "s3:GetObjectVersion", getObject}
	}
	return s3Call{"GetObject", "s3:GetObject", getObject}
}

func bucketCallOf(method string, query url.Values) s3Call {
	switch {
	case method == "HEAD":
		return s3Call{"HeadBucket", "s3:ListBucket", headBucket}
	case method == "PUT" && len(query) == 0:
		return s3Call{"CreateBucket", "s3:CreateBucket", createBucket}
	case method == "DELETE" && len(query) == 0:
		return s3Call{"DeleteBucket", "s3:DeleteBucket", deleteBucket}
	case method == "GET" && query.Has("policy"):
		return s3Call{"GetBucketPolicy", "s3:GetBucketPolicy", getBucketPolicy}
	case method == "GET" && query.Has("location"):
		return s3Call{"GetBucketLocation", "s3:GetBucketLocation", getBucketLocation}
	case method == "GET" && query.Get("list-type") == "2":
		return s3Call{"ListObjectsV2", "s3:ListBucket", listObjects}
	}
	return s3Call{}
}

func (s *Server) s3Locked(r *request, call s3Call, at s3.Location) reply {
	payload := r.http.Header.Get("X-Amz-Content-Sha256")
	if err := s.otherRegion(r, at); err != nil {
		return r.refuseS3(err, at) // before anything is known of the caller
	}
	if err := s.authenticateLocked(r, "s3", payload); err != nil {
		return r.refuseS3(err, at)
	}
	switch bucket := s.buckets[at.Bucket]; {
	case call.do == nil || strings.HasPrefix(payload, "STREAMING-"):
		return r.refuseS3(refusal("NotImplemented", "This is not implemented."), at)
	case len(payload) == 64 && payload != hashOf(r.body):
		return r.refuseS3(refusal("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match "+
			"what was computed."), at)
	case at.Bucket != "" && bucket == nil && call.action != "CreateBucket":
		return r.refuseS3(refusal("NoSuchBucket", "The specified bucket does not exist"), at)
	case s3.OtherOwner(r.http.Header.Get("x-amz-expected-bucket-owner"), s.ownerOf(at.Bucket)):
		return r.refuseS3(refusal("AccessDenied", "Access Denied"), at)
	}
	if err := s.authorizeS3Locked(r, call.right, at); err != nil {
		return r.refuseS3(err, at)
	}
	return call.do(s, r, at)
}

// s3ARN is the ARN of an object, of a bucket, or of all buckets.
func (s *Server) s3ARN(at s3.Location) string {
	arn := "arn:" + s.cfg.Partition + ":s3:::" + at.Bucket
	switch {
	case at.Bucket == "":
		return arn + "*"
	case at.Key != "":
		return arn + "/" + at.Key
	}
	return arn
}

// authorizeS3Locked decides about a right to an object or a bucket.
func (s *Server) authorizeS3Locked(r *request, right string, at s3.Location) error {
	q := query{action: right, resource: s.s3ARN(at), context: s.baseContext(r)}
	if right == "s3:ListBucket" && at == s3.ParseTarget(r.http.RequestURI) { // not for a missing object
		for key, name := range map[string]string{
			"s3:prefix": "prefix", "s3:delimiter": "delimiter", "s3:max-keys": "max-keys",
		} {
			if r.params.Has(name) {
				q.context.set(key, r.params.Get(name))
			}
		}
	}
	if r.http.Method == "PUT" || r.http.Method == "DELETE" {
		for key, header := range map[string]string{"s3:if-match": "If-Match", "s3:if-none-match": "If-None-Match"} {
			if value := r.http.Header.Get(header); value != "" {
				q.context.set(key, value)
			}
		}
	}
	return s.authorizeQueryLocked(r, q, at)
}

func (s *Server) authorizeQueryLocked(r *request, q query, at s3.Location) error {
	policy, foreign := "", s.ownerOf(at.Bucket) != s.cfg.Account
	if b := s.buckets[at.Bucket]; b != nil && strings.HasPrefix(q.action, "s3:") {
		policy = b.policy
	}
	q.context.set("aws:ResourceAccount", s.ownerOf(at.Bucket))
	rulings := s.rulingsLocked(r, q, policy)
	which, denied := rulings.denies()
	if foreign {
		which, denied = rulings.deniesAcross()
	}
	if !denied {
		return nil
	}
	anonymous := r.caller.user == nil && r.caller.role == nil && !r.caller.root
	if s.cfg.Terse || s.cfg.NoReasons || foreign || anonymous {
		return refusal("AccessDenied", "Access Denied")
	}
	resource := q.resource
	if strings.HasPrefix(q.action, "s3:") {
		resource = strconv.Quote(resource)
	}
	why := which.reason(q.action, s.cfg.PolicyARNs)
	return refusal("AccessDenied", "%s %s", denial(r.caller.arn, q.action, resource), why)
}

// authorizeDecryptLocked decides about the KMS key of an encrypted bucket. S3
// calls KMS in the name of the caller, with a session of its own, so that the
// request has a time of issue even if a long-term key asked for the object:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access_forward_access_sessions.html
func (s *Server) authorizeDecryptLocked(r *request, at s3.Location) error {
	b := s.buckets[at.Bucket]
	switch {
	case b.kmsKey == "":
		return nil
	case b.keyClosed && !r.caller.root:
		return refusal("AccessDenied", "User: %s is not authorized to perform: kms:Decrypt on the resource associated with "+
			"this ciphertext because the resource does not exist in this Region, no resource-based policies allow access, "+
			"or a resource-based policy explicitly denies access", r.caller.arn)
	}
	q := query{action: "kms:Decrypt", resource: b.kmsKey, context: s.baseContext(r)}
	q.context.set("aws:ViaAWSService", "true")
	q.context.set("aws:TokenIssueTime", date(r.now))
	q.context.set("kms:ViaService", "s3."+s.regionOf(at.Bucket)+".amazonaws.com")
	return s.authorizeQueryLocked(r, q, at)
}

// refuseS3 formats an error in the XML of S3.
func (r *request) refuseS3(err error, at s3.Location) reply {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{code: "InternalError", message: err.Error()}
	}
	status := e.status
	if status == 0 {
		status = s3Status(e.code)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header + "<Error>")
	for _, part := range append([][2]string{
		{"Code", e.code}, {"Message", e.message}, {"BucketName", at.Bucket}, {"Key", at.Key}, {"RequestId", r.requestID()},
	}, e.detail...) {
		b.WriteString("<" + part[0] + ">")
		_ = xml.EscapeText(&b, []byte(part[1])) // a Buffer takes everything
		b.WriteString("</" + part[0] + ">")
	}
	b.WriteString("</Error>")
	reply := s3Reply(status, b.Bytes())
	reply.code = e.code
	return reply
}

// s3Status is the status that S3 gives a code.
func s3Status(code string) int {
	switch code {
	case "NoSuchBucketPolicy", "NoSuchVersion", "NoSuchUpload":
		return 404
	case "NotImplemented":
		return 501
	case "XAmzContentSHA256Mismatch", "InvalidArgument", "Throttling":
		return 400
	case "BucketAlreadyOwnedByYou", "BucketNotEmpty":
		return 409
	}
	return s3.StatusOf(code)
}

func s3Reply(status int, body []byte) reply {
	h := s3.BaseHeader()
	if body != nil {
		h.Set("Content-Type", "application/xml")
	}
	return reply{status: status, header: h, body: body}
}
