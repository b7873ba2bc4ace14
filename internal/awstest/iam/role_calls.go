package iam

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	trustQuota      = 2048  // characters of a trust policy, without white space
	inlineRoleQuota = 10240 // characters of all inline policies of a role, likewise
)

type xmlRole struct {
	Path, RoleName           string
	RoleID                   string `xml:"RoleId"`
	Arn, CreateDate          string
	AssumeRolePolicyDocument string
	Description              string `xml:",omitempty"`
	MaxSessionDuration       int
	PermissionsBoundary      *xmlBoundary `xml:",omitempty"`
	Tags                     *xmlTags     `xml:",omitempty"`
}

// listedRole is a role without boundary and tags, as in lists.
func (s *Server) listedRole(role *Role) xmlRole {
	return xmlRole{
		Path: role.Path, RoleName: role.Name, RoleID: role.ID, Arn: role.ARN, CreateDate: date(role.Created),
		AssumeRolePolicyDocument: s.encoded(role.Trust), Description: role.Description,
		MaxSessionDuration: int(role.MaxSession / time.Second),
	}
}

func (s *Server) fullRole(role *Role) struct{ Role xmlRole } {
	out := s.listedRole(role)
	out.Tags = ownTags(role.Tags)
	if role.Boundary != "" {
		out.PermissionsBoundary = &xmlBoundary{"PermissionsBoundaryPolicy", role.Boundary}
	}
	return struct{ Role xmlRole }{out}
}

// onRole is the role that a request is about.
func onRole(s *Server, r *request) target {
	name := r.params.Get("RoleName")
	role, ok := s.roles.visibleAt(name, r.now)
	if !ok && s.cfg.ResolveMissing {
		role, ok = s.roles.lastKnown(name)
	}
	if !ok {
		return target{arn: s.arn("role/" + name)}
	}
	return target{arn: role.ARN, tags: role.Tags, boundary: role.Boundary}
}

// onNewRole is the role that a request creates.
func onNewRole(s *Server, r *request) target {
	return target{arn: s.arn("role" + cmp.Or(r.params.Get("Path"), "/") + r.params.Get("RoleName"))}
}

func noSuchRole(name string) error {
	return refusal("NoSuchEntity", "The role with name %s cannot be found.", name)
}

// visibleRole is the role that a request is about, as it is visible now.
func (s *Server) visibleRole(r *request) (*Role, error) {
	name := r.params.Get("RoleName")
	if !nameForm.MatchString(name) {
		return nil, invalid("roleName")
	}
	role, ok := s.roles.visibleAt(name, r.now)
	if !ok {
		return nil, noSuchRole(name)
	}
	return role, nil
}

// changeRole is changeUser for roles.
func (s *Server) changeRole(r *request, change func(seen, role *Role) error) error {
	seen, err := s.visibleRole(r)
	if err != nil {
		return err
	}
	latest, ok := s.roles.latest(seen.Name)
	if !ok || latest.ID != seen.ID {
		return noSuchRole(seen.Name)
	}
	changed := latest.clone()
	if err := change(seen, changed); err != nil {
		return err
	}
	s.roles.set(seen.Name, changed, r.from)
	return nil
}

// checkTrust refuses a text that IAM does not store as a trust policy, such as one that
// names a user or role of this account that does not exist.
func (s *Server) checkTrust(r *request, text string) error {
	if sizeOf(text) > trustQuota {
		return limitExceeded("ACLSizePerRole", trustQuota)
	}
	doc, err := parsePolicy(text, trustPolicy)
	if err != nil {
		return malformed(err)
	}
	for i := range doc.statements {
		for _, p := range doc.statements[i].principals {
			if !s.principalKnown(p, r.now) {
				return refusal("MalformedPolicyDocument", `Invalid principal in policy: "AWS":"%s"`, p)
			}
		}
	}
	return nil
}

// principalKnown reports whether a trust policy may name a principal.
func (s *Server) principalKnown(p string, now time.Time) bool {
	resource, own := strings.CutPrefix(p, s.arn(""))
	switch {
	case p == "*", !own, resource == "root":
		return p == "*" || accountForm.MatchString(p) || strings.HasPrefix(p, "arn:")
	case s.roleByARN(p, now) != nil:
		return true
	}
	return slices.ContainsFunc(s.users.allVisibleAt(now), func(u *User) bool { return u.ARN == p })
}

