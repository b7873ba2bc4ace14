package minio_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.uber.org/goleak"

	"ixmage/internal/awstest/minio"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readPolicy(bucket, prefix string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::` +
		bucket + "/" + prefix + `*"]}]}`
}

// TestSessionPolicy: a session reads what its session policy allows and does nothing else.
func TestSessionPolicy(t *testing.T) {
	t.Parallel()
	server, ctx := minio.New(t), t.Context()
	for _, bucket := range []string{"media", "other"} {
		must(t, server.CreateBucket(ctx, bucket))
		for _, key := range []string{"shop/a.txt", "shop-secret/b.txt"} {
			must(t, server.PutObject(ctx, bucket, key, fakes3.Object{Body: []byte(bucket + " " + key), ContentType: "text/plain"}))
		}
	}
	session := func(policy string) aws.CredentialsProvider {
		t.Helper()
		creds, err := server.Assume(ctx, policy)
		must(t, err)
		return creds
	}
	shop := session(readPolicy("media", "shop/"))
	for _, tt := range []struct {
		name        string
		creds       aws.CredentialsProvider
		bucket, key string
		code        string
	}{
		{"root", server.Credentials(), "other", "shop/a.txt", ""},
		{"bucket", session(readPolicy("media", "")), "media", "shop-secret/b.txt", ""},
		{"other bucket", session(readPolicy("media", "")), "other", "shop/a.txt", "AccessDenied"},
		{"prefix", shop, "media", "shop/a.txt", ""},
		{"outside the prefix", shop, "media", "shop-secret/b.txt", "AccessDenied"},
		{"prefix in the other bucket", shop, "other", "shop/a.txt", "AccessDenied"},
		{"nobody", aws.AnonymousCredentials{}, "media", "shop/a.txt", "AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := ""
			if tt.code == "" {
				want = tt.bucket + " " + tt.key
			}
			body, code := sdk.Get(t, server.S3Client(tt.creds), tt.bucket, tt.key)
			if body != want || code != tt.code {
				t.Errorf("got %q %q, want %q %q", body, code, want, tt.code)
			}
		})
	}
	_, err := server.S3Client(shop).PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("media"), Key: aws.String("shop/new")})
	if code := sdk.ErrorCode(t, err); code != "AccessDenied" {
		t.Errorf("PutObject: got %q", code)
	}
	_, err = server.S3Client(shop).ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("media")})
	if code := sdk.ErrorCode(t, err); code != "AccessDenied" {
		t.Errorf("ListObjectsV2: got %q", code)
	}
	_, err = server.STSClient(shop).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::123456789012:role/any"), RoleSessionName: aws.String("again")})
	if err == nil {
		t.Error("a session assumed a role")
	}
}

// TestTwentySessions: of twenty sessions each reads its own prefix and no other.
func TestTwentySessions(t *testing.T) {
	t.Parallel()
	server, ctx := minio.New(t), t.Context()
	must(t, server.CreateBucket(ctx, "media"))
	const n = 20
	for i := range n {
		must(t, server.PutObject(ctx, "media", fmt.Sprintf("p%d/a", i), fakes3.Object{Body: fmt.Appendf(nil, "%d", i)}))
	}
	for i := range n {
		creds, err := server.Assume(ctx, readPolicy("media", fmt.Sprintf("p%d/", i)))
		must(t, err)
		c := server.S3Client(creds)
		if body, code := sdk.Get(t, c, "media", fmt.Sprintf("p%d/a", i)); body != fmt.Sprint(i) {
			t.Errorf("p%d: got %q %q", i, body, code)
		}
		if _, code := sdk.Get(t, c, "media", fmt.Sprintf("p%d/a", (i+1)%n)); code != "AccessDenied" {
			t.Errorf("p%d reads the next prefix: got %q", i, code)
		}
	}
}

// TestMissing: a machine without MinIO gets an error that says what to do.
func TestMissing(t *testing.T) {
	t.Setenv("IXMAGE_MINIO", t.TempDir()+"/none")
	_, err := minio.Start(t.Context(), t.TempDir())
	if !errors.Is(err, minio.ErrMissing) || !strings.Contains(err.Error(), "make tools") {
		t.Errorf("got %v", err)
	}
}
