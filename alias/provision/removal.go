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

// onUser is a step on the user of the credential. Where there is none any more
// there is nothing to do.
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
			return "there is no user " + p.User.Name, nil
		}
		return do(t, ctx, c, p)
	}
}

// ownUser reads the user of the credential and makes sure that it is ours. A
// user that is gone is nil: there is nothing left to do about it.
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
			return nil, nil //nolint:nilnil // somebody else's of the same name: we never made one
		}
		return nil, failf(codeChanged, "the IAM user %s does not bear the tags that this server gave it; "+
			"it was left as it is", p.User.Name)
	}
	return user, nil
}

// deactivateKeys makes the keys that we know inactive: reversible, and enough
// to end what they can do. Keys of others on the same user stop the removal.
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

// probeRefused waits until the key is refused: only then is it revoked.
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
		return "there is no key", nil
	}
	kp, err := t.reveal(t.p.cfg.Registry.Reveal(c))
	if err != nil {
		return "", err
	}
	return "refused", t.waitUntilRefused(ctx, kp, p.Grants)
}

// inspectUser looks for what we never give a user. Where somebody else did, the
// user is not ours alone any more, and the removal stops.
func (t *task) inspectUser(ctx context.Context, _ *alias.Credential, p *alias.Provisioned) (string, error) {
	found, unknown, err := t.caller().foreign(ctx, p)
	switch {
	case isGone(err):
		return "there is no user " + p.User.Name, nil
	case err != nil:
		return "", err
	case len(found) > 0:
		return "", failf(codeChanged, "somebody else changed the user %s: it has %s; its keys are inactive, "+
			"and nothing was deleted: take that away, or delete the user by hand", p.User.Name, strings.Join(found, ", "))
	case len(unknown) > 0:
		return "nothing foreign; not proven, because the server does not say: " + strings.Join(unknown, ", "), nil
	}
	return "nothing foreign", nil
}

// attachedByUs are the managed policies that we gave a user, whether it should
// have them or not.
func attachedByUs(p *alias.Provisioned) []string {
	arns := extraARNs(p)
	for _, ref := range p.Policies {
		arns = append(arns, ref.ARN)
	}
	return arns
}

// foreign lists what hangs on a user and is not of ours, and what the server
// does not tell.
func (c caller) foreign(ctx context.Context, p *alias.Provisioned) (found, unknown []string, err error) {
	user := aws.String(p.User.Name)
	client := c.p.cfg.AWS.iam()
	for _, look := range []struct {
		what string
		any  func() (bool, error)
	}{
		{"a login profile", func() (bool, error) {
			_, err := call(ctx, c.read("iam:GetLoginProfile", p.User.Name), client.GetLoginProfile,
				&iam.GetLoginProfileInput{UserName: user})
			if isGone(err) { // the user was seen a moment ago: it has none
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
			return slices.ContainsFunc(arns, func(arn string) bool { return !slices.Contains(attachedByUs(p), arn) }), err
		}},
	} {
		has := false
		err := c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
			var err error
			has, err = look.any()
			return err == nil, err
		})
		switch {
		case isUnimplemented(err):
			unknown = append(unknown, look.what)
		case err != nil:
			return nil, nil, err
		case has:
			found = append(found, look.what)
		}
	}
	return found, unknown, nil
}

// deleteUser deletes keys, policies and the user, in that order.
func (t *task) deleteUser(ctx context.Context, c *alias.Credential, p *alias.Provisioned) (string, error) {
	if err := t.deleteLost(ctx, c, p); err != nil {
		return "", err // a key that somebody made since we looked
	}
	return "deleted with its keys and policies", ignoreGone(t.caller().removeUser(ctx, p.User.Name, t.managedARNs(p)))
}

// removeUser deletes what hangs on a user of ours and then the user. It looks
// again while IAM says that something is still there.
func (c caller) removeUser(ctx context.Context, user string, managed []string) error {
	client := c.p.cfg.AWS.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible+clockSkew, func() (bool, error) {
		if err := c.strip(ctx, user, managed); err != nil {
			return false, ignoreGone(err)
		}
		_, err := call(ctx, c.write("iam:DeleteUser", user), client.DeleteUser,
			&iam.DeleteUserInput{UserName: aws.String(user)})
		if hasCode(err, "DeleteConflict") {
			return false, nil // something was not seen yet
		}
		return done(err)
	})
}

// strip takes keys and policies from a user.
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

// removeManaged detaches a managed policy, and deletes it if it is ours and no
// user has it any more.
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
		return nil // AWS's own
	}
	found, err := c.readManaged(ctx, arn)
	if err != nil || !found.ours || c.p.attachedElsewhere(arn, user) {
		return ignoreGone(err)
	}
	err = c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:DeletePolicy", "").onPolicy(arn), client.DeletePolicy,
			&iam.DeletePolicyInput{PolicyArn: aws.String(arn)})
		if hasCode(err, "DeleteConflict") {
			return false, nil // that it was detached is not seen yet
		}
		return done(err)
	})
	if errors.Is(err, errNotSeen) {
		return nil // somebody else attached it: it is theirs now
	}
	return err
}

// attachedElsewhere reports whether the registry has another user with this
// managed policy, or one that is about to get it: then it goes with the last of
// them. One that is being removed does not count: of two that go at a time each
// would leave it to the other.
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

// confirmGone looks twice, with a pause: one look may be of the past.
func (t *task) confirmGone(ctx context.Context) (string, error) {
	_, p, err := t.credential(ctx)
	if err != nil {
		return "", err
	}
	for look := range 2 {
		if look > 0 {
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
	return "not there, twice", nil
}

// forget takes the credential out of the registry, with the end of the
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
