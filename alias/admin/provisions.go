package admin

import (
	"context"
	"encoding/json"
	"net/http"

	"ixmage/alias"
	"ixmage/alias/policy"
)

const provisionPath = "/api/v1/provision"

// provisions are the calls that make an alias together with its IAM user.
type provisions struct{ operations }

func (h provisions) mount(t *routes) {
	const thing = "alias"
	mount(t, endpoint[policy.Request, operationJSON]{method: http.MethodPost, path: provisionPath, thing: thing,
		fields: provisionFields, check: h.check, do: h.create})
	mount(t, endpoint[policy.Request, planJSON]{method: http.MethodPost, path: provisionPath + "/plan",
		thing: thing, fields: provisionFields, check: h.check, do: h.plan})
}

func (h provisions) create(ctx context.Context, c *call[policy.Request]) (reply[operationJSON], error) {
	if h.provisioner == nil {
		return reply[operationJSON]{}, off()
	}
	aboutRequest(c)
	o, err := h.provisioner.Provision(ctx, c.actor, c.in)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	return h.started(o, c.client), nil
}

func (h provisions) plan(ctx context.Context, c *call[policy.Request]) (reply[planJSON], error) {
	if h.provisioner == nil {
		return reply[planJSON]{}, off()
	}
	aboutRequest(c)
	p, err := h.provisioner.Plan(ctx, c.in)
	if err != nil {
		return reply[planJSON]{}, err
	}
	return reply[planJSON]{body: showPlan(c.in.Alias, p)}, nil
}

// aboutRequest notes the alias of a request for the log, if it can be one: what a
// client made up is not logged.
func aboutRequest(c *call[policy.Request]) {
	if _, err := alias.ParseName(string(c.in.Alias)); err == nil {
		c.rec.about("alias", c.in.Alias)
	}
}

// check is for a request of which a part could not be read: the others are
// validated by the Provisioner.
func (h provisions) check(_ context.Context, c *call[policy.Request]) []alias.Problem {
	return problemsOf(policy.Prepare(&c.in, h.registry.Policy()))
}

// planJSON is a plan as the API shows it.
type planJSON struct {
	Alias      alias.Name        `json:"alias"`
	Policy     alias.PolicyMode  `json:"policy"`
	PolicyName string            `json:"policy_name"`
	Document   json.RawMessage   `json:"policy_document"` // an object, or null
	User       planUserJSON      `json:"user"`
	Tags       map[string]string `json:"tags"`
	Steps      []planStepJSON    `json:"steps"`
	Commands   []string          `json:"commands"`
}

type planUserJSON struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Boundary string `json:"boundary"`
}

type planStepJSON struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

func showPlan(name alias.Name, p *policy.Plan) planJSON {
	out := planJSON{
		Alias: name, Policy: p.Policy, PolicyName: p.PolicyName, Document: p.Document,
		User: planUserJSON{Name: p.User.Name, Path: p.User.Path, Boundary: p.User.Boundary},
		Tags: p.Tags, Steps: make([]planStepJSON, len(p.Steps)), Commands: p.Commands,
	}
	for i, s := range p.Steps {
		out.Steps[i] = planStepJSON(s)
	}
	// {} and [] in JSON, not null.
	if out.Tags == nil {
		out.Tags = map[string]string{}
	}
	if out.Commands == nil {
		out.Commands = []string{}
	}
	return out
}
