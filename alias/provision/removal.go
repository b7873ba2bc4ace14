package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/policy"
)

var removeSteps = []step{
	{"deactivate-keys", onUser((*task).deactivateKeys)},
	{"probe-refused", (*task).probeRefused},
	{"inspect-user", onUser((*task).inspectUser)},
	{"delete-user", onUser((*task).deleteUser)},
	{"confirm-gone", (*task).confirmGone},
}

// onUser makes a step from do, which is skipped if the user of the credential does not
// exist any more.
func onUser(
	do func(*task, context.Context, *alias.Credential, *alias.Provisioned) (string, error),
) func(*task, context.Context) (string, error) {
	return func(t *task, ctx context.Context) (string, error) {
		c, p, err := t.credential(ctx)
		if err != nil {
			return "", err
		}
		user, err := t.ownUser(ctx, p)
		if err != nil {
			return "", err
		}
		if user == nil {
			return "the user " + p.User.Name + " does not exist", nil
		}
		return do(t, ctx, c, p)
	}
}

// ownUser reads the user of the credential and checks that it is ours. It returns nil
// for a user that does not exist.
func (t *task) ownUser(ctx context.Context, p *alias.Provisioned) (*iamUser, error) {
	var user *iamUser
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		var err error
		user, err = t.caller().getUser(ctx, p.User.Name)
		return done(err)
	})
	if err != nil || user == nil {
		return nil, err
	}
	if operation, ours := user.operation(t.p.cfg.InstallID); !ours || operation != p.Operation {
		if p.User.ID == "" {
			return nil, nil //nolint:nilnil // another user of the same name: the operation made none
		}
		return nil, failf(codeChanged, "the IAM user %s does not have the tags that this server gave it; "+
			"it was not changed", p.User.Name)
	}
	return user, nil
}

