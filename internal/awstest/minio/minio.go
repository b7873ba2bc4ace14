// Package minio runs a second real S3 server, MinIO, in a child process. It has STS, whose
// AssumeRole enforces session policies; it has no IAM, so that it ignores which role is
// assumed and only the root key may assume one.
package minio

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
	"ixmage/internal/awstest/process"
	fakes3 "ixmage/internal/awstest/s3"
)

// ErrMissing means that MinIO is not installed on this machine.
var ErrMissing = errors.New("minio is not here: run make tools, or point IXMAGE_MINIO at it")

const (
	startTimeout = 5 * time.Minute // it is long, for a busy machine
)

// Server is MinIO in a child process. It is safe for concurrent use and may be shared by a
// whole package of tests.
type Server struct {
	URL    string // path-style endpoint of S3, and that of STS
	Region string
	Root   alias.KeyPair // may do anything, and assume roles

	client *http.Client
	proc   *process.Child
}

// New starts a Server that ends with the test. Without MinIO it skips the test or, if
// IXMAGE_REQUIRE_MINIO is set, fails it. To share one among the tests of a package, call
// Start in TestMain.
func New(t testing.TB) *Server {
	t.Helper()
	return process.ServerOf(t, Start, ErrMissing, "IXMAGE_REQUIRE_MINIO")
}

// Start starts the server and returns when it answers. ctx bounds the start only. dir must
// exist and holds its data; the caller owns it and calls Stop before removing it. The error
// is ErrMissing if MinIO is missing.
func Start(ctx context.Context, dir string) (*Server, error) {
	program, err := process.FindTool("minio", "IXMAGE_MINIO", ErrMissing)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return process.StartServer(ctx, func() (*Server, error) {
		s := &Server{
			Region: "us-east-1",
			Root:   alias.KeyPair{AccessKeyID: "ixmagetestroot", SecretAccessKey: alias.NewSecret(rand.Text())},
			client: &http.Client{Transport: &http.Transport{}},
		}
		err := s.start(ctx, program, dir)
		return s, err
	})
}

func (s *Server) start(ctx context.Context, program, dir string) error {
	addresses, err := process.FreeAddresses(1)
	if err != nil {
		return err
	}
	s.URL = "http://" + addresses[0]
	cmd := exec.Command(program, "--quiet", "--certs-dir", filepath.Join(dir, "certs"), "server",
		"--address", addresses[0], filepath.Join(dir, "data"))
	// Not our environment: MinIO reads MINIO_…. It neither scans the disk nor calls home.
	cmd.Env = []string{
		"MINIO_ROOT_USER=" + s.Root.AccessKeyID, "MINIO_ROOT_PASSWORD=" + s.Root.SecretAccessKey.Reveal(),
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_SCANNER_SPEED=slowest",
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir(),
	}
	if s.proc, err = process.Start("minio", cmd); err != nil {
		return err
	}
	// The server of another test may have taken the port: it refuses our root key.
	// STS is ready later than S3.
	buckets, sessions := s.S3Client(s.Credentials()), s.STSClient(s.Credentials())
	return s.proc.WaitReady(ctx, func(ctx context.Context) bool {
		if !process.Healthy(ctx, s.client, s.URL+"/minio/health/ready") {
			return false
		}
		if _, err := buckets.ListBuckets(ctx, &s3.ListBucketsInput{}); err != nil {
			return false
		}
		_, err := sessions.AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn: aws.String("arn:aws:iam::123456789012:role/any"), RoleSessionName: aws.String("ready"),
		})
		return err == nil
	})
}

// Stop stops the server and waits for its end. It may be called more than once.
func (s *Server) Stop() error {
	var err error
	if s.proc != nil {
		err = s.proc.Stop()
	}
	s.client.CloseIdleConnections()
	return err
}

// Credentials are those of root.
func (s *Server) Credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(s.Root.AccessKeyID, s.Root.SecretAccessKey.Reveal(), "")
}

// S3Client is the SDK's client with credentials. It does not retry.
func (s *Server) S3Client(creds aws.CredentialsProvider) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &s.URL, Region: s.Region, UsePathStyle: true, RetryMaxAttempts: 1, HTTPClient: s.client,
		Credentials: creds,
	})
}

// STSClient is S3Client for STS.
func (s *Server) STSClient(creds aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{
		BaseEndpoint: &s.URL, Region: s.Region, RetryMaxAttempts: 1, HTTPClient: s.client, Credentials: creds,
	})
}

// CreateBucket makes an empty private bucket.
func (s *Server) CreateBucket(ctx context.Context, bucket string) error {
	_, err := s.S3Client(s.Credentials()).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	return err
}

// PutObject stores an object and replaces an earlier one.
func (s *Server) PutObject(ctx context.Context, bucket, key string, obj fakes3.Object) error {
	in := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(obj.Body), Metadata: obj.Metadata}
	for to, value := range map[**string]string{&in.ContentType: obj.ContentType, &in.CacheControl: obj.CacheControl} {
		if value != "" {
			*to = &value
		}
	}
	_, err := s.S3Client(s.Credentials()).PutObject(ctx, in)
	return err
}

// Assume makes a session of root with a session policy, which limits it: 15 minutes, for
// that is the least.
func (s *Server) Assume(ctx context.Context, policy string) (aws.CredentialsProvider, error) {
	out, err := s.STSClient(s.Credentials()).AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam::123456789012:role/any"), RoleSessionName: aws.String("test"),
		DurationSeconds: aws.Int32(900), Policy: &policy,
	})
	if err != nil {
		return nil, err
	}
	c := out.Credentials
	return credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken), nil
}
