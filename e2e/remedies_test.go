package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// refusal is an error that some S3 service documents, or sends.
type refusal struct {
	reply  *s3.Fault
	status int
	code   string
	remedy string
}

func refusals() map[string]refusal {
	const (
		credential = "origin-credential"
		failed     = "origin-error"
	)
	garage := errorReply(400, "AuthorizationHeaderMalformed", "Authorization header malformed, unexpected scope: 20260519/us-east-1/s3/aws4_request")
	garage.Body = []byte(strings.Replace(string(garage.Body), "</Error>", "<Region>garage</Region></Error>", 1))
	elsewhere := errorReply(301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint.")
	elsewhere.Header = func(h http.Header) { h.Set("x-amz-bucket-region", "ap-south-1") }
	return map[string]refusal{
		"R2 region":       {errorReply(400, "InvalidRegionName", "The region name 'eu-west-1' is not valid. Must be one of: wnam, enam, weur, eeur, apac, oc, auto"), 502, failed, "auto"},
		"R2 key form":     {errorReply(400, "InvalidArgument", "Credential access key has length 20, should be 32"), 502, credential, "R2"},
		"R2 unauthorized": {errorReply(401, "Unauthorized", "Unauthorized"), 502, credential, "jurisdiction"},
		"R2 clock":        {errorReply(400, "ExpiredRequest", "Request has expired"), 502, failed, "clock"},

		"Garage region":    {garage, 502, failed, `"region":"garage"`},
		"Garage key":       {errorReply(403, "AccessDenied", "Forbidden: No such key: GK31c2f218a2e44f485b94239e"), 502, credential, "does not know the access key id"},
		"Garage signature": {errorReply(403, "AccessDenied", "Forbidden: Invalid signature"), 502, credential, "the secret does not belong"},
		"Garage denied":    {errorReply(403, "AccessDenied", "Forbidden: Operation is not allowed for this key."), 404, "not-found", "Operation is not allowed for this key"},
		"Garage request":   {errorReply(400, "InvalidRequest", "Bad request: odd"), 502, failed, "Bad request: odd"},
		"Garage bucket":    {errorReply(404, "NoSuchBucket", "Bucket not found: media"), 502, failed, "no such bucket"},

		"Ceph suspended": {errorReply(403, "UserSuspended", ""), 502, credential, "suspended"},
		"Ceph quota":     {errorReply(403, "QuotaExceeded", ""), 502, failed, "quota"},
		"Ceph payload":   {errorReply(400, "XAmzContentSHA256Mismatch", ""), 502, failed, "changes it"},
		"Ceph clock":     {errorReply(403, "RequestTimeTooSkewed", ""), 502, failed, "clock"},

		"B2 cap":          {errorReply(403, "AccessDenied", "Cannot download file, download bandwidth or transaction (Class B) cap exceeded."), 502, failed, "Caps & Alerts"},
		"B2 native cap":   {errorReply(403, "download_cap_exceeded", "Cannot download file"), 502, failed, "Caps & Alerts"},
		"B2 token":        {errorReply(401, "bad_auth_token", ""), 502, credential, "refuses the key pair"},
		"B2 unauthorized": {errorReply(401, "UnauthorizedAccess", "not authorized"), 502, credential, "restricted to another bucket"},

		"Wasabi account":  {errorReply(403, "AccountProblem", "Your trial has expired"), 502, failed, "suspended"},
		"Wasabi endpoint": {errorReply(400, "InvalidEndpoint", ""), 502, failed, "endpoint"},
		"Wasabi redirect": {errorReply(307, "TemporaryRedirect", ""), 502, failed, "another region"},

		"AWS redirect":        {elsewhere, 502, failed, `"region":"ap-south-1"`},
		"AWS region":          {errorReply(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-south-2'"), 502, failed, `"region":"eu-south-2"`},
		"AWS location":        {errorReply(400, "IllegalLocationConstraintException", "odd"), 502, failed, "region"},
		"AWS archived":        {errorReply(403, "InvalidObjectState", "The operation is not valid for the object's storage class"), 502, failed, "archived"},
		"AWS disabled":        {errorReply(403, "AllAccessDisabled", ""), 502, failed, "disabled"},
		"AWS not signed up":   {errorReply(403, "NotSignedUp", ""), 502, failed, "not signed up"},
		"AWS security":        {errorReply(403, "InvalidSecurity", ""), 502, credential, "refuses the key pair"},
		"AWS token":           {errorReply(400, "ExpiredToken", ""), 502, credential, "temporary"},
		"AWS SSE-C":           {errorReply(400, "InvalidRequest", "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."), 502, failed, "SSE-C"},
		"AWS requester pays":  {errorReply(403, "AccessDenied", "Access Denied"), 404, "not-found", "x-amz-request-payer"},
		"AWS KMS disabled":    {errorReply(400, "KMS.DisabledException", "arn:aws:kms:eu-west-1:123456789012:key/1 is disabled."), 502, failed, "KMS key of the object cannot be used"},
		"AWS KMS missing":     {errorReply(400, "KMS.NotFoundException", ""), 502, failed, "KMS key of the object cannot be used"},
		"AWS KMS state":       {errorReply(400, "KMS.KMSInvalidStateException", ""), 502, failed, "pending deletion"},
		"AWS KMS denied":      {errorReply(403, "AccessDenied", "User: arn:aws:iam::123456789012:user/x is not authorized to perform: kms:Decrypt on resource: y"), 404, "not-found", "kms:Decrypt"},
		"no user":             {errorReply(404, "XAdminUserNotFound", "No user exists with the provided access key ID."), 502, credential, "does not know the access key id"}, // versitygw
		"404 of another code": {errorReply(404, "NoSuchTenant", "no tenant of this name"), 404, "not-found", `404 NoSuchTenant. S3 says "no tenant of this name"`},
		"redirect":            {&s3.Fault{Status: 302, Header: func(h http.Header) { h.Set("Location", "https://login.example.com/") }}, 502, failed, "redirect"},
		"403 of a web server": {&s3.Fault{Status: 403, Body: []byte("<html>blocked</html>")}, 404, "not-found", "without an error code of S3"},
		"404 of a web server": {s3.HTML404(), 404, "not-found", "without an error code of S3"},
		"unknown code":        {errorReply(400, "Teapot", "short and stout"), 502, failed, `Teapot. S3 says "short and stout"`},
	}
}

// TestRemedies: for the errors of the services that speak S3, the status names the right
// party, the remedy leads to the cause, and S3's message is in the log and never in an
// answer to a client.
func TestRemedies(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--breaker-failures", "0")
	rows, byKey := refusals(), map[string]refusal{}
	for name, row := range rows {
		byKey["web/"+keyOf(name)+".png"] = row
		s.put(keyOf(name)+".png", s3.Object{Body: png(100, "")})
	}
	s.s3.Hook(func(r *s3.Request) *s3.Fault { return byKey[r.Key].reply })
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			path := "/shop/" + keyOf(name) + ".png"
			if head := s.head(path); head.StatusCode != row.status && row.status != 404 && row.code != "x" && name != "Garage bucket" && name != "no user" {
				t.Errorf("HEAD: %s, want %d", head.Status, row.status)
			}
			r := s.ask(path)
			wantProblem(t, r, row.status, row.code)
			e := s.explain(path, "&probe=true")
			if e.Status != row.status || e.Code != row.code || !strings.Contains(e.Remedy, row.remedy) {
				t.Errorf("explained: %d %s, %q; want %q", e.Status, e.Code, e.Remedy, row.remedy)
			}
			if strings.Contains(e.Remedy, "123456789012") || strings.Contains(string(r.body), "says") || strings.Contains(e.Remedy, "UnknownError") {
				t.Errorf("told too much: %q, %s", e.Remedy, r.body)
			}
		})
	}
}

