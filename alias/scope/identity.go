package scope

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
)

// Identity is what IAM shows of the user of a key to the server's own credentials. A part that
// could not be read is empty, and in Unread.
type Identity struct {
	Name string
	ARN  string
	// Policies are its inline and managed policies, and for a user that ixmage did not make also
	// those of its groups. The policies with which AWS marks a leaked key are left out: they
	// only deny.
	Policies     []PolicyText
	Groups       []string
	BoundaryARN  string      // of its permissions boundary; empty for none
	BoundaryText *PolicyText // its document; nil if it was not needed: see RestsOnBoundary

	Password         bool
	OtherKeys        []string // ids of its access keys but for those of the credential
	KeptKey          string   // one of them, which the user had before ixmage took it over
	OtherCredentials []string // such as "an SSH key (APKA…)"
	// Leaked are the policies that AWS attaches to the user of a key that it found in public.
	Leaked []string

	// Foreign are the policies that another client gave a user of ours, and Changed those of
	// ours whose document is not the one that ixmage wrote.
	Foreign, Changed []string

	Unread []Unread
}

// Part is a part of an Identity.
type Part string

// Parts of an Identity. The names are those of the checks that rest on them.
const (
	PartUser        Part = NameBoundary // the user itself, with its boundary
	PartInline      Part = NamePolicies
	PartManaged     Part = "managed-policies"
	PartGroups      Part = NameGroups
	PartPassword    Part = NamePassword
	PartKeys        Part = NameOtherKeys
	PartCredentials Part = NameServiceCredentials
)

// Unread is a part of an Identity that could not be read.
type Unread struct {
	Part           Part
	NotImplemented bool   // the server has no such call
	Detail         string // names the missing permission
}

// Names of the checks that only the control plane can make.
const (
	NamePolicies           = "policies"            // the rights of all policies of the user
	NameGroups             = "groups"              // its groups
	NameBoundary           = "boundary"            // its permissions boundary
	NameServiceCredentials = "service-credentials" // SSH keys, certificates, MFA devices, API keys
	NameLeaked             = "leaked"              // AWS found a key of the user in public
)

// decision makes the checks of one identity.
type decision struct {
	*Identity

	target *Target
	at     time.Time
	rights Rights
	out    ControlPlane
	// notTried are the parts that the server has no call for.
	notTried []alias.NotTried
}

// RestsOnBoundary reports whether the boundary of the user decides what the key may do, so that
// its document is needed.
func (id *Identity) RestsOnBoundary(t *Target) bool {
	p := Policies{User: id.Name, Texts: id.Policies}
	return id.BoundaryARN != "" && len(p.beyond(needsOf(t)).Beyond) > 0
}

// ControlPlane decides what an identity proves for a target.
func (id *Identity) ControlPlane(t *Target, at time.Time) (*ControlPlane, []alias.NotTried) {
	p := Policies{User: id.Name, Texts: id.Policies, Boundary: id.BoundaryText}
	if id.BoundaryARN != "" && p.Boundary == nil {
		p.Boundary = &PolicyText{Name: id.BoundaryARN}
	}
	d := &decision{Identity: id, target: t, at: at, rights: p.beyond(needsOf(t))}
	d.out.Whole = !d.lacks(PartInline) && !d.lacks(PartManaged) && !d.lacks(PartGroups) &&
		len(d.rights.Unread)+len(d.rights.Unlimited) == 0 && (!d.made() || len(d.Groups) == 0)
	d.policies()
	d.groups()
	d.boundary()
	d.actions(actionRules(), "policy of its user")
	d.password()
	d.otherKeys()
	d.credentials()
	if len(id.Leaked) > 0 {
		d.add(NameLeaked, alias.VerdictViolated, strings.Join(id.Leaked, ", "),
			"AWS found a key of this user in public and attached this policy: rotate the key with emergency, "+
				"then detach the policy")
	}
	return &d.out, d.notTried
}

// made reports whether ixmage made the user.
func (d *decision) made() bool { return d.target.Mode != "" }

