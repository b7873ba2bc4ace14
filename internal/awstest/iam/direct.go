package iam

import (
	"slices"
	"strconv"
	"time"

	"ixmage/alias"
)

// The methods of this file read and change the account directly: without calls,
// lag and authorization. One that names a missing user, key or policy fails the
// test.

// Users are the current users, visible or not, by name.
func (s *Server) Users() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return mapped(s.users.allLatest(), func(u *User) User { return *u.clone() })
}

// User is the named user; ok is false if there is none.
func (s *Server) User(name string) (u User, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.users.latest(name)
	if !ok {
		return User{}, false
	}
	return *found.clone(), true
}

// Keys are the current keys of a user, visible or not; without a name those of
// all users.
func (s *Server) Keys(user string) []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Key
	for _, k := range s.keys.allLatest() {
		if user == "" || k.User == user {
			out = append(out, *k)
		}
	}
	return out
}

// Policies are the current customer managed policies, visible or not.
func (s *Server) Policies() []Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Policy
	for _, p := range s.policies.allLatest() {
		if !p.ByAWS {
			out = append(out, *p.clone())
		}
	}
	return out
}

// AddUser makes a user with a path, an inline policy (none where document is
// empty) and a key pair, such as a provisioner.
func (s *Server) AddUser(path, name, document string) alias.KeyPair {
	now := s.cfg.Now()
	s.mu.Lock()
	u := &User{
		Name: name, Path: path, ID: uniqueID("AIDA", 17), ARN: s.arn("user" + path + name), Created: now,
		Tags: map[string]string{}, Inline: map[string]string{},
	}
	if document != "" {
		s.checkPolicyLocked(document)
		u.Inline["test"] = document
	}
	s.users.set(name, u, time.Time{})
	s.mu.Unlock()
	return s.AddKey(name)
}

func (s *Server) checkPolicyLocked(document string) {
	if _, err := parsePolicy(document, identityPolicy); err != nil {
		s.problemLocked("malformed policy: " + err.Error())
	}
}

// AddKey gives a user one more key pair, even above the quota.
func (s *Server) AddKey(user string) alias.KeyPair {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users.latest(user)
	if !ok {
		s.problemLocked("no user " + user)
		return alias.KeyPair{}
	}
	return s.newKey(u, now, time.Time{}).Pair()
}

// SetKey switches a key on or off.
func (s *Server) SetKey(id string, active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys.latest(id)
	if !ok {
		s.problemLocked("no key " + id)
		return
	}
	changed := *k
	changed.Active = active
	s.keys.set(id, &changed, time.Time{})
}

// RemoveKey deletes a key.
func (s *Server) RemoveKey(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys.remove(id, time.Time{})
}

// RemoveUser deletes a user with its keys and policies.
func (s *Server) RemoveUser(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users.latest(name)
	if !ok {
		s.problemLocked("no user " + name)
		return
	}
	for _, k := range s.keysOf(u) {
		s.keys.remove(k.ID, time.Time{})
	}
	s.users.remove(name, time.Time{})
}

// ChangeUser calls change, which may alter anything of a user but its name.
// Earlier changes that are not visible yet become visible.
func (s *Server) ChangeUser(name string, change func(*User)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users.latest(name)
	if !ok {
		s.problemLocked("no user " + name)
		return
	}
	changed := u.clone()
	change(changed)
	s.users.set(name, changed, time.Time{})
}

// AddLoginProfile gives a user a console password.
func (s *Server) AddLoginProfile(user string) {
	s.ChangeUser(user, func(u *User) { u.LoginProfile = true })
}

// SetGroupPolicy puts a policy on a group, which grants nothing before.
func (s *Server) SetGroupPolicy(group, document string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkPolicyLocked(document)
	s.groups[group] = document
}

// AddToGroup puts a user into a group.
func (s *Server) AddToGroup(user, group string) {
	s.ChangeUser(user, func(u *User) { u.Groups = append(u.Groups, group) })
}

// AttachPolicy attaches a policy that exists.
func (s *Server) AttachPolicy(user, arn string) {
	s.ChangeUser(user, func(u *User) { u.Attached = append(u.Attached, arn) })
}

// PutPolicy puts an inline policy on a user.
func (s *Server) PutPolicy(user, name, document string) {
	s.ChangeUser(user, func(u *User) {
		s.checkPolicyLocked(document)
		if u.Inline == nil {
			u.Inline = map[string]string{}
		}
		u.Inline[name] = document
	})
}

// AddPolicy makes a customer managed policy, such as a boundary, and returns
// its ARN. If the policy exists, it makes a new version.
func (s *Server) AddPolicy(path, name, document string) string {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkPolicyLocked(document)
	p := s.newPolicy(path, name, document, now)
	if have, ok := s.policies.latest(p.ARN); ok {
		p = have.clone()
		p.Versions = append(p.Versions, PolicyVersion{nextVersion(p), document, now})
	}
	s.policies.set(p.ARN, p, time.Time{})
	return p.ARN
}

// RemovePolicy deletes a customer managed policy, attached or not.
func (s *Server) RemovePolicy(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.policies.latest(arn); !ok {
		s.problemLocked("no policy " + arn)
		return
	}
	s.policies.remove(arn, time.Time{})
	for _, u := range s.users.allLatest() {
		changed := u.clone()
		changed.Attached = without(changed.Attached, arn)
		s.users.set(u.Name, changed, time.Time{})
	}
	for _, role := range s.roles.allLatest() {
		changed := role.clone()
		changed.Attached = without(changed.Attached, arn)
		s.roles.set(role.Name, changed, time.Time{})
	}
}

func nextVersion(p *Policy) string { return "v" + strconv.Itoa(len(p.Versions)+1) }

func without(list []string, item string) []string {
	return slices.DeleteFunc(list, func(have string) bool { return have == item })
}
