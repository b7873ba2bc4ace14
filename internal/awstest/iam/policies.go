package iam

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policy is a managed policy. What Policies returns may be kept.
type Policy struct {
	Name, Path, ID, ARN, Description string
	Created                          time.Time
	Tags                             map[string]string
	Versions                         []PolicyVersion // oldest first; the last is the one in force
	ByAWS                            bool            // managed by AWS, may not be changed
}

// PolicyVersion is a document that a policy has or had.
type PolicyVersion struct {
	ID, Document string
	Created      time.Time
}

// Document is the one in force.
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

const administratorAccess = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// ReadOnlyARN is the ARN of AmazonS3ReadOnlyAccess in this partition.
func (f *Server) ReadOnlyARN() string { return f.byAWS("AmazonS3ReadOnlyAccess") }

func (f *Server) byAWS(name string) string {
	return "arn:" + f.cfg.Partition + ":iam::aws:policy/" + name
}

func (f *Server) addManagedByAWS() {
	made := time.Date(2015, 2, 6, 18, 40, 59, 0, time.UTC)
	for name, text := range map[string]string{
		"AmazonS3ReadOnlyAccess": AmazonS3ReadOnlyAccess, "AdministratorAccess": administratorAccess,
	} {
		arn := f.byAWS(name)
		f.policies.set(arn, &Policy{
			Name: name, Path: "/", ID: uniqueID("ANPA", 17), ARN: arn, Created: made, ByAWS: true,
			Versions: []PolicyVersion{{"v1", text, made}},
		}, time.Time{})
	}
}

// onPolicy is the policy that a request names.
func onPolicy(f *Server, r *iamRequest) iamTarget {
	t := iamTarget{arn: r.params.Get("PolicyArn")}
	if p, ok := f.policies.at(t.arn, r.now); ok {
		t.tags = p.Tags
	}
	return t
}

// onNewPolicy is the policy that a request makes.
func onNewPolicy(f *Server, r *iamRequest) iamTarget {
	return iamTarget{arn: f.arn("policy" + cmp.Or(r.params.Get("Path"), "/") + r.params.Get("PolicyName"))}
}

