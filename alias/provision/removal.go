package provision

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"ixmage/alias"
	"ixmage/alias/policy"
)

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

// unsure names what IAM does not tell of a user. That fails unless it does without: a server
// that has no such call has no such thing, and a policy from before this look may not allow
// to list service-specific credentials; IAM itself does not delete a user that has some.
func (id *identity) unsure() (unread []string, err error) {
	for _, u := range id.unread {
		if !isUnimplemented(u.err) && u.action != "iam:ListServiceSpecificCredentials" {
			return nil, u.err
		}
		unread = append(unread, u.what)
	}
	return unread, nil
}

// removal is what is deleted together with a user.
type removal struct {
	user     string
	keys     []string // ids; another key stops the removal
	policies []string // ARNs of managed policies to detach
}

// removeUser deletes keys and policies of a user of ours and then the user. It repeats this
// while IAM answers DeleteConflict, since it may not show a key or policy yet.
func (c caller) removeUser(ctx context.Context, r removal) error {
	client, kind := c.iam(), ""
	err := c.p.until(ctx, c.p.cfg.Timing.Visible+clockSkew, func() (bool, error) {
		if err := c.strip(ctx, r); err != nil {
			return false, ignoreGone(err)
		}
		_, err := call(ctx, c.write("iam:DeleteUser", r.user), client.DeleteUser,
			&iam.DeleteUserInput{UserName: aws.String(r.user)})
		if hasCode(err, "DeleteConflict") {
			kind = conflictKind(err)
			return false, nil
		}
		return done(err)
	})
	if errors.Is(err, errNotSeen) && kind != "" {
		return failf(codeChanged, "IAM does not delete the user %s, because it has %s; its keys and policies are deleted: "+
			"remove that, and repeat the removal", r.user, kind)
	}
	return err
}

// conflictKind is what a user has for which IAM does not delete it. IAM's message names it in
// one of these words; nothing else of the message is passed on.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteUser.html
func conflictKind(err error) string {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return ""
	}
	text := strings.ToLower(api.ErrorMessage())
	for _, kind := range []string{
		"access keys", "service specific credentials", "service-specific credentials", "ssh public keys", "mfa device",
		"signing certificates", "login profile", "groups", "policies",
	} {
		if strings.Contains(text, kind) {
			return kind
		}
	}
	return "something that ixmage does not know"
}

// strip deletes the keys and the inline policies of a user and detaches the managed ones.
func (c caller) strip(ctx context.Context, r removal) error {
	keys, err := c.keys(ctx, r.user)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if !slices.Contains(r.keys, k.id) {
			return failf(codeUnknownKeys, "%s has the access key %s, which this server did not make; it was not deleted",
				r.user, k.id)
		}
	}
	for _, k := range keys {
		if err := c.deleteKey(ctx, r.user, k.id); err != nil {
			return err
		}
	}
	for _, name := range []string{policy.InlineName, policy.RevokeName} {
		if err := c.deleteInline(ctx, r.user, name); err != nil {
			return err
		}
	}
	for _, arn := range r.policies {
		if err := c.removeManaged(ctx, r.user, arn); err != nil {
			return err
		}
	}
	return nil
}

func (c caller) deleteInline(ctx context.Context, user, name string) error {
	client := c.iam()
	_, err := call(ctx, c.write("iam:DeleteUserPolicy", user).onPolicy(name), client.DeleteUserPolicy,
		&iam.DeleteUserPolicyInput{UserName: aws.String(user), PolicyName: aws.String(name)})
	return ignoreGone(err)
}

// removeManaged detaches a managed policy, and deletes it if it is ours and attached to
// no other user.
func (c caller) removeManaged(ctx context.Context, user, arn string) error {
	return c.p.locked(ctx, policyLock(arn), func(ctx context.Context) error { // see attachOne
		return c.detachManaged(ctx, user, arn)
	})
}

func (c caller) detachManaged(ctx context.Context, user, arn string) error {
	client := c.iam()
	_, err := call(ctx, c.write("iam:DetachUserPolicy", user).onPolicy(arn), client.DetachUserPolicy,
		&iam.DetachUserPolicyInput{UserName: aws.String(user), PolicyArn: aws.String(arn)})
	if err := ignoreGone(err); err != nil {
		return err
	}
	if strings.Contains(arn, ":iam::aws:") {
		return nil // an AWS managed policy
	}
	found, err := c.readManaged(ctx, arn)
	if isGone(err) && slices.Contains(c.made, arn) {
		found, err = c.managed(ctx, []string{arn})
	}
	if errors.Is(err, errNotSeen) {
		return nil // another client deleted it
	}
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

// attachedElsewhere reports whether the registry says that another user has this managed policy:
// the removal of the last user deletes the policy. Two kinds of users do not count, or nobody would
// delete it:
//
//   - a user that is being removed: two concurrent removals would leave the policy to each other;
//   - a user that will get it, because that may fail before it is attached. If it does not fail,
//     attachOne makes the policy again. If the user has it and this is not recorded yet, IAM does
//     not delete the policy.
func (p *Provisioner) attachedElsewhere(arn, user string) bool {
	found := false
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		found = ok && prov.User.Name != user && c.State != alias.CredentialFailed && c.State != alias.CredentialRemoving &&
			slices.Contains(append(p.extraARNs(prov), recordedARNs(prov)...), arn)
		return !found
	})
	return found
}
