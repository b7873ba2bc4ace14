package provision

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// releaseUser takes off an adopted user what ixmage gave it: keys, policies, the boundary and,
// last, the tags. The user, its other policies and the key that it had stay. A repetition
// finds nothing to do.
func (t *task) releaseUser(ctx context.Context, _ decision) (string, error) {
	if err := t.settle(ctx); err != nil {
		return "", err
	}
	detail := t.prov.User.Name + " stays, with the policies and the key that it had"
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		err := t.takeOff(ctx)
		return err == nil, err
	})
	if err != nil {
		return "", ignoreGone(err)
	}
	denied, err := t.unbound(ctx)
	if err != nil {
		return "", err
	}
	if denied {
		detail += "; its boundary stays too, because this server may not remove it: " +
			"iam:DeleteUserPermissionsBoundary does, if nobody needs it"
	}
	lost, err := t.describeSuspects()
	if err != nil {
		return "", err
	}
	if err := t.saveReleased(ctx); err != nil {
		return "", err
	}
	if err := t.untag(ctx); isUnimplemented(err) {
		detail += "; its tags stay too, because the IAM server cannot remove tags"
	} else if err != nil {
		return "", ignoreGone(err)
	}
	t.seen.released = true
	return detail + lost, nil
}

// settle waits until IAM shows what a failed adoption may have put on the user, which cannot be
// taken off before. The steps from the making of the key on begin when IAM has shown it.
func (t *task) settle(ctx context.Context) error {
	started := func(name string) bool { i := t.step(name); return i >= 0 && t.op.Steps[i].State != alias.StepPending }
	if t.data.Undo == nil || started(stepCreateKey) || !started(stepPutPolicy) && !t.prov.Adopted.Boundary {
		return nil
	}
	if t.data.Undo.Code == codePermission && !t.seen.put && !t.seen.bounded {
		return nil // the call was refused
	}
	return t.p.clock.Sleep(ctx, t.p.cfg.Timing.Visible)
}

// takeOff deletes our keys and policies.
func (t *task) takeOff(ctx context.Context) error {
	if err := t.takeOffKeys(ctx); err != nil {
		return err
	}
	if err := t.takeOffInline(ctx); err != nil {
		return err
	}
	return t.takeOffManaged(ctx)
}

func (t *task) takeOffKeys(ctx context.Context) error {
	c, d := t.caller(), t.desired()
	for _, k := range t.seen.keys {
		if !d.ours(k) || d.keepsKey(k.id) || d.isSuspect(k.id) {
			continue
		}
		if err := c.deleteKey(ctx, t.prov.User.Name, k.id); err != nil {
			return err
		}
	}
	return nil
}

func (t *task) takeOffInline(ctx context.Context) error {
	c := t.caller()
	names := []string{policy.RevokeName}
	if t.prov.Mode == alias.PolicyInline {
		names = append(names, policy.InlineName)
	}
	for _, name := range names {
		if hadPolicy(t.prov, name) {
			continue
		}
		if err := c.deleteInline(ctx, t.prov.User.Name, name); err != nil {
			return err
		}
	}
	return nil
}

func (t *task) takeOffManaged(ctx context.Context) error {
	c := t.caller()
	for _, arn := range t.p.managedOf(t.prov) {
		if hadPolicy(t.prov, arn) {
			continue
		}
		if err := c.removeManaged(ctx, t.prov.User.Name, arn); err != nil {
			return err
		}
	}
	return nil
}

// describeSuspects says which keys stay that are probably ours. Only a removal may end with
// such a key.
func (t *task) describeSuspects() (string, error) {
	ids := t.suspects()
	if len(ids) == 0 {
		return "", nil
	}
	keys := strings.Join(ids, ", ")
	if t.op != nil && t.op.Kind == alias.OperationRemove {
		return "; its inactive key " + keys + " was probably made by ixmage", nil
	}
	return "", failf(codeUnknownKeys, "%s has the key %s, which this server probably made and lost the secret of: "+
		"it is inactive, and reconcile deletes it when nobody has used it for a day", t.prov.User.Name, keys)
}

// saveReleased records that only the tags are left to take off, so that a user without tags
// is known to be released.
func (t *task) saveReleased(ctx context.Context) error {
	if t.op == nil || t.data.Released {
		return nil
	}
	t.data.Released = true
	return t.save(ctx)
}

// suspects are the keys of the user that are probably ours.
func (t *task) suspects() []string {
	var ids []string
	for _, k := range t.seen.keys {
		if t.desired().isSuspect(k.id) {
			ids = append(ids, k.id)
		}
	}
	return ids
}

// unbound removes the boundary that ixmage set. docs/provisioner-policy.json does not allow
// that: a server that may put policies on a user and remove its boundary is administrator.
func (t *task) unbound(ctx context.Context) (denied bool, err error) {
	if !t.prov.Adopted.Boundary {
		return false, nil
	}
	client := t.iam()
	err = t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, t.caller().write("iam:DeleteUserPermissionsBoundary", t.prov.User.Name),
			client.DeleteUserPermissionsBoundary,
			&iam.DeleteUserPermissionsBoundaryInput{UserName: aws.String(t.prov.User.Name)})
		return done(err)
	})
	if call, ok := errors.AsType[*callError](err); ok && (call.denied() || call.unimplemented()) {
		return true, nil
	}
	return false, err
}

// untag removes the tags that ixmage gave the user.
func (t *task) untag(ctx context.Context) error {
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(t.prov.Tags)), func(key string) bool {
		return slices.Contains(t.prov.Adopted.Tags, key)
	})
	keys = append(keys, policy.TagGeneration)
	client := t.iam()
	return t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, t.caller().write("iam:UntagUser", t.prov.User.Name), client.UntagUser,
			&iam.UntagUserInput{UserName: aws.String(t.prov.User.Name), TagKeys: keys})
		return done(err)
	})
}

// ownPolicies are the names of the inline policies that an adopted user had.
func ownPolicies(p *alias.Provisioned) []string {
	if p.Adopted == nil {
		return nil
	}
	isARN := func(name string) bool { return strings.Contains(name, ":") }
	return slices.DeleteFunc(slices.Clone(p.Adopted.Policies), isARN)
}

// hadManaged reports whether a managed policy that an adopted user had has a document.
func (c caller) hadManaged(ctx context.Context, p *alias.Provisioned, attached []string, want []byte) (bool, error) {
	if p.Adopted == nil {
		return false, nil
	}
	for _, arn := range p.Adopted.Policies {
		if !slices.Contains(attached, arn) {
			continue
		}
		found, err := c.readManaged(ctx, arn)
		if err != nil && !isGone(err) {
			return false, err
		}
		if err == nil && policy.Same(found.document, want) {
			return true, nil
		}
	}
	return false, nil
}
