package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/signature"
)

// KeyUses knows when signing keys were used.
type KeyUses interface {
	// LastUse is the last time at which a request with a good signature of a key came to this
	// process; zero if none did.
	LastUse(aliasID int64, kid string) time.Time
}

// signingKeys are the calls that make, list and delete the signing keys of an alias, and sign.
type signingKeys struct {
	registry *alias.Registry
	uses     KeyUses // nil: they are not known
}

var errNoSigningKey = errors.New("no signing key")

func (h signingKeys) mount(t *routes) {
	const resource, all = "alias", aliasesPath + "/{name}/signing-keys"
	roles := []alias.TokenRole{alias.RoleAlias}
	mount(t, endpoint[none, signingKeysJSON]{method: http.MethodGet, path: all, resource: resource,
		summary: "List the signing keys of an alias, the oldest first, without their secrets", roles: anyToken, do: h.list})
	mount(t, endpoint[none, newSigningKeyJSON]{method: http.MethodPost, path: all, resource: resource,
		summary: "Make a signing key for an alias; only this answer has its secret", roles: roles,
		statuses: []int{http.StatusCreated}, fields: func(*none) []field { return []field{} }, bodyOptional: true,
		fails: []error{alias.ErrTooManyKeys}, do: h.create})
	mount(t, endpoint[none, none]{method: http.MethodDelete, path: all + "/{kid}", resource: resource,
		summary: "Delete a signing key of an alias; URLs that it has signed are refused from then on", roles: roles,
		statuses: []int{http.StatusNoContent}, do: h.remove})
	mount(t, endpoint[signInput, signedJSON]{method: http.MethodPost, path: aliasesPath + "/{name}/sign",
		resource: resource, summary: "Sign a URL of an alias with its newest signing key", roles: roles, fields: signFields,
		fails: []error{errNoSigningKey}, example: `{"path":"/shop/a.jpg?w=400","expires_in":"24h"}`,
		check: func(_ context.Context, c *call[signInput]) []alias.Problem { return c.in.problems(c.name) }, do: h.sign})
}

type signingKeysJSON struct {
	SigningKeys []signingKeyJSON `json:"signing_keys" description:"The keys, the oldest first. The newest one signs."`
}

// signingKeyJSON is a signing key as the API shows it.
type signingKeyJSON struct {
	KID        string  `json:"kid" description:"The id of the key, the value of kid in a signed URL."`
	CreatedAt  string  `json:"created_at" description:"When it was made."`
	LastUsedAt *string `json:"last_used_at" description:"When a request with a good signature of it came last to this node since its start; null: none did."`
}

// newSigningKeyJSON is a new signing key, with its secret.
type newSigningKeyJSON struct {
	KID       string `json:"kid" description:"The id of the key, the value of kid in a signed URL."`
	Secret    string `json:"secret" description:"The 32 bytes of the key as base64url without padding. No other answer has it."`
	CreatedAt string `json:"created_at" description:"When it was made."`
}

type signedJSON struct {
	URL       string  `json:"url" description:"The path and the query with exp, kid and sig."`
	ExpiresAt *string `json:"expires_at" description:"When it ends; null: never."`
}

func (h signingKeys) list(ctx context.Context, c *call[none]) (reply[signingKeysJSON], error) {
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[signingKeysJSON]{}, err
	}
	out := signingKeysJSON{SigningKeys: make([]signingKeyJSON, len(a.SigningKeys))}
	for i, k := range a.SigningKeys {
		out.SigningKeys[i] = signingKeyJSON{k.KID, timestamp(k.CreatedAt), nil}
		if h.uses != nil {
			out.SigningKeys[i].LastUsedAt = timestampOrNull(h.uses.LastUse(a.ID, k.KID))
		}
	}
	return reply[signingKeysJSON]{body: out}, nil
}

