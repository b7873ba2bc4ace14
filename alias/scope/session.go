package scope

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// Names of the checks of sessions, which only the control plane can make.
const (
	NameSessionPolicy = "session-policy" // the session policy that STS was sent
	NameRolePolicy    = "role-policy"    // the policies of the role
	NameRoleTrust     = "role-trust"     // who may assume the role
)

// Session describes the keys of a credential that has none of its own.
type Session struct {
	Role string // ARN of its role; empty for the credentials of the server itself
	Name string // the name that STS was asked to give it
	// UserKey is the id of the key if it is one of a user, as the server's own may be; else empty.
	UserKey string
	// Sent is the session policy that STS was sent for these keys, empty for none, and Needed the
	// one that the alias needs.
	Sent, Needed string
	// Enforced says that STS and S3 are those of AWS, which enforce session policies. Of other
	// servers some ignore them, so that only probes prove what a session may do.
	Enforced bool
}

// Narrowed reports whether STS was sent a session policy.
func (s *Session) Narrowed() bool { return s != nil && s.Sent != "" }

// ofRole reports whether the keys are those of a session of a role.
func (s *Session) ofRole() bool { return s != nil && s.Role != "" }

// own reports whether the keys are those of the server itself.
func (s *Session) own() bool { return s != nil && s.Role == "" }

// arn is that of the session, as STS names it: without the path of the role.
func (s *Session) arn() string {
	partition, account := policy.ARNParts(s.Role)
	return "arn:" + partition + ":sts::" + account + ":assumed-role/" + RoleName(s.Role) + "/" + s.Name
}

