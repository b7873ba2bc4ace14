package admin

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"ixmage/alias"
)

const credentialsPath = "/api/v1/credentials"

// credentials are the calls that keep credentials.
type credentials struct{ registry *alias.Registry }

func (h credentials) mount(app *fiber.App) {
	const single = credentialsPath + "/:name"
	const thing = "credential"
	mount(app, endpoint[none, credentialsJSON]{method: fiber.MethodGet, path: credentialsPath,
		query: pageQuery, do: h.list})
	mount(app, endpoint[credentialInput, credentialJSON]{method: fiber.MethodPost, path: credentialsPath, thing: thing,
		fields: registerFields, check: checkCredential, do: h.create})
	mount(app, endpoint[none, credentialJSON]{method: fiber.MethodGet, path: single, thing: thing, do: h.read})
	mount(app, endpoint[credentialInput, credentialJSON]{method: fiber.MethodPut, path: single, thing: thing,
		fields: replaceFields, check: checkReplacement, do: h.replace})
	mount(app, endpoint[none, none]{method: fiber.MethodDelete, path: single, thing: thing, do: h.remove})
}

type credentialsJSON struct {
	Credentials []credentialJSON `json:"credentials"`
}

func (h credentials) list(ctx context.Context, c *call[none]) (reply[credentialsJSON], error) {
	p, err := parsePage(c.query)
	if err != nil {
		return reply[credentialsJSON]{}, err
	}
	list, err := h.registry.Credentials(ctx, p.after, p.limit)
	if err != nil {
		return reply[credentialsJSON]{}, err
	}
	out := credentialsJSON{Credentials: make([]credentialJSON, len(list))}
	for i, c := range list {
		if out.Credentials[i], err = h.show(ctx, c); err != nil {
			return reply[credentialsJSON]{}, err
		}
	}
	return reply[credentialsJSON]{body: out}, nil
}

func (h credentials) create(ctx context.Context, c *call[credentialInput]) (reply[credentialJSON], error) {
	if problems := c.in.problems(); len(problems) > 0 {
		return reply[credentialJSON]{}, invalid(problems)
	}
	name := alias.Name(c.in.name)
	c.rec.about("credential", name)
	made, err := h.registry.CreateCredential(ctx, name, c.in.ref())
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	// Nothing can use it yet, so there is nothing to ask the store.
	return reply[credentialJSON]{
		status: fiber.StatusCreated, location: credentialsPath + "/" + string(made.Name),
		revision: made.Revision, body: showCredential(made, nil),
	}, nil
}

func checkCredential(_ context.Context, c *call[credentialInput]) []alias.Problem {
	return c.in.problems()
}

func (h credentials) read(ctx context.Context, c *call[none]) (reply[credentialJSON], error) {
	found, err := h.registry.Credential(ctx, c.name)
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	return h.answer(ctx, found)
}

func (h credentials) replace(ctx context.Context, c *call[credentialInput]) (reply[credentialJSON], error) {
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	made, err := h.registry.ReplaceKeyPair(ctx, c.name, revision, *c.in.pair())
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	return h.answer(ctx, made)
}

func checkReplacement(_ context.Context, c *call[credentialInput]) []alias.Problem {
	return problemsOf(alias.ValidateKeyPair(*c.in.pair()))
}

func (h credentials) remove(ctx context.Context, c *call[none]) (reply[none], error) {
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[none]{}, err
	}
	return reply[none]{status: fiber.StatusNoContent}, h.registry.DeleteCredential(ctx, c.name, revision)
}

// current makes the question for the revision that a credential has now.
func (h credentials) current(ctx context.Context, name alias.Name) func() (int64, error) {
	return func() (int64, error) {
		c, err := h.registry.Credential(ctx, name)
		if err != nil {
			return 0, err
		}
		return c.Revision, nil
	}
}

func (h credentials) answer(ctx context.Context, c *alias.Credential) (reply[credentialJSON], error) {
	body, err := h.show(ctx, c)
	return reply[credentialJSON]{revision: c.Revision, body: body}, err
}

func (h credentials) show(ctx context.Context, c *alias.Credential) (credentialJSON, error) {
	users, err := h.registry.AliasesOf(ctx, c.ID)
	if err != nil {
		return credentialJSON{}, err
	}
	return showCredential(c, users), nil
}
