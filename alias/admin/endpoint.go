package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"ixmage/alias"
)

// callTimeout is the longest that a call may take, unless it waits for an operation.
const callTimeout = 30 * time.Second

// none is the In of an endpoint without a request body and the Out of an endpoint
// without a response body.
type none struct{}

// endpoint is one call of the API. serve does the common work of all calls, so that no
// call can omit it.
type endpoint[In, Out any] struct {
	method string
	path   string
	// summary says in one sentence what the call does, for the document of the API.
	summary string
	// roles are those of which a token needs one, besides alias.RoleAdmin. anyToken allows
	// every token.
	roles []alias.TokenRole
	// public allows a request without a token.
	public bool
	// allBuckets refuses a token with bucket patterns.
	allBuckets bool
	// resource is the kind of resource that {name}, {id} or {user} in the path names,
	// for errors and the log.
	resource string
	// query lists the known parameters of the query string.
	query []parameter
	// fields are the members of the body; nil means that the call takes no body.
	fields func(*In) []field
	// bodyOptional allows a request without a body, which then leaves In as it is.
	bodyOptional bool
	// types are the media types of a body besides application/json.
	types []string
	// statuses are those of success; nil means 200.
	statuses []int
	// media is the media type of the answer; empty: JSON. Out is the type of an event's data
	// if it is mediaEvents.
	media string
	// headers are those of the request that do reads, without If-Match and Prefer.
	headers []parameter
	// sends are headers of the answer of do that not every call has.
	sends []parameter
	// conditional means that do evaluates If-Match.
	conditional bool
	// fails are errors of do beyond those that every call of its kind may have, for the
	// document of the API.
	fails []error
	// example is a body, for the document of the API. Optional.
	example string
	// check validates the rest of a request of which some fields could not be read,
	// so that one answer reports all problems. Optional.
	check func(context.Context, *call[In]) []alias.Problem
	do    func(context.Context, *call[In]) (reply[Out], error)
}

// call is a request as an endpoint sees it: checked and decoded.
type call[In any] struct {
	client
	principal *principal    // nil for a public call
	access    access        // what the principal sees
	request   *http.Request // for its connection and its cookie
	name      alias.Name    // from the path; empty where it has none
	id        string        // from the path; of a resource whose name is not an alias.Name
	query     url.Values
	match     ifMatch
	actor     string // of the principal, for the audit
	in        In
}

// client is the client that waits for the answer to a call.
type client struct {
	ctx  context.Context //nolint:containedctx // ends when the client leaves, unlike the context of the call
	wait wait
	rec  *record
}

// target is the name or id in the path.
func (c *call[In]) target() string { return string(c.name) + c.id }

// reply is the answer of an endpoint. The zero status is 200.
type reply[Out any] struct {
	status   int
	location string
	revision int64  // becomes the ETag; 0: none
	tag      string // the ETag, if it is not a revision
	applied  string // the preference that was honoured; empty: none
	cookie   *http.Cookie
	body     Out
	// write sends the answer in place of send: one that is no JSON. Optional.
	write func(*exchange) error
}

// anyToken are the roles of a call that every token may make.
var anyToken = []alias.TokenRole{alias.RoleRead, alias.RolePurge, alias.RoleAlias, alias.RoleProvision}

// parameter is a parameter of the query string.
type parameter struct{ name, detail string }

// description is an endpoint without its types, for the document of the API.
type description struct {
	method, path, summary string
	roles                 []alias.TokenRole
	public, allBuckets    bool
	resource              string
	query                 []parameter
	fields                []field // of the body; nil: none
	bodyOptional          bool
	types                 []string // of the body
	statuses              []int
	media                 string // of the answer
	headers, sends        []parameter
	conditional           bool
	fails                 []error
	example               string
	out                   reflect.Type // none: no body
}

func (e endpoint[In, Out]) describeCall() description {
	d := description{
		method: e.method, path: e.path, summary: e.summary, roles: e.roles, public: e.public, allBuckets: e.allBuckets,
		resource: e.resource, query: e.query, bodyOptional: e.bodyOptional, statuses: e.statuses,
		media: cmp.Or(e.media, mediaJSON), out: reflect.TypeFor[Out](),
		headers: e.headers, sends: e.sends, conditional: e.conditional, fails: e.fails, example: e.example,
	}
	if e.fields != nil {
		d.fields, d.types = e.fields(new(In)), append([]string{mediaJSON}, e.types...)
	}
	if d.statuses == nil {
		d.statuses = []int{http.StatusOK}
	}
	return d
}

// mount adds e to the routes. It panics if e lacks what every call must have, so that such a
// program does not start.
func mount[In, Out any](t *routes, e endpoint[In, Out]) {
	if e.summary == "" || e.roles == nil {
		panic(e.method + " " + e.path + " has no summary or no roles") //nolint:forbidigo // such a program must not start
	}
	t.calls = append(t.calls, e.describeCall())
	t.add(e.method, e.path, e.serve)
}

