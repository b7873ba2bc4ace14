package iam_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

// account is one of the two servers under comparison, with the key pairs that
// the script has made so far.
type account struct {
	iamURL, s3URL string
	keys          map[string]alias.KeyPair
	used          string // whose key signs the next calls
}

func (a *account) creds() aws.CredentialsProvider {
	kp := a.keys[a.used]
	return credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
}

func (a *account) iam() *iam.Client {
	return iam.New(iam.Options{BaseEndpoint: &a.iamURL, Region: "us-east-1", RetryMaxAttempts: 1, Credentials: a.creds()})
}

func (a *account) sts() *sts.Client {
	return sts.New(sts.Options{BaseEndpoint: &a.iamURL, Region: "us-east-1", RetryMaxAttempts: 1, Credentials: a.creds()})
}

func (a *account) s3() *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: &a.s3URL, Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1, Credentials: a.creds()})
}

// step is one call and what it answers, but for what is random.
type step struct {
	name string
	as   string // whose key
	do   func(context.Context, *account) (string, error)
	want string // the outcome and, after a blank, the answer
	// gateway is what versitygw says instead, and why tells who is right.
	gateway, why string
}

// stepsOf are steps with one key.
func stepsOf(as string, steps ...step) []step {
	for i := range steps {
		steps[i].as = as
	}
	return steps
}

