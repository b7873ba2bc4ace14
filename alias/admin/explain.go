package admin

import (
	"context"
	"net/http"
	"strings"

	"ixmage/alias"
)

// Explainer explains how a URL on the public listener resolves. path is percent-encoded, as a
// client would send it, and may have a query; accept is the header Accept of the client. An
// invalid path or an unknown alias is part of the explanation, not an error. With probe it sends
// a request to S3. The explanation is encoded as JSON and must hold no secret.
type Explainer interface {
	Explain(ctx context.Context, path, accept string, probe bool) any
}

// explanations is the call that explains a URL.
type explanations struct{ explainer Explainer }

func (h explanations) mount(t *routes) {
	mount(t, endpoint[none, any]{method: http.MethodGet, path: "/api/v1/explain",
		summary: "Explain how a URL resolves", roles: anyToken, query: []parameter{
			{"path", "the path of the URL, from its first slash on, with its query"},
			{"accept", "the header Accept of the client, by which an automatic format is chosen"},
			{"probe", "true asks S3 for the object too"},
		}, fails: []error{errNotImplemented, alias.ErrNotFound}, do: h.explain})
}

func (h explanations) explain(ctx context.Context, c *call[none]) (reply[any], error) {
	path, probe := c.query.Get("path"), c.query.Get("probe")
	var problems []alias.Problem
	if !strings.HasPrefix(path, "/") {
		problems = problemAt("path", "must be the path of a URL, from its first slash on, as in ?path=/shop/a.jpg")
	}
	if c.query.Has("probe") && probe != "true" && probe != "false" {
		problems = append(problems, alias.Problem{Field: "probe", Detail: "must be true, to ask S3, or false"})
	}
	if len(problems) > 0 {
		return reply[any]{}, invalid(problems)
	}
	if h.explainer == nil {
		return reply[any]{}, errNotImplemented
	}
	name, _, _ := strings.Cut(path[1:], "/")
	if c.principal.restricted() && !c.access.named(c.principal, alias.Name(name)) {
		return reply[any]{}, failf(alias.ErrNotFound, "the path is of no alias that the token %s sees", c.principal.Name)
	}
	return reply[any]{body: h.explainer.Explain(ctx, path, c.query.Get("accept"), probe == "true")}, nil
}
