package iam_test

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/internal/awstest/gateway"
)

// The calls of the conformance script, each with what it answers in words.

func arnTail(arn *string) string {
	_, tail, _ := strings.Cut(*arn, ":user/")
	return tail
}

func createUserStep(name, path string, tags ...string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		out, err := a.iam().CreateUser(ctx, &iam.CreateUserInput{UserName: &name, Path: &path, Tags: tagsOf(tags...)})
		if err != nil {
			return "", err
		}
		return arnTail(out.User.Arn) + fmt.Sprintf(" AIDA:%v tags:%d", strings.HasPrefix(*out.User.UserId, "AIDA"), len(out.User.Tags)), nil
	}
}

func getUserStep(name string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		in := &iam.GetUserInput{}
		if name != "" {
			in.UserName = &name
		}
		out, err := a.iam().GetUser(ctx, in)
		if err != nil {
			return "", err
		}
		var tags []string
		for _, tag := range out.User.Tags {
			tags = append(tags, *tag.Key+"="+*tag.Value)
		}
		slices.Sort(tags)
		return strings.TrimSpace(arnTail(out.User.Arn) + " " + strings.Join(tags, ",")), nil
	}
}

func listUsersStep(prefix string, maxItems int32) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		out, err := a.iam().ListUsers(ctx, &iam.ListUsersInput{PathPrefix: &prefix, MaxItems: &maxItems})
		if err != nil {
			return "", err
		}
		var names []string
		for _, u := range out.Users {
			names = append(names, *u.UserName+fmt.Sprint(len(u.Tags)))
		}
		return strings.Join(names, ",") + fmt.Sprintf(" more:%v", out.IsTruncated && out.Marker != nil), nil
	}
}

func putPolicyStep(user, name, doc string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		_, err := a.iam().PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &user, PolicyName: &name, PolicyDocument: &doc})
		return "", err
	}
}

func getPolicyStep(user, name string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		out, err := a.iam().GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &user, PolicyName: &name})
		if err != nil {
			return "", err
		}
		plain, err := url.PathUnescape(*out.PolicyDocument)
		return fmt.Sprintf("encoded:%v ", plain != *out.PolicyDocument) + plain, err
	}
}

// createKeyStep makes a key and keeps it under a name.
func createKeyStep(user, as string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		out, err := a.iam().CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &user})
		if err != nil {
			return "", err
		}
		a.keys[as] = pairOf(out)
		return *out.AccessKey.UserName + " " + string(out.AccessKey.Status), nil
	}
}

func setKeyStep(user, key string, status gateway.KeyStatus) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		_, err := a.iam().UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: &user, AccessKeyId: aws.String(a.keys[key].AccessKeyID), Status: status})
		return "", err
	}
}

func deleteKeyStep(user, key string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		_, err := a.iam().DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: aws.String(a.keys[key].AccessKeyID)})
		return "", err
	}
}

func listKeysStep(user string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		out, err := a.iam().ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &user})
		if err != nil {
			return "", err
		}
		var states []string
		for _, k := range out.AccessKeyMetadata {
			states = append(states, string(k.Status))
		}
		slices.Sort(states)
		return strings.Join(states, ","), nil
	}
}

func deleteUserStep(name string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		_, err := a.iam().DeleteUser(ctx, &iam.DeleteUserInput{UserName: &name})
		return "", err
	}
}

func identityStep(ctx context.Context, a *account) (string, error) {
	out, err := a.sts().GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return strings.Replace(*out.Arn, *out.Account, "ACCOUNT", 1), nil
}

func readStep(bucket, key, asked string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		in := &s3.GetObjectInput{Bucket: &bucket, Key: &key}
		if asked != "" {
			in.Range = &asked
		}
		out, err := a.s3().GetObject(ctx, in)
		if err != nil {
			return "", err
		}
		defer out.Body.Close()
		body, err := io.ReadAll(out.Body)
		return string(body) + " " + aws.ToString(out.ContentRange), err
	}
}

func call[O any](do func(context.Context, *account) (O, error)) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		_, err := do(ctx, a)
		return "", err
	}
}
