package iam

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policy is a managed policy. A result of Policies is a copy.
type Policy struct {
	Name, Path, ID, ARN, Description string
	Created                          time.Time
	Tags                             map[string]string
	Versions                         []PolicyVersion // oldest first; the last is the default
	ByAWS                            bool            // managed by AWS, may not be changed
}

// PolicyVersion is a version of the document of a policy.
type PolicyVersion struct {
	ID, Document string
	Created      time.Time
}

// Document is that of the default version.
func (p *Policy) Document() string { return p.Versions[len(p.Versions)-1].Document }

func (p *Policy) clone() *Policy {
	c := *p
	c.Tags, c.Versions = maps.Clone(p.Tags), slices.Clone(p.Versions)
	return &c
}

// AmazonS3ReadOnlyAccess is the document of AWS's policy of that name.
const AmazonS3ReadOnlyAccess = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` +
	`"Action":["s3:Get*","s3:List*","s3:Describe*","s3-object-lambda:Get*","s3-object-lambda:List*"],` +
	`"Resource":"*"}]}`

// SelfManagedKeys is AWS's example of a policy for users who rotate their own keys:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access-keys_required-permissions.html
const SelfManagedKeys = `{"Version":"2012-10-17","Statement":[{"Sid":"CreateOwnAccessKeys","Effect":"Allow",` +
	`"Action":["iam:CreateAccessKey","iam:DeleteAccessKey","iam:GetUser","iam:ListAccessKeys","iam:UpdateAccessKey"],` +
	`"Resource":"arn:*:iam::*:user/${aws:username}"}]}`

const administratorAccess = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// quarantine is a part of the policies that AWS attaches to a user whose key it has
// found in public. They do not deny s3:GetObject:
// https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSCompromisedKeyQuarantineV3.html
const quarantine = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":["iam:AddUserToGroup",` +
	`"iam:AttachUserPolicy","iam:ChangePassword","iam:CreateAccessKey","iam:CreateLoginProfile",` +
	`"iam:CreatePolicyVersion","iam:CreateUser","iam:DetachUserPolicy","iam:PutUserPermissionsBoundary",` +
	`"iam:PutUserPolicy","iam:SetDefaultPolicyVersion","iam:UpdateAccessKey","iam:UpdateUser","s3:DeleteBucket",` +
	`"s3:DeleteObject","s3:ListAllMyBuckets","s3:PutBucketPolicy"],"Resource":["*"]}]}`

// QuarantineARN is the ARN of AWSCompromisedKeyQuarantineV3 in this partition.
func (s *Server) QuarantineARN() string { return s.awsARN("AWSCompromisedKeyQuarantineV3") }

// Quarantine attaches that policy, as AWS does when it finds a key of the user in
// public.
func (s *Server) Quarantine(user string) { s.AttachPolicy(user, s.QuarantineARN()) }

// ReadOnlyARN is the ARN of AmazonS3ReadOnlyAccess in this partition.
func (s *Server) ReadOnlyARN() string { return s.awsARN("AmazonS3ReadOnlyAccess") }

func (s *Server) awsARN(name string) string {
	return "arn:" + s.cfg.Partition + ":iam::aws:policy/" + name
}

func (s *Server) addAWSPolicies() {
	made := time.Date(2015, 2, 6, 18, 40, 59, 0, time.UTC)
	for name, text := range map[string]string{
		"AmazonS3ReadOnlyAccess": AmazonS3ReadOnlyAccess, "AdministratorAccess": administratorAccess,
		"AWSCompromisedKeyQuarantineV2": quarantine, "AWSCompromisedKeyQuarantineV3": quarantine,
	} {
		arn := s.awsARN(name)
		s.policies.set(arn, &Policy{
			Name: name, Path: "/", ID: uniqueID("ANPA", 17), ARN: arn, Created: made, ByAWS: true,
			Versions: []PolicyVersion{{"v1", text, made}},
		}, time.Time{})
	}
}

// onPolicy is the policy that a request names.
func onPolicy(s *Server, r *request) target {
	t := target{arn: r.params.Get("PolicyArn")}
	if p, ok := s.policies.visibleAt(t.arn, r.now); ok {
		t.tags = p.Tags
	}
	return t
}

// onNewPolicy is the policy that a request creates.
func onNewPolicy(s *Server, r *request) target {
	return target{arn: s.arn("policy" + cmp.Or(r.params.Get("Path"), "/") + r.params.Get("PolicyName"))}
}

// visiblePolicy is the policy that a request names: it is visible and was not
// deleted meanwhile.
func (s *Server) visiblePolicy(r *request) (*Policy, error) {
	arn := r.params.Get("PolicyArn")
	if !strings.HasPrefix(arn, "arn:") {
		return nil, refusal("InvalidInput", "ARN %s is not valid.", arn)
	}
	p, ok := s.policies.visibleAt(arn, r.now)
	if _, still := s.policies.latest(arn); !ok || !still {
		return nil, noSuchPolicy(arn)
	}
	return p, nil
}

