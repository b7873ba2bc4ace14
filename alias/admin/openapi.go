package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/swaggest/openapi-go/openapi31"

	"ixmage/alias"
)

const openapiPath = "/api/v1/openapi.json"

// document is the call that describes the API, in OpenAPI 3.1. The document is derived from
// the descriptions of the endpoints, the types of their answers, the fields of their bodies and
// the table of errors.
type document struct {
	routes *routes
	// explanation is a value of the type that the Explainer returns; nil: not known.
	explanation any
}

// builtDocument is the document as it is sent.
type builtDocument struct {
	text json.RawMessage
	tag  string
}

func (h document) mount(t *routes) {
	build := sync.OnceValues(h.build) // after all calls are mounted
	mount(t, endpoint[none, json.RawMessage]{method: http.MethodGet, path: openapiPath,
		summary: "Describe this API as an OpenAPI 3.1 document", roles: anyToken,
		statuses: []int{http.StatusOK, http.StatusNotModified},
		headers:  []parameter{{"If-None-Match", "the ETag of a document that the client has: 304 if it is still the same"}},
		do: func(_ context.Context, c *call[none]) (reply[json.RawMessage], error) {
			d, err := build()
			if err != nil {
				return reply[json.RawMessage]{}, err
			}
			r := reply[json.RawMessage]{body: d.text, tag: d.tag}
			if c.request.Header.Get("If-None-Match") == d.tag {
				r.status = http.StatusNotModified
			}
			return r, nil
		}})
}

func (h document) build() (builtDocument, error) {
	spec, err := describeAPI(h.routes.calls, h.explanation)
	if err != nil {
		return builtDocument{}, err
	}
	text, err := json.Marshal(spec)
	digest := sha256.Sum256(text)
	return builtDocument{text, `"` + base64.RawURLEncoding.EncodeToString(digest[:12]) + `"`}, err
}

// describer makes the document of some calls.
type describer struct {
	spec    openapi31.Spec
	schemas *schemas
	ids     map[string]bool
	explain reflect.Type // of the answer that explains a URL; nil: not known
}

const aboutAPI = "The API of the operator: aliases, credentials, IAM users and the cache. " +
	"Every call needs a token, as a bearer token or by the cookie of a session; x-roles lists the roles of which " +
	"the token needs one, and x-all-buckets marks calls that a token with bucket patterns may not make. " +
	"Times are in RFC 3339 and UTC, durations in the syntax of Go, and null stands for none. A GET stands for HEAD too. " +
	"No answer may be cached, and none contains a secret access key."

const aboutCookie = "The cookie of a session, " + cookieName + " or with TLS " + cookieNameSecure +
	". A call with it must come from the origin of the admin listener (Sec-Fetch-Site or Origin), " +
	"and a change needs the header " + consoleHeader + ": 1."

// describeAPI makes the document. The error lists everything that is not described.
func describeAPI(calls []description, explanation any) (*openapi31.Spec, error) {
	d := &describer{spec: openapi31.Spec{Openapi: "3.1.0"}, schemas: newSchemas(), ids: map[string]bool{}}
	if explanation != nil {
		d.explain = reflect.TypeOf(explanation)
	}
	d.spec.Info = *(&openapi31.Info{Title: "ixmage admin API", Version: "1"}).WithDescription(aboutAPI)
	d.spec.Servers = []openapi31.Server{*(&openapi31.Server{URL: "/"}).WithDescription("The admin listener.")}
	d.spec.SetHTTPBearerTokenSecurity("bearer", "", "The text of a token.")
	for scheme, cookie := range map[string]string{"session": cookieName, "sessionTLS": cookieNameSecure} {
		d.spec.SetAPIKeySecurity(scheme, cookie, "cookie", aboutCookie)
	}
	d.spec.Security = []map[string][]string{{"bearer": {}}, {"session": {}}, {"sessionTLS": {}}}
	d.problems()
	var errs []error
	for _, c := range calls {
		if err := d.add(c); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", c.method, c.path, err))
		}
	}
	d.markReadOnly(calls)
	errs = append(errs, d.addHealth(), d.schemas.err())
	d.spec.ComponentsEns().Schemas = d.schemas.components
	return &d.spec, errors.Join(errs...)
}

