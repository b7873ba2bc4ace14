package admin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

const tokensPath = "/api/v1/tokens"

// tokens are the calls that make, list and delete admin tokens.
type tokens struct{ tokens *alias.Tokens }

func (h tokens) mount(t *routes) {
	const single = tokensPath + "/{name}"
	roles := []alias.TokenRole{}
	mount(t, endpoint[none, tokensJSON]{method: http.MethodGet, path: tokensPath,
		summary: "List admin tokens by name, without their texts", roles: roles, allBuckets: true, do: h.list})
	mount(t, endpoint[tokenInput, newTokenJSON]{method: http.MethodPost, path: tokensPath, resource: "token",
		summary: "Make an admin token; only this answer has its text", roles: roles, allBuckets: true,
		statuses: []int{http.StatusCreated}, fields: tokenFields,
		check: func(_ context.Context, c *call[tokenInput]) []alias.Problem { return c.in.problems() }, do: h.create})
	mount(t, endpoint[none, tokenJSON]{method: http.MethodGet, path: single, resource: "token",
		summary: "Read an admin token, without its text", roles: roles, allBuckets: true, do: h.read})
	mount(t, endpoint[none, none]{method: http.MethodDelete, path: single, resource: "token",
		summary: "Revoke an admin token, and end its sessions", roles: roles, allBuckets: true,
		statuses: []int{http.StatusNoContent}, do: h.remove})
}

type tokensJSON struct {
	Tokens []tokenJSON `json:"tokens" description:"The tokens, sorted by name."`
}

// tokenJSON is a token as the API shows it.
type tokenJSON struct {
	Name       alias.Name        `json:"name" description:"The name of the token, which the audit and the log have."`
	Roles      []alias.TokenRole `json:"roles" description:"What the token may do, beside reading."`
	Buckets    []string          `json:"buckets" description:"Patterns of the buckets whose aliases the token sees and changes, such as acme-*; empty: all."`
	CreatedAt  string            `json:"created_at" description:"When it was made."`
	CreatedBy  string            `json:"created_by" description:"Who made it."`
	ExpiresAt  *string           `json:"expires_at" description:"When it expires; null: never."`
	LastUsedAt *string           `json:"last_used_at" description:"When it was used last; null: never."`
}

// newTokenJSON is a new token, with the text that its holder sends.
type newTokenJSON struct {
	tokenJSON

	Token string `json:"token" description:"The text that its holder sends. No other answer has it."`
}

func showToken(t *alias.Token) tokenJSON {
	return tokenJSON{
		Name: t.Name, Roles: t.Roles, Buckets: append([]string{}, t.Buckets...),
		CreatedAt: timestamp(t.CreatedAt), CreatedBy: t.CreatedBy,
		ExpiresAt: timestampOrNull(t.ExpiresAt), LastUsedAt: timestampOrNull(t.LastUsedAt),
	}
}

func (h tokens) list(context.Context, *call[none]) (reply[tokensJSON], error) {
	list := h.tokens.List()
	out := tokensJSON{Tokens: make([]tokenJSON, len(list))}
	for i := range list {
		out.Tokens[i] = showToken(&list[i])
	}
	return reply[tokensJSON]{body: out}, nil
}

func (h tokens) read(_ context.Context, c *call[none]) (reply[tokenJSON], error) {
	t, ok := h.tokens.Named(c.name)
	if !ok {
		return reply[tokenJSON]{}, alias.ErrNotFound
	}
	return reply[tokenJSON]{body: showToken(&t)}, nil
}

func (h tokens) create(ctx context.Context, c *call[tokenInput]) (reply[newTokenJSON], error) {
	problems := c.in.problems()
	if end := c.principal.ExpiresAt; !end.IsZero() && (c.in.expires.IsZero() || c.in.expires.After(end)) {
		problems = append(problems, alias.Problem{
			Field: "expires_at", Detail: "must not be after " + timestamp(end) + ", when your own token expires",
		})
	}
	if len(problems) > 0 {
		return reply[newTokenJSON]{}, invalid(problems)
	}
	// The prefix lets scanners for leaked secrets recognise the text, which has 130 random bits.
	text := "ixmage_" + rand.Text()
	made, err := h.tokens.Create(ctx, alias.Token{
		Name: c.in.name, Roles: c.in.sortedRoles(), Buckets: c.in.buckets, Digest: alias.DigestOf(text),
		CreatedBy: c.principal.actor(), ExpiresAt: c.in.expires,
	})
	if err != nil {
		return reply[newTokenJSON]{}, err
	}
	return reply[newTokenJSON]{
		status: http.StatusCreated, location: tokensPath + "/" + string(made.Name),
		body: newTokenJSON{showToken(&made), text},
	}, nil
}

func (h tokens) remove(ctx context.Context, c *call[none]) (reply[none], error) {
	return reply[none]{status: http.StatusNoContent}, h.tokens.Delete(ctx, c.name, c.principal.actor())
}

// tokenInput is the body of a call that makes a token.
type tokenInput struct {
	name    alias.Name
	roles   []string
	buckets []string
	expires time.Time
}

