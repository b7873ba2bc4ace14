package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
)

// adopt reads the user that a request names and records what it has, if ixmage can own it.
// It changes nothing in IAM. What the user has stays on it when the credential is removed.
func (t *task) adopt(ctx context.Context, _ decision) (string, error) {
	a, err := t.p.cfg.Registry.Alias(ctx, t.op.Alias)
	if err != nil {
		return "", &registryError{err}
	}
	target := t.p.target(a, t.prov, t.data.Request)
	var id *identity
	reader := t.caller().rightsReader(&target)
	reader.deadline = t.p.clock.Now().Add(t.p.cfg.Timing.Visible)
	found, err := reader.prove(ctx, t.prov.User.Name, func(read *identity) {
		id, target.User.Boundary = read, read.user.Boundary // refuseNames compares the boundary
	})
	switch {
	case err != nil:
		return "", err
	case id == nil:
		return "", failf(codeUserMissing, "the account has no IAM user %s: adopt names one that exists", t.prov.User.Name)
	}
	if err := id.err(); err != nil {
		return "", err
	}
	if err := t.refuseUser(ctx, a, id); err != nil {
		return "", err
	}
	if err := t.refuseRights(found); err != nil {
		return "", err
	}
	t.take(id)
	t.seen.user = userView{}
	return describeAdopted(t.prov), t.store(ctx)
}

// refuseRights refuses a user whose rights are wider than the policy of the request, or
// unknown.
func (t *task) refuseRights(found proof) error {
	for _, c := range found.Checks {
		unknown := c.Name == scope.NamePolicies && c.Verdict == alias.VerdictNotProven
		if c.Verdict == alias.VerdictViolated || unknown {
			return failf(codeScope, "the IAM user %s was not adopted and not changed: its rights are not those of "+
				"the policy %s: %s: %s; take them away, or name the policy that fits",
				t.prov.User.Name, t.prov.Mode, c.Name, c.Detail)
		}
	}
	return nil
}

// take records what a user has that ixmage adopts.
func (t *task) take(id *identity) {
	adopted := t.prov.Adopted
	adopted.Policies = append(slices.Clone(id.inline), id.attached...)
	adopted.Boundary = id.user.Boundary == "" && t.prov.User.Boundary != ""
	if len(id.keys) > 0 {
		adopted.AccessKeyID = id.keys[0].id
	}
	adopted.Tags = nil
	for _, key := range slices.Sorted(maps.Keys(t.data.Request.Tags)) {
		if _, had := id.user.tags[key]; had {
			adopted.Tags = append(adopted.Tags, key)
		}
	}
	boundary := t.prov.User.Boundary
	t.prov.User = id.user.IAMUser
	t.prov.User.Boundary = boundary
}

func describeAdopted(p *alias.Provisioned) string {
	text := "took over " + p.User.Name + " in " + p.User.Path
	if key := p.Adopted.AccessKeyID; key != "" {
		text += ", whose key " + key + " stays"
	}
	if len(p.Adopted.Policies) > 0 {
		text += ", as do its policies " + plainNames(p.Adopted.Policies)
	}
	return text
}

// refuseUser refuses a user that has what is not ours to own. Everything that is wrong is
// named at once.
func (t *task) refuseUser(ctx context.Context, a *alias.Alias, id *identity) error {
	why, err := t.ownerOf(ctx, &id.user)
	if err != nil {
		return &registryError{err}
	}
	if id.password {
		why = append(why, "it has a console password, so a person uses it")
	}
	if len(id.groups) > 0 {
		why = append(why, "it is in a group ("+plainNames(id.groups)+"), whose rights can change")
	}
	for _, what := range id.otherCredentials() {
		why = append(why, "it has "+what)
	}
	if len(id.keys) >= maxKeys {
		ids := make([]string, len(id.keys))
		for i, k := range id.keys {
			ids[i] = k.id
		}
		why = append(why, "it has two access keys ("+plainNames(ids)+"), and a user has at most two: "+
			"delete the one that nothing uses")
	}
	for _, refuse := range []func(context.Context, *alias.Alias, *identity) (string, error){t.refuseKey, t.refuseInline} {
		text, err := refuse(ctx, a, id)
		if err != nil {
			return err
		}
		if text != "" {
			why = append(why, text)
		}
	}
	if why = append(why, t.refuseNames(id)...); len(why) == 0 {
		return nil
	}
	return failf(codeNotAdoptable, "the IAM user %s was not adopted and not changed: %s",
		t.prov.User.Name, strings.Join(why, "; "))
}

// refuseKey refuses an alias that is served with a key of another user.
func (t *task) refuseKey(ctx context.Context, a *alias.Alias, id *identity) (string, error) {
	if t.data.Static == 0 {
		return "", nil
	}
	c, err := t.p.cfg.Registry.Credential(ctx, a.Credential)
	if err != nil {
		return "", &registryError{err}
	}
	if slices.ContainsFunc(id.keys, func(k accessKey) bool { return k.id == c.AccessKeyID() }) {
		return "", nil
	}
	return fmt.Sprintf("the alias %s is served with the key %s of the credential %s, which is no key of this user",
		a.Name, c.AccessKeyID(), c.Name), nil
}

