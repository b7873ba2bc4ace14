package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"ixmage/alias"
)

const operationsPath = "/api/v1/operations"

// operations are the calls that list operations, and the common part of the calls that
// start them.
type operations struct {
	registry    *alias.Registry
	provisioner Provisioner     // nil: switched off
	closing     context.Context //nolint:containedctx // ends when the server is shut down
	held        chan struct{}   // has an element for each answer that is held
}

// maxHeld is the most answers that are held at a time. Each occupies a connection.
const maxHeld = 64

func (h operations) mount(t *routes) {
	mount(t, endpoint[none, operationsJSON]{method: http.MethodGet, path: operationsPath,
		summary: "List operations, the newest first", roles: anyToken, query: []parameter{
			{"alias", "only those of this alias"}, {"credential", "only those of this credential"},
			{"state", "only those in this state: running, done, failed or superseded"},
			{"before", "an id: the list begins behind it"},
			{"limit", "the most entries of the answer, 100 by default, 1000 at most"},
		}, do: h.list})
	mount(t, endpoint[none, operationJSON]{method: http.MethodGet, path: operationsPath + "/{id}", resource: "operation",
		summary: "Read an operation and its steps", roles: anyToken, do: h.read})
}

type operationsJSON struct {
	Operations []operationJSON `json:"operations" description:"The operations, the newest first."`
}

func (h operations) list(ctx context.Context, c *call[none]) (reply[operationsJSON], error) {
	f, problems := parseFilter(c.query)
	if f.Before != "" {
		_, err := h.registry.History().Operation(ctx, f.Before)
		switch {
		case errors.Is(err, alias.ErrNotFound):
			problems = append(problems, alias.Problem{
				Field: "before", Detail: "must be the id of an operation, the last one of the page before",
			})
		case err != nil:
			return reply[operationsJSON]{}, err
		}
	}
	if len(problems) > 0 {
		return reply[operationsJSON]{}, invalid(problems)
	}
	list, err := seen(f.Limit, func(last **alias.Operation, limit int) ([]*alias.Operation, error) {
		from := f
		from.Limit = limit
		if last != nil {
			from.Before = (*last).ID
		}
		return h.registry.History().Operations(ctx, from)
	}, func(o *alias.Operation) (bool, error) { return c.access.operation(ctx, c.principal, o) })
	if err != nil {
		return reply[operationsJSON]{}, err
	}
	out := operationsJSON{Operations: make([]operationJSON, len(list))}
	for i, o := range list {
		out.Operations[i] = showOperation(o)
	}
	return reply[operationsJSON]{body: out}, nil
}

// historyPageSize is the number of entries of a history without a limit in the
// query.
const historyPageSize = 100

func parseFilter(q url.Values) (alias.OperationFilter, []alias.Problem) {
	f := alias.OperationFilter{State: alias.OperationState(q.Get("state")), Before: q.Get("before")}
	var problems []alias.Problem
	f.Limit, problems = parseLimit(q, historyPageSize)
	for _, p := range []struct {
		field string
		at    *alias.Name
	}{{"alias", &f.Alias}, {"credential", &f.Credential}} {
		if !q.Has(p.field) {
			continue
		}
		var err error
		if *p.at, err = alias.ParseName(q.Get(p.field)); err != nil {
			problems = append(problems, alias.Problem{Field: p.field, Detail: "must be a valid name"})
		}
	}
	switch f.State {
	case alias.OperationRunning, alias.OperationDone, alias.OperationFailed, alias.OperationSuperseded:
	default:
		if q.Has("state") {
			problems = append(problems, alias.Problem{Field: "state", Detail: "must be running, done, failed or superseded"})
		}
	}
	return f, problems
}

func (h operations) read(ctx context.Context, c *call[none]) (reply[operationJSON], error) {
	o, err := h.registry.History().Operation(ctx, c.id)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	return reply[operationJSON]{body: showOperation(o)}, nil
}

