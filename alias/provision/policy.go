package provision

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// withGrant adds a location to those that a user may read.
func withGrant(p *alias.Provisioned, wanted alias.Grant) {
	if slices.ContainsFunc(p.Grants, func(g alias.Grant) bool {
		return g.Bucket == wanted.Bucket && g.Prefix == wanted.Prefix && g.KMSKeyARN == wanted.KMSKeyARN
	}) {
		return
	}
	p.Grants = append(p.Grants, wanted)
	p.ExtraGrants = slices.DeleteFunc(p.ExtraGrants, func(g alias.Grant) bool { return g == wanted })
}

// putPolicy gives the user the policy of its grants.
func (t *task) putPolicy(ctx context.Context, _ decision) (string, error) {
	if t.data.Before != nil && !t.data.Widened {
		t.data.Widened = true
		if err := t.save(ctx); err != nil {
			return "", err
		}
	}
	if err := t.grant(ctx, t.prov); err != nil {
		return "", err
	}
	// A new inline document revokes all extra grants; managed policies stay attached.
	if t.prov.Mode != alias.PolicyManaged {
		t.prov.ExtraGrants = nil
	}
	if t.prov.Mode == alias.PolicyInline && t.prov.Adopted != nil { // now it is ours
		t.prov.Adopted.Policies = slices.DeleteFunc(t.prov.Adopted.Policies,
			func(name string) bool { return name == policy.InlineName })
	}
	t.seen.put, t.seen.rights = true, viewUnknown
	return describePolicy(t.prov), t.store(ctx)
}

// lookRights compares the policy of the user with the one of its grants. A policy that is attached
// already is recorded: the process may have died before it did that.
func (t *task) lookRights(ctx context.Context, _ decision) (string, error) {
	var drift string
	var unrecorded []alias.PolicyRef
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		var err error
		if drift, err = t.caller().drift(ctx, t.prov); err == nil && drift == "" {
			unrecorded, err = t.caller().unrecorded(ctx, t.prov)
		}
		return err == nil, err
	})
	if err != nil && (t.op != nil || !isUnimplemented(err)) {
		return "", err
	}
	if len(unrecorded) > 0 {
		t.prov.Policies = append(t.prov.Policies, unrecorded...)
		if err := t.store(ctx); err != nil {
			return "", err
		}
	}
	t.seen.drift, t.seen.rights = drift, viewSame
	if drift != "" {
		t.seen.rights = viewDiffers
		return "", nil
	}
	if t.seen.put {
		return "read back, no difference", nil
	}
	return "", nil
}

// limit revokes the extra grants of the user.
func (t *task) limit(ctx context.Context, _ decision) (string, error) {
	if err := t.caller().limitGrants(ctx, t.prov); err != nil {
		return "", err
	}
	t.prov.ExtraGrants, t.seen.rights = nil, viewUnknown
	return "", t.store(ctx)
}

// grant gives a user its grants.
func (t *task) grant(ctx context.Context, p *alias.Provisioned) (err error) {
	partition, _ := policy.ARNParts(p.User.ARN)
	switch p.Mode {
	case alias.PolicyManaged:
		p.Policies, err = t.attachAll(ctx, p)
		return err
	case alias.PolicyReadOnly:
		ref := alias.PolicyRef{ARN: policy.ReadOnlyARN(partition)}
		p.Policies = []alias.PolicyRef{ref}
		return t.attach(ctx, p.User.Name, ref.ARN)
	case alias.PolicyInline:
	}
	document, err := policy.Inline(partition, p.Grants)
	if err != nil {
		return failf(codeQuota, "%v", err)
	}
	return t.caller().putInline(ctx, p.User.Name, policy.InlineName, document)
}

func describePolicy(p *alias.Provisioned) string {
	if p.Mode == alias.PolicyInline {
		return "inline policy " + policy.InlineName
	}
	arns := make([]string, len(p.Policies))
	for i, ref := range p.Policies {
		arns[i] = ref.ARN
	}
	return "attached " + strings.Join(arns, ", ")
}

// putInline puts an inline policy on the user and replaces an existing one of its name.
func (c caller) putInline(ctx context.Context, user, name string, document []byte) error {
	client := c.iam()
	return c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:PutUserPolicy", user).onPolicy(name), client.PutUserPolicy,
			&iam.PutUserPolicyInput{
				UserName: aws.String(user), PolicyName: aws.String(name), PolicyDocument: aws.String(string(document)),
			})
		if isGone(err) {
			return false, nil // IAM does not show the user yet
		}
		return err == nil, err
	})
}