type xmlPolicy struct {
	PolicyName                    string
	PolicyID                      string `xml:"PolicyId"`
	Arn, Path                     string
	DefaultVersionID              string `xml:"DefaultVersionId"`
	AttachmentCount               int
	PermissionsBoundaryUsageCount int
	IsAttachable                  bool
	Description                   string `xml:",omitempty"`
	CreateDate, UpdateDate        string
	Tags                          *xmlTags `xml:",omitempty"`
}

// listedPolicy is a policy without description and tags, as in lists.
func (s *Server) listedPolicy(p *Policy, now time.Time) xmlPolicy {
	in := p.Versions[len(p.Versions)-1]
	out := xmlPolicy{
		PolicyName: p.Name, PolicyID: p.ID, Arn: p.ARN, Path: p.Path, DefaultVersionID: in.ID, IsAttachable: true,
		CreateDate: date(p.Created), UpdateDate: date(in.Created),
	}
	for _, e := range entities(s.users.allVisibleAt(now), s.roles.allVisibleAt(now)) {
		if slices.Contains(e.attached, p.ARN) {
			out.AttachmentCount++
		}
		if e.boundary == p.ARN {
			out.PermissionsBoundaryUsageCount++
		}
	}
	return out
}

func (s *Server) fullPolicy(p *Policy, now time.Time) xmlPolicy {
	out := s.listedPolicy(p, now)
	out.Description, out.Tags = p.Description, ownTags(p.Tags)
	return out
}

func createPolicy(s *Server, r *request) (any, error) {
	name, path, text := r.params.Get("PolicyName"), cmp.Or(r.params.Get("Path"), "/"), r.params.Get("PolicyDocument")
	tags, err := r.keptTags()
	switch {
	case err != nil:
		return nil, err
	case len(name) > 128 || !nameForm.MatchString(name[:min(len(name), 64)]):
		return nil, invalid("policyName")
	case !pathForm.MatchString(path):
		return nil, invalid("path")
	case len(r.params.Get("Description")) > 1000:
		return nil, invalid("description")
	case len(tags) > tagsQuota:
		return nil, limitExceeded("TagsPerPolicy", tagsQuota)
	case sizeOf(text) > managedQuota:
		return nil, limitExceeded("PolicySize", managedQuota)
	}
	if err := checkIdentityPolicy(text); err != nil {
		return nil, err
	}
	for _, p := range s.policies.allLatest() {
		if !p.ByAWS && strings.EqualFold(p.Name, name) {
			return nil, refusal("EntityAlreadyExists",
				"A policy called %s already exists. Duplicate names are not allowed.", name)
		}
	}
	p := s.newPolicy(path, name, text, r.now)
	p.Description, p.Tags = r.params.Get("Description"), tags
	s.policies.set(p.ARN, p, r.from)
	return struct{ Policy xmlPolicy }{s.fullPolicy(p, r.now)}, nil
}

func (s *Server) newPolicy(path, name, text string, now time.Time) *Policy {
	return &Policy{
		Name: name, Path: path, ID: uniqueID("ANPA", 17), ARN: s.arn("policy" + path + name), Created: now,
		Versions: []PolicyVersion{{"v1", text, now}},
	}
}

func getPolicy(s *Server, r *request) (any, error) {
	p, err := s.visiblePolicy(r)
	if err != nil {
		return nil, err
	}
	return struct{ Policy xmlPolicy }{s.fullPolicy(p, r.now)}, nil
}

type xmlVersion struct {
	Document         string `xml:",omitempty"`
	VersionID        string `xml:"VersionId"`
	IsDefaultVersion bool
	CreateDate       string
}

func getPolicyVersion(s *Server, r *request) (any, error) {
	p, err := s.visiblePolicy(r)
	if err != nil {
		return nil, err
	}
	for i, v := range p.Versions {
		if v.ID == r.params.Get("VersionId") {
			return struct{ PolicyVersion xmlVersion }{
				xmlVersion{s.encoded(v.Document), v.ID, i == len(p.Versions)-1, date(v.Created)},
			}, nil
		}
	}
	return nil, refusal("NoSuchEntity", "Policy %s version %s does not exist or is not attachable.", p.ARN,
		r.params.Get("VersionId"))
}

// createPolicyVersion makes every new version the default.
func createPolicyVersion(s *Server, r *request) (any, error) {
	p, err := s.visiblePolicy(r)
	if err != nil {
		return nil, err
	}
	text := r.params.Get("PolicyDocument")
	if err := checkIdentityPolicy(text); err != nil {
		return nil, err
	}
	latest, _ := s.policies.latest(p.ARN)
	changed := latest.clone()
	v := PolicyVersion{nextVersion(changed), text, r.now}
	changed.Versions = append(changed.Versions, v)
	s.policies.set(p.ARN, changed, r.from)
	return struct{ PolicyVersion xmlVersion }{xmlVersion{"", v.ID, true, date(r.now)}}, nil
}

