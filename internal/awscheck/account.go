package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias/policy"
	"ixmage/internal/awserr"
)

// account is the account of the caller.
type account struct{ ID, ARN, Partition string }

const (
	// marker begins the paths, the names of buckets and the account alias of a test.
	marker = "ixmage-test"
	// An account with more than that is in use.
	maxBuckets, maxUsers, maxRoles = 2, 3, 5

	attempts = 8 // of a call that is throttled
)

// connect reads the AWS configuration and asks who the caller is. It makes no other call.
func connect(ctx context.Context, o *options, out io.Writer) (*testRun, error) {
	load := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(so *retry.StandardOptions) {
				so.MaxAttempts, so.MaxBackoff = attempts, o.backoff
				so.RateLimiter = noLimit{}
			})
		}),
	}
	if o.region != "" {
		load = append(load, config.WithRegion(o.region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	o.region = cfg.Region
	r := newRun(o, cfg, out)
	who, err := r.sts(nil, "").GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, refuse("there is no answer to the question who the caller is (%s): configure credentials of "+
			"the account, as for the aws command", describe(err))
	}
	r.account = account{ID: aws.ToString(who.Account), ARN: aws.ToString(who.Arn)}
	r.account.Partition, _ = policy.ARNParts(r.account.ARN)
	return r, nil
}

// noLimit lets every call be repeated: the default gives up when many are throttled at once.
type noLimit struct{}

func (noLimit) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}

func (noLimit) AddTokens(uint) error { return nil }

// tell prints what is asked about.
func (r *testRun) tell() {
	server := "AWS"
	if r.o.custom() {
		server = r.o.iamURL + ", " + r.o.s3URL + " (not AWS)"
	}
	r.sayf("Server    %s\nAccount   %s\nCaller    %s\nRegion    %s\n", server, r.account.ID, r.account.ARN, r.o.region)
	r.sayf("Makes     about 30 users, 12 roles and 5 policies under /%s/ and /ixmage/, and one bucket; "+
		"deletes all of them\n", marker)
	r.sayf("Takes     up to %s (two checks wait for the end of a session), in most accounts less than 0.10 USD\n",
		(r.o.long + 2*r.o.wait).Round(time.Minute))
	r.sayf("Alarms    some calls are refused on purpose: GuardDuty, CloudTrail alarms and SIEM rules may report them\n\n")
}

// ask returns nil if the id of the account is the answer.
func (r *testRun) ask(in io.Reader) error {
	answer := r.o.account
	if answer == "" {
		r.sayf("Type the account id to go on: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if answer = strings.TrimSpace(line); answer == "" && err != nil {
			r.sayf("\n")
			return refuse("there was no answer; without a terminal set %s to the account id", envAccount)
		}
	}
	if answer != r.account.ID {
		return refuse("%q is not the id of this account; nothing was called but GetCallerIdentity", answer)
	}
	return nil
}

// refuseUsed refuses an account in which ixmage is, or which looks used by others.
func (r *testRun) refuseUsed(ctx context.Context) error {
	left, err := r.journals()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return refuse("%s is of a run that was killed: delete what it left with make test-aws CLEAN=1", left[0].path)
	}
	for _, path := range []string{"/ixmage/", "/" + marker + "/"} {
		things, err := r.under(ctx, path)
		if err != nil {
			return err
		}
		if len(things) > 0 {
			return refuse("the account has the %s %s under %s: use an account in which ixmage is not", things[0].Kind,
				things[0].Name, path)
		}
	}
	used, err := r.usedBy(ctx)
	if err != nil || used == "" {
		return err
	}
	out, err := r.iam(nil).ListAccountAliases(ctx, &iam.ListAccountAliasesInput{})
	if err == nil && len(out.AccountAliases) > 0 && strings.HasPrefix(out.AccountAliases[0], marker) {
		r.sayf("The account %s, and its alias %s says that it is for tests\n", used, out.AccountAliases[0])
		return nil
	}
	return refuse("the account %s, so that somebody seems to use it. If it is for tests, say so by an account alias: "+
		"aws iam create-account-alias --account-alias %s-%s", used, marker, r.account.ID)
}

// usedBy says what there is too much of; empty if the account looks unused.
func (r *testRun) usedBy(ctx context.Context) (string, error) {
	for _, c := range []struct {
		what  string
		most  int
		count func() (int, error)
	}{
		{"buckets", maxBuckets, func() (int, error) {
			out, err := r.s3(nil).ListBuckets(ctx, &s3.ListBucketsInput{})
			if err != nil {
				return 0, err
			}
			return len(out.Buckets), nil
		}},
		{"users", maxUsers, func() (int, error) {
			out, err := r.iam(nil).ListUsers(ctx, &iam.ListUsersInput{})
			if err != nil {
				return 0, err
			}
			return len(out.Users), nil
		}},
		{"roles", maxRoles, func() (int, error) {
			out, err := r.iam(nil).ListRoles(ctx, &iam.ListRolesInput{MaxItems: aws.Int32(1000)})
			return ownRoles(out), err
		}},
	} {
		n, err := c.count()
		if err != nil && !unimplemented(err) {
			return "", err
		}
		if n > c.most {
			return fmt.Sprintf("has %d %s", n, c.what), nil
		}
	}
	return "", nil
}

// ownRoles counts the roles that are not of AWS itself.
func ownRoles(out *iam.ListRolesOutput) (n int) {
	if out == nil {
		return 0
	}
	for i := range out.Roles {
		if path := aws.ToString(out.Roles[i].Path); !strings.HasPrefix(path, "/aws-service-role/") &&
			!strings.HasPrefix(path, "/aws-reserved/") {
			n++
		}
	}
	return n
}

// under lists what is under a path.
func (r *testRun) under(ctx context.Context, path string) ([]thing, error) {
	client, list := r.iam(nil), []thing{}
	users := iam.NewListUsersPaginator(client, &iam.ListUsersInput{PathPrefix: &path})
	for users.HasMorePages() {
		out, err := users.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for i := range out.Users {
			list = append(list, thing{kindUser, aws.ToString(out.Users[i].UserName)})
		}
	}
	roles := iam.NewListRolesPaginator(client, &iam.ListRolesInput{PathPrefix: &path})
	for roles.HasMorePages() {
		out, err := roles.NextPage(ctx)
		if unimplemented(err) {
			break
		} else if err != nil {
			return nil, err
		}
		for i := range out.Roles {
			list = append(list, thing{kindRole, aws.ToString(out.Roles[i].RoleName)})
		}
	}
	local := &iam.ListPoliciesInput{PathPrefix: &path, Scope: types.PolicyScopeTypeLocal}
	policies := iam.NewListPoliciesPaginator(client, local)
	for policies.HasMorePages() {
		out, err := policies.NextPage(ctx)
		if unimplemented(err) {
			break
		} else if err != nil {
			return nil, err
		}
		for i := range out.Policies {
			list = append(list, thing{kindPolicy, aws.ToString(out.Policies[i].Arn)})
		}
	}
	return list, nil
}

func unimplemented(err error) bool { return err != nil && awserr.ReplyOf(err).Unimplemented() }

// describe is an error for the report: code and message of the server, without the request.
func describe(err error) string {
	rep := awserr.ReplyOf(err)
	if rep.Silent() && !errors.Is(err, context.DeadlineExceeded) {
		return err.Error()
	}
	if message := messageOf(err); message != "" {
		return rep.Code + ": " + message
	}
	return rep.Code
}
