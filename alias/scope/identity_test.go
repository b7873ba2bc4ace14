package scope

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

const userARN = "arn:aws:iam::123456789012:user/ixmage/here/u"

// TestControlPlane: what IAM shows of a user, and the checks that follow. A row names what differs
// from a user with exactly the policy that its alias needs: every check of which is proven.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	for _, row := range controlPlaneRows() {
		for _, mode := range []alias.PolicyMode{alias.PolicyInline, ""} {
			t.Run(row.name+"/"+string(mode), func(t *testing.T) {
				t.Parallel()
				row.check(t, mode)
			})
		}
	}
}

var actionNames = []string{
	NameListBuckets, NameBucketPolicy, NameIAMSelf, NameIAMKeys, NameIAMCreateKey, NameIAMOwnRights, NameAssumeRole, NameFederation,
}

// eachIs gives all checks a verdict; absent means that there is no such check.
func eachIs(verdict string, names ...string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		out[name] = verdict
	}
	return out
}

const absent = ""

type controlPlaneRow struct {
	name        string
	change      func(*Identity)
	target      func(*Target)
	made, given map[string]string // what differs, for a user of ours and for a key that was given
	notTried    string
	partial     bool   // not every policy was read
	detail      string // in some check
}

func controlPlaneRows() []controlPlaneRow {
	admin := PolicyText{Name: "the inline policy admin", Text: textOf(allow("*", "*")).Text}
	self := PolicyText{Name: "the inline policy self", Text: textOf(allow("iam:PutUserPolicy,iam:CreateAccessKey", "arn:aws:iam::*:user/*/${aws:username}")).Text}
	boundary := PolicyText{Name: "b", Text: textOf(readWeb).Text}
	denied := func(part Part) Unread { return Unread{Part: part, Detail: "may not iam:X"} }
	missing := func(part Part) Unread { return Unread{Part: part, NotImplemented: true} }
	all := eachIs
	return []controlPlaneRow{
		{name: "exactly what it needs"},
		{
			name: "administrator", change: func(id *Identity) { id.Policies = append(id.Policies, admin) },
			made: all("violated", append(slices.Clone(actionNames), NamePolicies)...), detail: "* on * (statement 1 of the inline policy admin)",
		},
		{
			name: "may make itself administrator", change: func(id *Identity) { id.Policies = append(id.Policies, self) },
			made: all("violated", NamePolicies, NameIAMOwnRights, NameIAMCreateKey), detail: "iam:putuserpolicy on arn:aws:iam::*:user/*/${aws:username}",
		},
		{
			name: "another service", made: all("violated", NamePolicies), detail: "dynamodb:*",
			change: func(id *Identity) {
				id.Policies = append(id.Policies, PolicyText{Name: "x", Text: textOf(allow("dynamodb:*", "*")).Text})
			},
		},
		{
			name: "another user's keys", made: all("violated", NamePolicies, NameIAMCreateKey),
			change: func(id *Identity) {
				id.Policies = append(id.Policies, PolicyText{Name: "x", Text: textOf(allow("iam:*AccessKey", "arn:aws:iam::123456789012:user/other")).Text})
			},
		},
		{name: "foreign policy", change: func(id *Identity) { id.Foreign = []string{"a foreign inline policy (x)"} }, made: all("violated", NamePolicies), given: all("violated", NamePolicies), detail: "(x)"},
		{name: "changed policy", change: func(id *Identity) { id.Changed = []string{"the inline policy ixmage-read"} }, made: all("weak", NamePolicies), given: all("weak", NamePolicies)},
		{name: "group", change: func(id *Identity) { id.Groups = []string{"staff"} }, made: all("violated", NameGroups), given: map[string]string{}, detail: "group"},
		{
			name: "group with rights", made: all("violated", NameGroups, NamePolicies), given: all("violated", NamePolicies),
			change: func(id *Identity) {
				id.Groups = []string{"staff"}
				id.Policies = append(id.Policies, PolicyText{Name: "the inline policy y of its group staff", Text: textOf(allow("s3:Put*", "*")).Text})
			},
			detail: "of its group staff",
		},
		{name: "password", change: func(id *Identity) { id.Password = true }, made: all("violated", NamePassword)},
		{name: "another key", change: func(id *Identity) { id.OtherKeys = []string{"AKIA2"} }, made: all("violated", NameOtherKeys), given: all("weak", NameOtherKeys)},
		{name: "the key of before", change: func(id *Identity) { id.OtherKeys, id.KeptKey = []string{"AKIA2"}, "AKIA2" }, made: all("weak", NameOtherKeys)},
		{name: "the key of before and another", change: func(id *Identity) { id.OtherKeys, id.KeptKey = []string{"AKIA2", "AKIA3"}, "AKIA2" }, made: all("violated", NameOtherKeys), given: all("weak", NameOtherKeys)},
		{name: "an SSH key", change: func(id *Identity) { id.OtherCredentials = []string{"an SSH key (APKA1)"} }, made: all("violated", NameServiceCredentials), given: all("weak", NameServiceCredentials)},
		{name: "leaked", change: func(id *Identity) { id.Leaked = []string{"arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"} }, made: all("violated", NameLeaked), detail: "emergency"},

		{name: "its boundary", change: func(id *Identity) { id.BoundaryARN = "b" }, target: func(t *Target) { t.User.Boundary = "b" }, made: all("proven", NameBoundary), given: map[string]string{}},
		{name: "no boundary any more", target: func(t *Target) { t.User.Boundary = "b" }, made: all("violated", NameBoundary), given: map[string]string{}},
		{name: "another boundary", change: func(id *Identity) { id.BoundaryARN = "c" }, made: all("violated", NameBoundary), given: map[string]string{}},
		{
			name: "held by its boundary", made: map[string]string{}, detail: "the proof rests on the boundary", target: func(t *Target) { t.User.Boundary = "b" },
			change: func(id *Identity) {
				id.Policies, id.BoundaryARN, id.BoundaryText = append(id.Policies, admin), "b", &boundary
			},
		},
		{
			name: "a boundary that cannot be read", made: all("not-proven", NamePolicies), partial: true, target: func(t *Target) { t.User.Boundary = "b" },
			change: func(id *Identity) { id.Policies, id.BoundaryARN = append(id.Policies, admin), "b" },
		},

		{name: "user denied", change: func(id *Identity) { id.Unread = []Unread{denied(PartUser)} }, made: all("not-proven", NameBoundary), given: map[string]string{}, detail: "may not iam:X"},
		{name: "inline denied", partial: true, change: func(id *Identity) { id.Policies, id.Unread = nil, []Unread{denied(PartInline)} }, made: all("not-proven", NamePolicies), detail: "may not iam:X"},
		{name: "managed denied", partial: true, change: func(id *Identity) { id.Unread = []Unread{denied(PartManaged)} }, made: all("not-proven", NamePolicies), detail: "may not iam:X"},
		{name: "managed missing", partial: true, change: func(id *Identity) { id.Unread = []Unread{missing(PartManaged)} }, notTried: "managed-policies"},
		{name: "inline missing", partial: true, change: func(id *Identity) { id.Policies, id.Unread = nil, []Unread{missing(PartInline)} }, made: all(absent, NamePolicies), notTried: "policies"},
		{name: "groups denied", partial: true, change: func(id *Identity) { id.Unread = []Unread{denied(PartGroups)} }, made: all("not-proven", NameGroups), detail: "may not iam:X"},
		{name: "groups missing", partial: true, change: func(id *Identity) { id.Unread = []Unread{missing(PartGroups)} }, made: all(absent, NameGroups), notTried: "groups"},
		{name: "password denied", change: func(id *Identity) { id.Unread = []Unread{denied(PartPassword)} }, made: all("not-proven", NamePassword), given: all(absent, NamePassword)},
		{name: "keys denied", change: func(id *Identity) { id.Unread = []Unread{denied(PartKeys)} }, made: all("not-proven", NameOtherKeys), given: all(absent, NameOtherKeys)},
		{name: "credentials denied", change: func(id *Identity) { id.Unread = []Unread{missing(PartCredentials), denied(PartCredentials)} }, made: all("not-proven", NameServiceCredentials)},
		{name: "credentials missing", change: func(id *Identity) { id.Unread = []Unread{missing(PartCredentials)} }, made: all(absent, NameServiceCredentials), notTried: "service-credentials"},
		{
			name: "denied, but wide", partial: true, made: all("violated", append(slices.Clone(actionNames), NamePolicies)...),
			change: func(id *Identity) {
				id.Policies, id.Unread = append(id.Policies, admin), []Unread{denied(PartManaged)}
			},
		},
		{name: "a document that is none", partial: true, change: func(id *Identity) { id.Policies[0].Text = []byte("x") }, made: all("not-proven", NamePolicies)},
		{
			name: "read-only access", target: func(t *Target) {
				if t.Expect = alias.PolicyReadOnly; t.Mode != "" {
					t.Mode = alias.PolicyReadOnly
				}
			},
			change: func(id *Identity) {
				id.Policies = []PolicyText{{Name: "x", Text: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*","s3:Describe*","s3-object-lambda:Get*","s3-object-lambda:List*"],"Resource":"*"}]}`)}}
			},
		},
	}
}

func (row controlPlaneRow) check(t *testing.T, mode alias.PolicyMode) {
	t.Helper()
	id := &Identity{Name: "u", ARN: userARN, Policies: []PolicyText{{Name: "the inline policy ixmage-read", Text: textOf(readWeb).Text}}}
	at := &Target{Mode: mode, Location: alias.Location{Bucket: "media", Prefix: "web/"}, Grants: []alias.Grant{{Bucket: "media", Prefix: "web/"}}}
	if row.target != nil {
		row.target(at)
	}
	if row.change != nil {
		row.change(id)
	}
	want := eachIs("proven", append(slices.Clone(actionNames), NamePolicies, NameGroups, NamePassword, NameOtherKeys, NameServiceCredentials)...)
	if at.User.Boundary != "" && mode != "" {
		want[NameBoundary] = "proven"
	}
	differs := row.made
	if row.given != nil && mode == "" {
		differs = row.given
	}
	whole := !row.partial && (mode == "" || len(id.Groups) == 0)
	if !whole {
		for _, name := range actionNames {
			delete(want, name)
		}
	}
	maps.Copy(want, differs)
	maps.DeleteFunc(want, func(_, verdict string) bool { return verdict == absent })
	cp, notTried := id.ControlPlane(at, time.Unix(1, 0))
	got, details := map[string]string{}, ""
	for _, c := range cp.Checks {
		if _, twice := got[c.Name]; twice || c.Detail == "" || c.Expected == "" || c.Got == "" || c.At.IsZero() || c.Evidence != alias.EvidenceControlPlane {
			t.Errorf("check is not complete, or twice: %+v", c)
		}
		got[c.Name] = string(c.Verdict)
		details += c.Detail + "\n"
	}
	if !maps.Equal(got, want) {
		t.Errorf("checks %v\n  want %v", got, want)
	}
	if cp.Whole != whole {
		t.Errorf("whole %t", cp.Whole)
	}
	var names []string
	for _, n := range notTried {
		names = append(names, n.Name)
	}
	if strings.Join(names, " ") != row.notTried {
		t.Errorf("not tried: %q", names)
	}
	if mode != "" && !strings.Contains(details, row.detail) {
		t.Errorf("%q is not in\n%s", row.detail, details)
	}
}