// deactivateKeys makes the keys of the user inactive, which ends their use and can be
// reverted. A key that the registry does not know stops the removal before that.
func (t *task) deactivateKeys(ctx context.Context, c *alias.Credential, p *alias.Provisioned) (string, error) {
	if err := t.deleteLost(ctx, c, p); err != nil {
		return "", err
	}
	keys, err := t.caller().keys(ctx, p.User.Name)
	if err != nil {
		return "", ignoreGone(err)
	}
	for _, k := range keys {
		if err := t.caller().setKey(ctx, p.User.Name, k.id, types.StatusTypeInactive); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d made inactive", len(keys)), nil
}

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

// probeRefused waits until the key is refused, because IAM revokes it with a delay.
func (t *task) probeRefused(ctx context.Context) (string, error) {
	c, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	user, err := t.ownUser(ctx, p)
	if err != nil {
		return "", err
	}
	if c.Sealed == nil || user == nil {
		return "the credential has no key", nil
	}
	kp, err := t.reveal(t.p.cfg.Registry.Reveal(c))
	if err != nil {
		return "", err
	}
	return "refused", t.waitUntilRefused(ctx, kp, p.Grants)
}

// inspectUser stops the removal if the user has something that this server never gives
// a user, because another client then uses the user too.
func (t *task) inspectUser(ctx context.Context, _ *alias.Credential, p *alias.Provisioned) (string, error) {
	found, unknown, err := t.caller().foreign(ctx, p)
	switch {
	case isGone(err):
		return "the user " + p.User.Name + " does not exist", nil
	case err != nil:
		return "", err
	case len(found) > 0:
		return "", failf(codeChanged, "another client changed the user %s: it has %s; its keys are inactive, "+
			"and nothing was deleted: remove the change, or delete the user by hand", p.User.Name, strings.Join(found, ", "))
	case len(unknown) > 0:
		return "nothing foreign found; the server does not support the check for: " + strings.Join(unknown, ", "), nil
	}
	return "nothing foreign found", nil
}

// attachedByUs reports whether this server attached a managed policy to a user: a recorded
// one, or one for an extra grant, which is to be detached.
func attachedByUs(p *alias.Provisioned, arn string) bool {
	return slices.ContainsFunc(p.Policies, func(r alias.PolicyRef) bool { return r.ARN == arn }) ||
		p.Mode == alias.PolicyManaged && slices.ContainsFunc(p.ExtraGrants, func(g alias.Grant) bool {
			return strings.HasSuffix(arn, "/"+policy.ManagedName(g.Bucket, g.Prefix))
		})
}

// foreign lists what a user has that this server did not give it. unknown lists the
// checks that the IAM server does not support.
func (c caller) foreign(ctx context.Context, p *alias.Provisioned) (found, unknown []string, err error) {
	user := aws.String(p.User.Name)
	client := c.p.cfg.AWS.iam()
	for _, check := range []struct {
		what string
		any  func() (bool, error)
	}{
		{"a login profile", func() (bool, error) {
			_, err := call(ctx, c.read("iam:GetLoginProfile", p.User.Name), client.GetLoginProfile,
				&iam.GetLoginProfileInput{UserName: user})
			if isGone(err) { // the user exists, so it has no login profile
				return false, nil
			}
			return err == nil, err
		}},
		{"a group", func() (bool, error) {
			out, err := call(ctx, c.read("iam:ListGroupsForUser", p.User.Name), client.ListGroupsForUser,
				&iam.ListGroupsForUserInput{UserName: user})
			return err == nil && len(out.Groups) > 0, err
		}},
		{"an MFA device", func() (bool, error) {
			out, err := call(ctx, c.read("iam:ListMFADevices", p.User.Name), client.ListMFADevices,
				&iam.ListMFADevicesInput{UserName: user})
			return err == nil && len(out.MFADevices) > 0, err
		}},
		{"an SSH key", func() (bool, error) {
			out, err := call(ctx, c.read("iam:ListSSHPublicKeys", p.User.Name), client.ListSSHPublicKeys,
				&iam.ListSSHPublicKeysInput{UserName: user})
			return err == nil && len(out.SSHPublicKeys) > 0, err
		}},
		{"a signing certificate", func() (bool, error) {
			out, err := call(ctx, c.read("iam:ListSigningCertificates", p.User.Name), client.ListSigningCertificates,
				&iam.ListSigningCertificatesInput{UserName: user})
			return err == nil && len(out.Certificates) > 0, err
		}},
		{"a foreign inline policy", func() (bool, error) {
			names, err := c.inline(ctx, p.User.Name)
			return slices.ContainsFunc(names, func(n string) bool { return n != policy.InlineName }), err
		}},
		{"a foreign managed policy", func() (bool, error) {
			arns, err := c.attached(ctx, p.User.Name)
			return slices.ContainsFunc(arns, func(arn string) bool { return !attachedByUs(p, arn) }), err
		}},
	} {
		has := false
		err := c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
			var err error
			has, err = check.any()
			return err == nil, err
		})
		switch {
		case isUnimplemented(err):
			unknown = append(unknown, check.what)
		case err != nil:
			return nil, nil, err
		case has:
			found = append(found, check.what)
		}
	}
	return found, unknown, nil
}

// deleteUser deletes keys, policies and the user, in that order.
func (t *task) deleteUser(ctx context.Context, c *alias.Credential, p *alias.Provisioned) (string, error) {
	if err := t.deleteLost(ctx, c, p); err != nil {
		return "", err // a key that another client made since inspect-user
	}
	return "deleted with its keys and policies", ignoreGone(t.caller().removeUser(ctx, p.User.Name, t.managedARNs(p)))
}

// removeUser deletes the keys and policies of a user of ours and then the user. It
// repeats this while IAM answers DeleteConflict.
func (c caller) removeUser(ctx context.Context, user string, managed []string) error {
	client := c.p.cfg.AWS.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible+clockSkew, func() (bool, error) {
		if err := c.strip(ctx, user, managed); err != nil {
			return false, ignoreGone(err)
		}
		_, err := call(ctx, c.write("iam:DeleteUser", user), client.DeleteUser,
			&iam.DeleteUserInput{UserName: aws.String(user)})
		if hasCode(err, "DeleteConflict") {
			return false, nil // IAM did not show a key or policy yet
		}
		return done(err)
	})
}