func (h signingKeys) create(ctx context.Context, c *call[none]) (reply[newSigningKeyJSON], error) {
	k, err := h.registry.AddSigningKey(ctx, c.name, c.actor)
	if err != nil {
		return reply[newSigningKeyJSON]{}, err
	}
	return reply[newSigningKeyJSON]{
		status: http.StatusCreated, location: aliasesPath + "/" + string(c.name) + "/signing-keys/" + k.KID,
		body: newSigningKeyJSON{
			k.KID, base64.RawURLEncoding.EncodeToString([]byte(k.Secret.Reveal())), timestamp(k.CreatedAt),
		},
	}, nil
}

func (h signingKeys) remove(ctx context.Context, c *call[none]) (reply[none], error) {
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[none]{}, err
	}
	kid := c.request.PathValue("kid")
	switch {
	case !alias.IsKID(kid): // it may be a misplaced secret
		return reply[none]{}, failf(alias.ErrNotFound,
			"a signing key is named by its kid: 4 to 32 lower-case letters and digits")
	case !slices.ContainsFunc(a.SigningKeys, func(k alias.SigningKey) bool { return k.KID == kid }):
		return reply[none]{}, failf(alias.ErrNotFound, "the alias %s has no signing key named %s", c.name, kid)
	}
	return reply[none]{status: http.StatusNoContent}, h.registry.DeleteSigningKey(ctx, c.name, kid, c.actor)
}

// signInput is the body of a call that signs.
type signInput struct {
	path string
	life time.Duration // 0: not given
	end  time.Time     // zero: not given
}

func signFields(in *signInput) []field {
	return []field{
		{name: "path", read: into(&in.path, asString), required: true, doc: "The URL from its first slash on, " +
			"percent-encoded as the client will send it, with its query and without a signature."},
		{name: "expires_in", read: orNull(into(&in.life, asLife)), doc: "How long the URL is good, from now on, " +
			"rounded up to a second; null: it never ends."},
		{name: "expires_at", read: orNull(into(&in.end, asTime)), doc: "Instead of expires_in, when the URL ends, " +
			"rounded up to a second: a client that rounds it to an hour gets the same URL for as long, which caches have."},
	}
}

func asLife(raw json.RawMessage) (time.Duration, string) {
	d, wrong := asDuration(raw)
	if wrong == "" && d <= 0 {
		wrong = "must be above 0s; without it, the URL never ends"
	}
	return d, wrong
}

func (in *signInput) problems(name alias.Name) []alias.Problem {
	path, _, _ := strings.Cut(in.path, "?")
	under := "/" + string(name) + "/"
	if !strings.HasPrefix(path, under) || path == under {
		return problemAt("path", "must be a URL of the alias, from its first slash on, like "+under+"a.jpg?w=400")
	}
	switch {
	case in.end.IsZero():
	case in.life > 0:
		return problemAt("expires_at", "must not be given together with expires_in")
	case !in.end.After(time.Now()):
		return problemAt("expires_at", "must be in the future")
	}
	return nil
}

// ends returns when the URL ends; zero: never.
func (in *signInput) ends() time.Time {
	end := in.end
	if in.life > 0 {
		end = time.Now().UTC().Add(in.life)
	}
	if end.IsZero() {
		return end
	}
	return end.Add(time.Second - 1).Truncate(time.Second)
}

func (h signingKeys) sign(ctx context.Context, c *call[signInput]) (reply[signedJSON], error) {
	if problems := c.in.problems(c.name); len(problems) > 0 {
		return reply[signedJSON]{}, invalid(problems)
	}
	path, query, _ := strings.Cut(c.in.path, "?")
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[signedJSON]{}, err
	}
	newest, ok := a.NewestKey()
	if !ok {
		return reply[signedJSON]{}, failf(errNoSigningKey, "the alias %s has no signing key: make one with "+
			"POST %s/%s/signing-keys, or with ixmage signing-key create %s", c.name, aliasesPath, c.name, c.name)
	}
	key, err := signature.NewKey(newest.KID, []byte(newest.Secret.Reveal()))
	if err != nil {
		return reply[signedJSON]{}, err
	}
	ends := c.in.ends()
	signed, err := key.Sign(path, query, ends)
	if err != nil {
		return reply[signedJSON]{}, invalid(problemAt("path", err.Error()))
	}
	return reply[signedJSON]{body: signedJSON{path + "?" + signed, timestampOrNull(ends)}}, nil
}
