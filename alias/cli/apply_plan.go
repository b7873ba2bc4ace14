package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/cli/manifest"
	"ixmage/alias/cli/spelling"
	"ixmage/alias/client"
)

// planner finds the changes that make the server have what the files ask for. Each is
// tried on the server without storing it, so that the server says what would be stored:
// nothing is normalized or validated here.
type planner struct {
	*session

	manifest *manifest.Manifest
	prune    bool

	keys        map[*manifest.Entry]keyPair
	aliases     map[string]client.Value // of the server, by name
	credentials map[string]client.Value
	// pending are credentials of the files that the server does not have yet; nothing can be
	// tried with them.
	pending map[string]bool

	problems []manifest.Problem
	// conflicts are those of the problems that are no mistake of a file; code is the exit
	// status of the first.
	conflicts, code int

	changes []change
	kept    int // aliases in no file
}

// readKeys reads the key files.
func (p *planner) readKeys() {
	p.keys = map[*manifest.Entry]keyPair{}
	for _, e := range p.manifest.Credentials {
		if e.KeyFile == "" {
			continue // it has no key pair, or a problem
		}
		pair, err := readKeyFile(e.KeyFile, e.Profile, p.term.in)
		if err != nil {
			p.problems = append(p.problems, e.Problem("key_file", err.Error()))
			continue
		}
		p.keys[e] = pair
	}
}

// plan reads what the server has and finds the changes. It returns an error if the server
// cannot say what is wrong with the files.
func (p *planner) plan() error {
	var err error
	if p.aliases, err = p.byName("aliases"); err != nil {
		return err
	}
	if p.credentials, err = p.byName("credentials"); err != nil {
		return err
	}
	p.pending = map[string]bool{}
	progress := p.term.bar("checking", len(p.manifest.Credentials)+len(p.manifest.Aliases))
	defer progress.end()
	for _, e := range sourcesFirst(p.manifest.Credentials) {
		if err := p.credential(e); err != nil {
			return err
		}
		progress.add(1)
	}
	for _, e := range p.manifest.Aliases {
		if err := p.alias(e); err != nil {
			return err
		}
		progress.add(1)
	}
	return p.rest()
}

func (p *planner) byName(noun string) (map[string]client.Value, error) {
	v, err := p.list(namesOf(noun))
	if err != nil {
		return nil, err
	}
	byName := map[string]client.Value{}
	for _, e := range v.Get(noun).List() {
		byName[e.Get("name").Text()] = e
	}
	return byName, nil
}

// try makes a request without storing anything. ok is false if the API refuses it, which
// becomes problems of the file.
func (p *planner) try(e *manifest.Entry, r client.Request) (answer client.Value, ok bool, err error) {
	r.Query = dryRun{true}.query()
	resp, err := p.do(r)
	problem, refused := errors.AsType[*client.Problem](err)
	switch {
	case !refused && err != nil:
		return answer, false, err
	case !refused:
		answer, err = resp.Value()
		return answer, err == nil, err
	}
	if problem.Status == http.StatusUnauthorized || problem.Status == http.StatusTooManyRequests ||
		problem.Status >= http.StatusInternalServerError {
		return answer, false, err // it is no answer to this request
	}
	for _, f := range problem.Fields {
		p.add(e.Problem(f.Name, f.Detail+quoteHint(e, f)))
	}
	if len(problem.Fields) == 0 {
		p.add(e.Problem("", problem.Detail))
		p.conflicts++
		p.code = cmp.Or(p.code, status(err))
	}
	return answer, false, nil
}

// add adds a problem, unless the field has one.
func (p *planner) add(problem manifest.Problem) {
	for _, known := range p.problems {
		if known.Entry == problem.Entry && known.Field == problem.Field && problem.Field != "" {
			return
		}
	}
	p.problems = append(p.problems, problem)
}

// refuse prints the problems. The exit status is that of a mistake in a file, if one has
// a mistake.
func (p *planner) refuse(files []string) error {
	manifest.Sort(p.problems, files)
	for _, problem := range p.problems {
		p.term.sayf("%s", plain(problem.String()))
	}
	p.term.sayf("ixmage: %s: nothing was changed", count(len(p.problems), "problem"))
	if p.conflicts == len(p.problems) {
		return exitError(p.code)
	}
	return exitError(exitUsage)
}

