package iam

import (
	"cmp"
	"encoding/base64"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// User is a user. A result of Users is a copy.
type User struct {
	Name, Path, ID, ARN string
	Created             time.Time
	Tags                map[string]string
	Boundary            string            // ARN, empty for none
	Inline              map[string]string // documents by policy name
	Attached            []string          // ARNs of managed policies
	Groups              []string

	// What other tools may have attached to it.
	LoginProfile       bool
	MFADevices         []string // serial numbers
	SSHKeys            []string // ids
	SigningCerts       []string // ids
	ServiceCredentials []string // ids
}

func (u *User) entity() entity { return entity{u.Inline, u.Attached, u.Groups, u.Boundary} }

func (u *User) clone() *User {
	c := *u
	c.Tags, c.Inline = maps.Clone(u.Tags), maps.Clone(u.Inline)
	for _, list := range []*[]string{
		&c.Attached, &c.Groups, &c.MFADevices, &c.SSHKeys, &c.SigningCerts, &c.ServiceCredentials,
	} {
		*list = slices.Clone(*list)
	}
	return &c
}

var (
	nameForm = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	pathForm = regexp.MustCompile(`^(/|/[\x21-\x7e]+/)$`)
)

type xmlBoundary struct{ PermissionsBoundaryType, PermissionsBoundaryArn string }

type xmlUser struct {
	Path, UserName      string
	UserID              string `xml:"UserId"`
	Arn, CreateDate     string
	PermissionsBoundary *xmlBoundary `xml:",omitempty"`
	Tags                *xmlTags     `xml:",omitempty"`
}

// xmlPage ends each answer that is a list.
type xmlPage struct {
	IsTruncated bool
	Marker      string `xml:",omitempty"`
}

func listedUser(u *User) xmlUser {
	return xmlUser{Path: u.Path, UserName: u.Name, UserID: u.ID, Arn: u.ARN, CreateDate: date(u.Created)}
}

func fullUser(u *User) xmlUser {
	out := listedUser(u)
	out.Tags = ownTags(u.Tags)
	if u.Boundary != "" {
		out.PermissionsBoundary = &xmlBoundary{"PermissionsBoundaryPolicy", u.Boundary}
	}
	return out
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// page is the part of a list that the request asks for. A marker is a place in
// the list by name, so that a list that changes between pages loses no entry.
func page[T any](s *Server, r *request, items []T, name func(T) string) ([]T, xmlPage, error) {
	slices.SortFunc(items, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	limit := 100
	if asked := r.params.Get("MaxItems"); asked != "" {
		n, err := strconv.Atoi(asked)
		if err != nil || n < 1 || n > 1000 {
			return nil, xmlPage{}, invalid("maxItems")
		}
		limit = n
	}
	if s.cfg.PageLimit > 0 {
		limit = min(limit, s.cfg.PageLimit)
	}
	if marker := r.params.Get("Marker"); marker != "" {
		last, err := base64.URLEncoding.DecodeString(marker)
		if err != nil {
			return nil, xmlPage{}, refusal("ValidationError", "Invalid Marker.")
		}
		items = slices.DeleteFunc(items, func(item T) bool { return name(item) <= string(last) })
	}
	switch {
	case r.fault.NoMarker:
		return items[:min(len(items), limit)], xmlPage{IsTruncated: true}, nil
	case len(items) <= limit:
		return items, xmlPage{}, nil
	}
	items = items[:limit]
	return items, xmlPage{true, base64.URLEncoding.EncodeToString([]byte(name(items[limit-1])))}, nil
}

// userName is the user that a request names, else the caller.
func (r *request) userName() string {
	if name := r.params.Get("UserName"); name != "" || r.caller.user == nil {
		return name
	}
	return r.caller.user.Name
}

// onUser is the user that a request is about.
func onUser(s *Server, r *request) target { return s.userTarget(r, r.userName()) }

func (s *Server) userTarget(r *request, name string) target {
	u, ok := s.users.visibleAt(name, r.now)
	if !ok && s.cfg.ResolveMissing {
		u, ok = s.users.lastKnown(name)
	}
	if !ok {
		return target{arn: s.arn("user/" + name)}
	}
	return target{arn: u.ARN, tags: u.Tags, boundary: u.Boundary}
}

// onNewUser is the user that a request creates.
func onNewUser(s *Server, r *request) target {
	return target{arn: s.arn("user" + cmp.Or(r.params.Get("Path"), "/") + r.params.Get("UserName"))}
}

// onAnyResource is for calls without a resource.
func onAnyResource(*Server, *request) target { return target{arn: "*"} }

// visibleUser is the user that a request is about, as it is visible now.
func (s *Server) visibleUser(r *request) (*User, error) {
	name := r.userName()
	if name == "" && r.caller.role != nil {
		return nil, refusal("ValidationError", "Must specify userName when calling with non-User credentials")
	}
	if !nameForm.MatchString(name) {
		return nil, invalid("userName")
	}
	u, ok := s.users.visibleAt(name, r.now)
	if !ok {
		return nil, noSuchUser(name)
	}
	return u, nil
}

// changeUser changes the user that a request is about, which must be visible and
// not deleted meanwhile. change gets the visible user and a copy of the current
// one, which it changes.
func (s *Server) changeUser(r *request, change func(seen, u *User) error) error {
	seen, err := s.visibleUser(r)
	if err != nil {
		return err
	}
	latest, ok := s.users.latest(seen.Name)
	if !ok || latest.ID != seen.ID {
		return noSuchUser(seen.Name)
	}
	changed := latest.clone()
	if err := change(seen, changed); err != nil {
		return err
	}
	s.users.set(seen.Name, changed, r.from)
	return nil
}

func createUser(s *Server, r *request) (any, error) {
	name, path := r.params.Get("UserName"), cmp.Or(r.params.Get("Path"), "/")
	tags, err := r.keptTags()
	switch {
	case err != nil:
		return nil, err
	case !nameForm.MatchString(name):
		return nil, invalid("userName")
	case !pathForm.MatchString(path) || len(path) > 512:
		return nil, invalid("path")
	case len(tags) > tagsQuota:
		return nil, limitExceeded("TagsPerUser", tagsQuota)
	}
	users := s.users.allLatest()
	if slices.ContainsFunc(users, func(u *User) bool { return strings.EqualFold(u.Name, name) }) {
		return nil, refusal("EntityAlreadyExists", "User with name %s already exists.", name)
	}
	if len(users) >= s.cfg.UsersQuota {
		return nil, limitExceeded("UsersPerAccount", s.cfg.UsersQuota)
	}
	u := &User{
		Name: name, Path: path, ID: uniqueID("AIDA", 17), ARN: s.arn("user" + path + name), Created: r.now,
		Tags: tags, Inline: map[string]string{},
	}
	if boundary := r.params.Get("PermissionsBoundary"); boundary != "" && !r.fault.DropBoundary {
		if _, ok := s.policies.visibleAt(boundary, r.now); !ok {
			return nil, refusal("NoSuchEntity", "Scope ARN: %s does not exist or is not attachable.", boundary)
		}
		u.Boundary = boundary
	}
	s.users.set(name, u, r.from)
	return struct{ User xmlUser }{fullUser(u)}, nil
}

func getUser(s *Server, r *request) (any, error) {
	if r.userName() == "" && r.caller.root {
		return struct{ User xmlUser }{xmlUser{UserID: s.cfg.Account, Arn: s.arn("root"), CreateDate: date(r.now)}}, nil
	}
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	return struct{ User xmlUser }{fullUser(u)}, nil
}

func listUsers(s *Server, r *request) (any, error) {
	prefix := cmp.Or(r.params.Get("PathPrefix"), "/")
	if !strings.HasPrefix(prefix, "/") {
		return nil, invalid("pathPrefix")
	}
	outside := func(u *User) bool { return !strings.HasPrefix(u.Path, prefix) }
	users := slices.DeleteFunc(s.users.allVisibleAt(r.now), outside)
	users, more, err := page(s, r, users, func(u *User) string { return u.Name })
	var out struct {
		Users []xmlUser `xml:"Users>member"`
		xmlPage
	}
	out.xmlPage = more
	for _, u := range users {
		out.Users = append(out.Users, listedUser(u))
	}
	return out, err
}

func deleteUser(s *Server, r *request) (any, error) {
	seen, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	u, ok := s.users.latest(seen.Name)
	if !ok || u.ID != seen.ID {
		return nil, noSuchUser(seen.Name)
	}
	// In the words of AWS, as its users report them: rebuy-de/aws-nuke issues 308, 470
	// and 671.
	for _, hangs := range []struct {
		on   bool
		text string
	}{
		{len(u.Inline) > 0, "delete policies"},
		{len(u.Attached) > 0, "detach all policies"},
		{len(s.keysOf(u)) > 0, "delete access keys"},
		{len(u.Groups) > 0, "remove users from group"},
		{u.LoginProfile, "delete login profile"},
		{len(u.MFADevices) > 0, "delete MFA device"},
		{len(u.SSHKeys) > 0, "remove referenced objects"},
		{len(u.SigningCerts) > 0, "delete certificates"},
		{len(u.ServiceCredentials) > 0, "remove referenced objects"},
	} {
		if hangs.on {
			return nil, refusal("DeleteConflict", "Cannot delete entity, must %s first.", hangs.text)
		}
	}
	s.users.remove(u.Name, r.from)
	return nil, nil //nolint:nilnil // an answer without content
}

func putUserPermissionsBoundary(s *Server, r *request) (any, error) {
	arn := r.params.Get("PermissionsBoundary")
	if _, ok := s.policies.visibleAt(arn, r.now); !ok {
		return nil, refusal("NoSuchEntity", "Scope ARN: %s does not exist or is not attachable.", arn)
	}
	return nil, s.changeUser(r, func(_, u *User) error {
		u.Boundary = arn
		return nil
	})
}

func deleteUserPermissionsBoundary(s *Server, r *request) (any, error) {
	return nil, s.changeUser(r, func(seen, u *User) error {
		if seen.Boundary == "" {
			return refusal("NoSuchEntity", "The user with name %s does not have a permissions boundary.", u.Name)
		}
		u.Boundary = ""
		return nil
	})
}
