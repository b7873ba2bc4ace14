package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"ixmage/alias"
)

// callTimeout bounds what one call may spend in the registry. Its context does
// not come from the connection: fasthttp tells nobody when a client leaves, and
// a write that has begun is better finished.
const callTimeout = 30 * time.Second

// none is the In of an endpoint without a body and the Out of one without an
// answer.
type none struct{}

// endpoint is one call of the API. Everything that all calls have in common
// happens in serve, so that no call can forget it.
type endpoint[In, Out any] struct {
	method string
	path   string
	// thing is what the path's :name, :id or :user stands for; it is what errors
	// and the log call it.
	thing string
	// query lists the parameters that are known.
	query []string
	// fields says what the body may hold; nil means that there is none.
	fields func(*In) []field
	// bare allows a request without a body, which then leaves In as it is.
	bare bool
	// types are the media types of a body besides application/json.
	types []string
	// check finds what else is wrong with a request whose body could be read
	// in part only, so that the client hears of everything at once. Optional.
	check func(context.Context, *call[In]) []alias.Problem
	do    func(context.Context, *call[In]) (reply[Out], error)
}

// call is a request as an endpoint sees it: checked, decoded, and copied out of
// the buffers that fasthttp uses again.
type call[In any] struct {
	name  alias.Name // from the path; empty where it has none
	id    string     // likewise, of what has no alias.Name
	query url.Values
	match ifMatch
	wait  wait
	actor string // for the audit
	in    In
	rec   *record
}

// target is what the path names.
func (c *call[In]) target() string { return string(c.name) + c.id }

// reply is what an endpoint answers. The zero Status is 200.
type reply[Out any] struct {
	status   int
	location string
	revision int64  // becomes the ETag; 0: none
	applied  string // the preference that was honoured; empty: none
	body     Out
}

// mount adds e to the routes.
func mount[In, Out any](app *fiber.App, e endpoint[In, Out]) {
	if e.method == fiber.MethodGet {
		app.Get(e.path, e.serve) // and HEAD
		return
	}
	app.Add(e.method, e.path, e.serve)
}

func (e endpoint[In, Out]) serve(c *fiber.Ctx) error {
	rec := recordOf(c.Context())
	rec.route = e.path
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	in, err := e.accept(ctx, c, rec)
	if err != nil {
		return err
	}
	out, err := e.do(ctx, in)
	if err != nil {
		return e.named(in.target(), err)
	}
	return send(c, out)
}

// accept makes the call, or says why the request is none.
func (e endpoint[In, Out]) accept(ctx context.Context, c *fiber.Ctx, rec *record) (*call[In], error) {
	in := &call[In]{
		rec: rec, actor: "admin@" + c.Context().RemoteIP().String(),
		wait: parsePrefer(c.Request().Header.PeekAll("Prefer")),
	}
	var err error
	if in.name, err = e.nameIn(c.Params("name")); err != nil {
		return nil, err
	}
	if in.id, err = e.idIn(c); err != nil {
		return nil, err
	}
	rec.about(e.thing, alias.Name(in.target()))
	if in.query, err = parseQuery(string(c.Context().URI().QueryString()), e.query); err != nil {
		return nil, err
	}
	if in.match, err = parseIfMatch(c.Request().Header.PeekAll(fiber.HeaderIfMatch)); err != nil {
		return nil, err
	}
	if e.fields == nil {
		return in, refuseBody(c)
	}
	return in, e.decode(ctx, c, in)
}

// decode reads the body.
func (e endpoint[In, Out]) decode(ctx context.Context, c *fiber.Ctx, in *call[In]) error {
	if e.bare && len(c.Request().Body()) == 0 {
		return nil
	}
	if err := e.acceptMedia(c); err != nil {
		return err
	}
	// Not c.Body(), which unpacks a Content-Encoding without a limit.
	problems, err := decodeBody(c.Request().Body(), e.fields(&in.in))
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

// merge adds the problems of more that are not about a field with one already.
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

// nameIn reads the name in the path. What cannot be a name names nothing, so
// it is 404 like every other unknown one.
func (e endpoint[In, Out]) nameIn(raw string) (alias.Name, error) {
	if !strings.Contains(e.path, "/:name") {
		return "", nil
	}
	name, err := alias.ParseName(strings.Clone(raw))
	if err != nil {
		return "", e.missing(raw)
	}
	return name, nil
}

// idIn reads the id of an operation or the name of an IAM user in the path.
func (e endpoint[In, Out]) idIn(c *fiber.Ctx) (string, error) {
	for _, param := range []string{"id", "user"} {
		if !strings.Contains(e.path, "/:"+param) {
			continue
		}
		raw := strings.Clone(c.Params(param))
		id, err := url.PathUnescape(raw)
		if err != nil || !isID(id) {
			return "", e.missing(raw)
		}
		return id, nil
	}
	return "", nil
}

// isID reports whether s is made of what IAM takes in the name of a user, which
// the ids of operations are made of too.
func isID(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune("+=,.@_-", r)
	})
}

