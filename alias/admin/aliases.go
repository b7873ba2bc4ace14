package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"ixmage/alias"
)

const aliasesPath = "/api/v1/aliases"

// aliases are the calls that register, read, change and delete aliases.
type aliases struct {
	registry *alias.Registry
	sessions Sessions
}

func (h aliases) mount(t *routes) {
	const single = aliasesPath + "/{name}"
	const resource = "alias"
	roles := []alias.TokenRole{alias.RoleAlias}
	mount(t, endpoint[none, aliasesJSON]{method: http.MethodGet, path: aliasesPath,
		summary: "List aliases by name", roles: anyToken, query: pageQuery, do: h.list})
	mount(t, endpoint[aliasInput, aliasJSON]{method: http.MethodPost, path: aliasesPath, resource: resource,
		summary: "Register an alias", roles: roles, query: dryRun, statuses: []int{http.StatusCreated, http.StatusOK},
		fields: createFields, check: h.checkNew, do: h.create})
	mount(t, endpoint[none, aliasJSON]{method: http.MethodGet, path: single, resource: resource,
		summary: "Read an alias", roles: anyToken, do: h.read})
	mount(t, endpoint[aliasInput, aliasJSON]{method: http.MethodPatch, path: single, resource: resource,
		summary: "Change some fields of an alias; null resets a field to its default", roles: roles,
		conditional: true, query: dryRun, fields: patchFields, types: []string{"application/merge-patch+json"},
		check: h.checkPatch, do: h.patch})
	mount(t, endpoint[none, none]{method: http.MethodDelete, path: single, resource: resource,
		summary: "Delete an alias, and its credential if that was registered with it and nothing else uses it",
		roles:   roles, conditional: true, query: dryRun, statuses: []int{http.StatusNoContent}, do: h.remove})
}

type aliasesJSON struct {
	Aliases []aliasJSON `json:"aliases" description:"The aliases, sorted by name."`
}

func (h aliases) list(ctx context.Context, c *call[none]) (reply[aliasesJSON], error) {
	p, err := parsePage(c.query)
	if err != nil {
		return reply[aliasesJSON]{}, err
	}
	list, err := c.access.aliases(ctx, c.principal, p)
	if err != nil {
		return reply[aliasesJSON]{}, err
	}
	out := aliasesJSON{Aliases: make([]aliasJSON, len(list))}
	for i, a := range list {
		out.Aliases[i] = showAlias(a)
	}
	return reply[aliasesJSON]{body: out}, nil
}

func (h aliases) create(ctx context.Context, c *call[aliasInput]) (reply[aliasJSON], error) {
	if problems := h.checkNew(ctx, c); len(problems) > 0 {
		return reply[aliasJSON]{}, invalid(problems)
	}
	a := alias.New()
	c.in.apply(a)
	c.rec.about("alias", a.Name)
	if err := c.access.place(ctx, c.principal, place{
		bucket: a.Bucket, credential: c.in.ref.Name, policy: c.in.ref.Expect, ofEndpoint: a.Endpoint != "",
		reserves: a.CacheMin > 0, wide: isWide(c.in.ref.Temporary), source: sourceOf(c.in.ref.Temporary),
	}); err != nil {
		return reply[aliasJSON]{}, err
	}
	if err := h.trySession(ctx, a, c.in.ref); err != nil {
		return reply[aliasJSON]{}, err
	}
	made, err := h.registry.CreateAlias(ctx, a, c.in.ref)
	if err != nil {
		return reply[aliasJSON]{}, err
	}
	r := aliasReply(made)
	r.status, r.location = http.StatusCreated, aliasesPath+"/"+string(made.Name)
	return r, nil
}

// trySession returns an error if the credential of a new alias would never sign for it.
func (h aliases) trySession(ctx context.Context, a *alias.Alias, ref alias.CredentialRef) error {
	a.Normalize()
	if ref.Name == "" {
		return underCredential(try(ctx, h.sessions, ref.Temporary, a), true)
	}
	c, err := h.registry.Credential(ctx, ref.Name)
	if err != nil || !c.Temporary() {
		return nil //nolint:nilerr // the registration tells why
	}
	return underCredential(try(ctx, h.sessions, c.Provider, a), false)
}