// attachAll attaches one managed policy for each location.
func (t *task) attachAll(ctx context.Context, p *alias.Provisioned) ([]alias.PolicyRef, error) {
	refs := slices.Clone(p.Policies)
	for _, g := range p.Grants {
		ref, err := t.attachOne(ctx, p, g)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(refs, func(r alias.PolicyRef) bool { return r.ARN == ref.ARN }) {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// attachOne makes or finds the policy of a location and attaches it. The lock keeps a
// concurrent removal from deleting the policy before it is attached. An attached policy
// is checked again, because two locations with the same policy name and different KMS
// keys cannot share a policy.
func (t *task) attachOne(ctx context.Context, p *alias.Provisioned, g alias.Grant) (alias.PolicyRef, error) {
	arns := t.p.managedARNs(p, g)
	var ref alias.PolicyRef
	err := t.p.locked(ctx, policyLock(arns[0]), func(ctx context.Context) (err error) {
		if ref, err = t.caller().ensureManaged(ctx, arns, g); err != nil {
			return err
		}
		if ref.Ours {
			t.made = append(t.made, ref.ARN)
		}
		return t.attach(ctx, p.User.Name, ref.ARN)
	})
	return ref, err
}

// managedARNs are the ARNs that the managed policy of a location may have: the recorded one,
// or else that under our path, and that of a policy that an operator or an older version
// made.
func (p *Provisioner) managedARNs(prov *alias.Provisioned, g alias.Grant) []string {
	ours := policy.ManagedARN(prov.User.ARN, policy.UserPath(p.cfg.InstallID), g)
	byHand := policy.ManagedARN(prov.User.ARN, "/", g)
	for _, ref := range prov.Policies {
		if ref.ARN == ours || ref.ARN == byHand {
			return []string{ref.ARN}
		}
	}
	return []string{ours, byHand}
}

// ensureManaged makes the policy of a location, or checks that the existing one has the
// same document. arns are those that it may have.
func (c caller) ensureManaged(ctx context.Context, arns []string, g alias.Grant) (alias.PolicyRef, error) {
	partition, _ := policy.ARNParts(arns[0])
	document, err := policy.Managed(partition, g)
	if err != nil {
		return alias.PolicyRef{}, failf(codeQuota, "%v", err)
	}
	client, name := c.iam(), policy.ManagedName(g.Bucket, g.Prefix)
	err = c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, c.write("iam:CreatePolicy", "").onPolicy(name), client.CreatePolicy, &iam.CreatePolicyInput{
			PolicyName: aws.String(name), Path: aws.String(policy.UserPath(c.p.cfg.InstallID)),
			PolicyDocument: aws.String(string(document)), Description: aws.String(policy.ManagedDescription(g)),
			Tags: iamTags(map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: c.p.cfg.InstallID}),
		})
		return err == nil, err
	})
	if err == nil {
		return alias.PolicyRef{ARN: arns[0], Ours: true}, nil
	}
	if !isTaken(err) {
		return alias.PolicyRef{}, err
	}
	found, err := c.managed(ctx, arns)
	if err != nil {
		return alias.PolicyRef{}, err
	}
	if !policy.Same(found.document, document) {
		return alias.PolicyRef{}, failf(codeNameTaken, "the policy %s exists already: %s", found.arn,
			policy.Difference(found.document, document, found.ours))
	}
	return alias.PolicyRef{ARN: found.arn, Ours: found.ours}, nil
}

// managedPolicy is a managed policy that was read from IAM.
type managedPolicy struct {
	arn      string
	document []byte
	ours     bool
}

// managed reads the managed policy that has one of the ARNs. It waits until IAM shows it.
func (c caller) managed(ctx context.Context, arns []string) (*managedPolicy, error) {
	var found *managedPolicy
	err := c.p.until(ctx, c.p.cfg.Timing.Visible, func() (bool, error) {
		for _, arn := range arns {
			var err error
			if found, err = c.readManaged(ctx, arn); !isGone(err) {
				return err == nil, err
			}
		}
		return false, nil
	})
	return found, err
}

