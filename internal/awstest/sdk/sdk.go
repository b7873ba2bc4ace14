// Package sdk reads from a test server as a user of the AWS SDK does, in the tests of the
// servers themselves.
package sdk

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"ixmage/alias"
)

// Client is the SDK's client with a key pair; an empty one signs nothing.
func Client(t testing.TB, endpoint string, kp alias.KeyPair) *s3.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	opts := s3.Options{
		BaseEndpoint: &endpoint, Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		HTTPClient: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		Credentials: aws.AnonymousCredentials{},
	}
	if kp.AccessKeyID != "" {
		opts.Credentials = credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
	}
	return s3.New(opts)
}

// Get reads an object to its end and returns the body, or the error code of S3.
func Get(t testing.TB, c *s3.Client, bucket, key string) (body, code string) {
	t.Helper()
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", ErrorCode(t, err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), ""
}

// ErrorCode is the code of an error that a server answered with.
func ErrorCode(t testing.TB, err error) string {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("not an answer of S3: %v", err)
	}
	return api.ErrorCode()
}
