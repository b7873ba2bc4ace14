package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

func TestEnforces(t *testing.T) {
	t.Parallel()
	g, ctx := gateway.New(t), t.Context()
	for _, bucket := range []string{"media", "other"} {
		must(t, g.CreateBucket(ctx, bucket))
		for _, key := range []string{"shop/a.txt", "shop-secret/b.txt", "odd/ü +&=?%2F.txt"} {
			must(t, g.PutObject(ctx, bucket, key, fakes3.Object{Body: []byte(bucket + " " + key)}))
		}
	}
	whole, err := g.ReadOnlyUser(ctx, "whole", "media", "")
	must(t, err)
	shop, err := g.ReadOnlyUser(ctx, "shop", "media", "shop/")
	must(t, err)
	unknown := alias.KeyPair{AccessKeyID: "AKIAUNKNOWNUNKNOWN00", SecretAccessKey: shop.SecretAccessKey}
	mixed := alias.KeyPair{AccessKeyID: shop.AccessKeyID, SecretAccessKey: whole.SecretAccessKey}

	for _, tt := range []struct {
		name        string
		keys        alias.KeyPair
		bucket, key string
		code        string
	}{
		{"root", g.Root, "other", "shop/a.txt", ""},
		{"whole bucket", whole, "media", "shop-secret/b.txt", ""},
		{"odd key", whole, "media", "odd/ü +&=?%2F.txt", ""},
		{"whole bucket elsewhere", whole, "other", "shop/a.txt", "AccessDenied"},
		{"prefix inside", shop, "media", "shop/a.txt", ""},
		{"prefix outside", shop, "media", "shop-secret/b.txt", "AccessDenied"},
		{"anonymous", alias.KeyPair{}, "media", "shop/a.txt", "AccessDenied"},
		{"unknown key", unknown, "media", "shop/a.txt", "InvalidAccessKeyId"},
		{"wrong secret", mixed, "media", "shop/a.txt", "SignatureDoesNotMatch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := ""
			if tt.code == "" {
				want = tt.bucket + " " + tt.key
			}
			body, code := sdk.Get(t, sdk.Client(t, g.S3URL, tt.keys), tt.bucket, tt.key)
			if body != want || code != tt.code {
				t.Errorf("got %q, code %q, want %q, code %q", body, code, want, tt.code)
			}
		})
	}
}

func TestKeyLifecycle(t *testing.T) {
	t.Parallel()
	g, ctx := gateway.New(t), t.Context()
	must(t, g.CreateBucket(ctx, "media"))
	must(t, g.PutObject(ctx, "media", "a.txt", fakes3.Object{Body: []byte("A")}))
	first, err := g.ReadOnlyUser(ctx, "u", "media", "")
	must(t, err)
	second, err := g.AddKey(ctx, "u")
	must(t, err)
	expect := func(step string, kp alias.KeyPair, code string) {
		t.Helper()
		if _, got := sdk.Get(t, sdk.Client(t, g.S3URL, kp), "media", "a.txt"); got != code {
			t.Errorf("%s: got code %q, want %q", step, got, code)
		}
	}
	expect("new", first, "")
	must(t, g.SetKeyStatus(ctx, "u", first.AccessKeyID, gateway.KeyInactive))
	expect("switched off", first, "InvalidAccessKeyId")
	expect("the other one", second, "")
	must(t, g.SetKeyStatus(ctx, "u", first.AccessKeyID, gateway.KeyActive))
	expect("switched on again", first, "")
	must(t, g.DeleteKey(ctx, "u", first.AccessKeyID))
	expect("deleted", first, "InvalidAccessKeyId")
	must(t, g.DeleteObject(ctx, "media", "a.txt"))
	expect("object deleted", second, "NoSuchKey")
}

