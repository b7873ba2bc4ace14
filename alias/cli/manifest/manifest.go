// Package manifest reads the files of ixmage apply: YAML with the aliases and credentials
// that a server should have. It reports every mistake with its line and column. Values are
// checked by the API; this package knows only the names of the fields.
package manifest

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"ixmage/alias"
	"ixmage/alias/cli/spelling"
	"ixmage/alias/client"
	"ixmage/internal/yamlfile"
)

// Problem is a mistake in a file.
type Problem = yamlfile.Problem

// Position is a place in a file.
type Position = yamlfile.Position

// Sort puts problems in the order of the files that were named, then of their lines.
func Sort(problems []Problem, files []string) { yamlfile.Sort(problems, files) }

// Manifest is what files ask for, in their order.
type Manifest struct {
	Aliases     []*Entry
	Credentials []*Entry
}

// Entry is an alias or a credential of a file.
type Entry struct {
	Kind string // alias or credential
	Name string
	// Fields are the fields of an alias that the file states, name and credential among
	// them, as the API takes them; or those of a role, and the kind of the server's own
	// credentials.
	Fields client.Object
	// KeyFile is the file with the key pair of a credential; a relative path is below the
	// folder of the manifest. Profile is that of an AWS credentials file, Expect what the
	// key is meant to be.
	KeyFile string
	Profile string
	Expect  string
	// Own is true for the credential that an alias states by its members. It has the name of
	// the alias, whose Credential it is.
	Own        bool
	Credential *Entry

	places map[string]Position // of fields; "" is the entry
}

func (e *Entry) String() string { return e.Kind + " " + e.Name }

// Problem is a problem of a field, as the API names it, or of a whole entry.
func (e *Entry) Problem(field, detail string) Problem {
	p := Problem{Entry: e.String(), Field: field, Detail: detail}
	for {
		if at, ok := e.places[field]; ok {
			p.Position = at
			return p
		}
		field = field[:max(strings.LastIndexByte(field, '.'), 0)] // the member that holds it
	}
}

// JSON is the entry as the API takes it.
func (e *Entry) JSON() client.Value { return client.Make(e.Fields) }

// Field returns the value of a field; ok is false if the file does not state it.
func (e *Entry) Field(name string) (v client.Value, ok bool) {
	for _, m := range e.Fields {
		if m.Name == name {
			return m.Value, true
		}
	}
	return v, false
}

// Fields of an alias that a file may state.
var aliasFields = []string{
	"name", "bucket", "bucket_owner", "prefix", "region", "endpoint", "path_style", "credential", "canary", "enabled",
	"ttl", "negative_ttl", "stale_while_revalidate", "stale_if_error", "cache_control", "cors_origins", "cors_headers",
	"fallback", "cache_min", "cache_max", "transforms", "access", "widths", "templates",
}

// Settable are the fields of an alias that a change may set, besides its credential.
func Settable() []string {
	return slices.DeleteFunc(slices.Clone(aliasFields), func(f string) bool { return f == "name" || f == "credential" })
}

// keptByServer are the fields that ixmage alias ls -o yaml prints and that a file cannot
// set. They are ignored, so that apply takes that output.
var keptByServer = []string{"state", "revision", "created_at", "updated_at"}

var (
	keyFileFields = []string{"key_file", "profile", "expect"}
	roleFields    = []string{
		"role_arn", "external_id", "duration", "session_policy", "source", "region", "kms_key_arn", "source_identity",
		"account",
	}
)

// RoleFields are the fields of a role, as the API names them.
func RoleFields() []string { return slices.Clone(roleFields) }

// Temporary is the kind of a credential without a key pair, role or default; else it is empty.
func (e *Entry) Temporary() alias.Kind {
	kind, _ := e.Field("kind")
	return alias.Kind(kind.Text())
}

// Parse reads one file; the caller looks for duplicates among all files. Relative key
// files are below the folder of file.
func Parse(file string, data []byte) (*Manifest, []Problem) {
	r := &reader{yamlfile.Reader{File: file}}
	m := &Manifest{}
	docs := r.Documents(data)
	if len(docs) == 0 && len(r.Problems) == 0 {
		r.Problems = append(r.Problems, Problem{
			Position: Position{File: file, Line: 1, Column: 1},
			Detail:   "the file is empty: it needs a list below aliases:, or aliases: [] for none",
		})
	}
	for _, doc := range docs {
		r.document(m, doc)
	}
	Sort(r.Problems, []string{file})
	return m, r.Problems
}

// Duplicates reports names that appear more than once.
func (m *Manifest) Duplicates() []Problem {
	return append(duplicates(m.Aliases), duplicates(m.Credentials)...)
}

