package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awserr"
	"ixmage/internal/awstest/picture"
)

// env is what a check works with. It deletes what the check made. Only one goroutine makes
// things in it.
type env struct {
	*testRun

	check string
	made  []thing
}

// undoLimit bounds the deletions of one check.
const undoLimit = 2 * time.Minute

// undo deletes what the check made, last first. What it cannot delete, sweep does.
func (e *env) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, undoLimit)
	defer cancel()
	var errs []error
	for _, t := range slices.Backward(e.made) {
		if _, err := e.remove(ctx, t); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// register writes a thing into the journal. It comes before the call that makes it.
func (e *env) register(kind, name string) error {
	e.made = append(e.made, thing{kind, name})
	return e.journal.add(kind, name)
}

// newName is a name that the run has not used.
func (e *env) newName() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names[e.check]++
	return fmt.Sprintf("%s-%s-%d", e.id, e.check[:min(len(e.check), 36)], e.names[e.check])
}

// rule is a statement of a policy.
type rule struct {
	Effect    string
	Action    any
	Resource  string
	Condition any `json:",omitempty"` //nolint:tagliatelle // the name is IAM's
}

func allow(resource string, actions ...string) rule {
	return rule{Effect: "Allow", Action: actions, Resource: resource}
}

func document(rules ...rule) string {
	//nolint:errchkjson // texts only: it cannot fail
	text, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": rules})
	return string(text)
}

// arn is an ARN of IAM in the account, of what the run itself makes.
func (r *testRun) arn(kind, name string) string {
	return "arn:" + r.account.Partition + ":iam::" + r.account.ID + ":" + kind + r.path() + name
}

func (r *testRun) objects(under string) string {
	return "arn:" + r.account.Partition + ":s3:::" + r.bucketName() + "/" + under + "*"
}

func (r *testRun) tags() []iamtypes.Tag {
	return []iamtypes.Tag{
		{Key: aws.String(policy.TagManagedBy), Value: aws.String(marker)},
		{Key: aws.String(marker + "-run"), Value: &r.id},
	}
}

// makeBucket makes the bucket of the run. It has no tag: its name has the id of the run.
func (r *testRun) makeBucket(ctx context.Context) error {
	name := r.bucketName()
	if err := r.journal.add(kindBucket, name); err != nil {
		return err
	}
	in := &s3.CreateBucketInput{Bucket: &name}
	if r.o.region != "us-east-1" {
		in.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{
			LocationConstraint: s3types.BucketLocationConstraint(r.o.region),
		}
	}
	_, err := r.s3(nil).CreateBucket(ctx, in)
	if owned := awserr.ReplyOf(err).Code == "BucketAlreadyOwnedByYou"; owned {
		return nil // a repeated call
	}
	return err
}

func (r *testRun) put(ctx context.Context, key string, p picture.Sample) error {
	bucket := r.bucketName()
	_, err := r.s3(nil).PutObject(ctx, &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, Body: bytes.NewReader(p.Body), ContentType: &p.ContentType,
	})
	return err
}

// principal is a user with a key.
type principal struct {
	name, arn string
	keyID     string
	keys      aws.CredentialsProvider
	pair      alias.KeyPair
}

// userSpec is what a user is made with.
type userSpec struct {
	rules    []rule // of its inline policy
	boundary string
}

// user makes a user without a key.
func (e *env) user(ctx context.Context, spec userSpec) (*principal, error) {
	p := &principal{name: e.newName()}
	p.arn = e.arn("user", p.name)
	if err := e.register(kindUser, p.name); err != nil {
		return nil, err
	}
	path := e.path()
	err := e.again(ctx, func() error { // the boundary may be new
		_, err := e.iam(nil).CreateUser(ctx, &iam.CreateUserInput{
			UserName: &p.name, Path: &path, Tags: e.tags(), PermissionsBoundary: optional(spec.boundary),
		})
		return err
	}, "NoSuchEntity")
	if err != nil && awserr.ReplyOf(err).Code != "EntityAlreadyExists" { // by a repeated call: no name is given twice
		return nil, err
	}
	if len(spec.rules) == 0 {
		return p, nil
	}
	return p, e.putUserPolicy(ctx, p.name, "test", document(spec.rules...))
}

