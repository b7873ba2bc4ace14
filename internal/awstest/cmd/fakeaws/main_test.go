package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/internal/awstest/sdk"
)

const testAccount = `{
 "session_life": "10m",
 "users": [{"name": "reader"}],
 "roles": [{"name": "media", "path": "/ixmage/", "max_session": "2h",
  "trust": {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/reader"},"Action":"sts:AssumeRole"}]},
  "policy": {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::media/*"}]}}],
 "buckets": [{"name": "media", "objects": {"a.txt": "hello"}, "files": {"f": "FILE"}}],
 "metadata": {"ec2": "media"}
}`

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAccountFile: the account of a file is served at the addresses that are printed.
func TestAccountFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "account.json")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(testAccount, "FILE", file)), 0o600))
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-account", file}, in) }()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	must(t, err)
	var about description
	must(t, json.Unmarshal(line, &about))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	kp := about.Users["reader"]
	made, err := sts.New(sts.Options{
		BaseEndpoint: &about.STS, Region: "us-east-1", HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey, ""),
	}).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(about.Roles["media"]), RoleSessionName: aws.String("test")})
	must(t, err)
	c := made.Credentials
	if left := time.Until(*c.Expiration); left > 10*time.Minute {
		t.Errorf("the session lasts %s", left)
	}
	objects := s3.New(s3.Options{
		BaseEndpoint: &about.S3, Region: "us-east-1", HTTPClient: client, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken),
	})
	if body, code := sdk.Get(t, objects, "media", "a.txt"); body != "hello" {
		t.Errorf("got %q", code)
	}
	if body, _ := sdk.Get(t, objects, "media", "f"); !strings.Contains(body, "session_life") {
		t.Errorf("file: got %q", body)
	}
	if about.Env["ec2"]["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == "" {
		t.Errorf("environment: got %v", about.Env)
	}
	stop()
	must(t, <-ended)
}

// TestRefusesAccounts: a mistake in the file is named.
func TestRefusesAccounts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"user": []}`:                                   `unknown field "user"`,
		`{"session_life": "2"}`:                          "missing unit",
		`{"roles": [{"name": "r", "trust": {}}]}`:        "malformed trust policy of r",
		`{"users": [{"name": "u", "policy": {"a":1}}]}`:  "malformed policy",
		`{"metadata": {"gcp": "r"}}`:                     "want ec2, ecs or pod_identity",
		`{"buckets": [{"name":"b","files":{"k":"/x"}}]}`: "no such file",
	} {
		file := filepath.Join(t.TempDir(), "account.json")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if err := run(t.Context(), []string{"-account", file}, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
