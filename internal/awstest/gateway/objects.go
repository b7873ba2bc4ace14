package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	fakes3 "ixmage/internal/awstest/s3"
)

func (g *Server) clients() (*s3.Client, *iam.Client) {
	creds := credentials.NewStaticCredentialsProvider(g.Root.AccessKeyID, g.Root.SecretAccessKey.Reveal(), "")
	objects := s3.New(s3.Options{
		BaseEndpoint: aws.String(g.S3URL), Region: g.Region, UsePathStyle: true,
		Credentials: creds, HTTPClient: g.client,
	})
	users := iam.New(iam.Options{
		BaseEndpoint: aws.String(g.IAMURL), Region: g.Region,
		Credentials: creds, HTTPClient: g.client,
	})
	return objects, users
}

// CreateBucket makes an empty private bucket.
func (g *Server) CreateBucket(ctx context.Context, bucket string) error {
	_, err := g.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	return err
}

// PutObject stores an object and replaces an earlier one.
func (g *Server) PutObject(ctx context.Context, bucket, key string, obj fakes3.Object) error {
	_, err := g.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, Body: bytes.NewReader(obj.Body), Metadata: obj.Metadata,
		ContentType: optional(obj.ContentType), CacheControl: optional(obj.CacheControl),
		ContentEncoding: optional(obj.ContentEncoding), ContentDisposition: optional(obj.ContentDisposition),
	})
	return err
}

// DeleteObject removes an object, if it exists.
func (g *Server) DeleteObject(ctx context.Context, bucket, key string) error {
	_, err := g.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	return err
}

// ReadOnlyUser makes an IAM user with a key pair that allows only s3:GetObject on
// the keys of bucket that begin with prefix. An empty prefix means the whole
// bucket.
func (g *Server) ReadOnlyUser(ctx context.Context, name, bucket, prefix string) (alias.KeyPair, error) {
	policy, err := readOnlyPolicy(bucket, prefix)
	if err != nil {
		return alias.KeyPair{}, err
	}
	if _, err := g.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: &name}); err != nil {
		return alias.KeyPair{}, fmt.Errorf("make user %s: %w", name, err)
	}
	_, err = g.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: &name, PolicyDocument: &policy})
	if err != nil {
		return alias.KeyPair{}, fmt.Errorf("put policy of %s: %w", name, err)
	}
	return g.AddKey(ctx, name)
}

func readOnlyPolicy(bucket, prefix string) (string, error) {
	doc, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []map[string]any{{
			"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::" + bucket + "/" + prefix + "*",
		}},
	})
	return string(doc), err
}

// AddKey makes another key pair for a user; IAM allows two.
func (g *Server) AddKey(ctx context.Context, user string) (alias.KeyPair, error) {
	out, err := g.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &user})
	if err != nil {
		return alias.KeyPair{}, fmt.Errorf("make key of %s: %w", user, err)
	}
	return alias.KeyPair{
		AccessKeyID:     aws.ToString(out.AccessKey.AccessKeyId),
		SecretAccessKey: alias.NewSecret(aws.ToString(out.AccessKey.SecretAccessKey)),
	}, nil
}

// KeyStatus is Active or Inactive.
type KeyStatus = iamtypes.StatusType

// The two states of a key.
const (
	KeyActive   = iamtypes.StatusTypeActive
	KeyInactive = iamtypes.StatusTypeInactive
)

// SetKeyStatus switches a user's key on or off; S3 follows within
// milliseconds.
func (g *Server) SetKeyStatus(ctx context.Context, user, accessKeyID string, status KeyStatus) error {
	_, err := g.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{
		UserName: &user, AccessKeyId: &accessKeyID, Status: status,
	})
	return err
}

// DeleteKey deletes a key of a user.
func (g *Server) DeleteKey(ctx context.Context, user, accessKeyID string) error {
	_, err := g.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: &accessKeyID})
	return err
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