func tokenFields(in *tokenInput) []field {
	return []field{
		{name: "name", read: into(&in.name, asName), required: true,
			doc: "The name of the token, for the audit and the log."},
		{name: "roles", read: rolesInto(&in.roles), required: true,
			doc: "What the token may do, beside reading."},
		{name: "buckets", read: into(&in.buckets, asStrings),
			doc: "Patterns of the buckets whose aliases the token sees and changes, such as acme-*; empty: all."},
		{name: "expires_at", read: orNull(into(&in.expires, asTime)), doc: "When the token expires; null: never."},
		{name: "created_at", readOnly: keptByServer},
		{name: "created_by", readOnly: keptByServer},
		{name: "last_used_at", readOnly: keptByServer},
		{name: "token", readOnly: keptByServer},
	}
}

// rolesInto reads roles, which create validates.
func rolesInto(dst *[]string) reader {
	r := into(dst, asStrings)
	r.forms = []form{formOf[[]alias.TokenRole]()}
	return r
}

func asTime(raw json.RawMessage) (time.Time, string) {
	const form = `a time as RFC 3339, like "2027-01-31T12:00:00Z", or null`
	text, wrong := as[string](raw, form)
	if wrong != "" {
		return time.Time{}, wrong
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, "must be " + form
	}
	return at.UTC().Truncate(time.Microsecond), ""
}

const (
	maxTokenBuckets = 100
	roleForms       = "must name at least one of read, purge, alias, provision and admin"
)

func (in *tokenInput) problems() []alias.Problem {
	_, err := alias.ParseName(string(in.name))
	problems := problemsOf(err)
	if in.name == ownToken {
		problems = append(problems, alias.Problem{Field: "name", Detail: "is the name of the token of the configuration"})
	}
	if len(in.roles) == 0 {
		problems = append(problems, alias.Problem{Field: "roles", Detail: roleForms})
	}
	for i, r := range in.roles {
		if !slices.Contains(alias.TokenRoles, alias.TokenRole(r)) {
			problems = append(problems, alias.Problem{Field: fmt.Sprintf("roles[%d]", i), Detail: roleForms})
		}
	}
	if len(in.buckets) > maxTokenBuckets {
		problems = append(problems, alias.Problem{
			Field: "buckets", Detail: fmt.Sprintf("must have at most %d patterns", maxTokenBuckets),
		})
	}
	for i, b := range in.buckets {
		if wrong := policy.PatternProblem(b); wrong != "" {
			problems = append(problems, alias.Problem{Field: fmt.Sprintf("buckets[%d]", i), Detail: wrong})
		}
	}
	if !in.expires.IsZero() && !in.expires.After(time.Now()) {
		problems = append(problems, alias.Problem{Field: "expires_at", Detail: "must be in the future"})
	}
	return problems
}

// sortedRoles returns each role once, in the order of alias.TokenRoles.
func (in *tokenInput) sortedRoles() []alias.TokenRole {
	var list []alias.TokenRole
	for _, r := range alias.TokenRoles {
		if slices.Contains(in.roles, string(r)) {
			list = append(list, r)
		}
	}
	return list
}

// bearers finds the holders of tokens. The token of the configuration is held as a digest, like
// the others.
type bearers struct {
	own      alias.TokenDigest
	ownSet   bool
	tokens   *alias.Tokens // nil: there are no named ones
	sessions *sessions
}

func newBearers(own alias.Secret, named *alias.Tokens) *bearers {
	return &bearers{
		own: alias.DigestOf(own.Reveal()), ownSet: !own.IsZero(), tokens: named, sessions: newSessions(),
	}
}

// holder returns the holder of the token with a digest, and notes its use. The digest is
// compared in constant time, so that timing reveals no prefix of the token of the
// configuration; a named token is found by its digest, of which timing reveals nothing useful.
func (b *bearers) holder(digest alias.TokenDigest, peer string) (*principal, error) {
	if b.ownSet && subtle.ConstantTimeCompare(digest[:], b.own[:]) == 1 {
		own := alias.Token{Name: ownToken, Roles: []alias.TokenRole{alias.RoleAdmin}}
		return &principal{own, peer, func() bool { return true }}, nil
	}
	if b.tokens == nil {
		return nil, errUnauthorized
	}
	t, ok := b.tokens.Find(digest)
	switch {
	case !ok:
		return nil, errUnauthorized
	case t.Expired(time.Now()):
		return nil, failf(errUnauthorized, "the token %s expired at %s: ask for another one", t.Name, timestamp(t.ExpiresAt))
	}
	b.tokens.Use(digest)
	return &principal{t, peer, func() bool {
		now, ok := b.tokens.Find(digest)
		return ok && !now.Expired(time.Now())
	}}, nil
}

// bearerOf returns the token of a request that has exactly one Authorization header.
func bearerOf(lines []string) (string, bool) {
	if len(lines) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(lines[0], " ")
	return strings.TrimLeft(token, " "), ok && strings.EqualFold(scheme, "Bearer")
}