// underCredential puts the problems of a session under the field credential, each with its own
// member if the request has them.
func underCredential(err error, members bool) error {
	v, ok := errors.AsType[*alias.ValidationError](err)
	if !ok {
		return err
	}
	problems := slices.Clone(v.Problems)
	for i, p := range problems {
		problems[i].Field = "credential"
		if members {
			problems[i].Field = fieldPath("credential", p.Field)
		}
	}
	return invalid(problems)
}

// prepare makes the session that signs for an alias after a change of its location or its
// credential, so that the change takes effect with it. A change that is refused makes none.
func (h aliases) prepare(ctx context.Context, c *call[aliasInput]) error {
	was, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return nil //nolint:nilerr // the change tells why
	}
	next := *was
	c.in.apply(&next)
	next.Normalize()
	name := cmp.Or(c.in.ref.Name, was.Credential)
	switch {
	case c.in.ref.Anonymous, next.Location == was.Location && name == was.Credential, h.sessions == nil:
		return nil
	case next.ValidateChange(was, h.registry.Policy()) != nil:
		return nil //nolint:nilerr // the change tells why
	}
	if err := c.access.place(ctx, c.principal, placeAfter(was, &next, c.in.ref)); err != nil {
		return err
	}
	credential, err := h.registry.Credential(ctx, name)
	switch {
	case err != nil, !credential.Temporary():
		return nil //nolint:nilerr // the change tells why
	case c.rec.dry: // nothing is kept
		return underCredential(h.sessions.Try(ctx, credential.Provider, &next), false)
	}
	return underCredential(h.sessions.Prepare(ctx, alias.Route{Alias: &next, Credential: credential}), false)
}

// placeAfter is where an alias reads after a change.
func placeAfter(was, a *alias.Alias, ref alias.CredentialRef) place {
	return place{
		bucket: a.Bucket, credential: ref.Name, ofEndpoint: a.Endpoint != was.Endpoint, reserves: a.CacheMin > was.CacheMin,
	}
}

// checkNew validates a registration without the store.
func (h aliases) checkNew(_ context.Context, c *call[aliasInput]) []alias.Problem {
	a := alias.New()
	c.in.apply(a)
	a.Normalize()
	problems := problemsOf(a.Validate(h.registry.Policy()))
	if c.in.ref.IsZero() {
		return append(problems, alias.Problem{Field: "credential", Detail: "is required, as " + credentialForms})
	}
	for _, p := range problemsOf(c.in.ref.Validate()) {
		problems = append(problems, alias.Problem{Field: "credential." + p.Field, Detail: p.Detail})
	}
	return problems
}

// problemsOf returns the problems in the error of a validation.
func problemsOf(err error) []alias.Problem {
	if v, ok := errors.AsType[*alias.ValidationError](err); ok {
		return v.Problems
	}
	return nil
}

func (h aliases) read(ctx context.Context, c *call[none]) (reply[aliasJSON], error) {
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[aliasJSON]{}, err
	}
	return aliasReply(a), nil
}

func (h aliases) patch(ctx context.Context, c *call[aliasInput]) (reply[aliasJSON], error) {
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[aliasJSON]{}, err
	}
	if err := h.prepare(ctx, c); err != nil {
		return reply[aliasJSON]{}, err
	}
	a, err := h.registry.UpdateAlias(ctx, c.name, revision, func(a *alias.Alias, ref *alias.CredentialRef) error {
		was := *a
		c.in.apply(a)
		*ref = c.in.ref
		if !c.principal.within(was.Bucket) { // it was moved there since the call was accepted
			return alias.ErrNotFound
		}
		return c.access.place(ctx, c.principal, placeAfter(&was, a, *ref))
	})
	if err != nil {
		return reply[aliasJSON]{}, err
	}
	return aliasReply(a), nil
}

// checkPatch validates the alias with the patch applied. If it cannot read the alias, it
// reports no problem.
func (h aliases) checkPatch(ctx context.Context, c *call[aliasInput]) []alias.Problem {
	cur, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return nil
	}
	next := *cur
	c.in.apply(&next)
	next.Normalize()
	return problemsOf(next.ValidateChange(cur, h.registry.Policy()))
}