func (d *decision) add(name string, v alias.Verdict, got, detail string) {
	d.out.Checks = append(d.out.Checks, alias.Check{
		Name: name, Expected: d.expected(name), Got: got, Verdict: v, Detail: detail, At: d.at,
		Evidence: alias.EvidenceControlPlane,
	})
}

// Words of a check of rights.
const (
	gotNeeded  = "what the alias needs"
	gotAllowed = "allowed"
	gotRefused = "not allowed"
	gotNone    = "none"
	gotUnread  = "unread" // the check could not be made
)

// expected is what a check expects to get.
func (d *decision) expected(name string) string {
	switch {
	case name == NamePolicies, name == NameSessionPolicy, name == NameRolePolicy:
		return gotNeeded
	case name == NameRoleTrust:
		return gotTrusted
	case name == NameBoundary:
		return cmp.Or(d.target.User.Boundary, gotNone)
	case !slices.ContainsFunc(actionRules(), func(r actionRule) bool { return r.name == name }):
		return gotNone
	case rules[name].wide && d.target.readsAll():
		return "what AmazonS3ReadOnlyAccess allows"
	}
	return gotRefused
}

// lacks reports whether a part could not be read.
func (d *decision) lacks(part Part) bool {
	return slices.ContainsFunc(d.Unread, func(u Unread) bool { return u.Part == part })
}

// unread handles a check whose part could not be read, and reports whether that is so.
func (d *decision) unread(part Part, what string) bool {
	if !d.lacks(part) {
		return false
	}
	if detail, ok := d.denied(part); ok {
		d.add(checkOf(part), alias.VerdictNotProven, gotUnread, what+" is unknown: "+detail)
	} else {
		d.skip(part)
	}
	return true
}

// denied is the reason why a part that the server has a call for could not be read.
func (d *decision) denied(part Part) (detail string, ok bool) {
	for _, u := range d.Unread {
		if u.Part == part && !u.NotImplemented {
			return u.Detail, true
		}
	}
	return "", false
}

// skip notes a part that the server has no call for. It is no check.
func (d *decision) skip(part Part) {
	d.notTried = append(d.notTried, alias.NotTried{Name: string(part), Why: alias.WhyNotImplemented})
}

func checkOf(part Part) string {
	if part == PartManaged {
		return NamePolicies
	}
	return string(part)
}

func (d *decision) policies() {
	const unknown = "what its policies allow"
	more := listRights(d.rights.Beyond)
	switch r := d.rights; {
	case more != "":
		d.add(NamePolicies, alias.VerdictViolated, "more", "its policies allow more than the alias needs: "+more)
	case len(d.Foreign) > 0:
		d.add(NamePolicies, alias.VerdictViolated, "another policy",
			"another client gave its user "+strings.Join(d.Foreign, ", "))
	case d.unread(PartInline, unknown), d.managedDenied() && d.unread(PartManaged, unknown):
	case len(r.Unlimited) > 0:
		d.add(NamePolicies, alias.VerdictNotProven, gotUnread, "its policies allow "+listRights(r.Unlimited)+
			"; whether the boundary "+plainARN(d.BoundaryARN)+" takes that away is unknown"+d.boundaryUnread())
	case len(r.Unread) > 0:
		d.add(NamePolicies, alias.VerdictNotProven, gotUnread,
			"could not be read or understood: "+strings.Join(r.Unread, ", "))
	default:
		d.narrow()
	}
}

// narrow makes the check of policies that allow no more than the alias needs.
func (d *decision) narrow() {
	switch {
	case len(d.Changed) > 0:
		d.add(NamePolicies, alias.VerdictWeak, "another document", "another client changed "+
			strings.Join(d.Changed, ", ")+", which allows nothing more than the alias needs")
	case len(d.rights.Bounded) > 0:
		d.add(NamePolicies, alias.VerdictProven, gotNeeded, "its policies allow more, and its boundary "+
			plainARN(d.BoundaryARN)+" takes that away: "+listRights(d.rights.Bounded)+"; the proof rests on the boundary")
	default:
		d.add(NamePolicies, alias.VerdictProven, gotNeeded, "its policies allow what the alias needs and nothing else")
	}
}