// sessionSeconds is the MaxSessionDuration of a request, or the value before it.
func (r *request) sessionSeconds(before time.Duration) (time.Duration, error) {
	asked := r.params.Get("MaxSessionDuration")
	if asked == "" {
		return before, nil
	}
	n, err := strconv.Atoi(asked)
	switch d := time.Duration(n) * time.Second; {
	case err != nil || d < time.Hour:
		return 0, constraint(asked, "maxSessionDuration", "have value greater than or equal to 3600")
	case d > longestSession:
		return 0, constraint(asked, "maxSessionDuration", "have value less than or equal to 43200")
	default:
		return d, nil
	}
}

func createRole(s *Server, r *request) (any, error) {
	name, path := r.params.Get("RoleName"), cmp.Or(r.params.Get("Path"), "/")
	trust := r.params.Get("AssumeRolePolicyDocument")
	tags, err := r.keptTags()
	switch {
	case err != nil:
		return nil, err
	case !nameForm.MatchString(name):
		return nil, invalid("roleName")
	case !pathForm.MatchString(path) || len(path) > 512:
		return nil, invalid("path")
	case len(tags) > tagsQuota:
		return nil, limitExceeded("TagsPerRole", tagsQuota)
	}
	longest, err := r.sessionSeconds(time.Hour)
	if err != nil {
		return nil, err
	}
	if err := s.checkTrust(r, trust); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(s.roles.allLatest(), func(role *Role) bool { return strings.EqualFold(role.Name, name) }) {
		return nil, refusal("EntityAlreadyExists", "Role with name %s already exists.", name)
	}
	role := &Role{
		Name: name, Path: path, ID: uniqueID("AROA", 17), ARN: s.arn("role" + path + name), Created: r.now,
		Description: r.params.Get("Description"), Trust: trust, MaxSession: longest, Tags: tags, Inline: map[string]string{},
	}
	if boundary := r.params.Get("PermissionsBoundary"); boundary != "" && !r.fault.DropBoundary {
		if err := s.attachable(boundary, r.now); err != nil {
			return nil, err
		}
		role.Boundary = boundary
	}
	s.roles.set(name, role, r.from)
	return s.fullRole(role), nil
}

// attachable refuses the ARN of a boundary that does not exist.
func (s *Server) attachable(boundary string, now time.Time) error {
	if _, ok := s.policies.visibleAt(boundary, now); !ok {
		return refusal("NoSuchEntity", "Scope ARN: %s does not exist or is not attachable.", boundary)
	}
	return nil
}

func getRole(s *Server, r *request) (any, error) {
	role, err := s.visibleRole(r)
	if err != nil {
		return nil, err
	}
	return s.fullRole(role), nil
}

func listRoles(s *Server, r *request) (any, error) {
	prefix := cmp.Or(r.params.Get("PathPrefix"), "/")
	outside := func(role *Role) bool { return !strings.HasPrefix(role.Path, prefix) }
	roles, more, err := page(s, r, slices.DeleteFunc(s.roles.allVisibleAt(r.now), outside),
		func(role *Role) string { return role.Name })
	return struct {
		Roles []xmlRole `xml:"Roles>member"`
		xmlPage
	}{mapped(roles, s.listedRole), more}, err
}

func updateRole(s *Server, r *request) (any, error) {
	err := s.changeRole(r, func(_, role *Role) error {
		if r.params.Has("Description") {
			role.Description = r.params.Get("Description")
		}
		var err error
		role.MaxSession, err = r.sessionSeconds(role.MaxSession)
		return err
	})
	return struct{}{}, err
}

func updateAssumeRolePolicy(s *Server, r *request) (any, error) {
	trust := r.params.Get("PolicyDocument")
	if err := s.checkTrust(r, trust); err != nil {
		return nil, err
	}
	return nil, s.changeRole(r, func(_, role *Role) error {
		role.Trust = trust
		return nil
	})
}

func deleteRole(s *Server, r *request) (any, error) {
	seen, err := s.visibleRole(r)
	if err != nil {
		return nil, err
	}
	role, ok := s.roles.latest(seen.Name)
	switch {
	case !ok || role.ID != seen.ID:
		return nil, noSuchRole(seen.Name)
	case len(role.Inline) > 0:
		return nil, refusal("DeleteConflict", "Cannot delete entity, must delete policies first.")
	case len(role.Attached) > 0:
		return nil, refusal("DeleteConflict", "Cannot delete entity, must detach all policies first.")
	}
	s.roles.remove(role.Name, r.from)
	return nil, nil //nolint:nilnil // an answer without content
}

func tagRole(s *Server, r *request) (any, error) {
	tags, err := r.keptTags()
	if err != nil {
		return nil, err
	}
	return nil, s.changeRole(r, func(_, role *Role) error {
		if role.Tags = merged(role.Tags, tags); len(role.Tags) > tagsQuota {
			return limitExceeded("TagsPerRole", tagsQuota)
		}
		return nil
	})
}

