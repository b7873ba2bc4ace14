package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/internal/apitest"
)

// scriptedWatch plays the changes of an operation: Watch returns the next state from changes,
// or the last one when its context ends.
func scriptedWatch(first *alias.Operation, changes <-chan *alias.Operation) *fake {
	last := first
	return &fake{watch: func(ctx context.Context, _ string, after int64) (*alias.Operation, error) {
		if last.Revision > after {
			return last, nil
		}
		select {
		case last = <-changes:
		case <-ctx.Done():
		}
		return last, nil
	}}
}

// at returns the operation at a revision.
func at(o *alias.Operation, revision int64) *alias.Operation {
	o.Revision = revision
	return o
}

func eventText(revision int64, o *alias.Operation) string {
	text, _ := encode(showOperation(o))
	return fmt.Sprintf("id: %d\nevent: operation\ndata: %s\n", revision, text)
}

// follow asks for the events of op-1 over a connection of its own, and reads the headers.
func (a *api) follow(header ...string) (*http.Response, *bufio.Reader, net.Conn) {
	a.t.Helper()
	conn, reader := a.connect()
	fmt.Fprintf(conn, "GET /api/v1/operations/op-1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n",
		testToken, strings.Join(header, ""))
	resp, err := http.ReadResponse(reader, &http.Request{Method: "GET"})
	if err != nil {
		a.t.Fatal(err)
	}
	a.compare(apitest.Exchange{
		Method: "GET", Target: "/api/v1/operations/op-1/events", Status: resp.StatusCode, AnswerHeader: resp.Header,
	})
	return resp, reader, conn
}

// readPart reads a stream up to the next empty line.
func readPart(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			t.Fatalf("the stream ended after %q: %v", b.String(), err)
		}
		if line == "\n" {
			return b.String()
		}
	}
}

// TestEvents follows an operation to its end: each state arrives when it is there, and the
// connection takes a further request.
func TestEvents(t *testing.T) {
	t.Parallel()
	changes := make(chan *alias.Operation)
	a := newAPI(t, with(scriptedWatch(running("op-1"), changes)))
	a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
	resp, reader, conn := a.follow()
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"X-Accel-Buffering": "no", "Content-Length": "", "Connection": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if resp.StatusCode != 200 || len(resp.TransferEncoding) != 1 || resp.TransferEncoding[0] != "chunked" {
		t.Fatalf("got %d %v", resp.StatusCode, resp.TransferEncoding)
	}
	body := bufio.NewReader(resp.Body)
	if got, want := readPart(t, body), eventText(1, running("op-1")); got != want {
		t.Errorf("first event:\n%s\nwant\n%s", got, want)
	}
	for revision, o := range []*alias.Operation{2: running("op-1"), 3: ended("op-1", nil)} {
		if o == nil {
			continue
		}
		changes <- at(o, int64(revision))
		got := readPart(t, body)
		if want := eventText(int64(revision), o); got != want {
			t.Errorf("event:\n%s\nwant\n%s", got, want)
		}
		a.noSecret("event", got)
	}
	if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
	fmt.Fprint(conn, "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	wantOK(t, reader)
}

// TestEventsResumed: a client says which event it has.
func TestEventsResumed(t *testing.T) {
	t.Parallel()
	done := at(ended("op-1", nil), 4)
	for _, c := range []struct {
		name, last string
		stored     *alias.Operation
		status     int
		want       string
	}{
		{"ended, and the client has the last event", "4", done, 204, ""},
		{"ended, and the client has an earlier one", "3", done, 200, eventText(4, done)},
		{"ended, and the client has none", "", done, 200, eventText(4, done)},
		{"no revision", "x", done, 200, eventText(4, done)},
		{"another server's revision", "99", done, 200, eventText(4, done)},
		{"it runs, and the client has the last event", "4", at(running("op-1"), 4), 200, ": alive\n\n" + eventText(5, at(ended("op-1", nil), 5))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			changes := make(chan *alias.Operation, 1)
			changes <- at(ended("op-1", nil), 5)
			a := newAPI(t, with(scriptedWatch(c.stored, changes)))
			a.put(func(tx alias.Tx) error { return tx.InsertOperation(c.stored) })
			resp, _, _ := a.follow("Last-Event-ID: " + c.last + "\r\n")
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != c.status || string(body) != c.want {
				t.Errorf("got %d %q, %v; want %d %q", resp.StatusCode, body, err, c.status, c.want)
			}
		})
	}
}

// TestEventsKeepAlive checks in a bubble of fake time what a stream without changes sends.
func TestEventsKeepAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		closing, startClose := context.WithCancel(t.Context())
		f := scriptedWatch(running("op-1"), nil)
		h := events{operations{provisioner: f, closing: closing}, make(chan struct{}, 1)}
		w := httptest.NewRecorder()
		x := &exchange{ResponseWriter: w, server: newServer(slog.New(slog.DiscardHandler), nil), rec: newRecord("GET")}
		x.principal = newTestAdmin()
		time.AfterFunc(2*keepAlive+time.Second, startClose)
		begin := time.Now()
		if err := h.stream(t.Context(), follower{x, 0, func() bool { return true }}, running("op-1")); err != nil {
			t.Error(err)
		}
		if lasted := time.Since(begin); lasted != 2*keepAlive+time.Second {
			t.Errorf("lasted %s, want until the shutdown", lasted)
		}
		alive := ": alive\n\n" // the last one is sent at the shutdown
		if got, want := w.Body.String(), eventText(1, running("op-1"))+alive+alive+alive; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestEventsClientGone: a client that leaves ends its stream, also one that does not read.