func (h aliases) remove(ctx context.Context, c *call[none]) (reply[none], error) {
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[none]{}, err
	}
	return reply[none]{status: http.StatusNoContent}, h.registry.DeleteAlias(ctx, c.name, revision)
}

// current returns a function that reads the current revision of an alias.
func (h aliases) current(ctx context.Context, name alias.Name) func() (int64, error) {
	return func() (int64, error) {
		a, err := h.registry.Alias(ctx, name)
		if err != nil {
			return 0, err
		}
		return a.Revision, nil
	}
}

func aliasReply(a *alias.Alias) reply[aliasJSON] {
	return reply[aliasJSON]{revision: a.Revision, body: showAlias(a)}
}

// aliasJSON is an alias as the API shows it.
type aliasJSON struct {
	Name                 alias.Name        `json:"name" description:"The first segment of the URL: 1 to 63 of a-z, 0-9 and hyphen. It never changes."`
	Bucket               string            `json:"bucket" description:"The bucket in S3."`
	BucketOwner          string            `json:"bucket_owner" description:"The 12-digit account id of the owner; S3 then refuses a bucket of another account. Empty: not checked."`
	Prefix               string            `json:"prefix" description:"The text in front of every key: at most 512 bytes without a leading slash, an empty, . or .. segment, *, ?, $, a backslash or a control character. One slash at the end is added."`
	Region               string            `json:"region" description:"The AWS region of the bucket. Required for AWS; with an endpoint it is the AWS region that the endpoint names, else us-east-1."`
	Endpoint             string            `json:"endpoint" description:"The URL of an S3-compatible server, https://host[:port] without a path and without the bucket; empty: AWS."`
	PathStyle            bool              `json:"path_style" description:"Address the bucket as host/bucket/key instead of bucket.host/key."`
	Credential           alias.Name        `json:"credential" description:"The name of the credential that signs the requests."`
	Canary               string            `json:"canary" description:"The path of an object that must be readable; it decides what AccessDenied means. Empty: none."`
	Enabled              bool              `json:"enabled" description:"false is 404 for every key."`
	TTL                  string            `json:"ttl" description:"How long an object is fresh if it states no lifetime."`
	NegativeTTL          string            `json:"negative_ttl" description:"How long a negative entry, a remembered 404 of S3, is used."`
	StaleWhileRevalidate string            `json:"stale_while_revalidate" description:"How long a stale object is served while it is revalidated."`
	StaleIfError         string            `json:"stale_if_error" description:"How long a stale object is served while S3 fails."`
	CacheControl         string            `json:"cache_control" description:"The exact Cache-Control of the answers, instead of that of the object; empty: that of the object. It does not change how long ixmage keeps the object."`
	CORSOrigins          []string          `json:"cors_origins" description:"The web pages whose scripts may read the pictures: origins like https://shop.example.com, 32 at most, or * alone for all."`
	CORSHeaders          []string          `json:"cors_headers" description:"The request headers that these pages may send: names, 32 at most, or * alone for all but Authorization."`
	Fallback             fallbackJSON      `json:"fallback" description:"The path of a picture that is served instead of an error, with the status of the error; an object with missing and broken has one for each class of error. Empty: none."`
	CacheMin             string            `json:"cache_min" description:"The part of --cache-memory that the pictures of other aliases cannot evict, like 64MiB; empty: none."`
	CacheMax             string            `json:"cache_max" description:"The most memory that the pictures of this alias may take, like 1GiB; empty: no limit."`
	Transforms           alias.Transforms  `json:"transforms" description:"Which requests may ask for a transformed picture: off: none, a query changes nothing; templates: without a signature a template, and a width that is rounded up to widths; signed: only those with a signature; open: all."`
	Access               alias.Access      `json:"access" description:"Which requests are answered: open: all; signed: only those with a signature, for originals too."`
	Widths               []int             `json:"widths" description:"The widths in pixels that the width of a request without a signature is rounded up to, ascending: 32 at most, each from 1 to 8192. Without any, no such request may have a width."`
	Templates            map[string]string `json:"templates" description:"Queries by name, like w=240&h=240&fit=cover, for URLs with t=NAME: 100 at most, with names like that of an alias, of 512 bytes each."`
	State                alias.State       `json:"state" description:"Whether the alias may be served: only an active one is."`
	Revision             int64             `json:"revision" description:"It counts the changes of the alias; its ETag."`
	CreatedAt            string            `json:"created_at" description:"When it was registered."`
	UpdatedAt            string            `json:"updated_at" description:"When it was changed last."`
}

