package iam_test

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

// s3Calls are the probes of a verification, by name.
func s3Calls() map[string]func(context.Context, *s3.Client) error {
	bucket, there, missing := aws.String("media"), aws.String("shop/a.jpg"), aws.String("shop/missing")
	return map[string]func(context.Context, *s3.Client) error{
		"get": func(ctx context.Context, c *s3.Client) error {
			out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: there, Range: aws.String("bytes=0-0")})
			if err == nil {
				out.Body.Close()
			}
			return err
		},
		"head": func(ctx context.Context, c *s3.Client) error {
			_, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: there})
			return err
		},
		"get version": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: there, VersionId: aws.String("null")})
			return err
		},
		"get if other": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: there, IfMatch: aws.String(`"other"`)})
			return err
		},
		"get missing": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: missing})
			return err
		},
		"get outside": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("secret/b.jpg")})
			return err
		},
		"get elsewhere": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("other"), Key: there})
			return err
		},
		"put if match missing": func(ctx context.Context, c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: missing, IfMatch: aws.String(`"impossible"`), Body: strings.NewReader("")})
			return err
		},
		"put if match other": func(ctx context.Context, c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: there, IfMatch: aws.String(`"impossible"`), Body: strings.NewReader("")})
			return err
		},
		"put if none": func(ctx context.Context, c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: there, IfNoneMatch: aws.String("*"), Body: strings.NewReader("")})
			return err
		},
		"delete missing": func(ctx context.Context, c *s3.Client) error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: missing})
			return err
		},
		"list": func(ctx context.Context, c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(1)})
			return err
		},
		"list prefix": func(ctx context.Context, c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("shop/"), MaxKeys: aws.Int32(1)})
			return err
		},
		"buckets": func(ctx context.Context, c *s3.Client) error {
			_, err := c.ListBuckets(ctx, &s3.ListBucketsInput{})
			return err
		},
		"acl": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: there})
			return err
		},
		"tagging": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: bucket, Key: there})
			return err
		},
		"bucket policy": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: bucket})
			return err
		},
		"no bucket": func(ctx context.Context, c *s3.Client) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("nobody"), Key: there})
			return err
		},
	}
}