func TestEventsClientGone(t *testing.T) {
	t.Parallel()
	t.Run("it closes the connection", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			entered, left := make(chan struct{}), make(chan error)
			a := newAPIInBubble(t, with(&fake{watch: func(ctx context.Context, _ string, _ int64) (*alias.Operation, error) {
				close(entered)
				<-ctx.Done()
				left <- ctx.Err()
				return running("op-1"), nil
			}}))
			a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
			resp, _, conn := a.follow()
			readPart(t, bufio.NewReader(resp.Body))
			<-entered // a client that leaves earlier is found before the watch
			conn.Close()
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("the watch ended with %v", err)
			}
		})
	})
	t.Run("it does not read", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			a := newAPIInBubble(t, with(&fake{watch: func(context.Context, string, int64) (*alias.Operation, error) {
				return at(running("op-1"), 2), nil
			}}))
			a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
			a.follow()
			begin := time.Now()
			if err := a.server.Shutdown(t.Context()); err != nil { // it waits for the end of the call
				t.Error(err)
			}
			if took := time.Since(begin); took < pushTimeout || took > pushTimeout+time.Second {
				t.Errorf("the client is given up after %s, want %s", took, pushTimeout)
			}
		})
	})
}

// TestEventsShutdown: the shutdown ends a stream in an orderly way.
func TestEventsShutdown(t *testing.T) {
	t.Parallel()
	a := newAPI(t, with(scriptedWatch(running("op-1"), nil)))
	a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
	resp, _, _ := a.follow()
	body := bufio.NewReader(resp.Body)
	readPart(t, body)
	if err := a.server.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	// A comment comes after a watch that was interrupted, none before the first watch.
	if rest, err := io.ReadAll(body); err != nil || string(rest) != ": alive\n\n" && len(rest) > 0 {
		t.Errorf("got %q, %v", rest, err)
	}
}

// TestEventsRevoked: a stream ends when its token is deleted, before the next event.
func TestEventsRevoked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // a second later the stream ends without an event
		changes := make(chan *alias.Operation)
		a := newAPIInBubble(t, with(scriptedWatch(running("op-1"), changes)))
		a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
		var made newTokenJSON
		a.do("POST", "/api/v1/tokens", `{"name":"watcher","roles":["read"]}`).want(201, "").decode(&made)
		conn, reader := a.connect()
		fmt.Fprintf(conn, "GET /api/v1/operations/op-1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", made.Token)
		resp, err := http.ReadResponse(reader, &http.Request{Method: "GET"})
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		body := bufio.NewReader(resp.Body)
		readPart(t, body)
		changes <- at(running("op-1"), 2)
		readPart(t, body)
		a.do("DELETE", "/api/v1/tokens/watcher", "").want(204, "")
		changes <- at(running("op-1"), 3)
		if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
			t.Errorf("after the token was deleted: %q, %v", rest, err)
		}
	})
}

// TestEventsTokenEnds checks in a bubble of fake time that a stream without changes ends soon
// after its token.
func TestEventsTokenEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := events{operations{provisioner: scriptedWatch(running("op-1"), nil), closing: t.Context()}, make(chan struct{}, 1)}
		w := httptest.NewRecorder()
		x := &exchange{ResponseWriter: w, server: newServer(slog.New(slog.DiscardHandler), nil), rec: newRecord("GET")}
		begin := time.Now()
		admitted := func() bool { return time.Since(begin) < keepAlive+2*time.Second }
		if err := h.stream(t.Context(), follower{x, 0, admitted}, running("op-1")); err != nil {
			t.Error(err)
		}
		if lasted := time.Since(begin); lasted != keepAlive+2*time.Second {
			t.Errorf("lasted %s, want until the end of the token", lasted)
		}
		if got, want := w.Body.String(), eventText(1, running("op-1"))+": alive\n\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestEventsRefused: an error before the first event is a problem as ever.
func TestEventsRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, with(scriptedWatch(running("op-1"), nil)))
	a.do("GET", "/api/v1/operations/op-9/events", "").want(404, "not-found")
	a.do("POST", "/api/v1/operations/op-1/events", "").want(405, "method")
	a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
	for range maxStreams {
		resp, _, _ := a.follow()
		readPart(t, bufio.NewReader(resp.Body)) // the call has its place
	}
	if r := a.do("GET", "/api/v1/operations/op-1/events", "").want(503, "overloaded"); r.header.Get("Retry-After") == "" {
		t.Errorf("no Retry-After")
	}
}

// TestEventsHead has a server of its own: the place of the call is free some time after its answer.
func TestEventsHead(t *testing.T) {
	t.Parallel()
	a := newAPI(t, with(scriptedWatch(running("op-1"), nil)))
	a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
	r := a.do("HEAD", "/api/v1/operations/op-1/events", "").want(200, "")
	if r.body != "" || r.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %q %v", r.body, r.header)
	}
}

// TestEventsFail: what fails after the first event cuts the connection, so that the client
// does not take it for the end.
func TestEventsFail(t *testing.T) {
	t.Parallel()
	for name, watch := range map[string]func(context.Context, string, int64) (*alias.Operation, error){
		"error": func(context.Context, string, int64) (*alias.Operation, error) { return nil, alias.ErrUnavailable },
		"panic": func(context.Context, string, int64) (*alias.Operation, error) { panic("of the test") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, with(&fake{watch: watch}))
			a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
			resp, _, _ := a.follow()
			body, err := io.ReadAll(resp.Body)
			if want := eventText(1, running("op-1")); err == nil || string(body) != want {
				t.Errorf("got %q, %v; want one event and a cut", body, err)
			}
			if !strings.Contains(a.logs.String(), "admin answer cut") {
				t.Errorf("log: %s", a.logs)
			}
		})
	}
}
