package admin

import (
	"context"
	"net/http"
	"strings"

	"ixmage/alias"
)

const credentialsPath = "/api/v1/credentials"

// credentials are the calls that keep credentials.
type credentials struct{ operations }

func (h credentials) mount(t *routes) {
	const single = credentialsPath + "/{name}"
	const thing = "credential"
	mount(t, endpoint[none, credentialsJSON]{method: http.MethodGet, path: credentialsPath,
		query: pageQuery, do: h.list})
	mount(t, endpoint[credentialInput, credentialJSON]{method: http.MethodPost, path: credentialsPath, thing: thing,
		fields: registerFields, check: checkCredential, do: h.create})
	mount(t, endpoint[none, credentialJSON]{method: http.MethodGet, path: single, thing: thing, do: h.read})
	mount(t, endpoint[credentialInput, credentialJSON]{method: http.MethodPut, path: single, thing: thing,
		fields: replaceFields, check: checkReplacement, do: h.replace})
	mount(t, endpoint[none, operationJSON]{method: http.MethodDelete, path: single, thing: thing, do: h.remove})
	mount(t, endpoint[rotation, operationJSON]{method: http.MethodPost, path: single + "/rotate", thing: thing,
		fields: rotationFields, bare: true, do: h.rotate})
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
		status: http.StatusCreated, location: credentialsPath + "/" + string(made.Name),
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

// remove forgets a credential; one that is provisioned leaves IAM first, which
// is an operation.
func (h credentials) remove(ctx context.Context, c *call[none]) (reply[operationJSON], error) {
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[operationJSON]{}, err
	}
	found, err := h.registry.Credential(ctx, c.name)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	if _, ok := found.Provisioned(); !ok {
		return reply[operationJSON]{status: http.StatusNoContent}, h.registry.DeleteCredential(ctx, c.name, revision)
	}
	if h.provisioner == nil {
		return reply[operationJSON]{}, off()
	}
	o, err := h.provisioner.Remove(ctx, c.actor, c.name, revision)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	return h.started(o, c.client), nil
}

// rotation is the body of a call to rotate.
type rotation struct{ emergency bool }

func rotationFields(in *rotation) []field {
	return []field{{name: "emergency", read: into(&in.emergency, asBool)}}
}

func (h credentials) rotate(ctx context.Context, c *call[rotation]) (reply[operationJSON], error) {
	found, err := h.registry.Credential(ctx, c.name)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	revision, err := c.match.revision(func() (int64, error) { return found.Revision, nil })
	switch {
	case err != nil:
		return reply[operationJSON]{}, err
	case revision != 0 && revision != found.Revision:
		return reply[operationJSON]{}, alias.ErrStale
	case h.provisioner == nil:
		return reply[operationJSON]{}, off()
	}
	if _, ok := found.Provisioned(); !ok {
		return reply[operationJSON]{}, h.byHand(found)
	}
	o, err := h.provisioner.Rotate(ctx, c.actor, c.name, c.in.emergency)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	return h.started(o, c.client), nil
}

// byHand is the answer to a rotation of a key that is not ours to rotate.
func (h credentials) byHand(c *alias.Credential) error {
	if c.Provider.Kind() == alias.KindAnonymous {
		return fail(alias.ErrNoKeyPair, "the credential %s is anonymous: there is no key to rotate", c.Name)
	}
	commands := h.provisioner.HandRotation(c)
	f := fail(alias.ErrNotProvisioned, "the key pair of the credential %s was given by an operator, "+
		"who must rotate it:\n%s", c.Name, strings.Join(commands, "\n"))
	f.commands = commands
	return f
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