func showAlias(a *alias.Alias) aliasJSON {
	return aliasJSON{
		Name: a.Name, Bucket: a.Bucket, BucketOwner: a.BucketOwner, Prefix: a.Prefix,
		Region: a.Region, Endpoint: a.Endpoint, PathStyle: a.PathStyle,
		Credential: a.Credential, Canary: a.Canary, Enabled: a.Enabled,
		TTL: a.TTL.String(), NegativeTTL: a.NegativeTTL.String(),
		StaleWhileRevalidate: a.StaleWhileRevalidate.String(), StaleIfError: a.StaleIfError.String(),
		CacheControl: a.CacheControl, CORSOrigins: append([]string{}, a.CORSOrigins...),
		CORSHeaders: append([]string{}, a.CORSHeaders...), Fallback: fallbackJSON(a.Fallback),
		CacheMin: sizeOrNone(a.CacheMin), CacheMax: sizeOrNone(a.CacheMax),
		Transforms: a.Transforms, Access: a.Access, Widths: append([]int{}, a.Widths...), Templates: templatesOf(a),
		State: a.State, Revision: a.Revision,
		CreatedAt: timestamp(a.CreatedAt), UpdatedAt: timestamp(a.UpdatedAt),
	}
}

// aliasInput is a decoded body: edits of an alias, in the order of the body, and
// the credential, if the body has one.
type aliasInput struct {
	edits []func(*alias.Alias)
	ref   alias.CredentialRef
}

func (in *aliasInput) apply(a *alias.Alias) {
	for _, edit := range in.edits {
		edit(a)
	}
}

const keptByServer = "is read-only: the server sets it"

// createFields are the members of a registration.
func createFields(in *aliasInput) []field {
	return require(append(in.members(nullIsWrong),
		member[alias.Name]{"name", asName, func(a *alias.Alias) *alias.Name { return &a.Name }}.of(in, nullIsWrong),
		field{name: "credential", doc: "What reads the bucket: the name of a registered credential; or a key pair or a " +
			"role, which is registered under the alias's name; or null for a public bucket, whose requests are not signed.",
			read: reader{decode: in.newCredential, forms: []form{
				formOf[alias.Name](), {name: "KeyPair", fields: new(keyPairInput).members()},
				{name: "Temporary", fields: temporaryFields(new(credentialInput))}, {},
			}}}), "name", "bucket", "credential")
}

// patchFields are the members of a merge patch.
func patchFields(in *aliasInput) []field {
	return append(in.members(nullIsDefault),
		field{name: "name", readOnly: "is read-only: register an alias of the new name and delete this one"},
		field{name: "credential",
			doc:  "The name of a registered credential, or null for a public bucket, whose requests are not signed.",
			read: reader{decode: in.otherCredential, forms: []form{formOf[alias.Name](), {}}}})
}

// require marks the fields of the given names as required.
func require(fields []field, names ...string) []field {
	for i := range fields {
		if slices.Contains(names, fields[i].name) {
			fields[i].required = true
		}
	}
	return fields
}

// onNull is the meaning of null as the value of a member.
type onNull int

const (
	nullIsWrong onNull = iota
	nullIsDefault
)

