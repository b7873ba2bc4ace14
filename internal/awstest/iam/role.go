package iam

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Role is a role. AddRole needs its name; a result of Roles is a copy.
type Role struct {
	Name, Path, ID, ARN, Description string
	Created                          time.Time
	Trust                            string        // the trust policy
	MaxSession                       time.Duration // zero: one hour
	Tags                             map[string]string
	Boundary                         string            // ARN, empty for none
	Inline                           map[string]string // documents by policy name
	Attached                         []string          // ARNs of managed policies
}

func (role *Role) entity() entity { return entity{role.Inline, role.Attached, nil, role.Boundary} }

func (role *Role) clone() *Role {
	c := *role
	c.Tags, c.Inline, c.Attached = maps.Clone(role.Tags), maps.Clone(role.Inline), slices.Clone(role.Attached)
	return &c
}

// entities are users and roles, as policies see them.
func entities(users []*User, roles []*Role) []entity {
	return append(mapped(users, (*User).entity), mapped(roles, (*Role).entity)...)
}

// roleByARN is a role as it is visible at a moment, or nil.
func (s *Server) roleByARN(arn string, now time.Time) *Role {
	for _, role := range s.roles.allVisibleAt(now) {
		if role.ARN == arn {
			return role
		}
	}
	return nil
}

// The methods below read and change roles directly, as those of direct.go do.

// AddRole makes a role, or replaces one, and returns its ARN. Path is / if it is empty;
// id, ARN and time of creation are given by the account. The trust policy may name users
// and roles that do not exist yet.
func (s *Server) AddRole(role Role) string {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	made := role.clone()
	made.Path = cmp.Or(role.Path, "/")
	made.ID, made.ARN, made.Created = uniqueID("AROA", 17), s.arn("role"+made.Path+role.Name), now
	made.MaxSession = cmp.Or(role.MaxSession, time.Hour)
	s.checkRoleLocked(made)
	s.roles.set(made.Name, made, time.Time{})
	return made.ARN
}

// checkRoleLocked records what IAM would refuse in a role.
func (s *Server) checkRoleLocked(role *Role) {
	if _, err := parsePolicy(role.Trust, trustPolicy); err != nil {
		s.problemLocked("malformed trust policy of " + role.Name + ": " + err.Error())
	}
	for _, document := range role.Inline {
		s.checkPolicyLocked(document)
	}
	if role.MaxSession < time.Hour || role.MaxSession > longestSession {
		s.problemLocked("the sessions of a role may last 1 to 12 hours, not " + role.MaxSession.String())
	}
}

// Roles are the current roles, visible or not, by name.
func (s *Server) Roles() []Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	return mapped(s.roles.allLatest(), func(role *Role) Role { return *role.clone() })
}

// Role is the named role; ok is false if there is none.
func (s *Server) Role(name string) (role Role, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.roles.latest(name)
	if !ok {
		return Role{}, false
	}
	return *found.clone(), true
}

// ChangeRole calls change, which may alter anything of a role but its name. Earlier
// changes that are not visible yet become visible. Sessions live on with the new policies.
func (s *Server) ChangeRole(name string, change func(*Role)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	role, ok := s.roles.latest(name)
	if !ok {
		s.problemLocked("no role " + name)
		return
	}
	changed := role.clone()
	change(changed)
	s.checkRoleLocked(changed)
	s.roles.set(name, changed, time.Time{})
}

// RemoveRole deletes a role with its policies; its sessions end.
func (s *Server) RemoveRole(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.roles.latest(name); !ok {
		s.problemLocked("no role " + name)
		return
	}
	s.roles.remove(name, time.Time{})
}

// Trust is a trust policy that lets principals (ARNs, or * for everyone) assume a role,
// with the external id if it is not empty.
func Trust(externalID string, principals ...string) string {
	statement := map[string]any{
		"Effect": "Allow", "Principal": map[string]any{"AWS": principals}, "Action": "sts:AssumeRole",
	}
	if externalID != "" {
		statement["Condition"] = map[string]any{"StringEquals": map[string]string{"sts:ExternalId": externalID}}
	}
	return policyText(statement)
}