func conformanceScript() []step {
	u, doc, missing := aws.String("u"), readPolicy("media", "shop/"), aws.String("shop/missing")
	const gone, denied = "404 NoSuchEntity", "403 AccessDenied"
	return slices.Concat(
		stepsOf("root",
			step{name: "identity of root", do: identityStep, want: "arn:aws:iam::ACCOUNT:root"},
			step{name: "create", do: createUserStep("u", "/ixmage/i1/", "managed-by=ixmage", "ixmage-install=i1"), want: "ixmage/i1/u AIDA:true tags:2"},
			step{name: "create again", do: createUserStep("u", "/"), want: "409 EntityAlreadyExists"},
			step{name: "create in other case", do: createUserStep("U", "/"), want: "409 EntityAlreadyExists"},
			step{name: "create with a bad name", do: createUserStep("a b", "/"), want: "400 ValidationError"},
			step{name: "create with a bad path", do: createUserStep("b", "/open"), want: "400 ValidationError"},
			step{name: "create with a tag twice", do: createUserStep("b", "/", "a=1", "A=2"), want: "400 InvalidInput"},
			step{name: "create elsewhere", do: createUserStep("v", "/other/"), want: "other/v AIDA:true tags:0"},
			step{name: "create a third", do: createUserStep("w", "/ixmage/i1/"), want: "ixmage/i1/w AIDA:true tags:0"},
			step{name: "get", do: getUserStep("u"), want: "ixmage/i1/u ixmage-install=i1,managed-by=ixmage"},
			step{name: "get nobody", do: getUserStep("nobody"), want: gone},
			step{name: "list by path", do: listUsersStep("/ixmage/i1/", 100), want: "u0,w0 more:false", gateway: "u2,w0 more:false", why: "AWS lists users without their tags"},
			step{name: "list a page", do: listUsersStep("/", 2), want: "u0,v0 more:true", gateway: "u2,v0 more:true", why: "likewise"},
			step{name: "tag", do: call(func(ctx context.Context, a *account) (*iam.TagUserOutput, error) {
				return a.iam().TagUser(ctx, &iam.TagUserInput{UserName: u, Tags: tagsOf("x=1", "managed-by=other")})
			}), want: ""},
			step{name: "untag", do: call(func(ctx context.Context, a *account) (*iam.UntagUserOutput, error) {
				return a.iam().UntagUser(ctx, &iam.UntagUserInput{UserName: u, TagKeys: []string{"ixmage-install", "never-there"}})
			}), want: ""},
			step{name: "tags now", do: getUserStep("u"), want: "ixmage/i1/u managed-by=other,x=1"},

			step{name: "put policy", do: putPolicyStep("u", "ixmage-read", doc), want: ""},
			step{name: "put policy again", do: putPolicyStep("u", "ixmage-read", doc), want: ""},
			step{name: "put policy on nobody", do: putPolicyStep("nobody", "p", doc), want: gone},
			step{name: "put no JSON", do: putPolicyStep("u", "p", "hello"), want: "400 MalformedPolicyDocument"},
			step{name: "put bad effect", do: putPolicyStep("u", "p", statements(`{'Effect':'Permit','Action':'s3:*','Resource':'*'}`)), want: "400 MalformedPolicyDocument"},
			step{name: "put principal", do: putPolicyStep("u", "p", statements(`{'Effect':'Allow','Principal':'*','Action':'s3:*','Resource':'*'}`)), want: "400 MalformedPolicyDocument"},
			step{name: "put without resource", do: putPolicyStep("u", "p", statements(`{'Effect':'Allow','Action':'s3:*'}`)), want: "400 MalformedPolicyDocument"},
			step{name: "put resource without arn", do: putPolicyStep("u", "p", statements(`{'Effect':'Allow','Action':'s3:*','Resource':'bucket/*'}`)), want: "400 MalformedPolicyDocument"},
			step{name: "put action without service", do: putPolicyStep("u", "p", statements(`{'Effect':'Allow','Action':'GetObject','Resource':'*'}`)), want: "400 MalformedPolicyDocument"},
			step{name: "put too much", do: putPolicyStep("u", "p", statements(`{'Effect':'Allow','Action':'s3:*','Resource':'arn:aws:s3:::b/`+strings.Repeat("x", 2048)+`'}`)), want: "409 LimitExceeded"},
			step{name: "get policy", do: getPolicyStep("u", "ixmage-read"), want: "encoded:true " + doc},
			step{name: "get no policy", do: getPolicyStep("u", "none"), want: gone},
			step{name: "list policies", do: func(ctx context.Context, a *account) (string, error) {
				out, err := a.iam().ListUserPolicies(ctx, &iam.ListUserPoliciesInput{UserName: u})
				if err != nil {
					return "", err
				}
				return strings.Join(out.PolicyNames, ","), nil
			}, want: "ixmage-read"},

			step{name: "key", do: createKeyStep("u", "k1"), want: "u Active"},
			step{name: "second key", do: createKeyStep("u", "k2"), want: "u Active"},
			step{name: "third key", do: createKeyStep("u", "k3"), want: "409 LimitExceeded"},
			step{name: "key of nobody", do: createKeyStep("nobody", "k3"), want: gone},
			step{name: "keys", do: listKeysStep("u"), want: "Active,Active"},
			step{name: "keys of nobody", do: listKeysStep("nobody"), want: gone},
			step{name: "delete too early", do: deleteUserStep("u"), want: "409 DeleteConflict"},
		),
		stepsOf("k1",
			step{name: "identity", do: identityStep, want: "arn:aws:iam::ACCOUNT:user/ixmage/i1/u"},
			step{name: "read", do: readStep("media", "shop/a.jpg", ""), want: "media shop/a.jpg"},
			step{name: "read a byte", do: readStep("media", "shop/a.jpg", "bytes=0-0"), want: "m bytes 0-0/16"},
			step{name: "read past the end", do: readStep("media", "shop/a.jpg", "bytes=99-"), want: "416 InvalidRange"},
			step{name: "read outside", do: readStep("media", "secret/b.jpg", ""), want: denied},
			step{name: "read a sibling", do: readStep("media", "shop-x/c.jpg", ""), want: denied},
			step{name: "read another bucket", do: readStep("other", "shop/a.jpg", ""), want: denied},
			step{
				name: "read what is missing", do: readStep("media", "shop/missing", ""), want: denied, gateway: "404 NoSuchKey",
				why: "AWS says AccessDenied to who may not list the bucket",
			},
			step{name: "head", do: call(func(ctx context.Context, a *account) (*s3.HeadObjectOutput, error) {
				return a.s3().HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("media"), Key: aws.String("shop/a.jpg")})
			}), want: ""},
			step{name: "head outside", do: call(func(ctx context.Context, a *account) (*s3.HeadObjectOutput, error) {
				return a.s3().HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("media"), Key: aws.String("secret/b.jpg")})
			}), want: "403 Forbidden"},
			step{name: "read if other", do: call(func(ctx context.Context, a *account) (*s3.GetObjectOutput, error) {
				return a.s3().GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("shop/a.jpg"), IfMatch: aws.String(`"x"`)})
			}), want: "412 PreconditionFailed"},
			step{name: "write if match", do: call(func(ctx context.Context, a *account) (*s3.PutObjectOutput, error) {
				return a.s3().PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("media"), Key: missing, IfMatch: aws.String(`"x"`), Body: strings.NewReader("")})
			}), want: denied},
			step{name: "write if none", do: call(func(ctx context.Context, a *account) (*s3.PutObjectOutput, error) {
				return a.s3().PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("media"), Key: missing, IfNoneMatch: aws.String("*"), Body: strings.NewReader("")})
			}), want: denied},
			step{name: "delete object", do: call(func(ctx context.Context, a *account) (*s3.DeleteObjectOutput, error) {
				return a.s3().DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("media"), Key: missing})
			}), want: denied},
			step{name: "list objects", do: call(func(ctx context.Context, a *account) (*s3.ListObjectsV2Output, error) {
				return a.s3().ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("media")})
			}), want: denied},
			step{name: "list buckets", do: call(func(ctx context.Context, a *account) (*s3.ListBucketsOutput, error) {
				return a.s3().ListBuckets(ctx, &s3.ListBucketsInput{})
			}), want: denied},
			step{name: "acl", do: call(func(ctx context.Context, a *account) (*s3.GetObjectAclOutput, error) {
				return a.s3().GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: aws.String("media"), Key: aws.String("shop/a.jpg")})
			}), want: denied},
			step{name: "tagging", do: call(func(ctx context.Context, a *account) (*s3.GetObjectTaggingOutput, error) {
				return a.s3().GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: aws.String("media"), Key: aws.String("shop/a.jpg")})
			}), want: denied},
			step{name: "bucket policy", do: call(func(ctx context.Context, a *account) (*s3.GetBucketPolicyOutput, error) {
				return a.s3().GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: aws.String("media")})
			}), want: denied},
			step{name: "no bucket", do: readStep("nobody", "k", ""), want: "404 NoSuchBucket"},
			step{name: "get self", do: getUserStep(""), want: denied},
			step{name: "list users", do: listUsersStep("/", 100), want: denied},
			step{name: "more rights", do: putPolicyStep("u", "more", doc), want: denied},
			step{name: "another key", do: createKeyStep("nobody", "k3"), want: denied},
		),
		stepsOf("root",
			step{name: "switch off", do: setKeyStep("u", "k1", gateway.KeyInactive), want: ""},
			step{name: "keys, one off", do: listKeysStep("u"), want: "Active,Inactive"},
		),
		stepsOf("k1",
			step{name: "identity, off", do: identityStep, want: "403 InvalidClientTokenId"},
			step{name: "read, off", do: readStep("media", "shop/a.jpg", ""), want: "403 InvalidAccessKeyId"},
		),
		stepsOf("k2", step{name: "read with the other", do: readStep("media", "shop/a.jpg", ""), want: "media shop/a.jpg"}),
		stepsOf("root", step{name: "switch on", do: setKeyStep("u", "k1", gateway.KeyActive), want: ""}),
		stepsOf("k1", step{name: "read, on again", do: readStep("media", "shop/a.jpg", ""), want: "media shop/a.jpg"}),
		stepsOf("wrong secret",
			step{name: "identity with a wrong secret", do: identityStep, want: "403 SignatureDoesNotMatch"},
			step{name: "read with a wrong secret", do: readStep("media", "shop/a.jpg", ""), want: "403 SignatureDoesNotMatch"},
		),
		stepsOf("unknown",
			step{name: "identity with an unknown key", do: identityStep, want: "403 InvalidClientTokenId"},
			step{name: "read with an unknown key", do: readStep("media", "shop/a.jpg", ""), want: "403 InvalidAccessKeyId"},
		),
		provisionerSteps(),
		roleSteps(),
		stepsOf("root",
			step{name: "delete key", do: deleteKeyStep("u", "k1"), want: ""},
			step{name: "delete key again", do: deleteKeyStep("u", "k1"), want: gone},
			step{name: "delete key of another", do: deleteKeyStep("v", "k2"), want: gone},
			step{name: "delete second key", do: deleteKeyStep("u", "k2"), want: ""},
			step{name: "delete with a policy", do: deleteUserStep("u"), want: "409 DeleteConflict"},
			step{name: "delete policy", do: call(func(ctx context.Context, a *account) (*iam.DeleteUserPolicyOutput, error) {
				return a.iam().DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: u, PolicyName: aws.String("ixmage-read")})
			}), want: ""},
			step{name: "delete policy again", do: call(func(ctx context.Context, a *account) (*iam.DeleteUserPolicyOutput, error) {
				return a.iam().DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: u, PolicyName: aws.String("ixmage-read")})
			}), want: gone},
			step{name: "delete", do: deleteUserStep("u"), want: ""},
			step{name: "delete again", do: deleteUserStep("u"), want: gone},
			step{name: "get what is deleted", do: getUserStep("u"), want: gone},
		),
		stepsOf("k2", step{name: "key of a deleted user", do: identityStep, want: "403 InvalidClientTokenId"}),
	)
}

