package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/client"
	"ixmage/internal/awstest/netfault"
)

// aServer answers the calls of a follower: what has to be said about each of them.
func aServer(t *testing.T, events http.HandlerFunc, read http.HandlerFunc) *client.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/operations/op-1/events", events)
	mux.HandleFunc("GET /api/v1/operations/op-1", read)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, alias.NewSecret(testToken))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func jsonOf(t *testing.T, state string, steps ...string) string {
	t.Helper()
	text, err := anOperation(t, time.Unix(1, 0), state, steps...).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprint(w, `{"type":"x/y","title":"t","detail":"d"}`)
}

// TestFollower: every state arrives, with events, without, and when they break off.
func TestFollower(t *testing.T) {
	t.Parallel()
	event := func(text string) string { return "event: operation\ndata: " + text + "\n\n" }
	stream := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, text)
		}
	}
	running, done := jsonOf(t, "running", "running"), jsonOf(t, "done", "done")
	for _, row := range []struct {
		name   string
		events http.HandlerFunc
		read   []string // answers of reading it, the last one again and again; a number is a status
		want   []string // states
		fails  int      // the status of the error
	}{
		{"events", stream(": alive\n\n" + event(running) + event(done)), []string{"500"}, []string{"running", "done"}, 0},
		{"no events", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404) }, []string{running, running, done}, []string{"running", "running", "done"}, 0},
		{"too many streams", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503) }, []string{done}, []string{"done"}, 0},
		{"a stream that ends early", stream(event(running) + "event: operation\ndata: {\"id\""), []string{done}, []string{"running", "done"}, 0},
		{"a cut connection", func(w http.ResponseWriter, r *http.Request) {
			stream(event(running))(w, r)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, []string{done}, []string{"running", "done"}, 0},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403) }, []string{done}, nil, 403},
		{"refused later", stream(event(running)), []string{"401"}, []string{"running"}, 401},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			reads := 0
			c := aServer(t, row.events, func(w http.ResponseWriter, _ *http.Request) {
				answer := row.read[min(reads, len(row.read)-1)]
				reads++
				if status := 0; len(answer) == 3 {
					fmt.Sscan(answer, &status)
					refuse(w, status)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, answer)
			})
			var got []string
			err := follower{api: c, path: "/api/v1/operations/op-1", send: func(u stateUpdate) {
				got = append(got, u.op.Get("state").Text())
			}}.run(t.Context())
			if !slices.Equal(got, row.want) || (err == nil) != (row.fails == 0) || row.fails != 0 && !client.IsStatus(err, row.fails) {
				t.Errorf("%q, %v; want %q and the status %d", got, err, row.want, row.fails)
			}
		})
	}
}

// TestFollowerAway: a server that is away for a while is asked again; one that stays away
// ends the command with its error, and the hint how to go on.
func TestFollowerAway(t *testing.T) {
	t.Parallel()
	c, err := client.New("http://"+netfault.Refused(t), alias.NewSecret(testToken))
	if err != nil {
		t.Fatal(err)
	}
	err = follower{api: c, path: "/api/v1/operations/op-1", send: func(stateUpdate) {}}.run(t.Context())
	if _, away := errors.AsType[*client.UnreachableError](err); !away {
		t.Errorf("%v", err)
	}
}

// TestWaitFor: the exit status is that of the operation, standard error says why it failed, and
// JSON is the operation alone.
func TestWaitFor(t *testing.T) {
	t.Parallel()
	const failed = "ixmage: provision shop: failed. It failed at the step verify: "
	for _, row := range []struct {
		state, format string
		code          int
		out, err      string // begin so
	}{
		{"done", formatTable, 0, "operation op-1: provision shop\ncreate-user done", ""},
		{"failed", formatTable, 1, "operation op-1: provision shop\ncreate-user done", failed},
		{"superseded", formatTable, 1, "operation op-1: provision shop\n", "ixmage: provision shop: superseded. The operation "},
		{"done", formatJSON, 0, "{\n  \"id\": \"op-1\",", ""},
		{"failed", formatJSON, 1, "{\n  \"id\": \"op-1\",", failed},
		{"done", formatYAML, 0, "id: op-1\n", ""},
	} {
		c := aServer(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404) }, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, jsonOf(t, row.state, "done"))
		})
		e := &env{t: t, client: c}
		got := e.run(&operationWaitCmd{ID: "op-1"}, row.format, "")
		if got.code != row.code || !strings.HasPrefix(got.out, row.out) ||
			!strings.HasPrefix(got.err, row.err) || row.err == "" && got.err != "" {
			t.Errorf("%s as %s: %+v", row.state, row.format, got)
		}
	}
}