// refuseInline refuses an inline policy with the name of ours and another document, which ours
// would replace.
func (t *task) refuseInline(ctx context.Context, _ *alias.Alias, id *identity) (string, error) {
	if t.prov.Mode != alias.PolicyInline || !slices.Contains(id.inline, policy.InlineName) {
		return "", nil
	}
	partition, _ := policy.ARNParts(id.user.ARN)
	want, err := policy.Inline(partition, t.prov.Grants)
	if err != nil {
		return "", failf(codeQuota, "%v", err)
	}
	text, err := t.caller().inlineText(ctx, id.user.Name, policy.InlineName)
	if err != nil || policy.Same(text, want) {
		return "", err
	}
	return "its inline policy " + policy.InlineName + " has the name of that of ixmage and another document: " +
		"rename it", nil
}

// refuseNames refuses a boundary, policies and tags that ixmage would have to replace.
func (t *task) refuseNames(id *identity) []string {
	var why []string
	if got, want := id.user.Boundary, t.prov.User.Boundary; got != "" && got != want {
		why = append(why, "its permissions boundary is "+plainNames([]string{got})+", and "+
			t.p.boundaryFrom(t.prov.Account)+" is "+orNone(want))
	}
	if slices.Contains(id.inline, policy.RevokeName) {
		why = append(why, "it has the inline policy "+policy.RevokeName+", with which ixmage denies sessions")
	}
	if err := policy.CheckPartition(t.data.Request.Location, id.user.ARN, ""); err != nil {
		why = append(why, err.Error())
	}
	for _, key := range slices.Sorted(maps.Keys(t.data.Request.Tags)) {
		for have, value := range id.user.tags {
			if strings.EqualFold(have, key) && (have != key || value != t.data.Request.Tags[key]) {
				why = append(why, "it has the tag "+plainNames([]string{have})+" with another value than the request")
			}
		}
	}
	return why
}

// ownerOf tells who else owns a user, by its path and its tags. Tags that a failed adoption
// left, whose credential is gone, are no owner.
func (t *task) ownerOf(ctx context.Context, u *iamUser) ([]string, error) {
	operation := u.tags[policy.TagOperation]
	switch {
	case strings.HasPrefix(u.Path, "/ixmage/"):
		return []string{"its path " + plainNames([]string{u.Path}) + " is that of an installation of ixmage"}, nil
	case u.tags[policy.TagManagedBy] != policy.ManagedBy && u.tags[policy.TagGeneration] == "":
		return nil, nil
	case u.tags[policy.TagInstall] != t.p.cfg.InstallID:
		owner := plainNames([]string{u.tags[policy.TagInstall]})
		return []string{"its tags say that the installation " + owner + " owns it"}, nil
	case operation == t.prov.Operation:
		return nil, nil
	}
	owned := false
	t.p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		owned = ok && prov.Operation == operation && prov.User.ID != ""
		return !owned
	})
	_, err := t.p.cfg.Registry.History().Operation(ctx, operation)
	if owned || errors.Is(err, alias.ErrNotFound) {
		owner := plainNames([]string{operation})
		return []string{"its tags say that the operation " + owner + " of this installation owns it"}, nil
	}
	return nil, err
}

// bound sets the permissions boundary of a user that has none.
func (t *task) bound(ctx context.Context, _ decision) (string, error) {
	client, in := t.iam(), &iam.PutUserPermissionsBoundaryInput{
		UserName: aws.String(t.prov.User.Name), PermissionsBoundary: aws.String(t.prov.User.Boundary),
	}
	write := t.caller().write("iam:PutUserPermissionsBoundary", t.prov.User.Name).onPolicy(t.prov.User.Boundary)
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, write, client.PutUserPermissionsBoundary, in)
		return err == nil, err
	})
	if isGone(err) {
		return "", t.boundaryMissing()
	}
	t.seen.user, t.seen.bounded = userView{}, err == nil
	return "", err
}

// serves reports whether an alias uses a key that an operator gave.
func (p *Provisioner) serves(keyID string) bool {
	used := false
	p.cfg.Registry.Routes(func(r alias.Route) bool {
		static, ok := r.Credential.Provider.(alias.Static)
		used = ok && static.AccessKeyID == keyID
		return !used
	})
	return used
}

// mayOpen checks that the alias still has the key that the key of an adopted user is to
// replace. While the operation runs, operators cannot give the alias another credential, but
// they can replace its key pair.
func (t *task) mayOpen(ctx context.Context) error {
	if t.data.Static == 0 {
		return nil
	}
	a, err := t.p.cfg.Registry.Alias(ctx, t.op.Alias)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return &registryError{err}
	}
	if err == nil && a.CredentialID == t.data.Static {
		c, err := t.p.cfg.Registry.Credential(ctx, a.Credential)
		if err != nil {
			return &registryError{err}
		}
		if c.AccessKeyID() == t.prov.Adopted.AccessKeyID {
			return nil
		}
	}
	return failf(codeChanged, "the key pair of the alias %s was replaced while the user %s was adopted: "+
		"repeat the request with a key of that user", t.op.Alias, t.prov.User.Name)
}

// handOver gives the alias the credential of the adopted user, in the transaction that ends
// the operation. The key pair that an operator gave is forgotten as if the alias were deleted.
func (t *task) handOver(tx alias.Tx, a *alias.Alias) ([]alias.Change, error) {
	if a.CredentialID != t.data.Static {
		return nil, fmt.Errorf("alias %s does not use the credential any more that was to be replaced", a.Name)
	}
	before := *a
	a.CredentialID, a.Credential = t.c.ID, t.c.Name
	a.Revision, a.UpdatedAt = a.Revision+1, t.now()
	if err := tx.UpdateAlias(a); err != nil {
		return nil, err
	}
	gone, err := t.p.cfg.Registry.DropOwn(tx, &before)
	return append([]alias.Change{{AliasPut: a}}, gone...), err
}
