package provision

import (
	"cmp"
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go/middleware"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// caller identifies the actor and the operation for which a call is made.
type caller struct {
	p           *Provisioner
	actor       string
	operation   string
	alias       alias.Name
	credential  alias.Name
	accountRole *accountRole // nil: the server's own
	adopted     bool         // the user was adopted, so it is not under our path: see explain
	// made are the ARNs of managed policies that were just made, so that IAM may not show
	// them yet.
	made []string
}

// iam makes a client that acts in the caller's account.
func (c caller) iam() *iam.Client {
	if c.accountRole != nil {
		return c.accountRole.iam()
	}
	return c.p.cfg.AWS.iam()
}

// apiCall is one call of IAM: its action and its resource. Zero fields do not apply.
type apiCall struct {
	caller
	action string // iam:CreateUser
	user   string
	policy string
	key    string
	group  string
	role   string
	reads  bool // changes nothing, so it is not audited
	exact  bool // a denial is reported as it is: see explain
	once   bool // the SDK does not repeat it
}

func (c caller) write(action, user string) apiCall {
	return apiCall{caller: c, action: action, user: user, exact: c.adopted}
}

func (c caller) read(action, user string) apiCall {
	return apiCall{caller: c, action: action, user: user, reads: true, exact: c.adopted}
}

func (a apiCall) onPolicy(policy string) apiCall { a.policy = policy; return a }

func (a apiCall) onKey(id string) apiCall { a.key = id; return a }

func (a apiCall) onGroup(group string) apiCall { a.group = group; return a }

func (a apiCall) resource() string {
	switch {
	case a.user != "":
		return "user " + a.user
	case a.policy != "":
		return "policy " + a.policy
	case a.key != "":
		return "access key " + a.key
	case a.group != "":
		return "group " + a.group
	case a.role != "":
		return "role " + a.role
	}
	return "this account"
}

// call makes a call of IAM. An error is a *callError, a *notAssumedError, or ctx's. Every call that is
// not marked as a read gets an audit entry, with its outcome. In a fleet such a call needs a lease: it
// is not sent without one, and the error is that of errLeaseLost.
func call[In, Out any](
	ctx context.Context, a apiCall, fn func(context.Context, *In, ...func(*iam.Options)) (*Out, error), in *In,
) (*Out, error) {
	select {
	case a.p.calls <- struct{}{}:
		defer func() { <-a.p.calls }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out, err := fn(ctx, in, marked(a.operation), a.retries, a.leased)
	if err != nil {
		err = a.failed(ctx, err)
	} else if element := missingElement(out); element != "" {
		err = &callError{action: a.action, resource: a.resource(), code: codeIncomplete, missing: element}
	} else if created, ok := any(out).(*iam.CreateAccessKeyOutput); ok {
		a.key = *created.AccessKey.AccessKeyId
	}
	if !a.reads {
		a.audit(ctx, err)
	}
	if ctx.Err() != nil && err != nil {
		return nil, ctx.Err()
	}
	return out, err
}

// failed is the error of a call for that of the SDK.
func (a apiCall) failed(ctx context.Context, err error) error {
	if notAssumed, ok := errors.AsType[*notAssumedError](err); ok {
		return notAssumed
	}
	if lost, ok := errors.AsType[*registryError](err); ok {
		return lost
	}
	failed := newCallError(a.action, a.resource(), err)
	failed.role = a.accountRole.role()
	return a.explain(ctx, failed)
}

func (a apiCall) retries(o *iam.Options) {
	if a.once {
		o.Retryer = aws.NopRetryer{}
	}
}

// leased keeps a write from being sent without a lease, at the last moment: the SDK may wait for
// credentials, or before it repeats a call.
func (a apiCall) leased(o *iam.Options) {
	if a.reads || a.p.cfg.Fleet == nil {
		return
	}
	check := func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if err := a.p.mayWrite(ctx); err != nil {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, err
		}
		return next.HandleFinalize(ctx, in)
	}
	o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
		return s.Finalize.Add(middleware.FinalizeMiddlewareFunc("ixmageLease", check), middleware.After)
	})
}