func (in *aliasInput) members(null onNull) []field {
	return slices.Concat([]field{
		member[string]{"bucket", asString, func(a *alias.Alias) *string { return &a.Bucket }}.of(in, nullIsWrong),
		member[string]{"bucket_owner", asString, func(a *alias.Alias) *string { return &a.BucketOwner }}.of(in, null),
		member[string]{"prefix", asString, func(a *alias.Alias) *string { return &a.Prefix }}.of(in, null),
		member[string]{"region", asString, func(a *alias.Alias) *string { return &a.Region }}.of(in, null),
		member[string]{"endpoint", asString, func(a *alias.Alias) *string { return &a.Endpoint }}.of(in, null),
		member[bool]{"path_style", asBool, func(a *alias.Alias) *bool { return &a.PathStyle }}.of(in, null),
		member[string]{"canary", asString, func(a *alias.Alias) *string { return &a.Canary }}.of(in, null),
		member[bool]{"enabled", asBool, func(a *alias.Alias) *bool { return &a.Enabled }}.of(in, null),
		duration{"ttl", asDuration, func(a *alias.Alias) *time.Duration { return &a.TTL }}.of(in, null),
		duration{"negative_ttl", asDuration, func(a *alias.Alias) *time.Duration { return &a.NegativeTTL }}.of(in, null),
		duration{"stale_while_revalidate", asDuration, func(a *alias.Alias) *time.Duration {
			return &a.StaleWhileRevalidate
		}}.of(in, null),
		duration{"stale_if_error", asDuration, func(a *alias.Alias) *time.Duration { return &a.StaleIfError }}.of(in, null),
		member[string]{"cache_control", asString, func(a *alias.Alias) *string { return &a.CacheControl }}.of(in, null),
		member[[]string]{"cors_origins", asStrings, func(a *alias.Alias) *[]string { return &a.CORSOrigins }}.of(in, null),
		member[[]string]{"cors_headers", asStrings, func(a *alias.Alias) *[]string { return &a.CORSHeaders }}.of(in, null),
		in.fallbackField(),
		member[alias.Size]{"cache_min", asSize, func(a *alias.Alias) *alias.Size { return &a.CacheMin }}.of(in, null),
		member[alias.Size]{"cache_max", asSize, func(a *alias.Alias) *alias.Size { return &a.CacheMax }}.of(in, null),
	}, in.transformFields(null), []field{
		{name: "state", readOnly: keptByServer},
		{name: "revision", readOnly: keptByServer},
		{name: "created_at", readOnly: keptByServer},
		{name: "updated_at", readOnly: keptByServer},
	})
}

// member is a field of an alias: its name in JSON, its parser and its place.
type member[T any] struct {
	name  string
	parse func(json.RawMessage) (T, string)
	at    func(*alias.Alias) *T
}

type duration = member[time.Duration]

// of makes the field whose value becomes an edit of in.
func (m member[T]) of(in *aliasInput, null onNull) field {
	fresh := alias.New()
	r := reader{forms: []form{formOf[T]()}}
	if null == nullIsDefault {
		r.forms = append(r.forms, form{})
	} else {
		r.preset = presetOf(*m.at(fresh))
	}
	r.decode = func(path string, raw json.RawMessage) []alias.Problem {
		if null == nullIsDefault && typeOf(raw) == "null" {
			in.edits = append(in.edits, func(a *alias.Alias) { *m.at(a) = *m.at(fresh) })
			return nil
		}
		v, wrong := m.parse(raw)
		if wrong != "" {
			return problemAt(path, wrong)
		}
		in.edits = append(in.edits, func(a *alias.Alias) { *m.at(a) = v })
		return nil
	}
	return field{name: m.name, read: r}
}

// credentialForms ends the message about a missing or invalid credential.
const credentialForms = `one of: the name of a registered credential, like "shop"; ` +
	`a key pair {"access_key_id":"…","secret_access_key":"…"}, which is registered under the alias's name; ` +
	`a role {"role_arn":"…"}; null for a public bucket`

// newCredential reads the credential of a registration.
func (in *aliasInput) newCredential(path string, raw json.RawMessage) []alias.Problem {
	if typeOf(raw) != "an object" {
		return in.credentialByName(path, raw, "must be "+credentialForms)
	}
	given := new(credentialInput)
	problems := decodeObject(path, raw, inlineFields(given))
	in.ref = given.ref()
	for _, p := range given.kindProblems() {
		problems = append(problems, alias.Problem{Field: fieldPath(path, p.Field), Detail: p.Detail})
	}
	return problems
}