func (c caller) readManaged(ctx context.Context, arn string) (*managedPolicy, error) {
	client := c.iam()
	out, err := call(ctx, c.read("iam:GetPolicy", "").onPolicy(arn), client.GetPolicy,
		&iam.GetPolicyInput{PolicyArn: aws.String(arn)})
	if err != nil {
		return nil, err
	}
	version, err := call(ctx, c.read("iam:GetPolicyVersion", "").onPolicy(arn), client.GetPolicyVersion,
		&iam.GetPolicyVersionInput{PolicyArn: aws.String(arn), VersionId: out.Policy.DefaultVersionId})
	if err != nil {
		return nil, err
	}
	text, err := policy.DecodeDocument(aws.ToString(version.PolicyVersion.Document))
	if err != nil {
		return nil, failf(codeIAM, "the document of %s cannot be decoded", arn)
	}
	tags := map[string]string{}
	for _, tag := range out.Policy.Tags {
		tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return &managedPolicy{
		arn: arn, document: []byte(text),
		ours: tags[policy.TagManagedBy] == policy.ManagedBy && tags[policy.TagInstall] == c.p.cfg.InstallID,
	}, nil
}

func (t *task) attach(ctx context.Context, user, arn string) error {
	client := t.iam()
	return t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, t.caller().write("iam:AttachUserPolicy", user).onPolicy(arn), client.AttachUserPolicy,
			&iam.AttachUserPolicyInput{UserName: aws.String(user), PolicyArn: aws.String(arn)})
		if isGone(err) {
			return false, nil // IAM does not show the user or the policy yet
		}
		return err == nil, err
	})
}

// drift describes a difference between the policies of a user and the desired ones. It
// is empty if there is none.
func (c caller) drift(ctx context.Context, p *alias.Provisioned) (string, error) {
	partition, _ := policy.ARNParts(p.User.ARN)
	if p.Mode == alias.PolicyInline {
		return c.inlineDrift(ctx, p, partition)
	}
	attached, err := c.attached(ctx, p.User.Name)
	if isGone(err) {
		return "the user " + p.User.Name + " does not exist", nil
	}
	if err != nil {
		return "", err
	}
	refs := p.Policies
	if p.Mode == alias.PolicyReadOnly {
		refs = []alias.PolicyRef{{ARN: policy.ReadOnlyARN(partition)}}
	}
	for _, ref := range refs {
		if !slices.Contains(attached, ref.ARN) {
			return "the policy " + ref.ARN + " is not attached", nil
		}
	}
	if p.Mode == alias.PolicyReadOnly {
		return "", nil
	}
	for _, g := range p.Grants {
		if drift, err := c.managedDrift(ctx, p, g, attached); drift != "" || err != nil {
			return drift, err
		}
	}
	return "", nil
}

// managedDrift compares the managed policy of one location.
func (c caller) managedDrift(
	ctx context.Context, p *alias.Provisioned, g alias.Grant, attached []string,
) (string, error) {
	partition, _ := policy.ARNParts(p.User.ARN)
	arn := c.p.managedARNs(p, g)[0]
	want, err := policy.Managed(partition, g)
	if err != nil {
		return "", err
	}
	if had, err := c.hadManaged(ctx, p, attached, want); had || err != nil {
		return "", err
	}
	found, err := c.readManaged(ctx, arn)
	if isGone(err) {
		return "the policy " + arn + " does not exist", nil
	}
	if err != nil {
		return "", err
	}
	if !policy.Same(found.document, want) {
		return "the document of " + arn + " differs from the expected one", nil
	}
	if !slices.Contains(attached, arn) { // made, and not recorded before a crash
		return "the policy " + arn + " is not attached", nil
	}
	return "", nil
}