// markReadOnly marks the members of answers that every call refuses in a body.
func (d *describer) markReadOnly(calls []description) {
	for _, c := range calls {
		for _, f := range c.fields {
			writable := slices.ContainsFunc(calls, func(other description) bool {
				return other.out == c.out && slices.ContainsFunc(other.fields, func(o field) bool {
					return o.name == f.name && o.read.decode != nil
				})
			})
			properties, _ := d.schemas.components[definitionName(c.out, "")]["properties"].(map[string]any)
			if property, ok := properties[f.name].(map[string]any); ok && !writable {
				property["readOnly"] = true
			}
		}
	}
}

// problems adds the answers of failures, one for each status of the table kinds.
func (d *describer) problems() {
	d.schemas.of(reflect.TypeFor[problemJSON]())
	d.schemas.of(reflect.TypeFor[fallbackPair]()) // fallbackJSON refers to it
	d.spec.ComponentsEns().WithHeadersItem("X-Request-Id", headerOf("The id of the request in the log.", textSchema, true))
	codes := map[int][]string{}
	for _, k := range kinds {
		line := "`" + k.code + "`: " + k.title
		if !slices.Contains(codes[k.status], line) {
			codes[k.status] = append(codes[k.status], line)
		}
	}
	for status, lines := range codes {
		r := problemResponse(strings.Join(lines, "; ") + ".")
		for name, h := range problemHeaders[status] {
			r.WithHeadersItem(name, h)
		}
		d.spec.Components.WithResponsesItem(problemName(status), openapi31.ResponseOrReference{Response: r})
	}
	d.spec.Components.WithResponsesItem("Problem", openapi31.ResponseOrReference{
		Response: problemResponse("Any other failure."),
	})
}

func problemName(status int) string { return "Problem" + strconv.Itoa(status) }

func problemResponse(text string) *openapi31.Response {
	return (&openapi31.Response{Description: text}).
		WithHeadersItem("X-Request-Id", requestID()).
		WithContentItem("application/problem+json", openapi31.MediaType{Schema: refTo("Problem")})
}

func requestID() openapi31.HeaderOrReference {
	return openapi31.HeaderOrReference{Reference: &openapi31.Reference{Ref: "#/components/headers/X-Request-Id"}}
}

func headerOf(text string, s schema, required bool) openapi31.HeaderOrReference {
	return openapi31.HeaderOrReference{
		Header: (&openapi31.Header{Schema: s}).WithDescription(text).WithRequired(required),
	}
}

// problemHeaders are the headers of failures of a status.
var problemHeaders = map[int]map[string]openapi31.HeaderOrReference{
	http.StatusUnauthorized: {
		"WWW-Authenticate": headerOf("The scheme of Authorization.", schema{"type": "string"}, true),
	},
	http.StatusTooManyRequests:    {"Retry-After": headerOf(retryText, retrySchema, true)},
	http.StatusServiceUnavailable: {"Retry-After": headerOf(retryText, retrySchema, true)},
	http.StatusUnsupportedMediaType: {
		"Accept":          headerOf(acceptText, schema{"type": "string"}, false),
		"Accept-Post":     headerOf(acceptText, schema{"type": "string"}, false),
		"Accept-Patch":    headerOf(acceptText, schema{"type": "string"}, false),
		"Accept-Encoding": headerOf("The content codings that the call takes.", schema{"type": "string"}, false),
	},
}

const (
	retryText  = "Seconds after which the call may succeed."
	acceptText = "The media types that the call takes."
)

var textSchema = schema{"type": "string"}

var retrySchema = schema{"type": "integer", "minimum": 0}

// add adds the operation of a call.
func (d *describer) add(c description) error {
	op := openapi31.Operation{}
	id := operationID(c)
	if d.ids[id] {
		return fmt.Errorf("it has the operationId %s of another call: give it a path with another name", id)
	}
	d.ids[id] = true
	op.WithID(id).WithSummary(c.summary).WithTags(tagOf(c.path))
	op.WithMapOfAnythingItem("x-roles", append(slices.Clone(c.roles), alias.RoleAdmin))
	if c.public {
		op.Security = []map[string][]string{{}}
	}
	if c.allBuckets {
		op.WithMapOfAnythingItem("x-all-buckets", true)
	}
	d.parameters(&op, c)
	out := c.out
	if out == reflect.TypeFor[any]() {
		out = d.explain
	}
	if c.fields != nil {
		d.requestBody(&op, c, id, out)
	}
	for _, status := range c.successes() {
		r, err := d.success(c, status, out)
		if err != nil {
			return err
		}
		op.ResponsesEns().WithMapOfResponseOrReferenceValuesItem(strconv.Itoa(status),
			openapi31.ResponseOrReference{Response: r})
	}
	for _, status := range c.failures() {
		op.ResponsesEns().WithMapOfResponseOrReferenceValuesItem(strconv.Itoa(status), responseRef(problemName(status)))
	}
	op.ResponsesEns().WithDefault(responseRef("Problem"))
	return d.spec.AddOperation(c.method, c.path, op)
}

