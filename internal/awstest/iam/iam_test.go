package iam_test

import (
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"ixmage/alias"
	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

// refused is the code of an error and its status: "404 NoSuchEntity", "lost"
// for a connection that broke, empty for success.
func refused(err error) string {
	var api smithy.APIError
	var status *awshttp.ResponseError
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &api), !errors.As(err, &status):
		return "lost"
	}
	return strconv.Itoa(status.HTTPStatusCode()) + " " + api.ErrorCode()
}

func wantRefused(t *testing.T, what string, err error, want string) {
	t.Helper()
	if got := refused(err); got != want {
		t.Errorf("%s: got %q, want %q (%v)", what, got, want, err)
	}
}

func readPolicy(bucket, prefix string) string {
	return `{"Version":"2012-10-17","Statement":[{"Sid":"specBucketPolicy0","Effect":"Allow","Action":["s3:GetObject"],` +
		`"Resource":["arn:aws:s3:::` + bucket + `/` + prefix + `*"]}]}`
}

// TestUserLifecycle makes, changes and deletes a user in the order of provisioning.
func TestUserLifecycle(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.PutObject("media", "shop/a.jpg", fakes3.Object{Body: []byte("picture")})
	s.PutObject("media", "secret/b.jpg", fakes3.Object{Body: []byte("secret")})
	boundary := s.AddPolicy("/ixmage/", "ixmage-boundary", readPolicy("media", ""))
	root := s.IAMClient(s.Root)

	made, err := root.CreateUser(ctx, &iam.CreateUserInput{
		UserName: aws.String("ixmage-s3read-shop-ab12"), Path: aws.String("/ixmage/i1/"), PermissionsBoundary: &boundary,
		Tags: []iamtypes.Tag{{Key: aws.String("managed-by"), Value: aws.String("ixmage")}},
	})
	must(t, err)
	name := made.User.UserName
	if got, want := *made.User.Arn, "arn:aws:iam::123456789012:user/ixmage/i1/ixmage-s3read-shop-ab12"; got != want {
		t.Errorf("ARN: got %s, want %s", got, want)
	}
	again, err := root.GetUser(ctx, &iam.GetUserInput{UserName: name})
	must(t, err)
	if again.User.PermissionsBoundary == nil || *again.User.PermissionsBoundary.PermissionsBoundaryArn != boundary || len(again.User.Tags) != 1 {
		t.Errorf("GetUser: got boundary %v, tags %v", again.User.PermissionsBoundary, again.User.Tags)
	}
	doc := readPolicy("media", "shop/")
	_, err = root.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: name, PolicyName: aws.String("ixmage-read"), PolicyDocument: &doc})
	must(t, err)
	back, err := root.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: name, PolicyName: aws.String("ixmage-read")})
	must(t, err)
	if plain, err := url.PathUnescape(*back.PolicyDocument); err != nil || plain != doc || *back.PolicyDocument == doc {
		t.Errorf("document: got %s, %v", *back.PolicyDocument, err)
	}
	key, err := root.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: name})
	must(t, err)
	kp := alias.KeyPair{AccessKeyID: *key.AccessKey.AccessKeyId, SecretAccessKey: alias.NewSecret(*key.AccessKey.SecretAccessKey)}
	if len(kp.AccessKeyID) != 20 || !strings.HasPrefix(kp.AccessKeyID, "AKIA") {
		t.Errorf("key id %s", kp.AccessKeyID)
	}

	who, err := s.STSClient(kp).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	must(t, err)
	if *who.Arn != *made.User.Arn || *who.Account != "123456789012" || *who.UserId != *made.User.UserId {
		t.Errorf("identity: got %s %s %s", *who.Arn, *who.Account, *who.UserId)
	}
	c := s.S3Client(kp)
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("shop/a.jpg"), Range: aws.String("bytes=0-0")})
	must(t, err)
	if body, _ := io.ReadAll(out.Body); string(body) != "p" {
		t.Errorf("got %q", body)
	}
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("secret/b.jpg")})
	wantRefused(t, "outside", err, "403 AccessDenied")

	_, err = root.DeleteUser(ctx, &iam.DeleteUserInput{UserName: name})
	wantRefused(t, "DeleteUser too early", err, "409 DeleteConflict")
	_, err = root.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: name, AccessKeyId: &kp.AccessKeyID})
	must(t, err)
	_, err = root.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: name, PolicyName: aws.String("ixmage-read")})
	must(t, err)
	_, err = root.DeleteUser(ctx, &iam.DeleteUserInput{UserName: name})
	must(t, err)
	_, err = root.GetUser(ctx, &iam.GetUserInput{UserName: name})
	wantRefused(t, "GetUser afterwards", err, "404 NoSuchEntity")
	if left := s.Users(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// message is the text of an error of AWS.
func message(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	return api.ErrorMessage()
}