// TestMessageInLog: the log line of a failed request has S3's message, without what it
// quotes of the request.
func TestMessageInLog(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	const signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
	long := strings.Repeat("and so on ", 100)
	for key, reply := range map[string]*s3.Fault{
		"odd.png":    errorReply(400, "Odd", "first line&#10;level=ERROR msg=forged key AKIAIOSFODNN7EXAMPLE signed "+signature+" for arn:aws:iam::123456789012:user/x "+long),
		"denied.png": errorReply(403, "AccessDenied", "AKIAIOSFODNN7EXAMPLE of 123456789012 may not: first line"),
	} {
		s.put(key, s3.Object{Body: png(100, "")})
		s.s3.Next("media", "web/"+key, reply)
		r := s.ask("/shop/" + key)
		if strings.Contains(string(r.body), "first line") {
			t.Errorf("%s: the client is told S3's message: %s", key, r.body)
		}
		var line string
		eventually(t, "it is in the log", func() bool {
			line = lineOf(s.output(), "first line")
			return line != ""
		})
		for _, hidden := range []string{"AKIAIOSFODNN7EXAMPLE", signature, "123456789012", strings.Repeat("and so on ", 30)} {
			if strings.Contains(line, hidden) {
				t.Errorf("%s: %q is in %s", key, hidden, line)
			}
		}
	}
}
