package iam_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

// TestUnsignedHeadBucket: S3 tells who asks without a signature whether a bucket exists
// and where it is, whatever the permissions.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
func TestUnsignedHeadBucket(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, region string // of the bucket
		set          func(*fakeiam.Server)
		status       int
		want         string
	}{
		{"private", "", nil, 403, "us-east-1"},
		{"public", "", func(s *fakeiam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Allow','Principal':'*','Action':'s3:ListBucket','Resource':'arn:aws:s3:::media'}`))
		}, 200, "us-east-1"},
		{"objects are public", "", func(s *fakeiam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Allow','Principal':'*','Action':'s3:GetObject','Resource':'arn:aws:s3:::media/*'}`))
		}, 403, "us-east-1"},
		{"everything is denied", "", func(s *fakeiam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Deny','Principal':'*','Action':'s3:*','Resource':'*'}`))
			s.SetResourceControlPolicy(statements(refuseAll))
		}, 403, "us-east-1"},
		{"elsewhere", "eu-west-1", nil, 301, "eu-west-1"},
		{"of another account", "", func(s *fakeiam.Server) { s.SetBucketOwner("media", "210987654321") }, 403, "us-east-1"},
		{"missing", "none", nil, 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fakeiam.New(t, fakeiam.Config{})
			if tt.region != "none" {
				s.SetBucketRegion("media", tt.region)
			}
			if tt.set != nil {
				tt.set(s)
			}
			res, err := http.DefaultTransport.RoundTrip(request(t, http.MethodHead, s.S3URL+"/media"))
			must(t, err)
			res.Body.Close()
			http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			if got := res.Header.Get("x-amz-bucket-region"); res.StatusCode != tt.status || got != tt.want {
				t.Errorf("got %d in %q, want %d in %q", res.StatusCode, got, tt.status, tt.want)
			}
			if calls := s.Calls(); len(calls) != 1 || calls[0].Action != "HeadBucket" || calls[0].AccessKeyID != "" {
				t.Errorf("calls: %+v", calls)
			}
		})
	}
}

func request(t *testing.T, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	must(t, err)
	return req
}

// TestOtherRegion: S3 refuses a request for a bucket of another region before it looks at
// the caller.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func TestOtherRegion(t *testing.T) {
	t.Parallel()
	const redirect, malformed = "301 PermanentRedirect", "400 AuthorizationHeaderMalformed"
	for _, tt := range []struct{ account, bucket, asked, want, text string }{
		{"us-east-1", "us-east-1", "us-east-1", "", ""},
		{"eu-west-1", "eu-west-1", "eu-west-1", "", ""},
		{"us-east-1", "eu-west-1", "eu-west-1", "", ""}, // at the endpoint of that region
		{"us-east-1", "eu-west-1", "us-east-1", malformed, "the region 'us-east-1' is wrong; expecting 'eu-west-1'"},
		{"us-east-1", "eu-west-1", "eu-west-3", redirect, "must be addressed using the specified endpoint"},
		{"eu-west-1", "", "us-east-1", malformed, "expecting 'eu-west-1'"},
		{"eu-west-1", "", "eu-central-1", redirect, "specified endpoint"},
	} {
		t.Run(tt.bucket+" asked in "+tt.asked, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{Region: tt.account}), t.Context()
			s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
			s.SetBucketRegion("media", tt.bucket)
			wrong := alias.KeyPair{AccessKeyID: "AKIAUNKNOWNUNKNOWN00", SecretAccessKey: alias.NewSecret("x")}
			for _, kp := range []alias.KeyPair{s.AddUser("/", "u", readPolicy("media", "")), wrong} {
				want := tt.want
				if want == "" && kp == wrong {
					want = "403 InvalidAccessKeyId"
				}
				_, err := s.S3Client(kp).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("a")}, func(o *s3.Options) {
					o.Region = tt.asked
				})
				wantRefused(t, "GetObject", err, want)
				if tt.want != "" && !strings.Contains(message(err), tt.text) {
					t.Errorf("message: %s", message(err))
				}
			}
		})
	}
}

// TestErrorNamesRegion: the error in XML has the region or the endpoint as an element.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
func TestErrorNamesRegion(t *testing.T) {
	t.Parallel()
	s := fakeiam.New(t, fakeiam.Config{})
	s.SetBucketRegion("media", "eu-west-1")
	for asked, want := range map[string]string{
		"": "<Endpoint>media.s3.eu-west-1.amazonaws.com</Endpoint>", "us-east-1": "<Region>eu-west-1</Region>",
	} {
		req := request(t, http.MethodGet, s.S3URL+"/media/a")
		if asked != "" {
			req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIA/20260101/"+asked+"/s3/aws4_request, SignedHeaders=host, Signature=x")
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if !strings.Contains(string(body), want) || res.Header.Get("x-amz-bucket-region") != "eu-west-1" {
			t.Errorf("asked in %q: got %s, %v", asked, body, res.Header)
		}
	}
}

// TestOtherOwner: a bucket of another account needs both its policy and the user's, its
// denials give no reason, and its policy may not be read.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
func TestOtherOwner(t *testing.T) {
	t.Parallel()
	const denied = "AccessDenied"
	grant := func(principal string) string {
		return statements(`{'Effect':'Allow','Principal':{'AWS':'` + principal + `'},'Action':['s3:GetObject','s3:GetBucketPolicy'],'Resource':['arn:aws:s3:::media','arn:aws:s3:::media/*']}`)
	}
	for _, tt := range []struct{ name, policy, bucket, expected, want string }{
		{"policy only", allowAll, "", "", denied},
		{"bucket only", allowNone, grant("arn:aws:iam::123456789012:user/u"), "", denied},
		{"both", allowAll, grant("arn:aws:iam::123456789012:user/u"), "", ""},
		{"bucket names the account", allowAll, grant("arn:aws:iam::123456789012:root"), "", ""},
		{"bucket names another account", allowAll, grant("arn:aws:iam::999999999999:root"), "", denied},
		{"the owner is expected", allowAll, grant("*"), "210987654321", ""},
		{"another owner is expected", allowAll, grant("*"), "123456789012", denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
			s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
			s.SetBucketOwner("media", "210987654321")
			s.SetBucketPolicy("media", tt.bucket)
			c := s.S3Client(s.AddUser("/", "u", statements(tt.policy)))
			in := &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("a")}
			if tt.expected != "" {
				in.ExpectedBucketOwner = &tt.expected
			}
			_, err := c.GetObject(ctx, in)
			if tt.want == "" {
				must(t, err)
			} else if code := sdk.ErrorCode(t, err); code != tt.want || message(err) != "Access Denied" {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if tt.name == "both" {
				_, err = c.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: aws.String("media")})
				wantRefused(t, "GetBucketPolicy", err, "405 MethodNotAllowed")
			}
		})
	}
}

// TestVersions: deleting in a versioned bucket adds a marker, even for a key that never
// existed, and a version that is named is deleted for good.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html
func TestVersions(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.PutObject("media", "a", fakes3.Object{Body: []byte("old")})
	s.SetVersioning("media")
	c, bucket := s.S3Client(s.Root), aws.String("media")
	del := func(key string, version *string) *s3.DeleteObjectOutput {
		t.Helper()
		out, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: &key, VersionId: version})
		must(t, err)
		return out
	}
	put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("a"), Body: strings.NewReader("new")})
	must(t, err)
	if out := del("never", nil); out.DeleteMarker == nil || !*out.DeleteMarker {
		t.Errorf("marker of a key that never existed: %+v", out)
	}
	marker := del("a", nil)
	if got := strings.Join(s.DeleteMarkers("media"), " "); got != "never a" || len(s.Versions("media")) != 4 {
		t.Errorf("markers %q, versions %+v", got, s.Versions("media"))
	}
	if _, code := sdk.Get(t, c, "media", "a"); code != "NoSuchKey" || len(s.Objects("media")) != 0 {
		t.Errorf("hidden by the marker: got %q, objects %v", code, s.Objects("media"))
	}
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("a"), VersionId: put.VersionId})
	must(t, err)
	out.Body.Close()
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("a"), VersionId: marker.VersionId})
	wantRefused(t, "GET of a marker", err, "405 MethodNotAllowed")
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("a"), VersionId: aws.String("other")})
	wantRefused(t, "GET of another version", err, "404 NoSuchVersion")
	del("a", marker.VersionId)
	if body, _ := sdk.Get(t, c, "media", "a"); body != "new" {
		t.Errorf("without the marker: got %q", body)
	}
	del("a", put.VersionId)
	if body, _ := sdk.Get(t, c, "media", "a"); body != "old" {
		t.Errorf("without the second version: got %q", body)
	}
	only := s.S3Client(s.AddUser("/", "u", statements(`{'Effect':'Allow','Action':'s3:DeleteObject','Resource':'*'}`)))
	_, err = only.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("a"), VersionId: aws.String("version-1")})
	wantRefused(t, "DELETE of a version without its right", err, "403 AccessDenied")
	s.DeleteObject("media", "a")
	s.DeleteObject("media", "never")
	if left := s.Versions("media"); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

// TestConditionalDelete: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
// and, for the bucket's policy, conditional-delete-enforce.html there.
func TestConditionalDelete(t *testing.T) {
	t.Parallel()
	const (
		denied, failed, missing = "403 AccessDenied", "412 PreconditionFailed", "404 NoSuchKey"
		del, get                = `{'Effect':'Allow','Action':'s3:DeleteObject','Resource':'*'}`, `{'Effect':'Allow','Action':'s3:GetObject','Resource':'*'}`
		list                    = `{'Effect':'Allow','Action':'s3:ListBucket','Resource':'*'}`
		bucket                  = `{'Effect':'Allow','Principal':{'AWS':'arn:aws:iam::123456789012:user/u'},'Action':'s3:DeleteObject','Resource':'arn:aws:s3:::media/*','Condition':{'Null':{'s3:if-match':'false'}}}`
		star                    = `{'Effect':'Allow','Principal':{'AWS':'arn:aws:iam::123456789012:user/u'},'Action':'s3:DeleteObject','Resource':'arn:aws:s3:::media/*','Condition':{'StringEquals':{'s3:if-match':'*'}}}`
	)
	for _, tt := range []struct {
		name                  string
		policy, bucket        string
		hides                 bool
		plain, other, any     string // no If-Match, another tag, any
		missing, missingNamed string // another tag of a missing object, and the right that its denial names
	}{
		{"delete and get", del + "," + get, "", false, "", failed, "", missing, ""},
		{"delete only", del, "", false, "", denied, "", denied, "s3:GetObject"},
		{"get only", get, "", false, denied, denied, denied, denied, "s3:DeleteObject"},
		{"delete, get and list", del + "," + get + "," + list, "", true, "", failed, "", missing, ""},
		{"delete and get, missing is hidden", del + "," + get, "", true, "", failed, "", denied, "s3:ListBucket"},
		{"bucket asks for a condition", get, bucket, false, denied, failed, "", missing, ""},
		{"bucket asks for any object", get, star, false, denied, denied, "", denied, "s3:DeleteObject"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{DeleteHidesMissing: tt.hides}), t.Context()
			s.SetBucketPolicy("media", "")
			s.SetVersioning("media")
			if tt.bucket != "" {
				s.SetBucketPolicy("media", statements(tt.bucket))
			}
			c := s.S3Client(s.AddUser("/", "u", statements(tt.policy)))
			remove := func(key, match string) error {
				s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
				in := &s3.DeleteObjectInput{Bucket: aws.String("media"), Key: &key}
				if match != "" {
					in.IfMatch = &match
				}
				_, err := c.DeleteObject(ctx, in)
				return err
			}
			wantRefused(t, "another tag", remove("a", `"other"`), tt.other)
			err := remove("b", `"other"`)
			wantRefused(t, "another tag of a missing object", err, tt.missing)
			if tt.missingNamed != "" && !strings.Contains(message(err), "perform: "+tt.missingNamed+" on") {
				t.Errorf("message: %v", err)
			}
			if markers := s.DeleteMarkers("media"); len(markers) != 0 {
				t.Errorf("markers: %v", markers)
			}
			wantRefused(t, "any", remove("a", "*"), tt.any)
			wantRefused(t, "plain", remove("a", ""), tt.plain)
		})
	}
}

// TestEncryptedDenials: a denial names the right to the key.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshoot-403-errors.html#troubleshoot-403-encryption
func TestEncryptedDenials(t *testing.T) {
	t.Parallel()
	const key = "arn:aws:kms:us-east-1:123456789012:key/k"
	both := `{'Effect':'Allow','Action':['s3:GetObject','kms:Decrypt'],'Resource':'*'}`
	for _, tt := range []struct {
		name, policy string
		set          func(*fakeiam.Server)
		want         string
	}{
		{"no grant", `{'Effect':'Allow','Action':'s3:GetObject','Resource':'*'}`, nil, "kms:Decrypt on resource: " + key + " because no identity-based policy allows the kms:Decrypt action"},
		{"denied", both + `,{'Effect':'Deny','Action':'kms:*','Resource':'*'}`, nil, "kms:Decrypt on resource: " + key + " with an explicit deny in an identity-based policy"},
		{"boundary without it", both, func(s *fakeiam.Server) {
			arn := s.AddPolicy("/", "boundary", readPolicy("media", ""))
			s.ChangeUser("u", func(u *fakeiam.User) { u.Boundary = arn })
		}, "because no permissions boundary allows the kms:Decrypt action"},
		{"key of nobody", both, func(s *fakeiam.Server) { s.CloseKey("media") }, "kms:Decrypt on the resource associated with this ciphertext"},
		{"grant", both, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fakeiam.New(t, fakeiam.Config{})
			s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
			s.Encrypt("media", key)
			kp := s.AddUser("/", "u", statements(tt.policy))
			if tt.set != nil {
				tt.set(s)
			}
			_, err := s.S3Client(kp).GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("a")})
			if got := message(err); (err == nil) != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestUploadPart: a part of an upload that does not exist tells who may put objects, and
// stores nothing.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html
func TestUploadPart(t *testing.T) {
	t.Parallel()
	const may, mayNot = `{'Effect':'Allow','Action':'s3:PutObject','Resource':'arn:aws:s3:::media/*'}`, allowNone
	for _, tt := range []struct {
		policy  string
		uploads bool
		want    string
	}{
		{may, true, "404 NoSuchUpload"}, {mayNot, true, "403 AccessDenied"},
		{may, false, "501 NotImplemented"}, {mayNot, false, "501 NotImplemented"},
	} {
		s, ctx := fakeiam.New(t, fakeiam.Config{Uploads: tt.uploads}), t.Context()
		s.CreateBucket("media")
		_, err := s.S3Client(s.AddUser("/", "u", statements(tt.policy))).UploadPart(ctx, &s3.UploadPartInput{
			Bucket: aws.String("media"), Key: aws.String("a"), PartNumber: aws.Int32(1), UploadId: aws.String("none"),
		})
		wantRefused(t, tt.policy, err, tt.want)
		if calls := s.Calls(); calls[0].Action != "UploadPart" || len(s.Objects("media")) != 0 {
			t.Errorf("calls %+v, objects %v", calls, s.Objects("media"))
		}
	}
}
