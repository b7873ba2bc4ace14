package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

func TestOperationRead(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
	if got := a.do("GET", "/api/v1/operations/op-1", "").want(200, "").body; got != runningText {
		t.Errorf("running:\n got %s\nwant %s", got, runningText)
	}
	failed := ended("op-1", &alias.OperationError{Code: "permission-missing", Step: "create-key", Detail: "iam:CreateAccessKey on x"})
	failed.Alias, failed.Kind, failed.Revision, failed.Steps = "", alias.OperationRotate, 2, nil
	a.put(func(tx alias.Tx) error { return tx.UpdateOperation(failed) })
	want := `{"id":"op-1","kind":"rotate","alias":"","credential":"shop","state":"failed",` +
		`"error":{"code":"permission-missing","step":"create-key","detail":"iam:CreateAccessKey on x"},` +
		`"created_at":"` + momentText + `","finished_at":"2024-03-01T00:00:59.12Z","steps":[]}` + "\n"
	if got := a.do("GET", "/api/v1/operations/op-1", "").want(200, "").body; got != want {
		t.Errorf("failed:\n got %s\nwant %s", got, want)
	}
	for _, id := range []string{"op-2", "OP-1", "op-1%00", "%2e%2e%2f", strings.Repeat("x", 65), "op;1", "s%C3%BC%C3%9F"} {
		d := a.raw("GET /api/v1/operations/"+id+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").
			want(404, "not-found").problem().Detail
		if !strings.Contains(d, "operation") || !strings.Contains(d, id[:min(len(id), 64)]) {
			t.Errorf("detail does not name it: %q", d)
		}
	}
	a.raw("GET /api/v1/operations/op-1%zz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").want(400, "bad-request")
}

// addOperations stores five, the oldest first.
func (a *api) addOperations() {
	a.t.Helper()
	for i, o := range []alias.Operation{
		{Alias: "shop", Credential: "shop", State: alias.OperationFailed},
		{Alias: "shop", Credential: "shop", State: alias.OperationDone},
		{Alias: "blog", Credential: "shop", State: alias.OperationDone},
		{Alias: "", Credential: "blog", State: alias.OperationRunning, Kind: alias.OperationRotate},
		{Alias: "shop", Credential: "shop", State: alias.OperationRunning},
	} {
		o.ID, o.Kind, o.Revision, o.CreatedAt = fmt.Sprint("op-", i+1), cmp.Or(o.Kind, alias.OperationProvision), 1, moment
		a.put(func(tx alias.Tx) error { return tx.InsertOperation(&o) })
	}
}

func TestOperationList(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	if got := a.do("GET", "/api/v1/operations", "").want(200, "").body; got != `{"operations":[]}`+"\n" {
		t.Errorf("empty list: got %s", got)
	}
	a.addOperations()
	for _, c := range []struct{ query, want string }{
		{"", "op-5 op-4 op-3 op-2 op-1"},
		{"?alias=shop", "op-5 op-2 op-1"},
		{"?credential=shop", "op-5 op-3 op-2 op-1"},
		{"?state=running", "op-5 op-4"},
		{"?state=done", "op-3 op-2"},
		{"?state=failed", "op-1"},
		{"?alias=shop&credential=shop&state=done", "op-2"},
		{"?alias=nobody", ""},
		{"?limit=2", "op-5 op-4"},
		{"?limit=99999", "op-5 op-4 op-3 op-2 op-1"},
		{"?limit=2&before=op-4", "op-3 op-2"},
		{"?before=op-1", ""},
		{"?before=op-4&alias=shop&limit=1", "op-2"},
		{"?before=", "op-5 op-4 op-3 op-2 op-1"},
	} {
		var got operationsJSON
		a.do("GET", "/api/v1/operations"+c.query, "").want(200, "").decode(&got)
		var ids []string
		for _, o := range got.Operations {
			ids = append(ids, o.ID)
		}
		if s := strings.Join(ids, " "); s != c.want {
			t.Errorf("%q: got %s, want %s", c.query, s, c.want)
		}
	}
}

func TestHistoryQueryRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, c := range []struct{ path, fields string }{
		{"operations?limit=0", "limit"}, {"operations?limit=x", "limit"}, {"operations?limit=", "limit"},
		{"operations?alias=UPPER", "alias"}, {"operations?alias=", "alias"}, {"operations?credential=a/b", "credential"},
		{"operations?state=ended", "state"}, {"operations?state=", "state"}, {"operations?state=RUNNING", "state"},
		{"operations?before=op-9", "before"}, {"operations?before=%00", "before"},
		{"operations?limit=0&alias=-&credential=-&state=x&before=y", "limit alias credential state before"},
		{"operations?after=x", "after"}, {"operations?alias=a&alias=b", "alias"}, {"operations/op-1?x=1", "x"},
		{"audit?limit=0", "limit"}, {"audit?before=0", "before"}, {"audit?before=-1", "before"}, {"audit?before=x", "before"},
		{"audit?before=", "before"}, {"audit?before=99999999999999999999", "before"}, {"audit?limit=&before=x", "limit before"},
		{"audit?alias=shop", "alias"}, {"orphans?limit=1", "limit"},
	} {
		r := a.do("GET", "/api/v1/"+c.path, "").want(400, "invalid")
		if got := strings.Join(r.fields(), " "); got != c.fields {
			t.Errorf("%s: fields: got %q, want %q", c.path, got, c.fields)
		}
	}
}