// unrecorded are the managed policies that a user without drift has for its grants, and that the
// registry does not know to be attached.
func (c caller) unrecorded(ctx context.Context, p *alias.Provisioned) ([]alias.PolicyRef, error) {
	var wanted []string
	switch partition, _ := policy.ARNParts(p.User.ARN); p.Mode {
	case alias.PolicyReadOnly:
		wanted = append(wanted, policy.ReadOnlyARN(partition))
	case alias.PolicyManaged:
		for _, g := range p.Grants {
			wanted = append(wanted, c.p.managedARNs(p, g)[0])
		}
	case alias.PolicyInline:
	}
	wanted = slices.DeleteFunc(wanted, func(arn string) bool {
		return slices.Contains(recordedARNs(p), arn) || hadPolicy(p, arn)
	})
	if len(wanted) == 0 {
		return nil, nil
	}
	attached, err := c.attached(ctx, p.User.Name)
	if err != nil {
		return nil, ignoreGone(err)
	}
	var refs []alias.PolicyRef
	for _, arn := range wanted {
		if slices.Contains(attached, arn) {
			refs = append(refs, alias.PolicyRef{ARN: arn, Ours: p.Mode == alias.PolicyManaged})
		}
	}
	return refs, nil
}

func (c caller) inlineDrift(ctx context.Context, p *alias.Provisioned, partition string) (string, error) {
	want, err := policy.Document(partition, p.Grants)
	if err != nil {
		return "", err
	}
	for _, name := range ownPolicies(p) {
		if text, err := c.inlineText(ctx, p.User.Name, name); err == nil && policy.Same(text, want) {
			return "", nil
		} else if err != nil && !isGone(err) {
			return "", err
		}
	}
	text, err := c.inlineText(ctx, p.User.Name, policy.InlineName)
	switch {
	case isGone(err):
		return "the inline policy " + policy.InlineName + " does not exist", nil
	case err != nil:
		return "", err
	case policy.Same(text, want):
		return "", nil
	}
	return "the document of the inline policy " + policy.InlineName + " differs from the expected one", nil
}

// inlineText reads an inline policy. A document that cannot be decoded differs from every other.
func (c caller) inlineText(ctx context.Context, user, name string) ([]byte, error) {
	out, err := call(ctx, c.read("iam:GetUserPolicy", user).onPolicy(name), c.iam().GetUserPolicy,
		&iam.GetUserPolicyInput{UserName: aws.String(user), PolicyName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	text, _ := documentText(out.PolicyDocument)
	return text, nil
}

// attached lists the ARNs of the managed policies on a user.
func (c caller) attached(ctx context.Context, user string) ([]string, error) {
	return c.read("iam:ListAttachedUserPolicies", user).listAttached(ctx)
}

// limitGrants revokes the extra grants of a user.
func (c caller) limitGrants(ctx context.Context, p *alias.Provisioned) error {
	if p.Mode == alias.PolicyInline {
		partition, _ := policy.ARNParts(p.User.ARN)
		document, err := policy.Document(partition, p.Grants)
		if err != nil {
			return err
		}
		return c.putInline(ctx, p.User.Name, policy.InlineName, document)
	}
	for _, arn := range c.p.extraARNs(p) {
		if err := c.removeManaged(ctx, p.User.Name, arn); err != nil {
			return err
		}
	}
	return nil
}

// extraARNs are the managed policies of a user for extra grants.
func (p *Provisioner) extraARNs(prov *alias.Provisioned) []string {
	if prov.Mode != alias.PolicyManaged {
		return nil
	}
	var arns []string
	for _, g := range prov.ExtraGrants {
		for _, arn := range p.managedARNs(prov, g) {
			if !slices.ContainsFunc(prov.Policies, func(r alias.PolicyRef) bool { return r.ARN == arn }) {
				arns = append(arns, arn)
			}
		}
	}
	return arns
}

// managedOf are the managed policies that a user may have from this server, including
// those that were not recorded before a crash.
func (p *Provisioner) managedOf(prov *alias.Provisioned) []string {
	arns := recordedARNs(prov)
	switch {
	case prov.User.ARN == "":
	case prov.Mode == alias.PolicyReadOnly:
		partition, _ := policy.ARNParts(prov.User.ARN)
		arns = append(arns, policy.ReadOnlyARN(partition))
	case prov.Mode == alias.PolicyManaged:
		for _, g := range prov.Grants {
			arns = append(arns, p.managedARNs(prov, g)...)
		}
		arns = append(arns, p.extraARNs(prov)...)
	}
	slices.Sort(arns)
	return slices.Compact(arns)
}

// recordedARNs are the managed policies that the registry says a user has.
func recordedARNs(prov *alias.Provisioned) []string {
	arns := make([]string, 0, len(prov.Policies))
	for _, ref := range prov.Policies {
		arns = append(arns, ref.ARN)
	}
	return arns
}