func listPolicyVersions(s *Server, r *request) (any, error) {
	p, err := s.visiblePolicy(r)
	if err != nil {
		return nil, err
	}
	var all []xmlVersion
	for i, v := range p.Versions {
		all = append(all, xmlVersion{VersionID: v.ID, IsDefaultVersion: i == len(p.Versions)-1, CreateDate: date(v.Created)})
	}
	some, more, err := page(s, r, all, func(v xmlVersion) string { return v.VersionID })
	return struct {
		Versions []xmlVersion `xml:"Versions>member"`
		xmlPage
	}{some, more}, err
}

func listPolicies(s *Server, r *request) (any, error) {
	scope, prefix := r.params.Get("Scope"), r.params.Get("PathPrefix")
	onlyAttached, _ := strconv.ParseBool(r.params.Get("OnlyAttached"))
	var all []xmlPolicy
	for _, p := range s.policies.allVisibleAt(r.now) {
		listed := s.listedPolicy(p, r.now)
		wrongScope := (scope == "Local" && p.ByAWS) || (scope == "AWS" && !p.ByAWS)
		if !wrongScope && strings.HasPrefix(p.Path, prefix) && (!onlyAttached || listed.AttachmentCount > 0) {
			all = append(all, listed)
		}
	}
	some, more, err := page(s, r, all, func(p xmlPolicy) string { return p.Arn })
	return struct {
		Policies []xmlPolicy `xml:"Policies>member"`
		xmlPage
	}{some, more}, err
}

func deletePolicy(s *Server, r *request) (any, error) {
	p, err := s.visiblePolicy(r)
	switch {
	case err != nil:
		return nil, err
	case p.ByAWS:
		return nil, refusal("AccessDenied", "Cannot delete policy %s: it is managed by AWS.", p.ARN)
	}
	for _, e := range entities(s.users.allLatest(), s.roles.allLatest()) {
		if slices.Contains(e.attached, p.ARN) || e.boundary == p.ARN {
			return nil, refusal("DeleteConflict", "Cannot delete a policy attached to entities.")
		}
	}
	if latest, _ := s.policies.latest(p.ARN); len(latest.Versions) > 1 {
		return nil, refusal("DeleteConflict", "This policy has more than one version. Before you delete a policy, you "+
			"must delete the policy's versions. The default version is deleted with the policy.")
	}
	s.policies.remove(p.ARN, r.from)
	return nil, nil //nolint:nilnil // an answer without content
}

func tagPolicy(s *Server, r *request) (any, error) {
	tags, err := r.keptTags()
	if err != nil {
		return nil, err
	}
	if _, err := s.visiblePolicy(r); err != nil {
		return nil, err
	}
	latest, _ := s.policies.latest(r.params.Get("PolicyArn"))
	changed := latest.clone()
	if changed.Tags = merged(changed.Tags, tags); len(changed.Tags) > tagsQuota {
		return nil, limitExceeded("TagsPerPolicy", tagsQuota)
	}
	s.policies.set(changed.ARN, changed, r.from)
	return nil, nil //nolint:nilnil // an answer without content
}

func listPolicyTags(s *Server, r *request) (any, error) {
	p, err := s.visiblePolicy(r)
	if err != nil {
		return nil, err
	}
	return pageOfTags(s, r, p.Tags)
}

func listEntitiesForPolicy(s *Server, r *request) (any, error) {
	p, err := s.visiblePolicy(r)
	if err != nil {
		return nil, err
	}
	type user struct {
		UserName string
		UserID   string `xml:"UserId"`
	}
	type role struct {
		RoleName string
		RoleID   string `xml:"RoleId"`
	}
	uses := func(e entity) bool { return slices.Contains(e.attached, p.ARN) }
	if r.params.Get("PolicyUsageFilter") == "PermissionsBoundary" {
		uses = func(e entity) bool { return e.boundary == p.ARN }
	}
	var all []user
	for _, u := range s.users.allVisibleAt(r.now) {
		if uses(u.entity()) {
			all = append(all, user{u.Name, u.ID})
		}
	}
	var roles []role // all of them on each page: a test has few
	for _, one := range s.roles.allVisibleAt(r.now) {
		if uses(one.entity()) {
			roles = append(roles, role{one.Name, one.ID})
		}
	}
	some, more, err := page(s, r, all, func(u user) string { return u.UserName })
	return struct {
		PolicyUsers []user `xml:"PolicyUsers>member"`
		PolicyRoles []role `xml:"PolicyRoles>member"`
		xmlPage
	}{some, roles, more}, err
}
