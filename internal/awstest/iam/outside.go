package iam

import (
	"slices"
	"strconv"
	"time"

	"ixmage/alias"
)

// The methods here look and act as somebody beside the client under test:
// without calls, without lag, without rights. What names a user, key or policy
// that is not there fails the test.

// Users are the users that are, seen or not, by name.
func (f *Server) Users() []User {
	f.mu.Lock()
	defer f.mu.Unlock()
	return mapped(f.users.allLatest(), func(u *User) User { return *u.clone() })
}

// User is one of them; ok is false where there is none.
func (f *Server) User(name string) (u User, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found, ok := f.users.latest(name)
	if !ok {
		return User{}, false
	}
	return *found.clone(), true
}

// Keys are the keys of a user that are, seen or not; without a name those of
// all users.
func (f *Server) Keys(user string) []Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Key
	for _, k := range f.keys.allLatest() {
		if user == "" || k.User == user {
			out = append(out, *k)
		}
	}
	return out
}

// Policies are the customer managed policies that are, seen or not.
func (f *Server) Policies() []Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Policy
	for _, p := range f.policies.allLatest() {
		if !p.ByAWS {
			out = append(out, *p.clone())
		}
	}
	return out
}

// AddUser makes a user with a path, an inline policy (none where document is
// empty) and a key pair, such as a provisioner.
func (f *Server) AddUser(path, name, document string) alias.KeyPair {
	now := f.cfg.Now()
	f.mu.Lock()
	u := &User{
		Name: name, Path: path, ID: uniqueID("AIDA", 17), ARN: f.arn("user" + path + name), Created: now,
		Tags: map[string]string{}, Inline: map[string]string{},
	}
	if document != "" {
		f.checkLocked(document)
		u.Inline["test"] = document
	}
	f.users.set(name, u, time.Time{})
	f.mu.Unlock()
	return f.AddKey(name)
}

func (f *Server) checkLocked(document string) {
	if _, err := parsePolicy(document, identityPolicy); err != nil {
		f.problemLocked("malformed policy: " + err.Error())
	}
}

// AddKey gives a user one more key pair, whatever the quota.
func (f *Server) AddKey(user string) alias.KeyPair {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.users.latest(user)
	if !ok {
		f.problemLocked("no user " + user)
		return alias.KeyPair{}
	}
	return f.newKey(u, now, time.Time{}).Pair()
}

// SetKey switches a key on or off.
func (f *Server) SetKey(id string, active bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, ok := f.keys.latest(id)
	if !ok {
		f.problemLocked("no key " + id)
		return
	}
	changed := *k
	changed.Active = active
	f.keys.set(id, &changed, time.Time{})
}

// RemoveKey deletes a key.
func (f *Server) RemoveKey(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys.remove(id, time.Time{})
}

// RemoveUser deletes a user and all that hangs on it.
func (f *Server) RemoveUser(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.users.latest(name)
	if !ok {
		f.problemLocked("no user " + name)
		return
	}
	for _, k := range f.keysOf(u) {
		f.keys.remove(k.ID, time.Time{})
	}
	f.users.remove(name, time.Time{})
}

// ChangeUser has change alter a user: its tags, boundary, policies and what
// hangs on it, but not its name. A change that is not seen yet becomes so.
func (f *Server) ChangeUser(name string, change func(*User)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.users.latest(name)
	if !ok {
		f.problemLocked("no user " + name)
		return
	}
	changed := u.clone()
	change(changed)
	f.users.set(name, changed, time.Time{})
}

// AddLoginProfile gives a user a console password.
func (f *Server) AddLoginProfile(user string) {
	f.ChangeUser(user, func(u *User) { u.LoginProfile = true })
}

// AddToGroup puts a user into a group, which grants nothing.
func (f *Server) AddToGroup(user, group string) {
	f.ChangeUser(user, func(u *User) { u.Groups = append(u.Groups, group) })
}

// AttachPolicy attaches a policy that exists.
func (f *Server) AttachPolicy(user, arn string) {
	f.ChangeUser(user, func(u *User) { u.Attached = append(u.Attached, arn) })
}

// PutPolicy puts an inline policy on a user.
func (f *Server) PutPolicy(user, name, document string) {
	f.ChangeUser(user, func(u *User) {
		f.checkLocked(document)
		if u.Inline == nil {
			u.Inline = map[string]string{}
		}
		u.Inline[name] = document
	})
}

// AddPolicy makes a customer managed policy, such as a boundary, and returns
// its ARN. Of one that is there it makes a new version.
func (f *Server) AddPolicy(path, name, document string) string {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checkLocked(document)
	p := f.newPolicy(path, name, document, now)
	if have, ok := f.policies.latest(p.ARN); ok {
		p = have.clone()
		p.Versions = append(p.Versions, PolicyVersion{nextVersion(p), document, now})
	}
	f.policies.set(p.ARN, p, time.Time{})
	return p.ARN
}

// RemovePolicy deletes a customer managed policy, attached or not.
func (f *Server) RemovePolicy(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.policies.latest(arn); !ok {
		f.problemLocked("no policy " + arn)
		return
	}
	f.policies.remove(arn, time.Time{})
	for _, u := range f.users.allLatest() {
		changed := u.clone()
		changed.Attached = without(changed.Attached, arn)
		f.users.set(u.Name, changed, time.Time{})
	}
}

func nextVersion(p *Policy) string { return "v" + strconv.Itoa(len(p.Versions)+1) }

func without(list []string, item string) []string {
	return slices.DeleteFunc(list, func(have string) bool { return have == item })
}