func responseRef(name string) openapi31.ResponseOrReference {
	return openapi31.ResponseOrReference{Reference: &openapi31.Reference{Ref: "#/components/responses/" + name}}
}

// successes are the statuses of a call that succeeds. One that stores nothing on request
// answers 200 in place of 201.
func (c description) successes() []int {
	statuses := slices.Clone(c.statuses)
	if c.isDry() && slices.Contains(statuses, http.StatusCreated) && !slices.Contains(statuses, http.StatusOK) {
		statuses = append(statuses, http.StatusOK)
	}
	return statuses
}

// isDry reports whether a request can ask the call to store nothing.
func (c description) isDry() bool {
	return slices.ContainsFunc(c.query, func(p parameter) bool { return p.name == dryRun[0].name })
}

// anyFailure are the statuses of failures that every request may have.
var anyFailure = []int{
	http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusExpectationFailed,
	http.StatusMisdirectedRequest, http.StatusRequestHeaderFieldsTooLarge, http.StatusInternalServerError,
	http.StatusServiceUnavailable, http.StatusHTTPVersionNotSupported,
}

// failures are the statuses of a call that fails.
func (c description) failures() []int {
	statuses := append(slices.Clone(anyFailure), http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests)
	writes := c.method != http.MethodGet
	for status, may := range map[int]bool{
		http.StatusNotFound:             writes || strings.Contains(c.path, "{"),
		http.StatusConflict:             writes,
		http.StatusPreconditionFailed:   c.conditional,
		http.StatusUnsupportedMediaType: c.fields != nil,
		http.StatusBadGateway:           writes && slices.Contains(c.roles, alias.RoleProvision),
	} {
		if may {
			statuses = append(statuses, status)
		}
	}
	for _, err := range c.fails {
		k, _ := classify(err)
		statuses = append(statuses, k.status)
	}
	slices.Sort(statuses)
	return slices.Compact(statuses)
}

// success describes the answer of a call that succeeds with a status.
func (d *describer) success(c description, status int, out reflect.Type) (*openapi31.Response, error) {
	r := (&openapi31.Response{Description: successText(c, status)}).WithHeadersItem("X-Request-Id", requestID())
	for _, h := range c.sends {
		r.WithHeadersItem(h.name, headerOf(sentence(h.detail), textSchema, false))
	}
	waits := slices.Contains(c.statuses, http.StatusAccepted) && status != http.StatusNoContent
	if status == http.StatusCreated || waits {
		r.WithHeadersItem("Location", headerOf("The path of the "+cmp.Or(c.made(), "result")+".", textSchema, true))
	}
	if waits {
		r.WithHeadersItem("Preference-Applied", headerOf("The wait of Prefer that was honoured.", textSchema, false))
	}
	switch {
	case status == http.StatusNoContent:
		return r, nil
	case c.path == openapiPath:
		r.WithHeadersItem("ETag", headerOf("The version of the document.", textSchema, true))
	case hasMember(out, "revision") && c.media == mediaJSON && c.path != nodesPath:
		r.WithHeadersItem("ETag", headerOf("The revision, for If-Match. A dry run has none.", textSchema, !c.isDry()))
	}
	if status == http.StatusNotModified {
		return r, nil
	}
	content, err := d.content(c, status, out)
	r.WithContentItem(c.media, content)
	return r, err
}