// putUserPolicy waits for a new user.
func (e *env) putUserPolicy(ctx context.Context, user, name, doc string) error {
	return e.again(ctx, func() error {
		_, err := e.iam(nil).PutUserPolicy(ctx, &iam.PutUserPolicyInput{
			UserName: &user, PolicyName: &name, PolicyDocument: &doc,
		})
		return err
	}, "NoSuchEntity")
}

// key makes a key of a user.
func (e *env) key(ctx context.Context, p *principal) error {
	return e.again(ctx, func() error {
		out, err := e.iam(nil).CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &p.name})
		if err != nil {
			return err
		}
		secret := aws.ToString(out.AccessKey.SecretAccessKey)
		e.keepSecret(secret)
		p.keyID = aws.ToString(out.AccessKey.AccessKeyId)
		p.pair = alias.KeyPair{AccessKeyID: p.keyID, SecretAccessKey: alias.NewSecret(secret)}
		p.keys = static(p.pair)
		return nil
	}, "NoSuchEntity")
}

// newPrincipal makes a user with a key, and waits until IAM knows the key and the policy:
// what is refused after that is refused by the policy.
func (e *env) newPrincipal(ctx context.Context, spec userSpec) (*principal, error) {
	spec.rules = append(slices.Clone(spec.rules), allow(e.arn("user", "*"), "iam:GetUser"))
	p, err := e.user(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := e.key(ctx, p); err != nil {
		return nil, err
	}
	_, err = e.until(ctx, func(ctx context.Context) bool {
		_, err := e.iam(p.keys).GetUser(ctx, &iam.GetUserInput{UserName: &p.name})
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("the new key of %s never worked: %w", p.name, err)
	}
	return p, nil
}

// managed makes a customer managed policy, and waits until IAM shows it.
func (e *env) managed(ctx context.Context, doc string) (arn string, err error) {
	name, path := e.newName(), e.path()
	arn = e.arn("policy", name)
	if err := e.register(kindPolicy, arn); err != nil {
		return "", err
	}
	_, err = e.iam(nil).CreatePolicy(ctx, &iam.CreatePolicyInput{
		PolicyName: &name, Path: &path, PolicyDocument: &doc, Tags: e.tags(),
	})
	if err != nil && awserr.ReplyOf(err).Code != "EntityAlreadyExists" {
		return "", err
	}
	_, err = e.until(ctx, func(ctx context.Context) bool {
		_, err := e.iam(nil).GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
		return err == nil
	})
	return arn, err
}

// role is a role of the run.
type role struct{ name, arn string }

// roleSpec is what a role is made with.
type roleSpec struct {
	trust policy.Trust
	rules []rule
	max   time.Duration // of a session; zero: an hour
}

// newRole makes a role.
func (e *env) newRole(ctx context.Context, spec roleSpec) (*role, error) {
	trust, err := policy.TrustDocument(spec.trust)
	if err != nil {
		return nil, err
	}
	x := &role{name: e.newName()}
	x.arn = e.arn("role", x.name)
	if err := e.register(kindRole, x.name); err != nil {
		return nil, err
	}
	in := &iam.CreateRoleInput{
		RoleName: &x.name, Path: aws.String(e.path()), AssumeRolePolicyDocument: aws.String(string(trust)), Tags: e.tags(),
	}
	if spec.max != 0 {
		in.MaxSessionDuration = seconds(spec.max)
	}
	err = e.again(ctx, func() error { // a principal that is new is unknown
		_, err := e.iam(nil).CreateRole(ctx, in)
		return err
	}, "MalformedPolicyDocument")
	if err != nil && awserr.ReplyOf(err).Code != "EntityAlreadyExists" {
		return nil, err
	}
	if len(spec.rules) == 0 {
		return x, nil
	}
	return x, e.putRolePolicy(ctx, x, "test", document(spec.rules...))
}

func (e *env) putRolePolicy(ctx context.Context, x *role, name, doc string) error {
	return e.again(ctx, func() error {
		_, err := e.iam(nil).PutRolePolicy(ctx, &iam.PutRolePolicyInput{
			RoleName: &x.name, PolicyName: &name, PolicyDocument: &doc,
		})
		return err
	}, "NoSuchEntity")
}

func seconds(d time.Duration) *int32 { return aws.Int32(int32(d / time.Second)) }

// session is a set of temporary keys.
type session struct {
	aws.Credentials

	packed int32 // size of the session policy in percent
}

// Retrieve implements aws.CredentialsProvider.
func (x *session) Retrieve(context.Context) (aws.Credentials, error) { return x.Credentials, nil }

// assume asks for a session once.
func (r *testRun) assume(ctx context.Context, keys aws.CredentialsProvider, in sts.AssumeRoleInput) (*session, error) {
	if in.RoleSessionName == nil {
		in.RoleSessionName = &r.id
	}
	out, err := r.sts(keys, "").AssumeRole(ctx, &in)
	if err != nil {
		return nil, err
	}
	x := r.newSession(out.Credentials)
	x.packed = aws.ToInt32(out.PackedPolicySize)
	return x, nil
}

func (r *testRun) newSession(c *ststypes.Credentials) *session {
	x := &session{Credentials: aws.Credentials{
		AccessKeyID: aws.ToString(c.AccessKeyId), SecretAccessKey: aws.ToString(c.SecretAccessKey),
		SessionToken: aws.ToString(c.SessionToken), CanExpire: true, Expires: aws.ToTime(c.Expiration),
	}}
	r.keepSecret(x.SecretAccessKey)
	r.keepSecret(x.SessionToken)
	return x
}

// untilAssumed repeats assume until there is a session.
func (e *env) untilAssumed(
	ctx context.Context, keys aws.CredentialsProvider, in sts.AssumeRoleInput,
) (x *session, err error) {
	err = e.again(ctx, func() (err error) {
		x, err = e.assume(ctx, keys, in)
		return err
	}, "AccessDenied", "InvalidClientTokenId")
	return x, err
}

// newAssumer and newReader are made once and deleted at the end.
func (r *testRun) newAssumer(ctx context.Context) (*principal, error) {
	e := &env{testRun: r, check: "assumer"}
	return e.newPrincipal(ctx, userSpec{rules: []rule{
		allow(r.arn("role", "*"), "sts:AssumeRole", "sts:SetSourceIdentity"), allow(r.objects(""), "s3:GetObject"),
	}})
}

// readerOf is a role that reads the bucket, for a principal.
func (r *testRun) readerOf(p *principal) roleSpec {
	return roleSpec{trust: policy.Trust{Principal: p.arn}, rules: []rule{allow(r.objects(""), "s3:GetObject")}}
}

func (r *testRun) newReader(ctx context.Context) (*role, error) {
	p, err := r.assumer()
	if err != nil {
		return nil, err
	}
	e := &env{testRun: r, check: "reader"}
	x, err := e.newRole(ctx, r.readerOf(p))
	if err != nil {
		return nil, err
	}
	_, err = e.untilAssumed(ctx, p.keys, sts.AssumeRoleInput{RoleArn: &x.arn})
	return x, err
}

// read gets an object, and returns the answer of S3.
func (r *testRun) read(ctx context.Context, keys aws.CredentialsProvider, key string) (awserr.Reply, error) {
	bucket := r.bucketName()
	out, err := r.s3(keys).GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err == nil {
		out.Body.Close()
	}
	return awserr.ReplyOf(err), err
}

// times in a row that an answer must come until it counts: servers learn of a change one after another.
const times = 3

// until polls until ok is true several times in a row, and returns the time until the first.
func (e *env) until(ctx context.Context, ok func(context.Context) bool) (took time.Duration, err error) {
	began, row := time.Now(), 0
	for {
		now := time.Since(began)
		if !ok(ctx) {
			row = 0
		} else if row++; row == 1 {
			took = now
		}
		if row == times {
			return took, nil
		}
		if err := pause(ctx, e.o.poll); err != nil {
			return 0, fmt.Errorf("not within %s: %w", time.Since(began).Round(time.Second), err)
		}
	}
}

// again repeats a call while it is refused with one of these codes.
func (e *env) again(ctx context.Context, call func() error, codes ...string) error {
	for {
		err := call()
		if err == nil || !slices.Contains(codes, awserr.ReplyOf(err).Code) {
			return err
		}
		if pause(ctx, e.o.poll) != nil {
			return err
		}
	}
}

// outcome is the code of a reply as an answer: its action and reason are the detail.
func outcome(err error) answer {
	rep := awserr.ReplyOf(err)
	if err == nil {
		return answer{got: "allowed"}
	}
	return answer{got: rep.Code, detail: messageOf(err)}
}

func rounded(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }

func joined(parts ...string) string { return strings.Join(parts, ", ") }