// managedDenied reports whether there may be managed policies that could not be listed. A server
// without the call has none: its inline policies are all there is.
func (d *decision) managedDenied() bool {
	_, denied := d.denied(PartManaged)
	if !denied && d.lacks(PartManaged) {
		d.skip(PartManaged)
	}
	return denied
}

func (d *decision) boundaryUnread() string {
	if detail, ok := d.denied(PartUser); ok {
		return ": " + detail
	}
	return ", because its document could not be read"
}

// listRights describes the first rights of a list.
func listRights(rights []Right) string {
	const most = 5
	list := make([]string, 0, most)
	for _, r := range rights[:min(len(rights), most)] {
		list = append(list, r.String())
	}
	text := strings.Join(list, "; ")
	if len(rights) > most {
		text += fmt.Sprintf("; and %d more", len(rights)-most)
	}
	return text
}

func (d *decision) groups() {
	switch names := strings.Join(d.Groups, ", "); {
	case d.unread(PartGroups, "whether its user is in a group, and what that may do,"):
	case len(d.Groups) == 0:
		d.add(NameGroups, alias.VerdictProven, gotNone, "its user is in no group")
	case d.made():
		d.add(NameGroups, alias.VerdictViolated, names, "another client put its user into a group, whose rights it has")
	default:
		d.add(NameGroups, alias.VerdictProven, names, "the policies of these groups count among those of its user; "+
			"who may change a group may change the rights of the key")
	}
}

// boundary compares the boundary of a user that ixmage made with the one that it was given.
func (d *decision) boundary() {
	want := d.target.User.Boundary
	if !d.made() || want == "" && d.BoundaryARN == "" && !d.lacks(PartUser) {
		return
	}
	switch got := cmp.Or(plainARN(d.BoundaryARN), gotNone); {
	case d.unread(PartUser, "which permissions boundary its user has"):
	case want != d.BoundaryARN:
		d.add(NameBoundary, alias.VerdictViolated, got, "another client changed the permissions boundary of its user")
	default:
		d.add(NameBoundary, alias.VerdictProven, got, "its user has the permissions boundary that it was given")
	}
}

// actionRule is a check of one kind of call, for which the probes are denied calls.
type actionRule struct {
	name    string
	actions []string
	on      func(*decision) string // the resources, as a pattern
}

func anything(*decision) string { return "*" }

func anyUser(*decision) string { return "arn:aws*:iam::*:user/*" }

func itself(d *decision) string {
	if strings.ContainsAny(d.ARN, "*?") || !strings.HasPrefix(d.ARN, "arn:") {
		return anyUser(d)
	}
	return d.ARN
}

func bucket(d *decision) string { return "arn:aws*:s3:::" + d.target.Location.Bucket }

func actionRules() []actionRule {
	return []actionRule{
		{NameListBuckets, []string{"s3:ListAllMyBuckets"}, anything},
		{NameBucketPolicy, []string{"s3:GetBucketPolicy"}, bucket},
		{NameIAMSelf, []string{"iam:GetUser"}, itself},
		{NameIAMKeys, []string{"iam:ListAccessKeys"}, itself},
		{NameIAMCreateKey, []string{"iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey"}, anyUser},
		{NameIAMOwnRights, []string{
			"iam:PutUserPolicy", "iam:AttachUserPolicy", "iam:DetachUserPolicy", "iam:DeleteUserPolicy",
			"iam:PutUserPermissionsBoundary", "iam:DeleteUserPermissionsBoundary",
			"iam:CreateLoginProfile", "iam:UpdateLoginProfile", "iam:CreateServiceSpecificCredential",
		}, itself},
		{NameIAMOwnRights, []string{
			"iam:AddUserToGroup", "iam:PutGroupPolicy", "iam:AttachGroupPolicy", "iam:CreatePolicyVersion",
			"iam:SetDefaultPolicyVersion",
		}, anything},
		{NameAssumeRole, []string{"sts:AssumeRole"}, anything},
		{NameFederation, []string{"sts:GetFederationToken"}, anything},
	}
}

