package admin

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"ixmage/alias"
)

const mediaEvents = "text/event-stream"

const (
	// maxStreams is the most clients that follow operations at a time. Each occupies a
	// connection.
	maxStreams = 64
	// keepAlive is the longest time between two parts of a stream: proxies close a
	// connection that is idle for 30 s or more.
	keepAlive = 15 * time.Second
	// tokenCheck is how soon a stream ends when its token does.
	tokenCheck = time.Second
)

// events is the call that follows an operation.
type events struct {
	operations

	open chan struct{} // has an element for each stream
}

func (h events) mount(t *routes) {
	mount(t, endpoint[none, operationJSON]{method: http.MethodGet, path: operationsPath + "/{id}/events",
		resource: "operation", summary: "Follow an operation: its state now, and again after each change, " +
			"as server-sent events until it has ended",
		headers: []parameter{{"Last-Event-ID", "the id of the last event that the client has: 204 if no other will follow"}},
		sends:   []parameter{{"X-Accel-Buffering", "no: keeps nginx from holding events back"}},
		roles:   anyToken, statuses: []int{http.StatusOK, http.StatusNoContent}, media: mediaEvents,
		fails: []error{errStreams}, do: h.follow})
}

// follow answers with a stream of events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
// The id of an event is the revision of the operation. A client that has the last event, and
// connects again as browsers do at the end of every stream, gets 204, which tells it to stop.
func (h events) follow(ctx context.Context, c *call[none]) (reply[operationJSON], error) {
	o, err := h.registry.History().Operation(ctx, c.id)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	seen, _ := strconv.ParseInt(c.request.Header.Get("Last-Event-ID"), 10, 64)
	if o.Finished() && o.Revision == seen {
		return reply[operationJSON]{status: http.StatusNoContent}, nil
	}
	return reply[operationJSON]{write: func(x *exchange) error {
		select {
		case h.open <- struct{}{}:
		default:
			return errStreams
		}
		defer func() { <-h.open }()
		return h.stream(c.ctx, follower{x, seen, c.principal.valid}, o)
	}}, nil
}

// follower is a client that follows an operation.
type follower struct {
	*exchange

	seen     int64       // the last revision that it has
	admitted func() bool // its token and its session are still valid
}

// stream sends o and its later states until it has ended, the client has left, its token is
// no longer valid, or the server is shut down.
func (h events) stream(ctx context.Context, x follower, o *alias.Operation) error {
	header := x.Header()
	header.Set("Content-Type", mediaEvents)
	header.Set("X-Accel-Buffering", "no") // nginx would keep events back
	if x.begin(http.StatusOK) != nil || x.rec.method == http.MethodHead {
		return nil //nolint:nilerr // the client has left
	}
	for {
		part, err := x.part(o)
		if err != nil {
			return err
		}
		if x.push(part) != nil || o.Finished() || ctx.Err() != nil || h.closing.Err() != nil {
			return nil //nolint:nilerr // the client has left
		}
		x.seen = o.Revision
		if o, err = h.next(ctx, &x, o); err != nil || o == nil {
			return err
		}
	}
}

// next waits for a change of o, keepAlive at most, and returns o as it is now; nil if nothing
// changes it, or x may follow it no longer.
func (h events) next(ctx context.Context, x *follower, o *alias.Operation) (*alias.Operation, error) {
	if h.provisioner == nil {
		return nil, nil //nolint:nilnil // there is no operation to wait for
	}
	for until := time.Now().Add(keepAlive); ; {
		var now *alias.Operation
		var err error
		h.hold(ctx, tokenCheck, func(ctx context.Context) { now, err = h.provisioner.Watch(ctx, o.ID, o.Revision) })
		if err != nil || !x.admitted() {
			return nil, err
		}
		ends := ctx.Err() != nil || h.closing.Err() != nil
		if ends || now.Revision != o.Revision || !time.Now().Before(until) {
			return now, nil
		}
	}
}

// part is the event of a state that the client does not have, or else a comment.
func (x *follower) part(o *alias.Operation) ([]byte, error) {
	if o.Revision == x.seen {
		return []byte(": alive\n\n"), nil
	}
	return event(o)
}

// event encodes the state of an operation.
func event(o *alias.Operation) ([]byte, error) {
	data, err := encode(showOperation(o))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("id: " + strconv.FormatInt(o.Revision, 10) + "\nevent: operation\ndata: ")
	b.Write(data) // one line, with its end
	b.WriteByte('\n')
	return b.Bytes(), nil
}
