package provision

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
)

// controlPlaneTimeout bounds the reading of IAM for one verification. A client may wait for it.
const controlPlaneTimeout = 30 * time.Second

// maxPolicies bounds how many policies of one user are read. IAM allows a user 20 managed
// policies and 10 groups with 10 each.
const maxPolicies = 200

// rightsReader reads what IAM shows of the user of a key, with the documents of its policies.
type rightsReader struct {
	identityReader

	target *scope.Target
	out    scope.Identity
	left   int // policies that may still be read
}

// proof is what the control plane proves; nil where it was not asked.
type proof struct {
	*scope.ControlPlane

	notTried []alias.NotTried
}

// proveMade proves the rights of a user of ours. known are the ids of its keys in the registry.
func (r *rightsReader) proveMade(ctx context.Context, p *alias.Provisioned, known []string) (proof, error) {
	return r.prove(ctx, p.User.Name, func(id *identity) {
		r.out.Foreign, r.out.OtherKeys = id.foreignPolicies(p, r.p.managedOf(p)), otherKeys(id, known)
		if p.Adopted != nil {
			r.out.KeptKey = p.Adopted.AccessKeyID
		}
		if p.User.ID != "" && id.user.ID != "" && id.user.ID != p.User.ID {
			r.out.Foreign = append(r.out.Foreign, "its name: the user that ixmage made was deleted, and made again")
		}
		r.out.Changed = r.changed(p)
	})
}

// proveGiven proves the rights of the user of a key that an operator gave, if IAM names the user.
func (r *rightsReader) proveGiven(ctx context.Context, keyID string) (proof, error) {
	r.stranger = true
	asked := r.caller.read("iam:GetAccessKeyLastUsed", "").onKey(keyID)
	out, err := call(ctx, asked, r.iam().GetAccessKeyLastUsed,
		&iam.GetAccessKeyLastUsedInput{AccessKeyId: aws.String(keyID)})
	switch {
	case ctx.Err() != nil:
		return proof{}, ctx.Err()
	case isUnimplemented(err):
		return r.unasked(true, ""), nil
	case isGone(err):
		return r.unasked(false, "IAM of this server's account does not know the key"), nil
	case err != nil:
		return r.unasked(false, err.Error()), nil
	case !userNameForm.MatchString(aws.ToString(out.UserName)):
		return r.unasked(false, "IAM names no user for the key"), nil
	}
	return r.prove(ctx, aws.ToString(out.UserName), func(id *identity) {
		r.out.OtherKeys = otherKeys(id, []string{keyID})
		r.readGroupPolicies(ctx, id)
	})
}

// userNameForm is that of the IAM API reference.
var userNameForm = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)

func (c caller) rightsReader(t *scope.Target) *rightsReader {
	return &rightsReader{
		identityReader: identityReader{caller: c, deadline: c.p.clock.Now()}, target: t, left: maxPolicies,
	}
}

// unasked is the proof if the policies could not be asked for at all.
func (r *rightsReader) unasked(notImplemented bool, detail string) proof {
	r.out.Unread = nil
	for _, part := range []scope.Part{
		scope.PartUser, scope.PartInline, scope.PartManaged, scope.PartGroups, scope.PartPassword, scope.PartKeys,
		scope.PartCredentials,
	} {
		r.out.Unread = append(r.out.Unread, scope.Unread{Part: part, NotImplemented: notImplemented, Detail: detail})
	}
	cp, notTried := r.out.ControlPlane(r.target, r.p.clock.Now())
	// One entry for all that rests on the name of the user.
	cp.Absent = nil // unknown
	cp.Checks = slices.DeleteFunc(cp.Checks, func(c alias.Check) bool { return c.Name != scope.NamePolicies })
	notTried = slices.DeleteFunc(notTried, func(n alias.NotTried) bool { return n.Name != scope.NamePolicies })
	return proof{cp, notTried}
}