// content describes the body of an answer.
func (d *describer) content(c description, status int, out reflect.Type) (openapi31.MediaType, error) {
	if c.media == mediaJSON && out == reflect.TypeFor[none]() {
		return openapi31.MediaType{}, fmt.Errorf(
			"an answer with status %d has no type: give the endpoint an Out, a media type, or the status 204", status)
	}
	content := openapi31.MediaType{Schema: schema{"type": "string"}}
	switch {
	case c.media == mediaEvents:
		d.schemas.of(out)
		content.Schema["description"] = "Server-sent events. The data of each is an " +
			definitionName(out, "") + " on one line."
		content.WithMapOfAnythingItem("x-event-data", d.schemas.of(out))
	case c.media != mediaJSON: // bytes, which OpenAPI 3.1 describes by their media type alone
		content.Schema = nil
	case out == nil, out == reflect.TypeFor[json.RawMessage]():
		content.Schema = schema{"type": "object"}
	default:
		content.Schema = d.schemas.of(out)
	}
	return content, nil
}

// made is what Location names.
func (c description) made() string {
	if slices.Contains(c.statuses, http.StatusAccepted) {
		return "operation"
	}
	return c.resource
}

func successText(c description, status int) string {
	switch status {
	case http.StatusCreated:
		return "It was made."
	case http.StatusAccepted:
		return "The operation was started, or was running already."
	case http.StatusNoContent:
		return "It was done; there is nothing to say about it."
	case http.StatusNotModified:
		return "The client has the current version."
	}
	switch {
	case slices.Contains(c.statuses, http.StatusAccepted):
		return "The operation ended within the wait of Prefer."
	case slices.Contains(c.statuses, http.StatusCreated):
		return "It would be made: the call stored nothing, as dry_run asked."
	}
	return "The call succeeded."
}

// hasMember reports whether objects of a type have the member.
func hasMember(t reflect.Type, name string) bool {
	return slices.ContainsFunc(membersOf(t), func(f reflect.StructField) bool { return f.Tag.Get("json") == name })
}

// requestBody describes the body of a call.
func (d *describer) requestBody(op *openapi31.Operation, c description, id string, out reflect.Type) {
	name := capital(id) + "Request"
	like := []reflect.Type{out, reflect.TypeFor[aliasJSON](), reflect.TypeFor[credentialJSON]()}
	d.schemas.components[name] = d.schemas.object(name, c.fields, like)
	body := (&openapi31.RequestBody{}).WithRequired(!c.bodyOptional)
	for _, media := range c.types {
		content := openapi31.MediaType{Schema: refTo(name)}
		if c.example != "" {
			content.WithExample(json.RawMessage(c.example))
		}
		body.WithContentItem(media, content)
	}
	op.RequestBody = &openapi31.RequestBodyOrReference{RequestBody: body}
}

// pathParameter finds the parameters of a path.
var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

// parameters describes the path, the query and the headers of a call.
func (d *describer) parameters(op *openapi31.Operation, c description) {
	add := func(in openapi31.ParameterIn, p parameter, s schema) {
		q := openapi31.Parameter{Name: p.name, In: in, Schema: s}
		q.WithDescription(sentence(p.detail)).WithRequired(in == openapi31.ParameterInPath || p.name == "path")
		op.Parameters = append(op.Parameters, q.ToParameterOrRef())
	}
	for _, m := range pathParameter.FindAllStringSubmatch(c.path, -1) {
		s := schema{"type": "string", "pattern": `^[A-Za-z0-9+=,.@_-]{1,64}$`}
		if m[1] == "name" && c.resource != resourceNode {
			s["pattern"] = `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`
		}
		add(openapi31.ParameterInPath, parameter{m[1], "The " + m[1] + " of the " + c.resource}, s)
	}
	for _, p := range c.query {
		add(openapi31.ParameterInQuery, p, d.querySchema(p.name))
	}
	for _, p := range c.headers {
		add(openapi31.ParameterInHeader, p, schema{"type": "string"})
	}
	if c.conditional {
		add(openapi31.ParameterInHeader, parameter{"If-Match", "the ETag of the " + c.resource +
			" that the client has read: 412 if it has changed since"}, schema{"type": "string"})
	}
	if slices.Contains(c.statuses, http.StatusAccepted) {
		add(openapi31.ParameterInHeader, parameter{"Prefer", "wait=N holds the answer until the operation has ended, " +
			"for N seconds at most (RFC 7240); " + strconv.Itoa(int(maxWait.Seconds())) + " at most"}, schema{"type": "string"})
	}
}