// strip deletes the keys and the inline policy of a user and detaches the managed ones.
func (c caller) strip(ctx context.Context, user string, managed []string) error {
	keys, err := c.keys(ctx, user)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := c.deleteKey(ctx, user, k.id); err != nil {
			return err
		}
	}
	if err := c.deleteInline(ctx, user); err != nil {
		return err
	}
	for _, arn := range managed {
		if err := c.removeManaged(ctx, user, arn); err != nil {
			return err
		}
	}
	return nil
}

func (c caller) deleteInline(ctx context.Context, user string) error {
	client := c.p.cfg.AWS.iam()
	_, err := call(ctx, c.write("iam:DeleteUserPolicy", user).onPolicy(policy.InlineName), client.DeleteUserPolicy,
		&iam.DeleteUserPolicyInput{UserName: aws.String(user), PolicyName: aws.String(policy.InlineName)})
	return ignoreGone(err)
}

// removeManaged detaches a managed policy, and deletes it if it is ours and attached to
// no other user.
func (c caller) removeManaged(ctx context.Context, user, arn string) error {
	release, err := c.p.locks.lock(ctx, policyLock(arn)) // see attachOne
	if err != nil {
		return err
	}
	defer release()
	client := c.p.cfg.AWS.iam()
	_, err = call(ctx, c.write("iam:DetachUserPolicy", user).onPolicy(arn), client.DetachUserPolicy,
		&iam.DetachUserPolicyInput{UserName: aws.String(user), PolicyArn: aws.String(arn)})
	if err := ignoreGone(err); err != nil {
		return err
	}
	if strings.Contains(arn, ":iam::aws:") {
		return nil // an AWS managed policy
	}
	found, err := c.readManaged(ctx, arn)
	if err != nil || !found.ours || c.p.attachedElsewhere(arn, user) {
		return ignoreGone(err)
	}
	err = c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:DeletePolicy", "").onPolicy(arn), client.DeletePolicy,
			&iam.DeletePolicyInput{PolicyArn: aws.String(arn)})
		if hasCode(err, "DeleteConflict") {
			return false, nil // the detachment is not visible yet
		}
		return done(err)
	})
	if errors.Is(err, errNotSeen) {
		return nil // another client attached it, so it stays
	}
	return err
}

// attachedElsewhere reports whether another user in the registry has this managed
// policy or will get it: the removal of the last user deletes the policy. A user that
// is being removed does not count, or two concurrent removals would both leave the
// policy to the other.
func (p *Provisioner) attachedElsewhere(arn, user string) bool {
	found := false
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		found = ok && prov.User.Name != user && c.State != alias.CredentialFailed && c.State != alias.CredentialRemoving &&
			slices.Contains((&task{p: p}).managedARNs(prov), arn)
		return !found
	})
	return found
}

// confirmGone checks twice with a pause that the user does not exist, because IAM is
// eventually consistent.
func (t *task) confirmGone(ctx context.Context) (string, error) {
	_, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	for i := range 2 {
		if i > 0 {
			if err := t.p.clock.Sleep(ctx, t.p.cfg.Timing.ConfirmGap); err != nil {
				return "", err
			}
		}
		err := t.p.until(ctx, t.p.cfg.Timing.Visible+clockSkew, func() (bool, error) {
			user, err := t.ownUser(ctx, p)
			return err == nil && user == nil, err
		})
		if err != nil {
			return "", err
		}
	}
	return "the user was not found, twice", nil
}

// forget deletes the credential from the registry, in the transaction that ends the
// operation.
func (t *task) forget(ctx context.Context) error {
	return t.end(ctx, nil, func(tx alias.Tx) ([]alias.Change, error) {
		c, err := tx.Credential(t.op.Credential)
		if err != nil {
			return nil, err
		}
		return []alias.Change{{CredentialDeleted: c}}, tx.DeleteCredential(c.ID, c.Revision)
	})
}
