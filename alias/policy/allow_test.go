package policy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

const allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// allowEnv is an account with pictures in two buckets, and the documents of the plans for one prefix.
type allowEnv struct {
	*iam.Server

	b *planner // of a plan for a user, with the files
}

func newAllowEnv(t *testing.T) *allowEnv {
	t.Helper()
	e := &allowEnv{Server: iam.New(t, iam.Config{})}
	for _, bucket := range []string{"acme-media", "acme-private"} {
		e.CreateBucket(bucket)
		for _, key := range []string{"website-images/a.png", "press/a.png"} {
			e.PutObject(bucket, key, fakes3.Object{Body: []byte("picture")})
		}
	}
	req := PlanRequest{Request: request(), Kind: KindUser, Format: FormatAWSCLI}
	req.Endpoint = ""
	env := Env{InstallID: "home", Suffix: "x7k2", Account: "123456789012"}
	plan, err := MakePlan(req, env)
	if err != nil {
		t.Fatal(err)
	}
	env.Partition = "aws"
	e.b = &planner{req: req, env: env, plan: plan}
	return e
}

// user has an inline policy, and a boundary unless that is empty.
func (e *allowEnv) user(name, inline, boundary string) aws.CredentialsProvider {
	kp := e.AddUser("/", name, inline)
	if boundary != "" {
		arn := e.AddPolicy("/", name, boundary)
		e.ChangeUser(name, func(u *iam.User) { u.Boundary = arn })
	}
	return credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
}

// session is one of a role that may do everything.
func (e *allowEnv) session(t *testing.T, sessionPolicy string) aws.CredentialsProvider {
	t.Helper()
	arn := e.AddRole(iam.Role{Name: "all", Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` +
		`"Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"sts:AssumeRole"}]}`, Inline: map[string]string{"all": allowAll}})
	client := e.STSClientOf(e.user("source", allowAll, ""))
	out, err := client.AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn: &arn, RoleSessionName: aws.String("ixmage"), Policy: &sessionPolicy,
		DurationSeconds: aws.Int32(int32(time.Hour / time.Second)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey,
		*out.Credentials.SessionToken)
}

// allows makes a call of S3, and reports whether it was allowed.
func (e *allowEnv) allows(t *testing.T, keys aws.CredentialsProvider, action, bucket, key string) bool {
	t.Helper()
	c := e.S3ClientOf(keys)
	err := map[string]func(context.Context) error{
		"get": func(ctx context.Context) error {
			out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
			if err == nil {
				err = out.Body.Close()
			}
			return err
		},
		"put": func(ctx context.Context) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")})
			return err
		},
		"delete": func(ctx context.Context) error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
			return err
		},
		"list": func(ctx context.Context) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
			return err
		},
	}[action](t.Context())
	if api, ok := errors.AsType[smithy.APIError](err); err != nil && (!ok || api.ErrorCode() != "AccessDenied") {
		t.Fatal(err)
	}
	return err == nil
}

// TestDocumentsAllowOnlyWhatTheySay: what a server of S3 allows under each document of a plan.
// allowAll beside it, or in the place of it, is the row that shows that the document decides.
func TestDocumentsAllowOnlyWhatTheySay(t *testing.T) {
	t.Parallel()
	e := newAllowEnv(t)
	boundary, err := encode(e.b.boundaryDocument())
	if err != nil {
		t.Fatal(err)
	}
	session, err := SessionDocument("aws", GrantOf(&e.b.req.Request))
	if err != nil {
		t.Fatal(err)
	}
	holders := map[string]aws.CredentialsProvider{
		"identity": e.user("identity", string(e.b.plan.Document), ""),
		"boundary": e.user("boundary", allowAll, string(boundary)),
		"session":  e.session(t, session),
		"nothing":  e.user("nothing", "", ""),
		"all":      e.user("all", allowAll, ""),
	}
	for _, row := range []struct {
		action, bucket, key string
		allowed             string // the holders that may
	}{
		{"get", "acme-media", "website-images/a.png", "identity boundary session all"},
		{"get", "acme-media", "press/a.png", "boundary all"}, // a boundary is for the bucket
		{"get", "acme-private", "website-images/a.png", "all"},
		{"put", "acme-media", "website-images/b.png", "all"},
		{"list", "acme-media", "", "all"},
		{"list", "acme-private", "", "all"},
		{"delete", "acme-media", "website-images/b.png", "all"},
	} {
		for name, keys := range holders {
			want := strings.Contains(" "+row.allowed+" ", " "+name+" ")
			if got := e.allows(t, keys, row.action, row.bucket, row.key); got != want {
				t.Errorf("%s: %s %s/%s is allowed: %t, want %t", name, row.action, row.bucket, row.key, got, want)
			}
		}
	}
}

// TestBucketStatementAllowsOnlyItsPrincipal: the statement for the account of a bucket lets the
// user of the plan read the prefix, and allows no other principal anything.
func TestBucketStatementAllowsOnlyItsPrincipal(t *testing.T) {
	t.Parallel()
	e := newAllowEnv(t)
	reader, other := e.user("reader", "", ""), e.user("other", "", "")
	text, err := encode(policyDocument{policyVersion, []statement{e.b.bucketStatement("arn:aws:iam::123456789012:user/reader")}})
	if err != nil {
		t.Fatal(err)
	}
	e.SetBucketPolicy("acme-media", string(text))
	for _, row := range []struct {
		name, action, key string
		keys              aws.CredentialsProvider
		want              bool
	}{
		{"its principal", "get", "website-images/a.png", reader, true},
		{"another prefix", "get", "press/a.png", reader, false},
		{"another action", "list", "", reader, false},
		{"a write", "put", "website-images/b.png", reader, false},
		{"another user", "get", "website-images/a.png", other, false},
	} {
		if got := e.allows(t, row.keys, row.action, "acme-media", row.key); got != row.want {
			t.Errorf("%s: allowed: %t, want %t", row.name, got, row.want)
		}
	}
}