// querySchema is the schema of a parameter of the query string. One name has one meaning.
func (d *describer) querySchema(name string) schema {
	switch name {
	case "limit", "last":
		return schema{"type": "integer", "minimum": 1}
	case "probe", dryRun[0].name:
		return schema{"type": "boolean"}
	case "state":
		return d.schemas.of(reflect.TypeFor[alias.OperationState]())
	case "by":
		return schema{"type": "string", "enum": []string{"hour", "day"}}
	}
	return schema{"type": "string"}
}

// sentence makes a sentence of a text.
func sentence(s string) string {
	s = capital(s)
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// addHealth describes the paths that need no token.
func (d *describer) addHealth() error {
	for _, p := range []struct {
		path, id, summary string
		fails             []int
	}{
		{"/-/healthz", "getHealth", "Say that the process is alive", nil},
		{"/-/readyz", "getReadiness", "Say whether requests are served", nil},
		// It is not found if --metrics-listen has a listener of its own.
		{metricsPath, "getMetrics", "Read the metrics, in the text format of Prometheus",
			[]int{http.StatusForbidden, http.StatusNotFound}},
	} {
		op := openapi31.Operation{Security: []map[string][]string{{}}}
		op.WithID(p.id).WithSummary(p.summary).WithTags("server")
		ok := (&openapi31.Response{Description: "The call succeeded."}).WithHeadersItem("X-Request-Id", requestID()).
			WithContentItem("text/plain", openapi31.MediaType{Schema: schema{"type": "string"}})
		if p.path == metricsPath {
			ok.WithHeadersItem("Vary", headerOf("Accept-Encoding.", schema{"type": "string"}, false))
			ok.WithHeadersItem("Content-Encoding", headerOf("gzip, if the request accepts it.", schema{"type": "string"}, false))
			for _, media := range []string{"application/openmetrics-text", "application/vnd.google.protobuf"} {
				ok.WithContentItem(media, openapi31.MediaType{Schema: schema{"type": "string"}})
			}
		}
		op.ResponsesEns().WithMapOfResponseOrReferenceValuesItem("200", openapi31.ResponseOrReference{Response: ok}).
			WithDefault(responseRef("Problem"))
		for _, status := range append(p.fails, anyFailure...) {
			op.Responses.WithMapOfResponseOrReferenceValuesItem(strconv.Itoa(status), responseRef(problemName(status)))
		}
		if err := d.spec.AddOperation(http.MethodGet, p.path, op); err != nil {
			return err
		}
	}
	return nil
}

// tagOf is the first segment of a path in the API.
func tagOf(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/v1/"), "/")
	return strings.TrimSuffix(first, ".json")
}

// operationID names an operation after its method and path: listAliases, getAlias,
// verifyAlias. Generated clients have functions of this name.
func operationID(c description) string {
	if c.path == "/api/v1/explain" {
		return "explainPath"
	}
	var words []string // of the path without its parameters, in the singular where one follows
	segments := strings.SplitSeq(strings.TrimPrefix(c.path, "/api/v1/"), "/")
	for s := range segments {
		if strings.HasPrefix(s, "{") {
			words[len(words)-1] = singular(words[len(words)-1])
			continue
		}
		s, _, _ = strings.Cut(s, ".")
		words = append(words, strings.ReplaceAll(s, "-", "_"))
	}
	last := words[len(words)-1]
	name := camel(words)
	switch c.method {
	case http.MethodGet:
		if hasMember(c.out, last) || hasMember(c.out, singular(last)+"s") {
			return "list" + name
		}
		return "get" + name
	case http.MethodPut:
		return "replace" + name
	case http.MethodPatch:
		return "update" + name
	case http.MethodDelete:
		return "delete" + name
	}
	if slices.Contains(c.statuses, http.StatusCreated) {
		words[len(words)-1] = singular(last)
		return "create" + camel(words)
	}
	return last + camel(words[:len(words)-1]) // the last segment is a verb
}

func camel(words []string) string {
	var b strings.Builder
	for _, w := range words {
		for part := range strings.SplitSeq(w, "_") {
			b.WriteString(capital(part))
		}
	}
	return b.String()
}

func singular(s string) string {
	if s == "aliases" || s == "alias" {
		return "alias"
	}
	return strings.TrimSuffix(s, "s")
}