// missingElement names a required element that an answer lacks. Callers dereference
// these fields without a nil check, and the SDK leaves missing elements nil.
func missingElement(out any) string {
	name, there := "", true
	switch out := out.(type) {
	case *iam.CreateUserOutput:
		name, there = "User", out.User != nil
	case *iam.GetUserOutput:
		name, there = "User", out.User != nil
	case *iam.GetRoleOutput:
		name, there = "Role", out.Role != nil
	case *iam.CreateAccessKeyOutput:
		key := out.AccessKey
		name, there = "AccessKey", key != nil && key.AccessKeyId != nil && key.SecretAccessKey != nil
	case *iam.GetPolicyOutput:
		name, there = "Policy", out.Policy != nil
	case *iam.GetPolicyVersionOutput:
		name, there = "PolicyVersion", out.PolicyVersion != nil
	}
	if there {
		return ""
	}
	return name
}

// explain distinguishes a missing user from a denied action. If the policy of this
// server allows one path only, IAM denies actions on a missing user, because the user
// has no path. The list of users shows which of the two it is. The calls take no place of
// their own among the concurrent ones: the denied call still has its place. A denial for which
// AWS names another policy than those of this server has nothing to do with the path.
func (a apiCall) explain(ctx context.Context, e *callError) error {
	if !a.mayBeMissing(e) {
		return e
	}
	client := a.iam()
	in := &iam.ListUsersInput{
		PathPrefix: aws.String(policy.UserPath(a.p.cfg.InstallID)), MaxItems: aws.Int32(maxListItems),
	}
	for {
		out, err := client.ListUsers(ctx, in, marked(a.operation))
		if err != nil {
			return e
		}
		for _, u := range out.Users {
			if aws.ToString(u.UserName) == a.user {
				return e
			}
		}
		switch {
		case !out.IsTruncated:
			e.code = "NoSuchEntity"
			return e
		case aws.ToString(out.Marker) == "" || aws.ToString(out.Marker) == aws.ToString(in.Marker):
			return e // the list would begin again
		}
		in.Marker = out.Marker
	}
}

// mayBeMissing reports whether a missing user may be why a call was denied.
func (a apiCall) mayBeMissing(e *callError) bool {
	return e.denied() && a.user != "" && !a.exact && a.action != "iam:CreateUser" && denial{reason: e.reason}.byIdentity()
}

// maxListItems is the most that IAM returns in one page of a list.
const maxListItems = 1000

// audit records a call. A failure to record it does not stop the operation, because
// the log has the call too.
func (a apiCall) audit(ctx context.Context, err error) {
	outcome := "ok"
	notAssumed, isRole := errors.AsType[*notAssumedError](err)
	call, isCall := errors.AsType[*callError](err)
	switch {
	case isRole:
		outcome = notAssumed.code()
	case errors.Is(err, alias.ErrLeaseLost):
		outcome = "lease-lost"
	case isCall:
		outcome = cmp.Or(call.code, "no-answer")
	}
	a.p.audit(ctx, &alias.AuditEntry{
		Actor: a.actor, Action: a.action, User: a.user, Policy: a.policy, AccessKeyID: a.key,
		Alias: a.alias, Credential: a.credential, Outcome: outcome, Operation: a.operation,
	})
}

// audit adds an entry to the audit and a line to the log.
func (p *Provisioner) audit(ctx context.Context, e *alias.AuditEntry) {
	e.At = p.clock.Now().UTC()
	p.log.Info("audit", "actor", e.Actor, "action", e.Action, "user", e.User, "policy", e.Policy,
		"access_key_id", e.AccessKeyID, "alias", string(e.Alias), "credential", string(e.Credential),
		"outcome", e.Outcome, "operation", e.Operation, "detail", e.Detail)
	err := p.cfg.Registry.AddAudit(context.WithoutCancel(ctx), e)
	if err != nil {
		p.log.Error("write audit entry failed", "action", e.Action, "error", err)
	}
}