// TestHistoryPages checks the number of entries without a limit, and with a limit that
// is too large.
func TestHistoryPages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.put(func(tx alias.Tx) error {
		var errs []error
		for i := range maxPageSize + 1 {
			o := alias.Operation{ID: fmt.Sprint("op-", i), Kind: alias.OperationRotate, Credential: "c", State: alias.OperationDone, Revision: 1}
			errs = append(errs, tx.InsertOperation(&o), tx.AddAudit(&alias.AuditEntry{Actor: o.ID}))
		}
		return errors.Join(errs...)
	})
	for query, want := range map[string]int{"": 100, "?limit=101": 101, "?limit=1000": 1000, "?limit=1001": 1000} {
		var ops operationsJSON
		a.do("GET", "/api/v1/operations"+query, "").want(200, "").decode(&ops)
		var lines auditJSON
		a.do("GET", "/api/v1/audit"+query, "").want(200, "").decode(&lines)
		if len(ops.Operations) != want || len(lines.Audit) != want || ops.Operations[0].ID != "op-1000" || lines.Audit[0].Actor != "op-1000" {
			t.Errorf("%q: got %d operations and %d lines, want the last %d", query, len(ops.Operations), len(lines.Audit), want)
		}
	}
}

// newWaiter is the part of a server that waits, and the function that a shutdown calls.
func newWaiter(f *fake) (operations, context.CancelFunc) {
	closing, startClose := context.WithCancel(context.Background())
	return operations{provisioner: f, closing: closing, held: make(chan struct{}, maxHeld)}, startClose
}

// ask makes a call that starts an operation, and returns the status.
func (h operations) ask(ctx context.Context, prefer string) int {
	e := endpoint[none, operationJSON]{
		method: http.MethodPost, path: "/x", do: func(_ context.Context, c *call[none]) (reply[operationJSON], error) {
			return h.started(running("op-1"), c.client), nil
		},
	}
	return e.ask(ctx, "Prefer", prefer)
}

// ask serves a request of the client whose context is ctx, and returns the status.
func (e endpoint[In, Out]) ask(ctx context.Context, header ...string) int {
	r := httptest.NewRequestWithContext(ctx, e.method, e.path, http.NoBody)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	x := &exchange{ResponseWriter: w, server: newServer(slog.New(slog.DiscardHandler), nil), rec: newRecord(e.method)}
	x.principal = newTestAdmin()
	if err := e.serve(x, r); err != nil {
		x.fail(err)
	}
	return w.Code
}

// TestWaitTime checks in a bubble of fake time how long an answer is held back.
func TestWaitTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		prefer string
		ends   time.Duration // when the operation does; 0: never
		held   time.Duration
		status int
	}{
		{"it ends in time", "wait=60", 10 * time.Second, 10 * time.Second, 200},
		{"it ends later", "wait=60", 61 * time.Second, time.Minute, 202},
		{"it never ends", "wait=5", 0, 5 * time.Second, 202},
		{"longer than a call may take", "wait=300", 299 * time.Second, 299 * time.Second, 200},
		{"longer than may be asked for", "wait=86400", 0, 300 * time.Second, 202},
		{"no time", "wait=0", 0, 0, 202},
		{"not asked for", "respond-async", 0, 0, 202},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h, _ := newWaiter(&fake{wait: func(ctx context.Context, _ string) (*alias.Operation, error) {
					var end <-chan time.Time
					if c.ends > 0 {
						end = time.After(c.ends)
					}
					select {
					case <-end:
						return ended("op-1", nil), nil
					case <-ctx.Done():
						return running("op-1"), nil
					}
				}})
				begin := time.Now()
				status := h.ask(t.Context(), c.prefer)
				if held := time.Since(begin); held != c.held || status != c.status {
					t.Errorf("got %d after %s, want %d after %s", status, held, c.status, c.held)
				}
			})
		})
	}
}

func TestWaitEndsAtShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, startClose := newWaiter(&fake{wait: func(ctx context.Context, _ string) (*alias.Operation, error) {
			<-ctx.Done()
			return running("op-1"), nil
		}})
		time.AfterFunc(7*time.Second, startClose)
		begin := time.Now()
		r := h.started(running("op-1"), client{t.Context(), wait{sent: true, limit: maxWait}, &record{}})
		if held := time.Since(begin); r.status != 202 || held != 7*time.Second {
			t.Errorf("got %d after %s, want 202 at the shutdown", r.status, held)
		}
	})
}

func TestWaitEndsWithTheClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, _ := newWaiter(&fake{wait: func(ctx context.Context, _ string) (*alias.Operation, error) {
			<-ctx.Done()
			return running("op-1"), nil
		}})
		client, leave := context.WithCancel(t.Context())
		time.AfterFunc(7*time.Second, leave)
		begin := time.Now()
		if status, held := h.ask(client, "wait=300"), time.Since(begin); status != 202 || held != 7*time.Second {
			t.Errorf("got %d after %s, want 202 when the client leaves", status, held)
		}
		if len(h.held) != 0 {
			t.Error("the place of the answer is not free")
		}
	})
}

func TestWaitOfWhatHasEnded(t *testing.T) {
	t.Parallel()
	h, _ := newWaiter(&fake{}) // Wait would panic
	for prefer, want := range map[wait]int{{}: 202, {sent: true}: 200, {sent: true, limit: maxWait}: 200} {
		if r := h.started(ended("op-1", nil), client{t.Context(), prefer, &record{}}); r.status != want || r.body.State != alias.OperationDone {
			t.Errorf("%+v: got %d, want %d", prefer, r.status, want)
		}
	}
}

// TestWaitFails: the operation is under way whatever becomes of the waiting,
// and the client must learn its id.
func TestWaitFails(t *testing.T) {
	t.Parallel()
	f := &fake{
		provision: func(context.Context, string, policy.Request) (*alias.Operation, error) {
			return running("op-1"), nil
		},
		wait: func(context.Context, string) (*alias.Operation, error) { return nil, errors.New("the disk is gone") },
	}
	a := newAPI(t, with(f))
	r := a.do("POST", "/api/v1/provision", provisionBody, "Prefer", "wait=9").want(202, "")
	if r.body != runningText || !strings.Contains(a.logs.String(), "the disk is gone") {
		t.Errorf("body %s, log %s", r.body, a.logs)
	}
}

func TestWaitOverHTTP(t *testing.T) {
	t.Parallel()
	deadline := make(chan time.Time, 1)
	result := ended("op-1", nil)
	f := &fake{
		provision: func(context.Context, string, policy.Request) (*alias.Operation, error) {
			return running("op-1"), nil
		},
		wait: func(ctx context.Context, id string) (*alias.Operation, error) {
			if id != "op-1" {
				t.Errorf("Wait for %q", id)
			}
			at, _ := ctx.Deadline()
			deadline <- at
			return result, nil
		},
	}
	a := newAPI(t, with(f))
	send := func(headers string) answer {
		return a.raw(fmt.Sprintf("POST /api/v1/provision HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", testToken, headers, len(provisionBody), provisionBody))
	}
	for headers, applied := range map[string]string{
		"Prefer: wait=60\r\n": "wait=60", "prefer: respond-async\r\nPrefer: foo=\"a, wait=1\", WAIT = \"60\"; x\r\n": "wait=60",
		"Prefer: wait=3000\r\n": "wait=300",
	} {
		before := time.Now()
		r := send(headers).want(200, "")
		most, _ := time.ParseDuration(strings.TrimPrefix(applied, "wait=") + "s")
		if at := <-deadline; at.Before(before.Add(most)) || at.After(time.Now().Add(most)) {
			t.Errorf("%q: Wait has until %s after the call", headers, at.Sub(before))
		}
		checkStarted(t, r, applied)
	}
	for headers, applied := range map[string]string{"": "", "Prefer: wait=x\r\n": "", "Prefer: wait=0\r\n": "wait=0"} {
		checkStarted(t, send(headers).want(202, ""), applied) // Wait would block at its second call
	}
	result = ended("op-1", &alias.OperationError{Code: "quota", Step: "create-user", Detail: "iam:CreateUser"})
	if r := send("Prefer: wait=1\r\n").want(200, ""); !strings.Contains(r.body, `"state":"failed","error":{"code":"quota"`) {
		t.Errorf("failed: got %s", r.body)
	}
}

