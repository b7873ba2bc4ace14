package gateway

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"ixmage/alias"
)

// ReadCode reads an object with a key and returns the error code of S3, empty for
// success.
func (g *Server) ReadCode(ctx context.Context, kp alias.KeyPair, bucket, key string) string {
	objects, _ := g.clientsOf(kp)
	out, err := objects.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err == nil {
		err = out.Body.Close()
	}
	return errorCode(err)
}

// TryForbidden makes the calls that a read-only key must not make, and returns
// status and error code of each, empty for success.
func (g *Server) TryForbidden(ctx context.Context, kp alias.KeyPair, bucket string) map[string]string {
	objects, users := g.clientsOf(kp)
	key := aws.String("web/a.png")
	codes := map[string]string{}
	note := func(what string, err error) { codes[what] = status(err) + errorCode(err) }
	_, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: key, Body: strings.NewReader("mine")})
	note("PutObject", err)
	_, err = objects.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: key})
	note("DeleteObject", err)
	_, err = objects.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
	note("ListObjectsV2", err)
	_, err = objects.ListBuckets(ctx, &s3.ListBucketsInput{})
	note("ListBuckets", err)
	_, err = users.ListUsers(ctx, &iam.ListUsersInput{})
	note("ListUsers", err)
	_, err = users.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("intruder")})
	note("CreateUser", err)
	_, err = users.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{})
	note("CreateAccessKey", err)
	return codes
}

// Users returns the names of the users under a path.
func (g *Server) Users(ctx context.Context, path string) ([]string, error) {
	var names []string
	for pages := iam.NewListUsersPaginator(g.iam, &iam.ListUsersInput{PathPrefix: &path}); pages.HasMorePages(); {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, u := range out.Users {
			names = append(names, aws.ToString(u.UserName))
		}
	}
	return names, nil
}

// Keys returns the ids of the access keys of a user.
func (g *Server) Keys(ctx context.Context, user string) ([]string, error) {
	out, err := g.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &user})
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(out.AccessKeyMetadata))
	for _, k := range out.AccessKeyMetadata {
		ids = append(ids, aws.ToString(k.AccessKeyId))
	}
	return ids, nil
}

// UserPolicy returns the document of an inline policy of a user.
func (g *Server) UserPolicy(ctx context.Context, user, policy string) (string, error) {
	out, err := g.iam.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &user, PolicyName: &policy})
	if err != nil {
		return "", err
	}
	return url.QueryUnescape(aws.ToString(out.PolicyDocument))
}

// PutUserPolicy writes an inline policy of a user.
func (g *Server) PutUserPolicy(ctx context.Context, user, policy, document string) error {
	_, err := g.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{
		UserName: &user, PolicyName: &policy, PolicyDocument: &document,
	})
	return err
}

// DeleteUserPolicy deletes an inline policy of a user.
func (g *Server) DeleteUserPolicy(ctx context.Context, user, policy string) error {
	_, err := g.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: &user, PolicyName: &policy})
	return err
}

// clientsOf returns clients that sign with a key and do not retry.
func (g *Server) clientsOf(kp alias.KeyPair) (*s3.Client, *iam.Client) {
	creds := credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
	return s3.New(s3.Options{
			BaseEndpoint: &g.S3URL, Region: g.Region, UsePathStyle: true, Credentials: creds, HTTPClient: g.client,
			Retryer: aws.NopRetryer{},
		}), iam.New(iam.Options{
			BaseEndpoint: &g.IAMURL, Region: g.Region, Credentials: creds, HTTPClient: g.client, Retryer: aws.NopRetryer{},
		})
}

func status(err error) string {
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return strconv.Itoa(resp.HTTPStatusCode()) + " "
	}
	return ""
}

func errorCode(err error) string {
	if err == nil {
		return ""
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return err.Error()
}