func TestKeepsHeaders(t *testing.T) {
	t.Parallel()
	g, ctx := gateway.New(t), t.Context()
	must(t, g.CreateBucket(ctx, "media"))
	must(t, g.PutObject(ctx, "media", "a.png", fakes3.Object{
		Body: []byte("A"), ContentType: "image/png", CacheControl: "max-age=60",
		Metadata: map[string]string{"owner": "me"},
	}))
	bucket, key := "media", "a.png"
	out, err := sdk.Client(t, g.S3URL, g.Root).HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
	must(t, err)
	if aws.ToString(out.ContentType) != "image/png" || aws.ToString(out.CacheControl) != "max-age=60" || out.Metadata["owner"] != "me" {
		t.Errorf("got type %q, cache control %q, metadata %v", aws.ToString(out.ContentType), aws.ToString(out.CacheControl), out.Metadata)
	}
}

func TestStopEndsProcesses(t *testing.T) {
	t.Parallel()
	g := gateway.New(t)
	must(t, g.Stop())
	must(t, g.Stop()) // again: nothing happens
	if answersS3(t, g.S3URL, g.Root) || answersIAM(t, g.IAMURL, g.Root) {
		t.Error("a server still answers")
	}
}

// TestServersEndWithTest kills a process that runs a gateway, as the test
// command does at a time-out, and waits for the servers to be gone.
func TestServersEndWithTest(t *testing.T) {
	if os.Getenv("AWSTEST_RUN_GATEWAY") != "" {
		g := gateway.New(t)
		os.Stdout.WriteString("gateway " + g.S3URL + " " + g.IAMURL + " " + g.Root.SecretAccessKey.Reveal() + "\n")
		io.Copy(io.Discard, os.Stdin) // until we are killed
		return
	}
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child of its parent's death")
	}
	root := gateway.New(t).Root // skips where there is none
	cmd := exec.Command(os.Args[0], "-test.run=^TestServersEndWithTest$")
	cmd.Env = append(os.Environ(), "AWSTEST_RUN_GATEWAY=1", "TMPDIR="+t.TempDir()) // it cannot clean up
	stdin, err := cmd.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var s3URL, iamURL, secret string
	_, err = fmt.Fscanf(stdout, "gateway %s %s %s\n", &s3URL, &iamURL, &secret)
	must(t, err)
	must(t, cmd.Process.Kill())
	cmd.Wait()
	root.SecretAccessKey = alias.NewSecret(secret)
	for answersS3(t, s3URL, root) || answersIAM(t, iamURL, root) { // the test's own time limit ends a gateway that stays
		runtime.Gosched()
	}
}

// answersS3 reports whether the server with this root key answers: the server of
// another test may have its port by now.
func answersS3(t *testing.T, url string, root alias.KeyPair) bool {
	t.Helper()
	_, err := sdk.Client(t, url, root).ListBuckets(t.Context(), &s3.ListBucketsInput{})
	return err == nil
}

func answersIAM(t *testing.T, url string, root alias.KeyPair) bool {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	_, err := iam.New(iam.Options{
		BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(root.AccessKeyID, root.SecretAccessKey.Reveal(), ""),
	}).ListUsers(t.Context(), &iam.ListUsersInput{})
	return err == nil
}

// TestForeignServer: the root key distinguishes our server from another
// healthy one.
func TestForeignServer(t *testing.T) {
	t.Parallel()
	g, other := gateway.New(t), gateway.New(t)
	if answersS3(t, g.S3URL, other.Root) || answersIAM(t, g.IAMURL, other.Root) {
		t.Error("a gateway takes the root key of another")
	}
	if !answersS3(t, g.S3URL, g.Root) || !answersIAM(t, g.IAMURL, g.Root) {
		t.Error("a gateway refuses its own root key")
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("IXMAGE_VERSITYGW", "/nonexistent/versitygw")
	if _, err := gateway.Start(t.Context(), t.TempDir()); !errors.Is(err, gateway.ErrMissing) {
		t.Errorf("no program: got %v, want ErrNoGateway", err)
	}
	t.Setenv("IXMAGE_VERSITYGW", "/bin/false")
	_, err := gateway.Start(t.Context(), t.TempDir())
	if err == nil || errors.Is(err, gateway.ErrMissing) {
		t.Errorf("a program that ends at once: got %v, want an error that says so", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
