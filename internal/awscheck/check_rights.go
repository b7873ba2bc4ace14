package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/internal/awserr"
)

// rightChecks are about the rights that calls need, and how AWS words a refusal.
func rightChecks() []check {
	return []check{
		{name: "create-user-boundary", run: createUserBoundary,
			says: "whether CreateUser with a boundary needs iam:PutUserPermissionsBoundary; docs/provisioner-policy.json is " +
				"right either way"},
		{name: "create-user-tags", run: createUserTags, want: []string{"AccessDenied names iam:TagUser"},
			says: "CreateUser with tags needs iam:TagUser"},
		{name: "create-policy-tags", run: createPolicyTags, want: []string{"AccessDenied names iam:TagPolicy"},
			says: "CreatePolicy with tags needs iam:TagPolicy"},
		{name: "boundary-missing", run: boundaryMissing, want: []string{"NoSuchEntity"},
			says: "CreateUser with a boundary that does not exist; ixmage answers boundary-missing"},
		{name: "s3-missing-object", run: s3MissingObject, want: []string{"AccessDenied names s3:ListBucket"},
			says: "without s3:ListBucket a missing object is a 403 that names s3:ListBucket, which ixmage reads as not found"},
		{name: "s3-refusal", run: s3Refusal, want: []string{"AccessDenied names s3:GetObject, reason identity"},
			says: "S3 names the missing action and the kind of policy in a refusal"},
		{name: "delete-if-match", run: deleteIfMatch, want: []string{"404", "NoSuchKey", "NotFound", "AccessDenied"},
			says: "DeleteObject with If-Match of a missing object, with s3:DeleteObject only: a refusal that changes nothing"},
	}
}

// tryUser makes a user with a principal's own key.
func (e *env) tryUser(ctx context.Context, by *principal, in *iam.CreateUserInput) (answer, error) {
	name, path := e.newName(), e.path()
	if err := e.register(kindUser, name); err != nil {
		return answer{}, err
	}
	in.UserName, in.Path = &name, &path
	_, err := e.iam(by.keys).CreateUser(ctx, in)
	return refusedBy(awserr.ReplyOf(err), err), nil
}

func createUserBoundary(ctx context.Context, e *env) (answer, error) {
	arn, err := e.managed(ctx, document(allow(e.objects(""), "s3:GetObject")))
	if err != nil {
		return answer{}, err
	}
	by, err := e.newPrincipal(ctx, userSpec{rules: []rule{allow(e.arn("user", "*"), "iam:CreateUser")}})
	if err != nil {
		return answer{}, err
	}
	return e.tryUser(ctx, by, &iam.CreateUserInput{PermissionsBoundary: &arn})
}

func createUserTags(ctx context.Context, e *env) (answer, error) {
	by, err := e.newPrincipal(ctx, userSpec{rules: []rule{allow(e.arn("user", "*"), "iam:CreateUser")}})
	if err != nil {
		return answer{}, err
	}
	return e.tryUser(ctx, by, &iam.CreateUserInput{Tags: e.tags()})
}

func createPolicyTags(ctx context.Context, e *env) (answer, error) {
	by, err := e.newPrincipal(ctx, userSpec{rules: []rule{allow(e.arn("policy", "*"), "iam:CreatePolicy")}})
	if err != nil {
		return answer{}, err
	}
	name, path := e.newName(), e.path()
	if err := e.register(kindPolicy, e.arn("policy", name)); err != nil {
		return answer{}, err
	}
	doc := document(allow(e.objects(""), "s3:GetObject"))
	_, err = e.iam(by.keys).CreatePolicy(ctx, &iam.CreatePolicyInput{
		PolicyName: &name, Path: &path, PolicyDocument: &doc, Tags: e.tags(),
	})
	return refusedBy(awserr.ReplyOf(err), err), nil
}

func boundaryMissing(ctx context.Context, e *env) (answer, error) {
	arn, name, path := e.arn("policy", "no-such-policy"), e.newName(), e.path()
	if err := e.register(kindUser, name); err != nil {
		return answer{}, err
	}
	_, err := e.iam(nil).CreateUser(ctx, &iam.CreateUserInput{UserName: &name, Path: &path, PermissionsBoundary: &arn})
	return outcome(err), nil
}

// refusedBy is the refusal of S3 with what its message names.
func refusedBy(rep awserr.Reply, err error) answer {
	out := outcome(err)
	if rep.Action != "" {
		out.got += " names " + rep.Action
	}
	return out
}

func s3MissingObject(ctx context.Context, e *env) (answer, error) {
	p, err := e.reading(ctx, "")
	if err != nil {
		return answer{}, err
	}
	return refusedBy(e.read(ctx, p.keys, prefix+"no-such-object.png")), nil
}

func s3Refusal(ctx context.Context, e *env) (answer, error) {
	p, err := e.user(ctx, userSpec{rules: []rule{allow(e.objects(prefix), "s3:GetObject")}})
	if err != nil {
		return answer{}, err
	}
	if err := e.key(ctx, p); err != nil {
		return answer{}, err
	}
	_, err = e.until(ctx, func(ctx context.Context) bool {
		rep, _ := e.read(ctx, p.keys, inside)
		return rep.OK()
	})
	if err != nil {
		return answer{}, err
	}
	rep, err := e.read(ctx, p.keys, outside)
	out := refusedBy(rep, err)
	if rep.Reason != awserr.ReasonNone {
		out.got += ", reason " + string(rep.Reason)
	}
	return out, nil
}

func deleteIfMatch(ctx context.Context, e *env) (answer, error) {
	p, err := e.user(ctx, userSpec{rules: []rule{allow(e.objects(""), "s3:GetObject", "s3:DeleteObject")}})
	if err != nil {
		return answer{}, err
	}
	if err := e.key(ctx, p); err != nil {
		return answer{}, err
	}
	_, err = e.until(ctx, func(ctx context.Context) bool {
		rep, _ := e.read(ctx, p.keys, inside)
		return rep.OK()
	})
	if err != nil {
		return answer{}, err
	}
	bucket, key, tag := e.bucketName(), prefix+"no-such-object.png", `"00000000000000000000000000000000"`
	_, err = e.s3(p.keys).DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key, IfMatch: &tag})
	return outcome(err), nil
}