func duplicates(entries []*Entry) []Problem {
	var problems []Problem
	first := map[string]*Entry{}
	for _, e := range entries {
		if was, ok := first[e.Name]; ok {
			problems = append(problems, e.Problem("name", "appears more than once, first at "+was.places["name"].String()))
			continue
		}
		first[e.Name] = e
	}
	return problems
}

// document reads the root of a document.
func (r *reader) document(m *Manifest, root *yaml.Node) {
	members, ok := r.Members(root, "the file must be a mapping with a list below aliases:")
	if !ok {
		return
	}
	found := false
	for _, f := range members {
		switch {
		case f.Key.Value == "aliases":
			r.Entries(f.Value, "aliases", func(n *yaml.Node) { r.alias(m, n) })
			found = true
		case f.Key.Value == "credentials":
			r.Entries(f.Value, "credentials", func(n *yaml.Node) { r.credential(m, n) })
			found = true
		case strings.HasPrefix(f.Key.Value, "x-"): // a place for anchors
		case slices.Contains(aliasFields, f.Key.Value):
			r.Problemf(f.Key, f.Key.Value, "is a field of an alias: write the aliases as a list below aliases:")
			found = true
		default:
			r.Problemf(f.Key, yamlfile.Cut(f.Key.Value),
				"unknown field: a file has aliases:, credentials: and, for anchors, names that begin with x-")
			found = true
		}
	}
	if !found {
		r.Problemf(root, "", "the document has neither aliases: nor credentials:")
	}
}

// alias reads an alias.
func (r *reader) alias(m *Manifest, n *yaml.Node) {
	e := &Entry{Kind: "alias", places: map[string]Position{"": r.Position(n)}}
	before := len(r.Problems)
	defer func() { r.about(before, e) }()
	members, ok := r.Members(n, "an alias must be a mapping of its fields")
	if !ok {
		return
	}
	r.name(e, members)
	for _, f := range members {
		name := f.Key.Value
		switch {
		case slices.Contains(keptByServer, name):
		case !slices.Contains(aliasFields, name):
			r.unknown(f.Key, secretHint(name), aliasFields)
		case name == "name":
			e.Fields = append(e.Fields, client.Member{Name: name, Value: client.Make(e.Name)})
		case name == "credential" && yamlfile.Resolve(f.Value).Kind == yaml.MappingNode:
			e.places[name] = r.Position(f.Value)
			r.ownCredential(m, e, f.Value)
		default:
			e.places[name] = r.Position(f.Value)
			v := r.value(f.Value, name, func(path string, n *yaml.Node) { e.places[path] = r.Position(n) })
			e.Fields = append(e.Fields, client.Member{Name: name, Value: v})
		}
	}
	for _, name := range []string{"bucket", "credential"} {
		if _, stated := e.places[name]; !stated {
			r.Problemf(n, name, "is required%s", map[string]string{"credential": ", as " + credentialForms}[name])
		}
	}
	if e.Name != "" {
		m.Aliases = append(m.Aliases, e)
	}
}

// credentialForms ends the message about a missing or invalid credential.
const credentialForms = "one of: the name of a credential; key_file: FILE with the alias's own key pair; " +
	"role_arn: ARN of a role; kind: default for the server's own credentials; null for a public bucket"

// ownCredential reads the credential that an alias states by its members: it has the
// name of the alias.
func (r *reader) ownCredential(m *Manifest, e *Entry, n *yaml.Node) {
	at := r.Position(n)
	c := &Entry{Kind: "credential", Name: e.Name, Own: true, places: map[string]Position{"": at, "name": at}}
	members, _ := r.Members(n, "")
	if !r.credentialMembers(c, members, nil) {
		r.Problemf(n, "credential", "must be %s", credentialForms)
	}
	for field, at := range c.places { // the API names them so if it registers both at once
		if field != "" {
			e.places[join("credential", field)] = at
		}
	}
	if e.Name != "" {
		m.Credentials = append(m.Credentials, c)
		e.Credential = c
		e.Fields = append(e.Fields, client.Member{Name: "credential", Value: client.Make(e.Name)})
	}
}

// credential reads an entry below credentials:.
func (r *reader) credential(m *Manifest, n *yaml.Node) {
	e := &Entry{Kind: "credential", places: map[string]Position{"": r.Position(n)}}
	before := len(r.Problems)
	defer func() { r.about(before, e) }()
	members, ok := r.Members(n, "a credential must be a mapping of its fields")
	if !ok {
		return
	}
	r.name(e, members)
	if !r.credentialMembers(e, members, []string{"name"}) {
		r.Problemf(n, "key_file", "is required: the file with the key pair; or role_arn for a role, "+
			"or kind: default for the server's own credentials")
	}
	if e.Name != "" {
		m.Credentials = append(m.Credentials, e)
	}
}