// provisionerSteps are a delegated user's, limited to a path and to tags, and
// what only one of the two servers has.
func provisionerSteps() []step {
	const denied, none = "403 AccessDenied", "400 InvalidAction"
	policy := statements(
		`{'Effect':'Allow','Action':['iam:CreateUser','iam:TagUser'],'Resource':'arn:aws:iam::*:user/ixmage/i1/*','Condition':{'StringEquals':{'aws:RequestTag/managed-by':'ixmage'}}}`,
		`{'Effect':'Allow','Action':['iam:GetUser','iam:*AccessKey*','iam:*UserPolicy'],'Resource':'arn:aws:iam::*:user/ixmage/i1/*'}`,
		`{'Effect':'Allow','Action':'iam:ListUsers','Resource':'arn:aws:iam::*:user/ixmage/i1/*'}`,
		`{'Effect':'Deny','Action':'iam:DeleteAccessKey','Resource':'*'}`,
	)
	boundary := aws.String("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")
	return slices.Concat(
		stepsOf("root",
			step{name: "provisioner", do: createUserStep("prov", "/ops/"), want: "ops/prov AIDA:true tags:0"},
			step{name: "its policy", do: putPolicyStep("prov", "p", policy), want: ""},
			step{name: "its key", do: createKeyStep("prov", "prov"), want: "prov Active"},
			step{
				name: "boundary at creation", want: "boundary:true", gateway: "boundary:false", why: "versitygw drops it and says nothing",
				do: func(ctx context.Context, a *account) (string, error) {
					out, err := a.iam().CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("bounded"), PermissionsBoundary: boundary})
					if err != nil {
						return "", err
					}
					return fmt.Sprintf("boundary:%v", out.User.PermissionsBoundary != nil), nil
				},
			},
			step{
				name: "boundary", want: "", gateway: none, why: "versitygw has no boundaries",
				do: call(func(ctx context.Context, a *account) (*iam.PutUserPermissionsBoundaryOutput, error) {
					return a.iam().PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: aws.String("v"), PermissionsBoundary: boundary})
				}),
			},
			step{
				name: "attach", want: "", gateway: none, why: "versitygw has no managed policies",
				do: call(func(ctx context.Context, a *account) (*iam.AttachUserPolicyOutput, error) {
					return a.iam().AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: aws.String("v"), PolicyArn: boundary})
				}),
			},
			step{
				name: "groups", want: "", gateway: none, why: "versitygw has no groups",
				do: call(func(ctx context.Context, a *account) (*iam.ListGroupsForUserOutput, error) {
					return a.iam().ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: aws.String("v")})
				}),
			},
			step{
				name: "assume role", want: denied, gateway: "400 SignatureDoesNotMatch", why: "versitygw does not know the call",
				do: call(func(ctx context.Context, a *account) (*sts.AssumeRoleOutput, error) {
					return a.sts().AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::123456789012:role/none"), RoleSessionName: aws.String("sess")})
				}),
			},
		),
		stepsOf("prov",
			step{name: "it makes", do: createUserStep("made", "/ixmage/i1/", "managed-by=ixmage"), want: "ixmage/i1/made AIDA:true tags:1"},
			step{name: "it makes without tag", do: createUserStep("made2", "/ixmage/i1/"), want: denied},
			step{name: "it makes elsewhere", do: createUserStep("made2", "/ixmage/i2/", "managed-by=ixmage"), want: denied},
			step{name: "it sees", do: getUserStep("made"), want: "ixmage/i1/made managed-by=ixmage"},
			step{name: "it does not see", do: getUserStep("v"), want: denied},
			step{name: "it looks for nobody", do: getUserStep("nobody"), want: denied},
			step{name: "it makes a key", do: createKeyStep("made", "made"), want: "made Active"},
			step{name: "it makes a stranger's key", do: createKeyStep("v", "v"), want: denied},
			step{name: "it puts a policy", do: putPolicyStep("made", "p", readPolicy("media", "shop/")), want: ""},
			step{name: "it puts a stranger's policy", do: putPolicyStep("v", "p", readPolicy("media", "")), want: denied},
			step{name: "it puts its own policy", do: putPolicyStep("prov", "p", readPolicy("media", "")), want: denied},
			step{name: "it lists by a path's right", do: listUsersStep("/ixmage/i1/", 100), want: denied},
			step{name: "an explicit deny", do: deleteKeyStep("made", "made"), want: denied},
		),
		stepsOf("made", step{name: "what it made reads", do: readStep("media", "shop/a.jpg", ""), want: "media shop/a.jpg"}),
	)
}