// quoteHint says how YAML makes a text of what looks like a number or a boolean.
func quoteHint(e *manifest.Entry, f client.Field) string {
	if v, _ := e.Field(f.Name); strings.HasPrefix(f.Detail, "must be a string, not") && !v.IsNull() {
		return ": put it in quotes"
	}
	return ""
}

// sourcesFirst puts key pairs, which may be sources of roles, before roles.
func sourcesFirst(credentials []*manifest.Entry) []*manifest.Entry {
	rank := func(e *manifest.Entry) int {
		if e.Temporary() == "" {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(credentials), func(a, b *manifest.Entry) int { return rank(a) - rank(b) })
}

// credential plans a key pair, a role or the server's own credentials.
func (p *planner) credential(e *manifest.Entry) error {
	body, read := p.members(e)
	if !read {
		p.pending[e.Name] = true
		return nil
	}
	was, exists := p.credentials[e.Name]
	if _, known := p.aliases[e.Name]; e.Own && !exists && !known {
		return nil // it is registered with its alias
	}
	c := change{action: modify, kind: e.Kind, name: e.Name}
	wanted := cmp.Or(e.Temporary(), alias.KindStatic)
	if !exists {
		p.pending[e.Name] = true
		body["name"] = e.Name
		c.action = create
		c.request = client.Request{Method: http.MethodPost, Path: client.Path("credentials"), Body: body}
	} else if kind := was.Get("kind").Text(); kind != string(wanted) {
		p.add(e.Problem("", fmt.Sprintf("the server has a credential of that name, of kind %s: %s cannot replace it",
			kind, nouns[wanted])))
		return nil
	} else if c.request = p.replacement(e, was, body); c.request.Method == "" {
		return nil
	}
	if p.unknownSource(e) {
		c.fields = temporaryFields(e)
		p.changes = append(p.changes, c)
		return nil
	}
	answer, ok, err := p.try(e, c.request)
	if err != nil || !ok {
		return err
	}
	if wanted == alias.KindDefault {
		c.fields = temporaryFields(e) // nothing else tells it
	} else {
		c.fields = differences(was, answer, append(manifest.RoleFields(), "access_key_id", "expect"))
	}
	p.changes = append(p.changes, c)
	return nil
}

// nouns are what kinds of credential are called.
var nouns = map[alias.Kind]string{
	alias.KindStatic: "a key pair", alias.KindRole: "a role", alias.KindDefault: "a name for the server's own credentials",
}

// members are those of the credential in a request; ok is false if its key file has a problem.
func (p *planner) members(e *manifest.Entry) (body map[string]any, ok bool) {
	if e.Temporary() != "" {
		body = map[string]any{}
		for _, f := range e.Fields {
			if !f.Value.IsNull() {
				body[f.Name] = f.Value
			}
		}
		return body, true
	}
	pair, read := p.keys[e]
	return pair.body(e), read
}

// unknownSource reports whether the server does not have the source of a role yet, so that the role
// cannot be tried.
func (p *planner) unknownSource(e *manifest.Entry) bool {
	source, _ := e.Field("source")
	return e.Temporary() == alias.KindRole && p.pending[source.Text()]
}

// temporaryFields are the fields of a credential without a key pair that the file states.
func temporaryFields(e *manifest.Entry) []fieldChange {
	var fields []fieldChange
	for _, f := range e.Fields {
		if f.Name != "kind" || e.Temporary() == alias.KindDefault {
			fields = append(fields, fieldChange{name: f.Name, is: f.Value})
		}
	}
	return fields
}

// replacement is the request that makes a credential that of the file; the zero request means
// that it is. A secret does not change without its access key id.
func (p *planner) replacement(e *manifest.Entry, was client.Value, body map[string]any) client.Request {
	r := client.Request{Path: client.Path("credentials", e.Name), IfMatch: was.Get("revision").Text()}
	pair := p.keys[e]
	switch {
	case e.Temporary() == alias.KindDefault || e.Temporary() == alias.KindRole && sameRole(e, was):
	case e.Temporary() == alias.KindRole:
		delete(body, "kind") // a replacement has the kind of the credential
		r.Method, r.Body = http.MethodPut, body
	case was.Get("access_key_id").Text() != pair.id:
		r.Method, r.Body = http.MethodPut, pair.body(e)
	case was.Get("expect").Text() != e.Expect:
		r.Method, r.Body = http.MethodPatch, map[string]any{"expect": e.Expect}
	}
	return r
}

// sameRole reports whether a role of the server is that of the file. It is not left to the server,
// which asks STS for a session of every role that it is given.
func sameRole(e *manifest.Entry, was client.Value) bool {
	preset := alias.NewRole("")
	presets := map[string]string{
		"duration": preset.Duration.String(), "session_policy": string(preset.SessionPolicy), "source": string(preset.Source),
	}
	for _, name := range manifest.RoleFields() {
		wanted, _ := e.Field(name)
		text := wanted.Text()
		if wanted.IsFalse() {
			text = ""
		}
		if d, err := time.ParseDuration(text); err == nil && name == "duration" {
			text = d.String()
		}
		if cmp.Or(text, presets[name]) != was.Get(name).Text() {
			return false
		}
	}
	return true
}

// body makes the members of a request.
func (pair keyPair) body(e *manifest.Entry) map[string]any {
	return map[string]any{"access_key_id": pair.id, "secret_access_key": pair.secret.Reveal(), "expect": e.Expect}
}

// alias plans an alias.
func (p *planner) alias(e *manifest.Entry) error {
	p.checkCredential(e)
	was, exists := p.aliases[e.Name]
	if !exists {
		return p.newAlias(e)
	}
	body := p.patch(e, was)
	c := change{action: modify, kind: e.Kind, name: e.Name, request: client.Request{
		Method: http.MethodPatch, Path: client.Path("aliases", e.Name), Body: body, IfMatch: was.Get("revision").Text(),
	}}
	tried := c.request
	credential, changed := body["credential"]
	name, _ := credential.(string)
	if p.pending[name] {
		without := maps.Clone(body)
		delete(without, "credential")
		tried.Body = without
	}
	answer, ok, err := p.try(e, tried)
	if err != nil || !ok {
		return err
	}
	if changed && p.pending[name] {
		answer = answer.With("credential", client.Make(name))
	} else if answer.Get("revision").Text() == was.Get("revision").Text() {
		return nil
	}
	c.fields = differences(was, answer, nil)
	p.changes = append(p.changes, c)
	return nil
}

// checkCredential looks for the credential of an alias, which the API does only if it finds
// no other problem.
func (p *planner) checkCredential(e *manifest.Entry) {
	v, _ := e.Field("credential")
	name, isName := v.Any().(string)
	if _, exists := p.credentials[name]; !isName || exists || p.pending[name] || e.Credential != nil {
		return
	}
	p.pending[name] = true
	detail := fmt.Sprintf("there is no credential named %q", name)
	if near := spelling.Closest(name, slices.Sorted(maps.Keys(p.credentials))); near != "" {
		detail += "; did you mean " + near + "?"
	}
	p.add(e.Problem("credential", detail))
}

// newAlias plans an alias that does not exist.
func (p *planner) newAlias(e *manifest.Entry) error {
	body := stated(e)
	made, own := p.own(e)
	if own {
		body["credential"] = made
	}
	c := change{action: create, kind: e.Kind, name: e.Name}
	c.request = client.Request{Method: http.MethodPost, Path: client.Path("aliases"), Body: body}
	tried := c.request
	credential, stated := e.Field("credential")
	pending := p.pending[credential.Text()]
	if pending || !stated || own && p.unknownSource(e.Credential) {
		without := maps.Clone(body)
		without["credential"] = nil
		tried.Body = without
	}
	answer, ok, err := p.try(e, tried)
	if err != nil || !ok {
		return err
	}
	if pending || own {
		answer = answer.With("credential", credential)
	}
	c.fields = statedFields(e, answer)
	if own {
		c.fields = append(c.fields, p.ownFields(e.Credential)...)
	}
	p.changes = append(p.changes, c)
	return nil
}

// stated are the members of a new alias in a request. null is the default, as in a patch.
func stated(e *manifest.Entry) map[string]any {
	body := map[string]any{}
	for _, f := range e.Fields {
		if !f.Value.IsNull() || f.Name == "credential" {
			body[f.Name] = whole(f.Name, f.Value, client.Value{})
		}
	}
	return body
}

// statedFields are the fields of a new alias that the file states.
func statedFields(e *manifest.Entry, answer client.Value) []fieldChange {
	var fields []fieldChange
	for _, f := range answer.Members() {
		if _, stated := e.Field(f.Name); stated && f.Name != "name" {
			fields = append(fields, fieldChange{name: f.Name, is: f.Value})
		}
	}
	return fields
}

// ownFields are the fields of the credential that is registered with a new alias.
func (p *planner) ownFields(e *manifest.Entry) []fieldChange {
	if pair, read := p.keys[e]; read {
		return []fieldChange{{name: "access_key_id", is: client.Make(pair.id)}}
	}
	return temporaryFields(e)
}

// own are the members of the credential that is registered with a new alias.
func (p *planner) own(e *manifest.Entry) (members map[string]any, ok bool) {
	if e.Credential == nil || !p.credentials[e.Name].IsNull() {
		return nil, false
	}
	return p.members(e.Credential)
}

// setByProvisioning are fields that an operation sets; a file that does not state them keeps
// them as long as the alias has that credential.
var setByProvisioning = []string{"bucket_owner", "canary"}

// patch is the merge patch that makes an alias what the file states: a field that it does
// not state gets its default.
func (p *planner) patch(e *manifest.Entry, was client.Value) map[string]any {
	body := map[string]any{}
	current := was.Get("credential").Text()
	kind := p.credentials[current].Get("kind").Text()
	wanted, stated := e.Field("credential")
	switch {
	case !stated, wanted.IsNull() && kind == "anonymous", wanted.Text() == current:
	default:
		body["credential"] = wanted.Any()
	}
	_, other := body["credential"]
	for _, name := range manifest.Settable() {
		v, stated := e.Field(name)
		switch {
		case stated:
			body[name] = whole(name, v, was)
		case name == "bucket", kind == "provisioned" && !other && slices.Contains(setByProvisioning, name):
		default:
			body[name] = nil
		}
	}
	return body
}

// whole is the value of a field in a patch of an alias, which keeps a part of a fallback, and a
// template, that is not stated. A new alias has none.
func whole(name string, v, was client.Value) any {
	if v.Members() == nil || name != "fallback" && name != "templates" {
		return v
	}
	all := map[string]any{}
	old := was.Get(name).Members()
	if name == "fallback" && !was.IsNull() { // a fallback that is a text has no members
		old = client.Object{{Name: "missing"}, {Name: "broken"}}
	}
	for _, f := range old {
		all[f.Name] = nil
	}
	for _, f := range v.Members() {
		if all[f.Name] = f.Value; name == "templates" && f.Value.IsNull() && was.IsNull() {
			delete(all, f.Name)
		}
	}
	return all
}

// rest plans the removal of the aliases that no file has.
func (p *planner) rest() error {
	stated, used := map[string]bool{}, map[string]bool{}
	for _, e := range p.manifest.Aliases {
		stated[e.Name] = true
		credential, _ := e.Field("credential")
		used[credential.Text()] = true
	}
	var others []string
	for _, name := range slices.Sorted(maps.Keys(p.aliases)) {
		if !stated[name] {
			others = append(others, name)
		}
	}
	if !p.prune {
		p.kept = len(others)
		return nil
	}
	for _, name := range others {
		if err := p.removal(name); err != nil {
			return err
		}
	}
	for _, e := range p.manifest.Credentials { // DELETE of an alias takes its own credential along
		own := p.aliases[e.Name].Get("credential").Text() == e.Name
		if own && !used[e.Name] && slices.Contains(others, e.Name) {
			what := strings.TrimPrefix(nouns[cmp.Or(e.Temporary(), alias.KindStatic)], "a ")
			p.add(e.Problem("", "the alias of that name is removed, and its "+what+" with it: "+
				"leave the credential out of the file, or use it in an alias"))
		}
	}
	return nil
}

// removal plans that of an alias.
func (p *planner) removal(name string) error {
	c := change{action: remove, kind: "alias", name: name, request: client.Request{
		Method: http.MethodDelete, Path: client.Path("aliases", name), IfMatch: p.aliases[name].Get("revision").Text(),
	}}
	tried := c.request
	tried.Query = dryRun{true}.query()
	if _, err := p.do(tried); err != nil {
		return fmt.Errorf("alias %s cannot be removed: %w", name, err)
	}
	p.changes = append(p.changes, c)
	return nil
}

// differences lists the members that differ: those of names, or all but those that every
// change changes.
func differences(was, answer client.Value, names []string) []fieldChange {
	var fields []fieldChange
	for _, f := range answer.Members() {
		switch {
		case names != nil && !slices.Contains(names, f.Name):
		case f.Name == "revision" || f.Name == "state" || f.Name == "created_at" || f.Name == "updated_at":
		default:
			if old := was.Get(f.Name); !old.Equal(f.Value) {
				fields = append(fields, fieldChange{name: f.Name, old: old, is: f.Value})
			}
		}
	}
	return fields
}