// otherCredential reads the credential of a patch. It refuses a key pair: other
// aliases may use the current credential, and it would be unclear whether the patch
// changes their key pair too.
func (in *aliasInput) otherCredential(path string, raw json.RawMessage) []alias.Problem {
	if typeOf(raw) == "an object" {
		return problemAt(path, "a key pair cannot be given here: PUT /api/v1/credentials/{name} replaces "+
			"the one of a credential, POST /api/v1/credentials registers another")
	}
	return in.credentialByName(path, raw, "must be the name of a registered credential, or null for a public bucket")
}

func (in *aliasInput) credentialByName(path string, raw json.RawMessage, form string) []alias.Problem {
	if typeOf(raw) == "null" {
		in.ref.Anonymous = true
		return nil
	}
	text, wrong := asString(raw)
	if wrong != "" {
		return problemAt(path, form)
	}
	name, err := alias.ParseName(text)
	if err != nil {
		return problemAt(path, form)
	}
	in.ref.Name = name
	return nil
}

// sizeOrNone formats a size for the API; "" is none.
func sizeOrNone(s alias.Size) string {
	if s == 0 {
		return ""
	}
	return s.String()
}

// fallbackJSON is a fallback in JSON: one path if both classes of error have the same,
// else an object.
type fallbackJSON alias.Fallback

// fallbackPair is the object form of a fallback.
type fallbackPair struct {
	Missing string `json:"missing" description:"The path of the picture for 404; empty: none."`
	Broken  string `json:"broken" description:"The path of the picture for 502, 503 and 504; empty: none."`
}

// Texts of the members of fallbackPair in a request.
const (
	docMissing = "The path of the picture for 404; null: none."
	docBroken  = "The path of the picture for 502, 503 and 504; null: none."
)

// MarshalJSON writes either form.
func (f fallbackJSON) MarshalJSON() ([]byte, error) {
	if f.Missing == f.Broken {
		return encode(f.Missing)
	}
	return encode(fallbackPair(f))
}

func (in *aliasInput) fallbackField() field {
	return field{name: "fallback", read: reader{decode: in.fallback, forms: []form{
		formOf[string](), {name: "FallbackEdit", fields: new(fallbackEdit).fields()}, {},
	}}}
}

// fallback reads either form. A missing member of an object keeps its
// value, as in every merge patch; null removes the fallback.
func (in *aliasInput) fallback(path string, raw json.RawMessage) []alias.Problem {
	var both string
	var edit fallbackEdit
	switch is := typeOf(raw); is {
	case "null":
		edit = fallbackEdit{&both, &both}
	case "a string":
		var wrong string
		if both, wrong = asString(raw); wrong != "" {
			return problemAt(path, wrong)
		}
		edit = fallbackEdit{&both, &both}
	case "an object":
		problems := decodeObject(path, raw, edit.fields())
		if len(problems) > 0 {
			return problems
		}
	default:
		return problemAt(path, `must be the path of an object, like "none.png", an object with one for each class of error, `+
			`like {"missing":"none.png","broken":"down.png"}, or null, not `+is)
	}
	in.edits = append(in.edits, edit.apply)
	return nil
}

// fallbackEdit holds the new path of each class of error; nil keeps the old one.
type fallbackEdit struct{ missing, broken *string }

func (e *fallbackEdit) fields() []field {
	return []field{
		{name: "missing", read: pathOrNull(&e.missing), doc: docMissing},
		{name: "broken", read: pathOrNull(&e.broken), doc: docBroken},
	}
}

func (e *fallbackEdit) apply(a *alias.Alias) {
	if e.missing != nil {
		a.Fallback.Missing = *e.missing
	}
	if e.broken != nil {
		a.Fallback.Broken = *e.broken
	}
}

func pathOrNull(dst **string) reader {
	return reader{decode: func(path string, raw json.RawMessage) []alias.Problem {
		*dst = new(string)
		if typeOf(raw) == "null" {
			return nil
		}
		return into(*dst, asString).decode(path, raw)
	}, forms: []form{formOf[string](), {}}}
}