func (e endpoint[In, Out]) missing(name string) error {
	const most = 80
	return fail(alias.ErrNotFound, "there is no %s named %s", e.thing, strconv.QuoteToASCII(name[:min(len(name), most)]))
}

// named gives the words for what the registry says about the thing in the path.
func (e endpoint[In, Out]) named(name string, err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if use, ok := errors.AsType[*alias.InUseError](err); ok {
		return inUse(use)
	}
	switch {
	case errors.Is(err, alias.ErrNotFound) && name != "":
		return e.missing(name)
	case errors.Is(err, alias.ErrStale):
		return fail(alias.ErrStale, "the %s %s has another revision than If-Match says: read it again and use its ETag",
			e.thing, name)
	case errors.Is(err, alias.ErrNotStatic):
		return fail(alias.ErrNotStatic, "%s: only a static key pair can be replaced", err.Error())
	}
	for _, sentinel := range outspoken {
		if errors.Is(err, sentinel) {
			return fail(sentinel, "%s", err.Error())
		}
	}
	return err
}

// outspoken are the errors whose words help, and are the registry's own or the
// Provisioner's: no store or library speaks under these sentinels.
var outspoken = []error{
	alias.ErrExists, alias.ErrBusy, alias.ErrProvisioned, alias.ErrNotProvisioned, alias.ErrForbidden,
	alias.ErrNoKeyPair, alias.ErrIAM, alias.ErrNotFound,
}

// inUse names the aliases that stand in the way, as many as are worth reading.
func inUse(e *alias.InUseError) error {
	const most = 100
	names := make([]string, 0, most)
	for _, n := range e.Aliases[:min(len(e.Aliases), most)] {
		names = append(names, string(n))
	}
	list := strings.Join(names, ", ")
	if more := len(e.Aliases) - len(names); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return fail(alias.ErrInUse, "the credential %s is used by these aliases: %s; "+
		"give them another one or delete them first", e.Credential, list)
}

// refuseBody turns away a body where none is expected: it would be a mistake
// that goes unnoticed.
func refuseBody(c *fiber.Ctx) error {
	if len(c.Request().Body()) == 0 {
		return nil
	}
	return fail(errBadRequest, "this call takes no request body")
}

const mediaJSON = "application/json"

// acceptMedia refuses a body that does not say it is JSON. It also keeps a web
// page of another origin from sending one without a CORS preflight.
func (e endpoint[In, Out]) acceptMedia(c *fiber.Ctx) error {
	types := append([]string{mediaJSON}, e.types...)
	list := strings.Join(types, ", ")
	header := map[string]string{fiber.HeaderAccept: list}
	switch e.method {
	case fiber.MethodPost:
		header = map[string]string{"Accept-Post": list}
	case fiber.MethodPatch:
		header = map[string]string{"Accept-Patch": list}
	}
	coding := c.Request().Header.Peek(fiber.HeaderContentEncoding)
	if len(coding) > 0 && !strings.EqualFold(string(coding), "identity") {
		f := fail(errMediaType, "the body must not have a Content-Encoding")
		f.header = maps.Clone(header)
		f.header[fiber.HeaderAcceptEncoding] = "identity"
		return f
	}
	sent := c.Request().Header.ContentType()
	media, params, err := mime.ParseMediaType(string(sent))
	charset, ok := params["charset"]
	if err == nil && slices.Contains(types, media) && (!ok || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	if len(sent) == 0 && len(c.Request().Body()) == 0 {
		return fail(errBadRequest, "this call needs a JSON object in the request body")
	}
	f := fail(errMediaType, "send the body as Content-Type: %s, in UTF-8", strings.Join(types, " or "))
	f.header = header
	return f
}

func send[Out any](c *fiber.Ctx, r reply[Out]) error {
	h := &c.Response().Header
	if r.location != "" {
		h.Set(fiber.HeaderLocation, r.location)
	}
	if r.revision != 0 {
		h.Set(fiber.HeaderETag, etag(r.revision))
	}
	if r.applied != "" {
		h.Set("Preference-Applied", r.applied)
	}
	if r.status == 0 {
		r.status = fiber.StatusOK
	}
	c.Status(r.status)
	if r.status == fiber.StatusNoContent {
		return nil
	}
	body, err := encode(r.body)
	if err != nil {
		return err
	}
	h.SetContentType(mediaJSON)
	c.Response().SetBodyRaw(body)
	return nil
}