// serve answers a request. The context of a call that reads ends when the client
// leaves. That of a call that may write does not: the client could not know whether
// the write succeeded.
func (e endpoint[In, Out]) serve(x *exchange, r *http.Request) error {
	ctx := r.Context()
	if e.method != http.MethodGet {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	in, err := e.accept(ctx, x, r)
	if err != nil {
		return x.server.registry.explain(err)
	}
	dry, err := isDryRun(in.query)
	if err != nil {
		return err
	}
	if dry {
		ctx, x.rec.dry = alias.DryRun(ctx), true
	}
	out, err := e.do(ctx, in)
	if err != nil {
		return x.server.registry.explain(e.describe(in.target(), err))
	}
	if dry && out.status != http.StatusNoContent { // no 201 and no ETag for a resource that is not stored
		out = reply[Out]{body: out.body}
	}
	return send(x, out)
}

// accept decodes and validates a request. Of a resource that the principal does not see it
// says what it says of one that does not exist.
func (e endpoint[In, Out]) accept(ctx context.Context, x *exchange, r *http.Request) (*call[In], error) {
	in := &call[In]{
		client:    client{ctx: r.Context(), wait: parsePrefer(r.Header["Prefer"]), rec: x.rec},
		principal: x.principal, access: x.server.access, request: r, actor: x.rec.actor,
	}
	if !e.public {
		if err := x.principal.check(e.roles, e.allBuckets); err != nil {
			return nil, err
		}
	}
	var err error
	if in.name, err = e.nameIn(r); err != nil {
		return nil, err
	}
	if in.id, err = e.idIn(r); err != nil {
		return nil, err
	}
	x.rec.about(e.resource, alias.Name(in.target()))
	if !e.public {
		if ok, err := in.access.target(ctx, in.principal, e.resource, in.target()); err != nil || !ok {
			return nil, cmp.Or[error](err, e.notFound(in.target()))
		}
	}
	if in.query, err = parseQuery(r.URL.RawQuery, e.query); err != nil {
		return nil, err
	}
	if in.match, err = parseIfMatch(r.Header["If-Match"]); err != nil {
		return nil, err
	}
	switch {
	case e.fields != nil:
		return in, e.decode(ctx, in, x.body, r.Header)
	case len(x.body) > 0: // an ignored body would hide a mistake of the client
		return nil, failf(errBadRequest, "this call takes no request body")
	}
	return in, nil
}

// decode reads the body.
func (e endpoint[In, Out]) decode(ctx context.Context, in *call[In], body []byte, h http.Header) error {
	if e.bodyOptional && len(body) == 0 {
		return nil
	}
	if err := e.acceptMedia(body, h); err != nil {
		return err
	}
	problems, err := decodeBody(body, e.fields(&in.in))
	if err != nil {
		return err
	}
	if len(problems) > 0 && e.check != nil {
		problems = merge(problems, e.check(ctx, in))
	}
	if len(problems) > 0 {
		return invalid(problems)
	}
	return nil
}

// merge adds those problems of more whose field has none yet.
func merge(problems, more []alias.Problem) []alias.Problem {
	known := make(map[string]bool, len(problems))
	for _, p := range problems {
		known[p.Field] = true
	}
	for _, p := range more {
		if !known[p.Field] {
			problems = append(problems, p)
		}
	}
	return problems
}

// nameIn reads the name in the path. An invalid name is 404 like an unknown one.
func (e endpoint[In, Out]) nameIn(r *http.Request) (alias.Name, error) {
	raw := r.PathValue("name")
	if raw == "" || e.resource == resourceNode {
		return "", nil
	}
	name, err := alias.ParseName(raw)
	if err != nil {
		return "", e.notFound(raw)
	}
	return name, nil
}

// idIn reads the id of an operation, or the name of an IAM user or a node, in the path.
func (e endpoint[In, Out]) idIn(r *http.Request) (string, error) {
	raw := r.PathValue("id") + r.PathValue("user") // no path has both
	if e.resource == resourceNode {
		raw = r.PathValue("name")
	}
	if raw == "" {
		return "", nil
	}
	id, err := url.PathUnescape(raw)
	if err != nil || !isID(id) {
		return "", e.notFound(raw)
	}
	return id, nil
}

// isID reports whether s consists of the characters that IAM allows in the name of a
// user. Ids of operations use a subset.
func isID(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune("+=,.@_-", r)
	})
}

func (e endpoint[In, Out]) notFound(name string) error {
	const most = 80
	short := name[:min(len(name), most)]
	return failf(alias.ErrNotFound, "there is no %s named %s", e.resource, strconv.QuoteToASCII(short))
}

