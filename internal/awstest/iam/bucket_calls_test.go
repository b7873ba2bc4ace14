package iam

import (
	"slices"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

// TestBucketCalls makes and deletes a bucket over the wire.
func TestBucketCalls(t *testing.T) {
	t.Parallel()
	s, name := New(t, Config{}), "media"
	root, other := s.S3Client(s.Root), s.S3Client(s.AddUser("/", "other", ""))
	made := &awss3.CreateBucketInput{Bucket: &name, CreateBucketConfiguration: &types.CreateBucketConfiguration{
		LocationConstraint: types.BucketLocationConstraintEuWest1,
	}}
	if _, err := other.CreateBucket(t.Context(), made); sdk.ErrorCode(t, err) != "AccessDenied" || len(s.Buckets()) > 0 {
		t.Errorf("without the right: %v, %v", err, s.Buckets())
	}
	if _, err := root.CreateBucket(t.Context(), made); err != nil || !slices.Equal(s.Buckets(), []string{name}) {
		t.Fatalf("%v, %v", err, s.Buckets())
	}
	if _, err := root.CreateBucket(t.Context(), made); sdk.ErrorCode(t, err) != "PermanentRedirect" &&
		sdk.ErrorCode(t, err) != "AuthorizationHeaderMalformed" {
		t.Errorf("in another region: %v", err)
	}
	s.SetBucketRegion(name, "")
	if _, err := root.CreateBucket(t.Context(), made); sdk.ErrorCode(t, err) != "BucketAlreadyOwnedByYou" {
		t.Errorf("again: %v", err)
	}
	s.PutObject(name, "a", s3.Object{Body: []byte("a")})
	if _, err := root.DeleteBucket(t.Context(), &awss3.DeleteBucketInput{Bucket: &name}); sdk.ErrorCode(t, err) != "BucketNotEmpty" {
		t.Errorf("with an object: %v", err)
	}
	s.DeleteObject(name, "a")
	if _, err := other.DeleteBucket(t.Context(), &awss3.DeleteBucketInput{Bucket: &name}); sdk.ErrorCode(t, err) != "AccessDenied" {
		t.Errorf("without the right: %v", err)
	}
	if _, err := root.DeleteBucket(t.Context(), &awss3.DeleteBucketInput{Bucket: &name}); err != nil || len(s.Buckets()) > 0 {
		t.Errorf("%v, %v", err, s.Buckets())
	}
}