// prove reads a user and its policies and decides. more adds what depends on whose user it is.
func (r *rightsReader) prove(ctx context.Context, user string, more func(*identity)) (proof, error) {
	id, err := r.read(ctx, user)
	switch {
	case isGone(err):
		return r.unasked(false, "the IAM user "+user+" does not exist"), nil
	case err != nil:
		return proof{}, err
	}
	r.out.Name, r.out.ARN, r.out.BoundaryARN = id.user.Name, id.user.ARN, id.user.Boundary
	r.out.Password, r.out.Groups, r.out.Leaked = id.password, plainList(id.groups), plainList(id.quarantine())
	r.out.OtherCredentials = id.otherCredentials()
	for _, u := range id.unread {
		r.unread(partOf[u.action], u.err)
	}
	r.readPolicies(ctx, id)
	more(id)
	if r.out.RestsOnBoundary(r.target) {
		if text, err := r.managedText(ctx, r.out.BoundaryARN); err == nil {
			r.out.BoundaryText = &scope.PolicyText{Name: r.out.BoundaryARN, Text: text}
		} else if !r.lacks(scope.PartUser) {
			r.unread(scope.PartUser, err)
		}
	}
	if ctx.Err() != nil {
		return proof{}, ctx.Err()
	}
	cp, notTried := r.out.ControlPlane(r.target, r.p.clock.Now())
	return proof{cp, notTried}, nil
}

// partOf is the part of an identity that a call reads.
var partOf = map[string]scope.Part{
	"iam:GetUser":                        scope.PartUser,
	"iam:GetLoginProfile":                scope.PartPassword,
	"iam:ListGroupsForUser":              scope.PartGroups,
	"iam:ListMFADevices":                 scope.PartCredentials,
	"iam:ListSSHPublicKeys":              scope.PartCredentials,
	"iam:ListSigningCertificates":        scope.PartCredentials,
	"iam:ListServiceSpecificCredentials": scope.PartCredentials,
	"iam:ListUserPolicies":               scope.PartInline,
	"iam:ListAttachedUserPolicies":       scope.PartManaged,
	"iam:ListAccessKeys":                 scope.PartKeys,
}

func (r *rightsReader) lacks(part scope.Part) bool {
	return slices.ContainsFunc(r.out.Unread, func(u scope.Unread) bool { return u.Part == part })
}

func (r *rightsReader) unread(part scope.Part, err error) {
	r.out.Unread = append(r.out.Unread, scope.Unread{
		Part: part, NotImplemented: isUnimplemented(err), Detail: err.Error(),
	})
}

// readPolicies reads the documents of the user's own policies.
func (r *rightsReader) readPolicies(ctx context.Context, id *identity) {
	for _, name := range id.inline {
		text, err := r.inlineText(ctx, name)
		r.add(scope.PartInline, inlineLabel(name), text, err)
	}
	for _, arn := range id.attached {
		r.addManaged(ctx, scope.PartManaged, arn, "")
	}
}

// add adds a policy with its document, or what could not be read. A policy that is listed exists,
// so a document that cannot be read is not one that the server has no call for.
func (r *rightsReader) add(part scope.Part, name string, text []byte, err error) {
	if err != nil {
		r.out.Unread = append(r.out.Unread, scope.Unread{Part: part, Detail: name + ": " + err.Error()})
		return
	}
	r.out.Policies = append(r.out.Policies, scope.PolicyText{Name: name, Text: text})
}

var errTooMany = errors.New("it has too many policies to read")

func (r *rightsReader) take(ctx context.Context) error {
	if r.left--; r.left < 0 {
		return errTooMany
	}
	return ctx.Err()
}

