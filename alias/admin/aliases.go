package admin

import (
	"context"
	"errors"
	"net/http"

	"ixmage/alias"
)

const aliasesPath = "/api/v1/aliases"

// aliases are the calls that keep aliases.
type aliases struct{ registry *alias.Registry }

func (h aliases) mount(t *routes) {
	const single = aliasesPath + "/{name}"
	const thing = "alias"
	mount(t, endpoint[none, aliasesJSON]{method: http.MethodGet, path: aliasesPath,
		query: pageQuery, do: h.list})
	mount(t, endpoint[aliasInput, aliasJSON]{method: http.MethodPost, path: aliasesPath, thing: thing,
		fields: createFields, check: h.checkNew, do: h.create})
	mount(t, endpoint[none, aliasJSON]{method: http.MethodGet, path: single, thing: thing, do: h.read})
	mount(t, endpoint[aliasInput, aliasJSON]{method: http.MethodPatch, path: single, thing: thing,
		fields: patchFields, types: []string{"application/merge-patch+json"}, check: h.checkPatch, do: h.patch})
	mount(t, endpoint[none, none]{method: http.MethodDelete, path: single, thing: thing, do: h.remove})
}

type aliasesJSON struct {
	Aliases []aliasJSON `json:"aliases"`
}

func (h aliases) list(ctx context.Context, c *call[none]) (reply[aliasesJSON], error) {
	p, err := parsePage(c.query)
	if err != nil {
		return reply[aliasesJSON]{}, err
	}
	list, err := h.registry.Aliases(ctx, p.after, p.limit)
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
	made, err := h.registry.CreateAlias(ctx, a, c.in.ref)
	if err != nil {
		return reply[aliasJSON]{}, err
	}
	r := answerAlias(made)
	r.status, r.location = http.StatusCreated, aliasesPath+"/"+string(made.Name)
	return r, nil
}

// checkNew is everything that can be said of a registration without the store.
func (h aliases) checkNew(_ context.Context, c *call[aliasInput]) []alias.Problem {
	a := alias.New()
	c.in.apply(a)
	a.Normalize()
	problems := problemsOf(a.Validate(h.registry.Policy()))
	if c.in.ref.IsZero() {
		return append(problems, alias.Problem{Field: "credential", Detail: "is required, as " + credentialForms})
	}
	if kp := c.in.ref.KeyPair; kp != nil {
		for _, p := range problemsOf(alias.ValidateKeyPair(*kp)) {
			problems = append(problems, alias.Problem{Field: "credential." + p.Field, Detail: p.Detail})
		}
	}
	return problems
}

// problemsOf opens the error of a validation.
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
	return answerAlias(a), nil
}

func (h aliases) patch(ctx context.Context, c *call[aliasInput]) (reply[aliasJSON], error) {
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[aliasJSON]{}, err
	}
	a, err := h.registry.UpdateAlias(ctx, c.name, revision, func(a *alias.Alias, ref *alias.CredentialRef) error {
		c.in.apply(a)
		*ref = c.in.ref
		return nil
	})
	if err != nil {
		return reply[aliasJSON]{}, err
	}
	return answerAlias(a), nil
}

// checkPatch is what the patch would be blamed for. An alias that cannot be read
// is left to the next attempt.
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

// current makes the question for the revision that an alias has now.
func (h aliases) current(ctx context.Context, name alias.Name) func() (int64, error) {
	return func() (int64, error) {
		a, err := h.registry.Alias(ctx, name)
		if err != nil {
			return 0, err
		}
		return a.Revision, nil
	}
}

func answerAlias(a *alias.Alias) reply[aliasJSON] {
	return reply[aliasJSON]{revision: a.Revision, body: showAlias(a)}
}