func checkStarted(t *testing.T, r answer, applied string) {
	t.Helper()
	if got := r.header.Get("Preference-Applied"); got != applied {
		t.Errorf("Preference-Applied: got %q, want %q", got, applied)
	}
	if got := r.header.Get("Location"); got != "/api/v1/operations/op-1" {
		t.Errorf("Location: got %q", got)
	}
}

// endless is a fake whose operation lasts for as long as the one call that waits for it. entered is closed
// when the wait begins, and left when it ends.
func endless() (f *fake, entered, left chan struct{}) {
	entered, left = make(chan struct{}), make(chan struct{})
	return &fake{
		provision: func(context.Context, string, policy.Request) (*alias.Operation, error) {
			return running("op-1"), nil
		},
		wait: func(ctx context.Context, _ string) (*alias.Operation, error) {
			close(entered)
			<-ctx.Done()
			close(left)
			return running("op-1"), nil
		},
	}, entered, left
}

// TestWaitIsNotCut holds an answer for longer than a request may take to arrive
// and an answer to be sent, writes to the registry meanwhile, and looks at the
// connection after it.
func TestWaitIsNotCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, entered, _ := endless()
		a := newAPIInBubble(t, with(f))
		begin, done := time.Now(), make(chan answer)
		conn, reader := a.connect()
		go func() {
			fmt.Fprintf(conn, "POST /api/v1/provision HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
				"Prefer: wait=300\r\nContent-Length: %d\r\n\r\n%s", testToken, len(provisionBody), provisionBody)
			done <- a.readNext(reader, "POST")
		}()
		<-entered
		a.register("other")
		(<-done).want(202, "")
		if held := time.Since(begin); held != maxWait || held < readTimeout || held < writeTimeout {
			t.Errorf("held for %s", held)
		}
		fmt.Fprintf(conn, "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		wantOK(t, reader)
	})
}

// TestWaitClientGone: a client that leaves ends the waiting.
func TestWaitClientGone(t *testing.T) {
	t.Parallel()
	f, entered, left := endless()
	a := newAPI(t, with(f))
	conn, _ := a.connect()
	fmt.Fprintf(conn, "POST /api/v1/provision HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Prefer: wait=300\r\nContent-Length: %d\r\n\r\n%s", testToken, len(provisionBody), provisionBody)
	<-entered
	conn.Close()
	<-left
	a.do("GET", "/-/healthz", "").want(200, "")
}

// TestClientGone: a client that leaves ends a call that reads, and no call that
// may have begun to write. Every call has a deadline.
func TestClientGone(t *testing.T) {
	t.Parallel()
	client, leave := context.WithCancel(t.Context())
	leave()
	for method, ends := range map[string]bool{"GET": true, "POST": false, "PUT": false, "PATCH": false, "DELETE": false} {
		e := endpoint[none, none]{method: method, path: "/x", do: func(ctx context.Context, _ *call[none]) (reply[none], error) {
			if got := ctx.Err() != nil; got != ends {
				t.Errorf("%s: ended: %v, want %v", method, got, ends)
			}
			if _, ok := ctx.Deadline(); !ok {
				t.Errorf("%s has no deadline", method)
			}
			return reply[none]{}, nil
		}}
		e.ask(client)
	}
}

// TestWaitShutdown: the server's end does not wait for that of operations.
func TestWaitShutdown(t *testing.T) {
	t.Parallel()
	f, entered, _ := endless()
	a := newAPI(t, with(f))
	done := make(chan answer)
	go func() { done <- a.do("POST", "/api/v1/provision", provisionBody, "Prefer", "wait=300") }()
	<-entered
	if err := a.server.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	checkStarted(t, (<-done).want(202, ""), "wait=300")
}

func TestBusyAlias(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
	for _, call := range [][2]string{{"DELETE", ""}, {"PATCH", `{"ttl":"1s"}`}} {
		r := a.do(call[0], "/api/v1/aliases/shop", call[1]).want(409, "operation-running")
		if d := r.problem().Detail; !strings.Contains(d, "shop") || !strings.Contains(d, "op-1") {
			t.Errorf("%s: detail does not name alias and operation: %q", call[0], d)
		}
	}
	a.do("GET", "/api/v1/aliases/shop", "").want(200, "")
	over := ended("op-1", nil)
	over.Revision = 2
	a.put(func(tx alias.Tx) error { return tx.UpdateOperation(over) })
	a.do("DELETE", "/api/v1/aliases/shop", "").want(204, "")
}