// seenPolicy is the policy that a request names: one that is seen now and
// still is.
func (f *Server) seenPolicy(r *iamRequest) (*Policy, error) {
	arn := r.params.Get("PolicyArn")
	if !strings.HasPrefix(arn, "arn:") {
		return nil, refusal("InvalidInput", "ARN %s is not valid.", arn)
	}
	p, ok := f.policies.at(arn, r.now)
	if _, still := f.policies.latest(arn); !ok || !still {
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

// listedPolicy is a policy without description and tags, as lists have it.
func (f *Server) listedPolicy(p *Policy, now time.Time) xmlPolicy {
	in := p.Versions[len(p.Versions)-1]
	out := xmlPolicy{
		PolicyName: p.Name, PolicyID: p.ID, Arn: p.ARN, Path: p.Path, DefaultVersionID: in.ID, IsAttachable: true,
		CreateDate: date(p.Created), UpdateDate: date(in.Created),
	}
	for _, u := range f.users.allAt(now) {
		if slices.Contains(u.Attached, p.ARN) {
			out.AttachmentCount++
		}
		if u.Boundary == p.ARN {
			out.PermissionsBoundaryUsageCount++
		}
	}
	return out
}

func (f *Server) fullPolicy(p *Policy, now time.Time) xmlPolicy {
	out := f.listedPolicy(p, now)
	out.Description, out.Tags = p.Description, ownTags(p.Tags)
	return out
}

func createPolicy(f *Server, r *iamRequest) (any, error) {
	name, path, text := r.params.Get("PolicyName"), cmp.Or(r.params.Get("Path"), "/"), r.params.Get("PolicyDocument")
	tags, err := r.tags()
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
	if _, err := parsePolicy(text, identityPolicy); err != nil {
		return nil, malformed(err)
	}
	for _, p := range f.policies.allLatest() {
		if !p.ByAWS && strings.EqualFold(p.Name, name) {
			return nil, refusal("EntityAlreadyExists",
				"A policy called %s already exists. Duplicate names are not allowed.", name)
		}
	}
	p := f.newPolicy(path, name, text, r.now)
	p.Description, p.Tags = r.params.Get("Description"), tags
	f.policies.set(p.ARN, p, r.from)
	return struct{ Policy xmlPolicy }{f.fullPolicy(p, r.now)}, nil
}

func (f *Server) newPolicy(path, name, text string, now time.Time) *Policy {
	return &Policy{
		Name: name, Path: path, ID: uniqueID("ANPA", 17), ARN: f.arn("policy" + path + name), Created: now,
		Versions: []PolicyVersion{{"v1", text, now}},
	}
}

func getPolicy(f *Server, r *iamRequest) (any, error) {
	p, err := f.seenPolicy(r)
	if err != nil {
		return nil, err
	}
	return struct{ Policy xmlPolicy }{f.fullPolicy(p, r.now)}, nil
}

type xmlVersion struct {
	Document         string `xml:",omitempty"`
	VersionID        string `xml:"VersionId"`
	IsDefaultVersion bool
	CreateDate       string
}

func getPolicyVersion(f *Server, r *iamRequest) (any, error) {
	p, err := f.seenPolicy(r)
	if err != nil {
		return nil, err
	}
	for i, v := range p.Versions {
		if v.ID == r.params.Get("VersionId") {
			return struct{ PolicyVersion xmlVersion }{
				xmlVersion{f.encoded(v.Document), v.ID, i == len(p.Versions)-1, date(v.Created)},
			}, nil
		}
	}
	return nil, refusal("NoSuchEntity", "Policy %s version %s does not exist or is not attachable.", p.ARN,
		r.params.Get("VersionId"))
}

// createPolicyVersion puts each version in force.
func createPolicyVersion(f *Server, r *iamRequest) (any, error) {
	p, err := f.seenPolicy(r)
	if err != nil {
		return nil, err
	}
	text := r.params.Get("PolicyDocument")
	if _, err := parsePolicy(text, identityPolicy); err != nil {
		return nil, malformed(err)
	}
	latest, _ := f.policies.latest(p.ARN)
	changed := latest.clone()
	v := PolicyVersion{nextVersion(changed), text, r.now}
	changed.Versions = append(changed.Versions, v)
	f.policies.set(p.ARN, changed, r.from)
	return struct{ PolicyVersion xmlVersion }{xmlVersion{"", v.ID, true, date(r.now)}}, nil
}

func listPolicyVersions(f *Server, r *iamRequest) (any, error) {
	p, err := f.seenPolicy(r)
	if err != nil {
		return nil, err
	}
	var all []xmlVersion
	for i, v := range p.Versions {
		all = append(all, xmlVersion{VersionID: v.ID, IsDefaultVersion: i == len(p.Versions)-1, CreateDate: date(v.Created)})
	}
	some, more, err := page(f, r, all, func(v xmlVersion) string { return v.VersionID })
	return struct {
		Versions []xmlVersion `xml:"Versions>member"`
		xmlPage
	}{some, more}, err
}

func listPolicies(f *Server, r *iamRequest) (any, error) {
	scope, prefix := r.params.Get("Scope"), r.params.Get("PathPrefix")
	onlyAttached, _ := strconv.ParseBool(r.params.Get("OnlyAttached"))
	var all []xmlPolicy
	for _, p := range f.policies.allAt(r.now) {
		listed := f.listedPolicy(p, r.now)
		wrongScope := (scope == "Local" && p.ByAWS) || (scope == "AWS" && !p.ByAWS)
		if !wrongScope && strings.HasPrefix(p.Path, prefix) && (!onlyAttached || listed.AttachmentCount > 0) {
			all = append(all, listed)
		}
	}
	some, more, err := page(f, r, all, func(p xmlPolicy) string { return p.Arn })
	return struct {
		Policies []xmlPolicy `xml:"Policies>member"`
		xmlPage
	}{some, more}, err
}

func deletePolicy(f *Server, r *iamRequest) (any, error) {
	p, err := f.seenPolicy(r)
	switch {
	case err != nil:
		return nil, err
	case p.ByAWS:
		return nil, refusal("AccessDenied", "Cannot delete policy %s: it is managed by AWS.", p.ARN)
	}
	for _, u := range f.users.allLatest() {
		if slices.Contains(u.Attached, p.ARN) || u.Boundary == p.ARN {
			return nil, refusal("DeleteConflict", "Cannot delete a policy attached to entities.")
		}
	}
	if latest, _ := f.policies.latest(p.ARN); len(latest.Versions) > 1 {
		return nil, refusal("DeleteConflict", "This policy has more than one version. Before you delete a policy, you "+
			"must delete the policy's versions. The default version is deleted with the policy.")
	}
	f.policies.remove(p.ARN, r.from)
	return nil, nil //nolint:nilnil // an answer without content
}

func tagPolicy(f *Server, r *iamRequest) (any, error) {
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if _, err := f.seenPolicy(r); err != nil {
		return nil, err
	}
	latest, _ := f.policies.latest(r.params.Get("PolicyArn"))
	changed := latest.clone()
	if changed.Tags == nil {
		changed.Tags = map[string]string{}
	}
	maps.Copy(changed.Tags, tags)
	if len(changed.Tags) > tagsQuota {
		return nil, limitExceeded("TagsPerPolicy", tagsQuota)
	}
	f.policies.set(changed.ARN, changed, r.from)
	return nil, nil //nolint:nilnil // an answer without content
}

func listPolicyTags(f *Server, r *iamRequest) (any, error) {
	p, err := f.seenPolicy(r)
	if err != nil {
		return nil, err
	}
	return pageOfTags(f, r, p.Tags)
}

func listEntitiesForPolicy(f *Server, r *iamRequest) (any, error) {
	p, err := f.seenPolicy(r)
	if err != nil {
		return nil, err
	}
	type entity struct {
		UserName string
		UserID   string `xml:"UserId"`
	}
	var all []entity
	asBoundary := r.params.Get("PolicyUsageFilter") == "PermissionsBoundary"
	for _, u := range f.users.allAt(r.now) {
		if (asBoundary && u.Boundary == p.ARN) || (!asBoundary && slices.Contains(u.Attached, p.ARN)) {
			all = append(all, entity{u.Name, u.ID})
		}
	}
	some, more, err := page(f, r, all, func(e entity) string { return e.UserName })
	return struct {
		PolicyUsers []entity `xml:"PolicyUsers>member"`
		xmlPage
	}{some, more}, err
}