// RoleName is the last part of the ARN of a role.
func RoleName(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// roleARN is that of the role; empty if there is none.
func (s *Session) roleARN() string {
	if s == nil {
		return ""
	}
	return s.Role
}

// roleOf is the name of the role in the ARN of a session, or of a role.
func roleOf(arn string) string {
	if _, after, ok := strings.Cut(arn, ":assumed-role/"); ok {
		name, _, _ := strings.Cut(after, "/")
		return name
	}
	return RoleName(arn)
}

// Role is what IAM shows of the role of a session to the server's own credentials.
type Role struct {
	Policies    []PolicyText // inline and managed ones
	BoundaryARN string       // of its permissions boundary; empty for none
	// BoundaryText is the document of the boundary. It is needed only if there is no session
	// policy.
	BoundaryText *PolicyText
	Trust        []byte // its trust policy
	Unread       []Unread
}

// Parts of a Role.
const (
	PartTrust      Part = NameRoleTrust
	PartRolePolicy Part = NameRolePolicy
)

// ControlPlane decides what is known of a session without a probe: from what STS was sent, and from
// its role, which is nil if IAM was not asked.
func (s *Session) ControlPlane(t *Target, role *Role, at time.Time) (*ControlPlane, []alias.NotTried) {
	d := &decision{Identity: &Identity{ARN: s.Role}, target: t, at: at}
	sent := PolicyText{Name: "the session policy", Text: []byte(s.Sent)}
	if s.Narrowed() {
		p := Policies{Texts: []PolicyText{sent}}
		d.rights = p.beyond(needsOf(t))
	}
	d.sessionPolicy(s)
	if role == nil {
		for _, name := range []string{NameRolePolicy, NameRoleTrust} {
			d.notTried = append(d.notTried, alias.NotTried{Name: name, Why: alias.WhyNotConfigured})
		}
	} else {
		d.Unread = role.Unread
		own := role.rights(t, sent)
		d.rolePolicy(s, own)
		d.roleTrust(s, role)
		if !s.Narrowed() {
			d.rights = own
		}
	}
	read := s.Narrowed() && s.Enforced || !s.Narrowed() && role != nil && !d.lacks(PartRolePolicy)
	d.out.Whole = read && len(d.rights.Unread)+len(d.rights.Unlimited) == 0
	d.actions(roleRules(), s.refuser())
	return &d.out, d.notTried
}

// refuser completes "no … allows to".
func (s *Session) refuser() string {
	if s.Narrowed() {
		return "statement of its session policy"
	}
	return "policy of its role"
}

// rights is what a role may do within the session policy, or else within its boundary.
func (r *Role) rights(t *Target, sent PolicyText) Rights {
	p := Policies{Texts: r.Policies, Boundary: r.BoundaryText}
	switch {
	case len(sent.Text) > 0:
		p.Boundary = &sent
	case r.BoundaryARN != "" && p.Boundary == nil:
		p.Boundary = &PolicyText{Name: r.BoundaryARN}
	}
	return p.beyond(needsOf(t))
}

// sessionPolicy compares what STS was sent with what the alias needs. A session without a policy is
// no violation by itself, because --allow-wide-scope allows it; each right that it has beyond the
// need is one.
func (d *decision) sessionPolicy(s *Session) {
	enforced := ""
	if !s.Enforced {
		enforced = "; whether this server enforces it is what the probes show"
	}
	switch more := listRights(d.rights.Beyond); {
	case !s.Narrowed():
		d.add(NameSessionPolicy, alias.VerdictWeak, gotNone,
			"STS was sent no session policy, so this session can do all that its role can")
	case more != "":
		d.add(NameSessionPolicy, alias.VerdictViolated, "more",
			"the session policy that STS was sent allows more than the alias needs: "+more)
	case len(d.rights.Unread) > 0:
		d.add(NameSessionPolicy, alias.VerdictNotProven, gotUnread,
			"the session policy that STS was sent cannot be understood")
	case !policy.Same([]byte(s.Sent), []byte(s.Needed)):
		d.add(NameSessionPolicy, alias.VerdictWeak, "another document",
			"the session policy that STS was sent is not the one that the alias needs now, and allows nothing more"+enforced)
	default:
		d.add(NameSessionPolicy, alias.VerdictProven, gotNeeded,
			"the session policy that STS was sent allows what the alias needs and nothing else"+enforced)
	}
}

// rolePolicy judges what the policies of the role allow within the session policy.
func (d *decision) rolePolicy(s *Session, own Rights) {
	unread, known := d.denied(PartRolePolicy)
	switch more := listRights(own.Beyond); {
	case more != "":
		d.add(NameRolePolicy, alias.VerdictViolated, "more",
			"its role allows more than the alias needs, and no session policy takes that away: "+more)
	case d.lacks(PartRolePolicy) && !known:
		d.skip(PartRolePolicy)
	case known || len(own.Unread)+len(own.Unlimited) > 0:
		d.unknownRole(s, NameRolePolicy, "what its role may do", cmp.Or(unread, "could not be read or understood: "+
			cmp.Or(strings.Join(own.Unread, ", "), listRights(own.Unlimited))))
	case len(own.Bounded) > 0 && s.Narrowed():
		d.add(NameRolePolicy, alias.VerdictProven, "more, which the session policy takes away",
			"its role allows more than the alias needs, and the session policy takes that away: "+listRights(own.Bounded)+
				"; the proof rests on the session policy")
	case len(own.Bounded) > 0:
		d.add(NameRolePolicy, alias.VerdictProven, gotNeeded, "its role allows more, and the boundary of the role "+
			"takes that away: "+listRights(own.Bounded)+"; the proof rests on the boundary")
	default:
		d.add(NameRolePolicy, alias.VerdictProven, gotNeeded, "its role allows what the alias needs and nothing else")
	}
}

// unknownRole adds a check of a role that could not be read. It is weak and no more if the session
// policy decides what the session may do.
func (d *decision) unknownRole(s *Session, name, what, detail string) {
	if s.Narrowed() {
		d.add(name, alias.VerdictWeak, gotUnread, what+" is unknown, but the session policy limits this session: "+detail)
		return
	}
	d.add(name, alias.VerdictNotProven, gotUnread, what+" is unknown: "+detail)
}

// roleTrust tells who may assume the role. Others who may have sessions of their own and not this
// one, as the other keys of a user are not this key: so it is weak.
func (d *decision) roleTrust(s *Session, role *Role) {
	if d.lacks(PartTrust) {
		if detail, known := d.denied(PartTrust); known {
			d.unknownRole(s, NameRoleTrust, "who may assume its role", detail)
		} else {
			d.skip(PartTrust)
		}
		return
	}
	_, account := policy.ARNParts(s.Role)
	switch named, open, err := trustOf(role.Trust, account); {
	case err != nil:
		d.add(NameRoleTrust, alias.VerdictWeak, gotUnread, "the trust policy of its role could not be understood")
	case len(open) > 0:
		d.add(NameRoleTrust, alias.VerdictWeak, "more than named identities", "the trust policy of its role lets "+
			strings.Join(open, "; ")+" assume it, who then can do all that the role can")
	default:
		d.add(NameRoleTrust, alias.VerdictProven, gotTrusted,
			"the trust policy of its role lets these assume it: "+strings.Join(named, ", "))
	}
}

// gotTrusted is what role-trust expects.
const gotTrusted = "named identities"

// roleRules are actionRules for a session of a role, which has no user.
func roleRules() []actionRule {
	own := func(d *decision) string { return d.ARN }
	return slices.Concat(slices.DeleteFunc(actionRules(), func(r actionRule) bool {
		return r.name == NameIAMSelf || r.name == NameIAMKeys || r.name == NameIAMOwnRights || r.name == NameFederation
	}), []actionRule{
		{NameIAMOwnRights, []string{
			"iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:DetachRolePolicy", "iam:DeleteRolePolicy",
			"iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary",
			"iam:UpdateAssumeRolePolicy", "iam:UpdateRole",
		}, own},
		{NameIAMOwnRights, []string{"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion"}, anything},
	})
}