// credentialMembers reads what a credential signs with: a key file, a role or the server's own
// credentials. ok is false if the members state none of them. more are other known fields.
func (r *reader) credentialMembers(e *Entry, members []yamlfile.Member, more []string) (ok bool) {
	stated := func(name string) *yaml.Node {
		for _, f := range members {
			if f.Key.Value == name {
				return f.Value
			}
		}
		return nil
	}
	kind := alias.KindStatic
	if n := stated("kind"); n != nil {
		e.places["kind"] = r.Position(n)
		text, _ := r.Text(n, "kind")
		if kind = alias.Kind(text); kind != alias.KindRole && kind != alias.KindDefault {
			r.Problemf(n, "kind", "must be role or default: leave it out for a key pair")
			return true
		}
	} else if stated("role_arn") != nil {
		kind = alias.KindRole
	}
	if kind == alias.KindStatic {
		r.keyFile(e, members, slices.Concat(more, keyFileFields))
		return stated("key_file") != nil
	}
	r.temporary(e, members, kind, slices.Concat(more, []string{"kind"}))
	return kind == alias.KindDefault || stated("role_arn") != nil
}

// temporary reads the fields of a credential without a key pair.
func (r *reader) temporary(e *Entry, members []yamlfile.Member, kind alias.Kind, known []string) {
	if kind == alias.KindRole {
		known = slices.Concat(known, roleFields)
	}
	e.Fields = client.Object{{Name: "kind", Value: client.Make(string(kind))}}
	for _, f := range members {
		name := f.Key.Value
		switch {
		case slices.Contains(known, name):
		case slices.Contains(keyFileFields, name) || slices.Contains(roleFields, name):
			r.Problemf(f.Key, name, "a credential of the kind %s has none", kind)
		default:
			r.unknown(f.Key, secretHint(name), known)
		}
		if !slices.Contains(known, name) || !slices.Contains(roleFields, name) {
			continue
		}
		e.places[name] = r.Position(f.Value)
		v := r.value(f.Value, name, func(path string, n *yaml.Node) { e.places[path] = r.Position(n) })
		e.Fields = append(e.Fields, client.Member{Name: name, Value: v})
	}
}

// keyFile reads the fields of a key pair.
func (r *reader) keyFile(e *Entry, members []yamlfile.Member, known []string) {
	for _, f := range members {
		name := f.Key.Value
		switch {
		case slices.Contains(roleFields, name):
			r.Problemf(f.Key, name, "belongs to a role, which has a role_arn")
			continue
		case !slices.Contains(known, name):
			r.unknown(f.Key, secretHint(name), slices.Concat(known, []string{"role_arn"}))
			continue
		case name == "name":
			continue
		}
		e.places[name] = r.Position(f.Value)
		text, ok := r.Text(f.Value, name)
		switch {
		case !ok:
		case name == "expect":
			e.Expect = text
		case name == "profile":
			e.Profile = text
		case text == "":
			r.Problemf(f.Value, name, "must be the path of a file")
		case filepath.IsAbs(text):
			e.KeyFile = text
		default:
			e.KeyFile = filepath.Join(filepath.Dir(r.File), text)
		}
	}
}

// name reads the name of an entry. It stays empty if it cannot be read, with a problem.
func (r *reader) name(e *Entry, members []yamlfile.Member) {
	for _, f := range members {
		if f.Key.Value != "name" {
			continue
		}
		e.places["name"] = r.Position(f.Value)
		text, ok := r.Text(f.Value, "name")
		if ok && text == "" {
			r.Problemf(f.Value, "name", "must not be empty")
		}
		e.Name = text
		return
	}
	r.Problems = append(r.Problems, Problem{Position: e.places[""], Field: "name", Detail: "is required"})
}

// about adds an entry to the problems that were found since before.
func (r *reader) about(before int, e *Entry) {
	if e.Name != "" {
		r.About(before, e.String())
	}
}

// unknown reports a field with the known one that it resembles.
func (r *reader) unknown(key *yaml.Node, hint string, known []string) {
	if hint == "" {
		hint = "unknown field"
		if near := spelling.Closest(key.Value, known); near != "" {
			hint += fmt.Sprintf("; did you mean %s?", near)
		}
	}
	r.Problemf(key, yamlfile.Cut(key.Value), "%s", hint)
}

// secretHint is the answer to a key pair in the file.
func secretHint(field string) string {
	if strings.Contains(field, "secret") || strings.Contains(field, "access_key") {
		return "a key pair does not belong in this file: keep it in a file of its own, and name that as key_file"
	}
	return ""
}