// does completes "no policy allows to …" for a check.
func (t *Target) does(name string) string {
	if name == NameIAMOwnRights && t.Session.ofRole() {
		return "change the rights of its own role"
	}
	return rules[name].does
}

// actions makes the checks that stand for the probes of IAM and STS, which AWS records as denied
// calls of a new key. If not every policy was read, only a right that is there is told.
func (d *decision) actions(rules []actionRule, refuser string) {
	found := map[string]*Right{}
	var names []string
	for _, rule := range rules {
		if found[rule.name] == nil {
			found[rule.name] = d.rightTo(rule)
		}
		if !slices.Contains(names, rule.name) {
			names = append(names, rule.name)
		}
	}
	for _, name := range names {
		switch right := found[name]; {
		case right != nil:
			d.add(name, alias.VerdictViolated, gotAllowed, "this key can "+d.target.does(name)+": "+right.String())
		case !d.out.Whole:
		case d.expected(name) != gotRefused:
			d.add(name, alias.VerdictProven, "no more",
				"whether this key can "+d.target.does(name)+" was not tried; its policy may grant it")
		default:
			d.add(name, alias.VerdictProven, gotRefused, "no "+refuser+" allows to "+d.target.does(name))
		}
	}
}

// rightTo is a right beyond what the alias needs that allows an action of a rule.
func (d *decision) rightTo(rule actionRule) *Right {
	for _, r := range d.rights.Beyond {
		for _, action := range rule.actions {
			if r.may(action, rule.on(d)) {
				return &r
			}
		}
	}
	return nil
}

func (d *decision) password() {
	switch {
	case d.probed(PartPassword):
	case d.unread(PartPassword, "whether its user has a console password"):
	case d.Password:
		d.add(NamePassword, alias.VerdictViolated, "a password",
			"the user of this key has a console password, so it is probably a person and not a program")
	default:
		d.add(NamePassword, alias.VerdictProven, gotNone, "its user has no console password")
	}
}

// probed reports whether a part could not be read and a probe with the key itself asks the same.
// Only keys that an operator gave have these probes. A part that the server has no call for
// is not probed either.
func (d *decision) probed(part Part) bool {
	if d.made() || !d.lacks(part) {
		return false
	}
	if _, has := d.denied(part); !has {
		d.out.Absent = append(d.out.Absent, checkOf(part))
	}
	return true
}

func (d *decision) otherKeys() {
	switch ids := strings.Join(d.OtherKeys, ", "); {
	case d.probed(PartKeys):
	case d.unread(PartKeys, "whether its user has other keys"):
	case len(d.OtherKeys) == 0:
		d.add(NameOtherKeys, alias.VerdictProven, gotNone, "its user has no other key")
	case d.made() && !slices.Equal(d.OtherKeys, []string{d.KeptKey}):
		d.add(NameOtherKeys, alias.VerdictViolated, ids,
			"its user has keys that this server does not know, which have the same permissions")
	default:
		d.add(NameOtherKeys, alias.VerdictWeak, ids, "its user has other keys, which have the same permissions")
	}
}

func (d *decision) credentials() {
	const what = "whether its user has an MFA device, an SSH key, a certificate or a service-specific credential"
	switch list := strings.Join(d.OtherCredentials, ", "); {
	case list != "" && d.made():
		d.add(NameServiceCredentials, alias.VerdictViolated, list, "another client gave its user other credentials")
	case list != "":
		d.add(NameServiceCredentials, alias.VerdictWeak, list,
			"its user has other credentials, which have the same permissions")
	case d.unread(PartCredentials, what):
	default:
		d.add(NameServiceCredentials, alias.VerdictProven, gotNone, "its user has no credentials but access keys")
	}
}