// play runs the script; the answers are as in step.want.
func (a *account) play(t *testing.T, steps []step) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range steps {
		switch a.used = s.as; s.as {
		case "wrong secret":
			a.keys[s.as] = alias.KeyPair{AccessKeyID: a.keys["k1"].AccessKeyID, SecretAccessKey: a.keys["k2"].SecretAccessKey}
		case "unknown":
			a.keys[s.as] = alias.KeyPair{AccessKeyID: "AKIAUNKNOWNUNKNOWN00", SecretAccessKey: a.keys["k2"].SecretAccessKey}
		}
		answer, err := s.do(t.Context(), a)
		if _, twice := out[s.name]; twice {
			t.Fatalf("two steps are called %q", s.name)
		}
		out[s.name] = strings.TrimSpace(refused(err) + answer)
	}
	return out
}

// TestConformance plays one script on the fake and on a real server and
// compares, but for the steps that say why not.
func TestConformance(t *testing.T) {
	t.Parallel()
	g, s, ctx := gateway.New(t), fakeiam.New(t, fakeiam.Config{}), t.Context()
	for _, bucket := range []string{"media", "other"} {
		must(t, g.CreateBucket(ctx, bucket))
		for _, key := range []string{"shop/a.jpg", "shop-x/c.jpg", "secret/b.jpg"} {
			obj := fakes3.Object{Body: []byte(bucket + " " + key)}
			must(t, g.PutObject(ctx, bucket, key, obj))
			s.PutObject(bucket, key, obj)
		}
	}
	steps := conformanceScript()
	fake := (&account{iamURL: s.URL, s3URL: s.S3URL, keys: map[string]alias.KeyPair{"root": s.Root}}).play(t, steps)
	gw := (&account{iamURL: g.IAMURL, s3URL: g.S3URL, keys: map[string]alias.KeyPair{"root": g.Root}}).play(t, steps)
	same := 0
	for _, s := range steps {
		wanted := s.want
		if s.why != "" {
			wanted = s.gateway
		} else {
			same++
		}
		if fake[s.name] != s.want {
			t.Errorf("%s: the fake says %q, want %q", s.name, fake[s.name], s.want)
		}
		if gw[s.name] != wanted {
			t.Errorf("%s: versitygw says %q, want %q", s.name, gw[s.name], wanted)
		}
	}
	t.Logf("%d steps alike, %d not", same, len(steps)-same)
}