func untagRole(s *Server, r *request) (any, error) {
	return nil, s.changeRole(r, func(_, role *Role) error {
		role.Tags = untagged(role.Tags, r.members("TagKeys"))
		return nil
	})
}

func listRoleTags(s *Server, r *request) (any, error) {
	role, err := s.visibleRole(r)
	if err != nil {
		return nil, err
	}
	return pageOfTags(s, r, role.Tags)
}

func putRolePermissionsBoundary(s *Server, r *request) (any, error) {
	arn := r.params.Get("PermissionsBoundary")
	if err := s.attachable(arn, r.now); err != nil {
		return nil, err
	}
	return nil, s.changeRole(r, func(_, role *Role) error {
		role.Boundary = arn
		return nil
	})
}

func deleteRolePermissionsBoundary(s *Server, r *request) (any, error) {
	return nil, s.changeRole(r, func(seen, role *Role) error {
		if seen.Boundary == "" {
			return refusal("NoSuchEntity", "The role with name %s does not have a permissions boundary.", role.Name)
		}
		role.Boundary = ""
		return nil
	})
}

func noInlineOfRole(name string) error {
	return refusal("NoSuchEntity", "The role policy with name %s cannot be found.", name)
}

func putRolePolicy(s *Server, r *request) (any, error) {
	name, text := r.params.Get("PolicyName"), r.params.Get("PolicyDocument")
	if len(name) > 128 || !nameForm.MatchString(name[:min(len(name), 64)]) {
		return nil, invalid("policyName")
	}
	if _, err := s.visibleRole(r); err != nil {
		return nil, err
	}
	if err := checkIdentityPolicy(text); err != nil {
		return nil, err
	}
	return nil, s.changeRole(r, func(_, role *Role) error {
		if role.Inline == nil {
			role.Inline = map[string]string{}
		}
		role.Inline[name] = text
		size := 0
		for _, text := range role.Inline {
			size += sizeOf(text)
		}
		if size > inlineRoleQuota {
			return refusal("LimitExceeded", "Maximum policy size of %d bytes exceeded for role %s", inlineRoleQuota, role.Name)
		}
		return nil
	})
}

func getRolePolicy(s *Server, r *request) (any, error) {
	role, err := s.visibleRole(r)
	if err != nil {
		return nil, err
	}
	name := r.params.Get("PolicyName")
	text, ok := role.Inline[name]
	if !ok {
		return nil, noInlineOfRole(name)
	}
	return struct{ RoleName, PolicyName, PolicyDocument string }{role.Name, name, s.encoded(text)}, nil
}

func listRolePolicies(s *Server, r *request) (any, error) {
	role, err := s.visibleRole(r)
	if err != nil {
		return nil, err
	}
	return pageOfNames(s, r, slices.Collect(maps.Keys(role.Inline)))
}

func deleteRolePolicy(s *Server, r *request) (any, error) {
	name := r.params.Get("PolicyName")
	return nil, s.changeRole(r, func(seen, role *Role) error {
		_, wasSeen := seen.Inline[name]
		if _, still := role.Inline[name]; !wasSeen || !still {
			return noInlineOfRole(name)
		}
		delete(role.Inline, name)
		return nil
	})
}

func attachRolePolicy(s *Server, r *request) (any, error) {
	arn := r.params.Get("PolicyArn")
	if _, err := s.visiblePolicy(r); err != nil {
		return nil, err
	}
	return nil, s.changeRole(r, func(_, role *Role) error {
		if slices.Contains(role.Attached, arn) {
			return nil
		}
		if len(role.Attached) >= attachedQuota {
			return limitExceeded("PoliciesPerRole", attachedQuota)
		}
		role.Attached = append(role.Attached, arn)
		return nil
	})
}

func detachRolePolicy(s *Server, r *request) (any, error) {
	arn := r.params.Get("PolicyArn")
	return nil, s.changeRole(r, func(seen, role *Role) error {
		if !slices.Contains(seen.Attached, arn) || !slices.Contains(role.Attached, arn) {
			return refusal("NoSuchEntity", "Policy %s was not found.", arn)
		}
		role.Attached = without(role.Attached, arn)
		return nil
	})
}

func listAttachedRolePolicies(s *Server, r *request) (any, error) {
	role, err := s.visibleRole(r)
	if err != nil {
		return nil, err
	}
	return s.pageOfAttached(r, role.Attached)
}