// describe turns an error of the registry about the resource in the path into a
// failure.
func (e endpoint[In, Out]) describe(name string, err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if use, ok := errors.AsType[*alias.InUseError](err); ok {
		return inUse(use)
	}
	if d, ok := errors.AsType[*alias.DamagedError](err); ok {
		// The log gets the whole error, the client the row.
		return fmt.Errorf("%w: %w", failf(alias.ErrDamaged, "%s cannot be read: its row in the database is damaged; "+
			"restore the database from backup; the log has the cause under this request_id", d.Row()), err)
	}
	switch {
	case errors.Is(err, alias.ErrNotFound) && name != "":
		return e.notFound(name)
	case errors.Is(err, alias.ErrStale):
		return failf(alias.ErrStale, "the %s %s has another revision than If-Match says: read it again and use its ETag",
			e.resource, name)
	case errors.Is(err, alias.ErrNotStatic):
		return failf(alias.ErrNotStatic, "%s: a credential keeps its kind; for another one, register a new credential "+
			"and change the aliases to it", err.Error())
	}
	for _, sentinel := range shownErrors {
		if errors.Is(err, sentinel) {
			return failf(sentinel, "%s", err.Error())
		}
	}
	return err
}

// shownErrors are the errors whose text the client gets. The text is
// from the registry or the Provisioner: no store and no library wraps these sentinels.
var shownErrors = []error{
	alias.ErrExists, alias.ErrBusy, alias.ErrProvisioned, alias.ErrNotProvisioned, alias.ErrForbidden,
	alias.ErrNoBoundary, alias.ErrNoKeyPair, alias.ErrOtherUser, alias.ErrIAM, alias.ErrNotFound,
	alias.ErrNotRole, alias.ErrSTS, alias.ErrTooManyKeys,
}

// inUse names the aliases, and the roles, that use the credential, up to a limit.
func inUse(e *alias.InUseError) error {
	var users []string
	if len(e.Aliases) > 0 {
		users = append(users, "by these aliases: "+listNames(e.Aliases))
	}
	if len(e.Roles) > 0 {
		users = append(users, "as the source of these roles: "+listNames(e.Roles))
	}
	return failf(alias.ErrInUse, "the credential %s is used %s; give them another one or delete them first",
		e.Credential, strings.Join(users, ", and "))
}

func listNames(all []alias.Name) string {
	const most = 100
	names := make([]string, 0, most)
	for _, n := range all[:min(len(all), most)] {
		names = append(names, string(n))
	}
	list := strings.Join(names, ", ")
	if more := len(all) - len(names); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

const mediaJSON = "application/json"

// acceptMedia refuses a body whose Content-Type is not JSON. A web page of another
// origin cannot send JSON without a CORS preflight.
func (e endpoint[In, Out]) acceptMedia(body []byte, h http.Header) error {
	types := append([]string{mediaJSON}, e.types...)
	list := strings.Join(types, ", ")
	header := map[string]string{"Accept": list}
	switch e.method {
	case http.MethodPost:
		header = map[string]string{"Accept-Post": list}
	case http.MethodPatch:
		header = map[string]string{"Accept-Patch": list}
	}
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		f := failf(errMediaType, "the body must not have a Content-Encoding")
		f.header = maps.Clone(header)
		f.header["Accept-Encoding"] = "identity"
		return f
	}
	sent := strings.Join(h["Content-Type"], ", ") // more than one is invalid
	media, params, err := mime.ParseMediaType(sent)
	charset, ok := params["charset"]
	if err == nil && slices.Contains(types, media) && (!ok || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	if sent == "" && len(body) == 0 {
		return failf(errBadRequest, "this call needs a JSON object in the request body")
	}
	f := failf(errMediaType, "send the body as Content-Type: %s, in UTF-8", strings.Join(types, " or "))
	f.header = header
	return f
}

func send[Out any](x *exchange, r reply[Out]) error {
	if r.write != nil {
		return r.write(x)
	}
	body, err := encode(r.body)
	if err != nil {
		return err
	}
	h := x.Header()
	if r.location != "" {
		h.Set("Location", r.location)
	}
	if r.revision != 0 {
		h.Set("ETag", etag(r.revision))
	}
	if r.tag != "" {
		h.Set("ETag", r.tag)
	}
	if r.cookie != nil {
		h.Set("Set-Cookie", r.cookie.String())
	}
	if r.applied != "" {
		h.Set("Preference-Applied", r.applied)
	}
	if r.status == http.StatusNoContent || r.status == http.StatusNotModified {
		x.send(r.status, nil)
		return nil
	}
	h.Set("Content-Type", mediaJSON)
	x.send(cmp.Or(r.status, http.StatusOK), body)
	return nil
}