func (r *rightsReader) inlineText(ctx context.Context, name string) ([]byte, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	a := r.caller.read("iam:GetUserPolicy", r.id.user.Name).onPolicy(name)
	a.exact = true
	out, err := call(ctx, a, r.iam().GetUserPolicy,
		&iam.GetUserPolicyInput{UserName: r.userName(), PolicyName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	return documentText(out.PolicyDocument)
}

func documentText(encoded *string) ([]byte, error) {
	text, err := policy.DecodeDocument(aws.ToString(encoded))
	return []byte(text), err
}

// addManaged reads a managed policy. of is the group that it is attached to.
func (r *rightsReader) addManaged(ctx context.Context, part scope.Part, arn, of string) {
	partition, _ := policy.ARNParts(r.id.user.ARN)
	readsAll := r.target.Mode == alias.PolicyReadOnly || r.target.Expect == alias.PolicyReadOnly
	if isQuarantine(arn) || readsAll && arn == policy.ReadOnlyARN(partition) {
		return // it only denies; it is what the key is meant to have, whatever AWS puts into it
	}
	text, err := r.managedText(ctx, arn)
	r.add(part, "the policy "+plainNames([]string{arn})+of, text, err)
}

func (r *rightsReader) managedText(ctx context.Context, arn string) ([]byte, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	found, err := r.readManaged(ctx, arn)
	if err != nil {
		return nil, err
	}
	return found.document, nil
}

// readGroupPolicies reads the policies of the user's groups, whose rights it has.
func (r *rightsReader) readGroupPolicies(ctx context.Context, id *identity) {
	for _, group := range id.groups {
		of := " of its group " + plainNames([]string{group})
		inline, attached, err := r.groupPolicies(ctx, group)
		if err != nil {
			r.out.Unread = append(r.out.Unread, scope.Unread{Part: scope.PartGroups, Detail: err.Error()})
		}
		for _, name := range inline {
			text, err := r.groupText(ctx, group, name)
			r.add(scope.PartGroups, inlineLabel(name)+of, text, err)
		}
		for _, arn := range attached {
			r.addManaged(ctx, scope.PartGroups, arn, of)
		}
	}
}

func (r *rightsReader) groupPolicies(ctx context.Context, group string) (inline, attached []string, err error) {
	client := r.iam()
	named := &iam.ListGroupPoliciesInput{GroupName: aws.String(group)}
	a := r.caller.read("iam:ListGroupPolicies", "").onGroup(group)
	err = readPages(&inline, func() ([]string, *page, error) {
		out, err := call(ctx, a, client.ListGroupPolicies, named)
		if err != nil {
			return nil, nil, err
		}
		return out.PolicyNames, &page{a, out.IsTruncated, out.Marker, &named.Marker}, nil
	})
	in := &iam.ListAttachedGroupPoliciesInput{GroupName: aws.String(group)}
	b := r.caller.read("iam:ListAttachedGroupPolicies", "").onGroup(group)
	err2 := readPages(&attached, func() ([]string, *page, error) {
		out, err := call(ctx, b, client.ListAttachedGroupPolicies, in)
		if err != nil {
			return nil, nil, err
		}
		return attachedARNs(out.AttachedPolicies), &page{b, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
	return inline, attached, errors.Join(err, err2)
}

func (r *rightsReader) groupText(ctx context.Context, group, name string) ([]byte, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	out, err := call(ctx, r.caller.read("iam:GetGroupPolicy", "").onGroup(group), r.iam().GetGroupPolicy,
		&iam.GetGroupPolicyInput{GroupName: aws.String(group), PolicyName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	return documentText(out.PolicyDocument)
}

// changed names the policies of ours whose document is not the one that this server wrote.
func (r *rightsReader) changed(p *alias.Provisioned) []string {
	partition, _ := policy.ARNParts(p.User.ARN)
	want := func(name string) []byte {
		switch doc, _ := policy.Document(partition, p.Grants); {
		case name == inlineLabel(policy.RevokeName):
			return []byte(policy.Revoke)
		case name == inlineLabel(policy.InlineName) && p.Mode == alias.PolicyInline:
			return doc
		}
		for _, g := range p.Grants {
			if p.Mode == alias.PolicyManaged && strings.HasSuffix(name, "/"+policy.ManagedName(g.Bucket, g.Prefix)) {
				doc, _ := policy.Managed(partition, g)
				return doc
			}
		}
		return nil
	}
	var names []string
	for _, have := range r.out.Policies {
		if doc := want(have.Name); doc != nil && !policy.Same(have.Text, doc) {
			names = append(names, have.Name)
		}
	}
	return names
}

// inlineLabel names an inline policy in messages.
func inlineLabel(name string) string { return "the inline policy " + plainNames([]string{name}) }

// otherKeys are the ids of a user's keys that are not known.
func otherKeys(id *identity, known []string) []string {
	var ids []string
	for _, k := range id.keys {
		if !slices.Contains(known, k.id) {
			ids = append(ids, k.id)
		}
	}
	return plainList(ids)
}

// otherCredentials names the credentials of a user beside its access keys and its password.
func (id *identity) otherCredentials() []string {
	var list []string
	for _, of := range []struct {
		what string
		ids  []string
	}{
		{"an MFA device", id.mfaDevices},
		{"an SSH key", id.sshKeys},
		{"a signing certificate", id.certificates},
		{"a service-specific credential", id.serviceCredentials},
	} {
		if len(of.ids) > 0 {
			list = append(list, of.what+" ("+plainNames(of.ids)+")")
		}
	}
	return list
}

// plainList is plainNames as a list.
func plainList(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	return strings.Split(plainNames(names), ", ")
}

// checked is the outcome of one round of checks with a new key.
type checked struct {
	checks   []alias.Check
	blocking []alias.Check // those of them that keep the key from being used
	notTried []alias.NotTried
}

// check runs the checks with a new key of a user of ours. Where IAM can be read, it proves what the
// key may do beside S3; else the probes do. Other keys and credentials of the user are not the
// matter of this key. The rights of a user do not change with its key, so what IAM shows of them
// does not stop a rotation: the verification tells it.
func (t *task) check(ctx context.Context, key scope.Key, target scope.Target, p *alias.Provisioned) checked {
	reading, cancel := context.WithTimeout(ctx, controlPlaneTimeout)
	defer cancel()
	r := t.caller().rightsReader(&target)
	r.onlyRights = true
	found, err := r.proveMade(reading, p, nil)
	if err == nil {
		found.Checks = slices.DeleteFunc(found.Checks, func(c alias.Check) bool {
			return c.Name == scope.NameOtherKeys || c.Name == scope.NameServiceCredentials || c.Name == scope.NameLeaked
		})
		target.ControlPlane = found.ControlPlane
	}
	var out checked
	out.checks, out.notTried = scope.Check(ctx, key, target)
	out.notTried = append(out.notTried, found.notTried...)
	out.blocking = out.checks
	if t.op.Kind == alias.OperationRotate {
		out.blocking = slices.DeleteFunc(slices.Clone(out.checks), func(c alias.Check) bool {
			return c.Evidence == alias.EvidenceControlPlane && c.Verdict == alias.VerdictViolated
		})
	}
	return out
}

// proveNow reads what IAM shows of the user of a credential, for a verification that a client waits
// for. It proves nothing while provisioning is off.
func (c caller) proveNow(ctx context.Context, of *alias.Credential, t *scope.Target) (proof, error) {
	if role, ok := of.Role(); ok {
		return c.proveSession(ctx, role, t)
	}
	id := of.AccessKeyID()
	if t.Session != nil {
		id = t.Session.UserKey
	}
	if c.p.cfg.AWS == nil || id == "" {
		return proof{}, nil
	}
	reading, cancel := context.WithTimeout(ctx, controlPlaneTimeout)
	defer cancel()
	var found proof
	var err error
	if p, ok := of.Provisioned(); ok {
		found, err = c.rightsReader(t).proveMade(reading, p, knownKeys(p))
	} else if !c.p.elsewhere(t.Location) {
		found, err = c.rightsReader(t).proveGiven(reading, id)
	}
	if err != nil && ctx.Err() == nil {
		found, err = c.rightsReader(t).unasked(false, "IAM did not answer in time"), nil
	}
	return found, err
}

// knownKeys are the ids of all keys of a user of ours that the registry has.
func knownKeys(p *alias.Provisioned) []string {
	ids := append(slices.Clone(p.PendingDeletion), p.AccessKeyID)
	if p.Previous != nil {
		ids = append(ids, p.Previous.AccessKeyID)
	}
	if p.Pending != nil {
		ids = append(ids, p.Pending.AccessKeyID)
	}
	for _, s := range p.Suspects {
		ids = append(ids, s.AccessKeyID)
	}
	return ids
}