// started answers a call that started o, or found it running. If the client prefers
// to wait, it holds the answer until the operation has ended, the time has passed or
// the client has left. Without the preference the answer is 202 even if the operation
// has ended, so that it does not depend on timing. When too many answers are held,
// the preference is not honoured, as RFC 7240 allows.
func (h operations) started(o *alias.Operation, c client) reply[operationJSON] {
	r := reply[operationJSON]{status: http.StatusAccepted, location: operationsPath + "/" + o.ID}
	if c.wait.sent && h.enter() {
		defer h.leave()
		o = h.await(o, c)
		r.applied = c.wait.applied()
		if o.Finished() {
			r.status = http.StatusOK
		}
	}
	r.body = showOperation(o)
	return r
}

// enter reports whether one more answer may be held. If so, the caller calls leave.
func (h operations) enter() bool {
	select {
	case h.held <- struct{}{}:
		return true
	default:
		return false
	}
}

func (h operations) leave() { <-h.held }

// await waits for the end of o, and returns its latest state. If the waiting fails,
// it returns o: the operation continues, and the client can read it later.
func (h operations) await(o *alias.Operation, c client) *alias.Operation {
	if o.Finished() || c.wait.limit == 0 {
		return o
	}
	h.hold(c.ctx, c.wait.limit, func(ctx context.Context) {
		last, err := h.provisioner.Wait(ctx, o.ID)
		if err != nil {
			c.rec.err = err
			return
		}
		o = last
	})
	return o
}

// hold calls fn with a context that ends with ctx, after the given time, or when the
// server is shut down, whichever is first.
func (h operations) hold(ctx context.Context, most time.Duration, fn func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)() //nolint:contextcheck // a second context that ends it
	fn(ctx)
}

// operationJSON is an operation as the API shows it.
type operationJSON struct {
	ID         string               `json:"id" description:"The id of the operation."`
	Kind       alias.OperationKind  `json:"kind" description:"What the operation does."`
	Alias      alias.Name           `json:"alias" description:"The alias that it is about; empty if it is about a credential alone."`
	Credential alias.Name           `json:"credential" description:"The credential that it is about."`
	State      alias.OperationState `json:"state" description:"All states but running are final."`
	// SupersededBy is the id of the operation that took its place; empty if none did.
	SupersededBy string `json:"superseded_by,omitempty" description:"The id of the operation that took the place of this one; absent if none did."`
	// OperationError encodes just the members that the API shows.
	Error      *alias.OperationError `json:"error" description:"The reason of a failure; null if there is none."`
	CreatedAt  string                `json:"created_at" description:"When it was started."`
	FinishedAt *string               `json:"finished_at" description:"When it ended; null while it runs."`
	Steps      []stepJSON            `json:"steps" description:"The steps in their order."`
}

type stepJSON struct {
	Name       string          `json:"name" description:"The name of the step."`
	State      alias.StepState `json:"state" description:"How far the step is."`
	StartedAt  *string         `json:"started_at" description:"When it was started; null before."`
	FinishedAt *string         `json:"finished_at" description:"When it ended; null before."`
	Detail     string          `json:"detail" description:"The result or the failure in a sentence; may be empty."`
}

func showOperation(o *alias.Operation) operationJSON {
	out := operationJSON{
		ID: o.ID, Kind: o.Kind, Alias: o.Alias, Credential: o.Credential, State: o.State, Error: o.Error,
		CreatedAt: timestamp(o.CreatedAt), FinishedAt: timestampOrNull(o.FinishedAt), Steps: make([]stepJSON, len(o.Steps)),
	}
	if o.Error != nil && o.Error.SupersededBy != "" {
		shown := *o.Error
		out.SupersededBy, shown.SupersededBy = shown.SupersededBy, ""
		out.Error = &shown
	}
	for i, s := range o.Steps {
		out.Steps[i] = stepJSON{
			Name: s.Name, State: s.State, StartedAt: timestampOrNull(s.StartedAt), FinishedAt: timestampOrNull(s.FinishedAt),
			Detail: s.Detail,
		}
	}
	return out
}
