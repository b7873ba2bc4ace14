package provision

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// caller is on whose behalf calls are made.
type caller struct {
	p          *Provisioner
	actor      string
	operation  string
	alias      alias.Name
	credential alias.Name
}

func (t *task) caller() caller {
	return caller{p: t.p, actor: t.op.Actor, operation: t.op.ID, alias: t.op.Alias, credential: t.op.Credential}
}

// apiCall is one call of IAM: what is done and to whom. The zero fields do not
// apply.
type apiCall struct {
	caller
	action string // iam:CreateUser
	user   string
	policy string
	key    string
	reads  bool // changes nothing, so it is not audited
}

func (c caller) write(action, user string) apiCall {
	return apiCall{caller: c, action: action, user: user}
}

func (c caller) read(action, user string) apiCall {
	return apiCall{caller: c, action: action, user: user, reads: true}
}

func (a apiCall) onPolicy(policy string) apiCall { a.policy = policy; return a }

func (a apiCall) onKey(id string) apiCall { a.key = id; return a }

func (a apiCall) resource() string {
	switch {
	case a.user != "":
		return "user " + a.user
	case a.policy != "":
		return "policy " + a.policy
	case a.key != "":
		return "access key " + a.key
	}
	return "this account"
}

// call makes a call of IAM. An error is a *callError, or ctx's. What changes
// something is written to the audit, whatever came of it; key, if it is not
// nil, reads from the answer the access key id that was made.
func call[In, Out any](
	ctx context.Context, a apiCall, fn func(context.Context, *In, ...func(*iam.Options)) (*Out, error), in *In,
) (*Out, error) {
	select {
	case a.p.calls <- struct{}{}:
		defer func() { <-a.p.calls }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out, err := fn(ctx, in, marked(a.operation))
	if err != nil {
		err = a.explain(ctx, newCallError(a.action, a.resource(), err))
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

// missingElement names the element that an answer must have and has not. Callers
// read these elements without a look: the SDK leaves nil what a server leaves out.
func missingElement(out any) string {
	name, there := "", true
	switch out := out.(type) {
	case *iam.CreateUserOutput:
		name, there = "User", out.User != nil
	case *iam.GetUserOutput:
		name, there = "User", out.User != nil
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

// explain tells a user that is not there from one that may not be touched. Who
// may work on one path only is refused for a name that IAM cannot resolve, for
// it has no path: the list says which it is.
func (a apiCall) explain(ctx context.Context, e *callError) error {
	if !e.denied() || a.user == "" || a.action == "iam:CreateUser" {
		return e
	}
	client := a.p.cfg.AWS.iam()
	in := &iam.ListUsersInput{PathPrefix: aws.String(policy.UserPath(a.p.cfg.InstallID))}
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
		if !out.IsTruncated {
			e.code = "NoSuchEntity"
			return e
		}
		in.Marker = out.Marker
	}
}

// audit writes down that a call was made. That it cannot be written does not
// stop what is under way: the log has it too.
func (a apiCall) audit(ctx context.Context, err error) {
	outcome := "ok"
	if call, ok := errors.AsType[*callError](err); ok {
		outcome = call.code
		if outcome == "" {
			outcome = "no-answer"
		}
	}
	a.p.audit(ctx, &alias.AuditEntry{
		Actor: a.actor, Action: a.action, User: a.user, Policy: a.policy, AccessKeyID: a.key,
		Alias: a.alias, Credential: a.credential, Outcome: outcome, Operation: a.operation,
	})
}

// audit adds a line to the audit and to the log.
func (p *Provisioner) audit(ctx context.Context, e *alias.AuditEntry) {
	e.At = p.clock.Now().UTC()
	p.log.Info("audit", "actor", e.Actor, "action", e.Action, "user", e.User, "policy", e.Policy,
		"access_key_id", e.AccessKeyID, "alias", string(e.Alias), "credential", string(e.Credential),
		"outcome", e.Outcome, "operation", e.Operation, "detail", e.Detail)
	err := p.cfg.Registry.AddAudit(context.WithoutCancel(ctx), e)
	if err != nil {
		p.log.Error("cannot write the audit", "action", e.Action, "error", err)
	}
}
