package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/alias/session"
)

// session makes the key of the checks from the session that serves a route now, and describes it.
func (p *Provisioner) session(ctx context.Context, r alias.Route) (scope.Key, *scope.Session, error) {
	if p.cfg.Sessions == nil {
		return scope.Key{}, nil, fmt.Errorf("%w: this server makes no sessions", alias.ErrForbidden)
	}
	keys, err := p.cfg.Sessions.Keys(ctx, r)
	if err != nil {
		return scope.Key{}, nil, err
	}
	at, signer := r.Alias.Location, credentials.StaticCredentialsProvider{Value: keys.Credentials}
	key := scope.Key{S3: p.cfg.S3With(at, signer), Now: p.clock.Now}
	out := &scope.Session{Name: keys.SessionName, Sent: keys.Policy}
	role, ok := r.Credential.Role()
	switch {
	case ok:
		out.Role = role.ARN
		// A location for which there can be no policy has none that is needed.
		out.Needed, _ = session.Policy(role, at)
	case keys.SessionToken == "":
		out.UserKey = keys.AccessKeyID
	}
	if probes := p.cfg.Probes; probes != nil && (ok || !p.elsewhere(at)) {
		probes.probesAt(&key, at, signer)
		if !probes.ownIAM() {
			key.IAM = nil // the keys of one server are not sent to the other
		}
		key.CustomIAM = !probes.atAWS()
		out.Enforced = probes.atAWS() && at.AtAWS()
	}
	return key, out, nil
}

// accountToRead is the id of the account of --accounts in which the user or role of a credential
// is; empty for that of the server.
func (p *Provisioner) accountToRead(c *alias.Credential) string {
	switch of := c.Provider.(type) {
	case *alias.Provisioned:
		return of.Account
	case alias.Role:
		return idOf(p.cfg.Accounts.Find(of.AccountID()))
	}
	return ""
}

// proveSession proves what it can of a session of a role without a probe.
func (c caller) proveSession(ctx context.Context, role alias.Role, t *scope.Target) (proof, error) {
	var shown *scope.Role
	if c.p.cfg.AWS != nil && c.p.cfg.AWS.ownIAM() {
		reading, cancel := context.WithTimeout(ctx, controlPlaneTimeout)
		defer cancel()
		shown = c.readRole(reading, role, t)
		if ctx.Err() != nil {
			return proof{}, ctx.Err()
		}
	}
	cp, notTried := t.Session.ControlPlane(t, shown, c.p.clock.Now())
	return proof{cp, notTried}, nil
}

// roleReader reads what IAM shows of a role.
type roleReader struct {
	*rightsReader

	out  scope.Role
	name *string
}

func (c caller) readRole(ctx context.Context, role alias.Role, t *scope.Target) *scope.Role {
	r := &roleReader{rightsReader: c.rightsReader(t), name: aws.String(scope.RoleName(role.ARN))}
	out, err := call(ctx, r.on("iam:GetRole"), r.iam().GetRole, &iam.GetRoleInput{RoleName: r.name})
	if err == nil && aws.ToString(out.Role.Arn) != role.ARN {
		err = errors.New("IAM of this server's account has another role of this name; " +
			"--accounts lets the server read other accounts")
	}
	if err != nil {
		r.lacks(scope.PartTrust, err)
		r.lacks(scope.PartRolePolicy, err)
		return &r.out
	}
	text, err := policy.DecodeDocument(aws.ToString(out.Role.AssumeRolePolicyDocument))
	if err != nil {
		r.lacks(scope.PartTrust, err)
	}
	r.out.Trust = []byte(text)
	if b := out.Role.PermissionsBoundary; b != nil {
		r.out.BoundaryARN = aws.ToString(b.PermissionsBoundaryArn)
	}
	r.readPolicies(ctx)
	if r.out.BoundaryARN != "" && !t.Session.Narrowed() {
		if text, err := r.managedText(ctx, r.out.BoundaryARN); err == nil {
			r.out.BoundaryText = &scope.PolicyText{Name: r.out.BoundaryARN, Text: text}
		}
	}
	return &r.out
}

func (r *roleReader) on(action string) apiCall {
	a := r.caller.read(action, "")
	a.role = *r.name
	return a
}

func (r *roleReader) lacks(part scope.Part, err error) {
	r.out.Unread = append(r.out.Unread, scope.Unread{
		Part: part, NotImplemented: isUnimplemented(err), Detail: err.Error(),
	})
}

// readPolicies reads the inline and managed policies of the role.
func (r *roleReader) readPolicies(ctx context.Context) {
	var names, arns []string
	in := &iam.ListRolePoliciesInput{RoleName: r.name}
	a := r.on("iam:ListRolePolicies")
	err := readPages(&names, func() ([]string, *page, error) {
		out, err := call(ctx, a, r.iam().ListRolePolicies, in)
		if err != nil {
			return nil, nil, err
		}
		return out.PolicyNames, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
	attached := &iam.ListAttachedRolePoliciesInput{RoleName: r.name}
	b := r.on("iam:ListAttachedRolePolicies")
	err2 := readPages(&arns, func() ([]string, *page, error) {
		out, err := call(ctx, b, r.iam().ListAttachedRolePolicies, attached)
		if err != nil {
			return nil, nil, err
		}
		return attachedARNs(out.AttachedPolicies), &page{b, out.IsTruncated, out.Marker, &attached.Marker}, nil
	})
	for _, err := range []error{err, err2} {
		if err != nil {
			r.lacks(scope.PartRolePolicy, err)
		}
	}
	for _, name := range names {
		text, err := r.roleText(ctx, name)
		r.add(inlineLabel(name), text, err)
	}
	for _, arn := range arns {
		text, err := r.managedText(ctx, arn)
		r.add("the policy "+plainNames([]string{arn}), text, err)
	}
}

func (r *roleReader) roleText(ctx context.Context, name string) ([]byte, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	out, err := call(ctx, r.on("iam:GetRolePolicy"), r.iam().GetRolePolicy,
		&iam.GetRolePolicyInput{RoleName: r.name, PolicyName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	return documentText(out.PolicyDocument)
}

// add is that of rightsReader for a role.
func (r *roleReader) add(name string, text []byte, err error) {
	if err != nil {
		r.out.Unread = append(r.out.Unread, scope.Unread{Part: scope.PartRolePolicy, Detail: name + ": " + err.Error()})
		return
	}
	r.out.Policies = append(r.out.Policies, scope.PolicyText{Name: name, Text: text})
}