// TestS3Rights makes every call with keys of different rights. What a row
// does not name is denied.
func TestS3Rights(t *testing.T) {
	t.Parallel()
	always := map[string]string{"no bucket": "404 NoSuchBucket"}
	scoped := map[string]string{"get": "", "head": "", "get if other": "412 PreconditionFailed"}
	written := map[string]string{
		"put if match missing": "404 NoSuchKey", "put if match other": "412 PreconditionFailed",
		"put if none": "412 PreconditionFailed", "delete missing": "",
	}
	readAll := map[string]string{
		"get": "", "head": "", "get version": "", "get if other": "412 PreconditionFailed", "get missing": "404 NoSuchKey",
		"get outside": "", "get elsewhere": "", "list": "", "list prefix": "", "buckets": "", "acl": "", "tagging": "",
		"bucket policy": "404 NoSuchBucketPolicy",
	}
	read := `{'Effect':'Allow','Action':'s3:GetObject','Resource':'arn:aws:s3:::media/shop/*'}`
	for _, tt := range []struct {
		name   string
		cfg    iam.Config
		policy string
		set    func(*iam.Server)
		want   []map[string]string
	}{
		{"scoped", iam.Config{}, statements(read), nil, []map[string]string{scoped}},
		{"scoped with TLS asked for", iam.Config{}, statements(strings.TrimSuffix(read, "}") + `,'Condition':{'Bool':{'aws:SecureTransport':'true'}}}`), nil, []map[string]string{scoped}},
		{"scoped without TLS", iam.Config{Insecure: true}, statements(strings.TrimSuffix(read, "}") + `,'Condition':{'Bool':{'aws:SecureTransport':'true'}}}`), nil, nil},
		{"no policy", iam.Config{}, "", nil, nil},
		{"writes too", iam.Config{}, statements(read, `{'Effect':'Allow','Action':['s3:PutObject','s3:DeleteObject'],'Resource':'arn:aws:s3:::media/*'}`), nil, []map[string]string{scoped, written}},
		{"lists too", iam.Config{}, statements(read, `{'Effect':'Allow','Action':'s3:ListBucket','Resource':'arn:aws:s3:::media'}`), nil, []map[string]string{scoped, {"list": "", "list prefix": "", "get missing": "404 NoSuchKey"}}},
		{"lists a prefix", iam.Config{}, statements(read, `{'Effect':'Allow','Action':'s3:ListBucket','Resource':'arn:aws:s3:::media','Condition':{'StringLike':{'s3:prefix':'shop/*'}}}`), nil, []map[string]string{scoped, {"list prefix": ""}}},
		{"AmazonS3ReadOnlyAccess", iam.Config{}, iam.AmazonS3ReadOnlyAccess, nil, []map[string]string{readAll}},
		{"within a boundary", iam.Config{}, iam.AmazonS3ReadOnlyAccess, func(s *iam.Server) {
			arn := s.AddPolicy("/", "boundary", statements(`{'Effect':'Allow','Action':'s3:GetObject','Resource':'arn:aws:s3:::media/shop/*'}`))
			s.ChangeUser("u", func(u *iam.User) { u.Boundary = arn })
		}, []map[string]string{scoped}},
		{"boundary is gone", iam.Config{}, iam.AmazonS3ReadOnlyAccess, func(s *iam.Server) {
			s.ChangeUser("u", func(u *iam.User) { u.Boundary = "arn:aws:iam::123456789012:policy/gone" })
		}, nil},
		{"bucket open to everyone", iam.Config{}, statements(read), func(s *iam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Allow','Principal':'*','Action':['s3:GetObject','s3:PutObject'],'Resource':'arn:aws:s3:::media/*'}`))
		}, []map[string]string{scoped, written, {"get outside": "", "delete missing": "403 AccessDenied"}}},
		{"bucket open to the user", iam.Config{}, "", func(s *iam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Allow','Principal':{'AWS':'arn:aws:iam::123456789012:user/u'},'Action':'s3:GetObject','Resource':'arn:aws:s3:::media/shop/*'}`))
		}, []map[string]string{scoped}},
		{"bucket open to another", iam.Config{}, "", func(s *iam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Allow','Principal':{'AWS':'arn:aws:iam::123456789012:user/v'},'Action':'s3:GetObject','Resource':'arn:aws:s3:::media/*'}`))
		}, nil},
		{"bucket open to the account", iam.Config{}, "", func(s *iam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Allow','Principal':{'AWS':'123456789012'},'Action':'s3:GetObject','Resource':'arn:aws:s3:::media/*'}`))
		}, nil},
		{"bucket denies", iam.Config{}, iam.AmazonS3ReadOnlyAccess, func(s *iam.Server) {
			s.SetBucketPolicy("media", statements(`{'Effect':'Deny','Principal':'*','Action':'s3:*','Resource':['arn:aws:s3:::media','arn:aws:s3:::media/*']}`))
		}, []map[string]string{{"get elsewhere": "", "buckets": ""}}},
		{"encrypted, without decrypt", iam.Config{}, statements(read), func(s *iam.Server) {
			s.Encrypt("media", "arn:aws:kms:us-east-1:123456789012:key/k")
		}, nil},
		{"encrypted", iam.Config{}, statements(read, `{'Effect':'Allow','Action':'kms:Decrypt','Resource':'arn:aws:kms:us-east-1:123456789012:key/k','Condition':{'StringEquals':{'kms:ViaService':'s3.us-east-1.amazonaws.com'}}}`), func(s *iam.Server) {
			s.Encrypt("media", "arn:aws:kms:us-east-1:123456789012:key/k")
		}, []map[string]string{scoped}},
		{"encrypted, other service", iam.Config{}, statements(read, `{'Effect':'Allow','Action':'kms:Decrypt','Resource':'*','Condition':{'StringEquals':{'kms:ViaService':'s3.eu-west-1.amazonaws.com'}}}`), func(s *iam.Server) {
			s.Encrypt("media", "arn:aws:kms:us-east-1:123456789012:key/k")
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := iam.New(t, tt.cfg)
			for _, key := range []string{"shop/a.jpg", "secret/b.jpg"} {
				s.PutObject("media", key, fakes3.Object{Body: []byte("x")})
				s.PutObject("other", key, fakes3.Object{Body: []byte("x")})
			}
			kp := s.AddUser("/", "u", tt.policy)
			if tt.set != nil {
				tt.set(s)
			}
			want := map[string]string{}
			for _, some := range append(tt.want, always) {
				maps.Copy(want, some)
			}
			for name, call := range s3Calls() {
				expected, named := want[name]
				if !named {
					expected = "403 AccessDenied"
				}
				if name == "head" && expected == "403 AccessDenied" {
					expected = "403 Forbidden" // an error without a body
				}
				wantRefused(t, name, call(t.Context(), s.S3Client(kp)), expected)
			}
			if got := strings.Join(s.Objects("media"), " "); got != "secret/b.jpg shop/a.jpg" {
				t.Errorf("probes have written: %s", got)
			}
		})
	}
}

// TestS3Denials: the message names the right that was missing, or does not.
func TestS3Denials(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, call, want string
		terse            bool
	}{
		{"outside", "get outside", `User: arn:aws:iam::123456789012:user/u is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::media/secret/b.jpg" because no identity-based policy allows the s3:GetObject action`, false},
		{"missing", "get missing", `s3:ListBucket on resource: "arn:aws:s3:::media" because no identity-based policy allows the s3:ListBucket action`, false},
		{"terse", "get missing", "AccessDenied: Access Denied", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := iam.New(t, iam.Config{Terse: tt.terse})
			s.PutObject("media", "secret/b.jpg", fakes3.Object{})
			kp := s.AddUser("/", "u", readPolicy("media", "shop/"))
			err := s3Calls()[tt.call](t.Context(), s.S3Client(kp))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestS3Anonymous(t *testing.T) {
	t.Parallel()
	s := iam.New(t, iam.Config{})
	s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
	if _, code := sdk.Get(t, s.S3Client(alias.KeyPair{}), "media", "a"); code != "AccessDenied" {
		t.Errorf("private: got %q", code)
	}
	s.SetBucketPolicy("media", statements(`{'Effect':'Allow','Principal':'*','Action':'s3:GetObject','Resource':'arn:aws:s3:::media/*'}`))
	if body, code := sdk.Get(t, s.S3Client(alias.KeyPair{}), "media", "a"); body != "x" {
		t.Errorf("public: got %q", code)
	}
}

func TestS3List(t *testing.T) {
	t.Parallel()
	s, ctx := iam.New(t, iam.Config{}), t.Context()
	for _, key := range []string{"a/1", "a/2", "a/3", "b/1"} {
		s.PutObject("media", key, fakes3.Object{Body: []byte(key)})
	}
	var keys []string
	in := &s3.ListObjectsV2Input{Bucket: aws.String("media"), Prefix: aws.String("a/"), MaxKeys: aws.Int32(2)}
	for p := s3.NewListObjectsV2Paginator(s.S3Client(s.Root), in); p.HasMorePages(); {
		out, err := p.NextPage(ctx)
		must(t, err)
		for _, o := range out.Contents {
			keys = append(keys, *o.Key)
		}
	}
	if got := strings.Join(keys, " "); got != "a/1 a/2 a/3" {
		t.Errorf("got %q", got)
	}
	buckets, err := s.S3Client(s.Root).ListBuckets(ctx, &s3.ListBucketsInput{})
	must(t, err)
	if len(buckets.Buckets) != 1 || *buckets.Buckets[0].Name != "media" {
		t.Errorf("got %v", buckets.Buckets)
	}
	_, err = s.S3Client(s.Root).DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("media"), Key: aws.String("a/1")})
	must(t, err)
	if got := strings.Join(s.Objects("media"), " "); got != "a/2 a/3 b/1" {
		t.Errorf("got %q", got)
	}
}
