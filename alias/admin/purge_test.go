package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// purgerFunc is a Purger made of a function.
type purgerFunc func(context.Context, PurgeRequest) (PurgeResult, error)

func (f purgerFunc) Purge(ctx context.Context, r PurgeRequest) (PurgeResult, error) { return f(ctx, r) }

func (purgerFunc) Stored(*alias.Alias, string) bool                 { return false }
func (purgerFunc) Search(*alias.Alias, int, func(path string) bool) {}

func withPurger(f purgerFunc) func(*Config) { return func(c *Config) { c.Purger = f } }

const purgePath = "/api/v1/purge"

func TestPurge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in, out string // members of the body, and of the answer that follow the alias
		key, prefix   string
		hard          bool
		scope         string
	}{
		{"whole alias", ``, `"key":null,"prefix":null,"hard":false`, "", "", false, "alias"},
		{"whole alias, hard", `,"hard":true`, `"key":null,"prefix":null,"hard":true`, "", "", true, "alias"},
		{"soft as said", `,"hard":false`, `"key":null,"prefix":null,"hard":false`, "", "", false, "alias"},
		{"key", `,"key":"a/b c&ü.jpg"`, `"key":"a/b c&ü.jpg","prefix":null,"hard":false`, "a/b c&ü.jpg", "", false, "key"},
		{"key, hard", `,"hard":true,"key":"a%2Fb"`, `"key":"a%2Fb","prefix":null,"hard":true`, "a%2Fb", "", true, "key"},
		{"prefix", `,"prefix":"a/b"`, `"key":null,"prefix":"a/b","hard":false`, "", "a/b", false, "prefix"},
		{"prefix of any kind", `,"prefix":"a//../\\"`, `"key":null,"prefix":"a//../\\","hard":false`, "", `a//../\`, false, "prefix"},
		{"long prefix", `,"prefix":"` + strings.Repeat("x", 1024) + `"`, `"key":null,"prefix":"` + strings.Repeat("x", 1024) + `","hard":false`, "", strings.Repeat("x", 1024), false, "prefix"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got PurgeRequest
			a := newAPI(t, withPurger(func(ctx context.Context, r PurgeRequest) (PurgeResult, error) {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("the purge may take forever")
				}
				got = r
				return PurgeResult{Entries: 3, Bytes: 1 << 40, Fetches: 2, Negative: 1}, nil
			}))
			a.register("shop")
			r := a.do("POST", purgePath, `{"alias":"shop"`+c.in+`}`).want(200, "")
			if want := `{"alias":"shop",` + c.out + `,"entries":3,"bytes":1099511627776,"flights":2,"negative":1}` + "\n"; r.body != want {
				t.Errorf("got %s, want %s", r.body, want)
			}
			if got.Alias == nil || got.Alias.Name != "shop" || got.Alias.ID == 0 || got.Key != c.key || got.Prefix != c.prefix || got.Hard != c.hard {
				t.Errorf("the Purger got %+v", got)
			}
			a.checkPurged(c.scope, c.key+c.prefix, c.hard)
		})
	}
}

// checkPurged looks at the log, which is at debug in these tests.
func (a *api) checkPurged(scope, what string, hard bool) {
	a.t.Helper()
	for _, line := range a.logs.lines(a.t) {
		if line["msg"] != "purged" {
			continue
		}
		for name, want := range map[string]any{
			"level": "INFO", "alias": "shop", "scope": scope, "hard": hard,
			"entries": 3.0, "bytes": float64(1 << 40), "flights": 2.0, "negative": 1.0, "actor": "admin@127.0.0.1",
		} {
			if line[name] != want {
				a.t.Errorf("log: %s: got %v, want %v", name, line[name], want)
			}
		}
		if got, _ := line[scope].(string); scope != "alias" && got != what {
			a.t.Errorf("log: %s: got %q, want %q", scope, got, what)
		}
		return
	}
	a.t.Error("the purge is not in the log")
}

// TestPurgeLogsNoPath at any level above debug.
func TestPurgeLogsNoPath(t *testing.T) {
	t.Parallel()
	logs := &logBuffer{}
	a := newAPI(t, withPurger(func(context.Context, PurgeRequest) (PurgeResult, error) { return PurgeResult{}, nil }),
		func(c *Config) { c.Log = slog.New(slog.NewJSONHandler(logs, nil)) })
	a.register("shop")
	a.do("POST", purgePath, `{"alias":"shop","key":"very-private.jpg"}`).want(200, "")
	a.do("POST", purgePath, `{"alias":"shop","prefix":"very-private"}`).want(200, "")
	if text := logs.String(); strings.Contains(text, "very-private") || strings.Count(text, `"msg":"purged"`) != 2 {
		t.Errorf("log: %s", text)
	}
}

func TestPurgeRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withPurger(func(context.Context, PurgeRequest) (PurgeResult, error) {
		t.Error("it was purged")
		return PurgeResult{}, nil
	}))
	a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","prefix":"p/","region":"eu-west-1","credential":null}`).want(201, "")
	for _, c := range []struct {
		body   string
		status int
		fields string
		says   string
	}{
		{`{}`, 400, "alias", "is required"},
		{`{"key":"a.jpg"}`, 400, "alias", "is required"},
		{`{"alias":null}`, 400, "alias", "string"},
		{`{"alias":""}`, 400, "alias", "is required"},
		{`{"alias":7,"key":7,"hard":"yes"}`, 400, "alias key hard", ""},
		{`{"alias":"shop","key":"a","prefix":"a"}`, 400, "prefix", "combined with key"},
		{`{"alias":"none","key":"","prefix":""}`, 400, "prefix", "combined with key"},
		{`{"alias":"shop","key":null}`, 400, "key", "not null"},
		{`{"alias":"shop","prefix":null}`, 400, "prefix", "not null"},
		{`{"alias":"shop","hard":null}`, 400, "hard", "not null"},
		{`{"alias":"shop","hard":1}`, 400, "hard", "true or false"},
		{`{"alias":"shop","key":""}`, 400, "key", "path of an object"},
		{`{"alias":"shop","key":"/a.jpg"}`, 400, "key", "slash"},
		{`{"alias":"shop","key":"/shop/a%20b.jpg?v=2"}`, 400, "key", `did you mean "a b.jpg"?`},
		{`{"alias":"shop","key":"https://img.example.com/shop/a.jpg"}`, 400, "key", `did you mean "a.jpg"?`},
		{`{"alias":"shop","key":"s3://acme-media/p/a.jpg"}`, 400, "key", `did you mean "a.jpg"?`},
		{`{"alias":"shop","key":"a//b"}`, 400, "key", "segments"},
		{`{"alias":"shop","key":"a/../b"}`, 400, "key", "segments"},
		{`{"alias":"shop","key":"a\u0000b"}`, 400, "key", "control"},
		{`{"alias":"shop","key":"a\\b"}`, 400, "key", "backslash"},
		{`{"alias":"shop","key":"` + strings.Repeat("x", 1023) + `"}`, 400, "key", "with the prefix"},
		{`{"alias":"shop","prefix":""}`, 400, "prefix", "leave it out"},
		{`{"alias":"shop","prefix":"a\nb"}`, 400, "prefix", "control"},
		{`{"alias":"shop","prefix":"\u007f"}`, 400, "prefix", "control"},
		{`{"alias":"shop","prefix":"` + strings.Repeat("x", 1025) + `"}`, 400, "prefix", "1024"},
		{`{"alias":"shop","keys":["a"]}`, 400, "keys", "unknown field"},
		{`{"alias":"shop","Key":"a"}`, 400, "Key", `did you mean "key"`},
		{`{"alias":"shop","key":"a","key":"b"}`, 400, "key", "more than once"},
		{`{"alias":"none"}`, 404, "", "no alias named"},
		{`{"alias":"none","key":"/"}`, 404, "", "no alias named"},
		{`{"alias":"SHOP"}`, 404, "", "no alias named"},
		{`{"alias":"shop/a.jpg"}`, 404, "", "no alias named"},
	} {
		r := a.do("POST", purgePath, c.body).want(c.status, "")
		if got := strings.Join(r.fields(), " "); got != c.fields {
			t.Errorf("%s: got problems with %q, want %q", c.body, got, c.fields)
		}
		if d := r.problem().Detail; !strings.Contains(d, c.says) {
			t.Errorf("%s: got %q, want %q in it", c.body, d, c.says)
		}
	}
	a.do("POST", purgePath+"?hard=true", `{"alias":"shop"}`).want(400, "invalid")
	a.do("POST", purgePath, "").want(400, "bad-request")
	a.do("POST", purgePath, "{\"alias\":\"shop\",\"prefix\":\"\xff\"}").want(400, "bad-request")
	a.do("POST", purgePath, `{"alias":"shop"}`, "Content-Type", "text/plain").want(415, "media-type")
}

func TestPurgeFails(t *testing.T) {
	t.Parallel()
	var failure error
	a := newAPI(t, withPurger(func(context.Context, PurgeRequest) (PurgeResult, error) { return PurgeResult{Entries: 1}, failure }))
	a.register("shop")
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{errors.New("boom"), 500, "internal"},
		{fmt.Errorf("alias shop: %w", alias.ErrUnavailable), 503, "unavailable"},
		{fmt.Errorf("alias shop: %w", alias.ErrNotFound), 404, "not-found"}, // deleted meanwhile
		{fmt.Errorf("%w: %w", ErrNotDurable, errors.New("no space left on device")), 503, "not-durable"},
	} {
		failure = c.err
		a.do("POST", purgePath, `{"alias":"shop"}`).want(c.status, c.code)
	}
	if strings.Contains(a.logs.String(), `"msg":"purged"`) {
		t.Error("a purge that failed is in the log as done")
	}
}

// A purge of some keys, or a soft one, needs no database.
func TestPurgeWithoutDatabase(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withPurger(func(context.Context, PurgeRequest) (PurgeResult, error) { return PurgeResult{}, nil }))
	a.register("shop")
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	a.do("POST", purgePath, `{"alias":"shop","key":"a.jpg","hard":true}`).want(200, "")
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	a.do("POST", purgePath, `{"alias":"shop"}`).want(501, "not-implemented")
	a.do("POST", purgePath, `{"alias":"none"}`).want(404, "not-found")
	a.do("POST", purgePath, `{}`).want(400, "invalid")
	a.do("GET", "/api/v1/explain?path=/shop/a.jpg", "").want(501, "not-implemented")
	a.do("GET", "/api/v1/explain", "").want(400, "invalid")
	a.do("GET", "/api/v1/aliases/shop/usage", "").want(501, "not-implemented")
	a.do("GET", "/api/v1/aliases/none/usage", "").want(404, "not-found")
}

// TestPurgeOfNodes: the answer names the nodes, and waits as long as the client prefers.
func TestPurgeOfNodes(t *testing.T) {
	t.Parallel()
	const counts = `{"alias":"shop","key":null,"prefix":null,"hard":false,"entries":0,"bytes":0,"flights":1,"negative":0`
	for _, c := range []struct {
		name, prefer       string
		confirmed, pending []string
		wait               time.Duration // that Wait lasts
		applied, nodes     string
	}{
		{"not shared", "wait=9", nil, nil, 9 * time.Second, "", ``},
		{"alone", "", []string{"a"}, nil, purgeWait, "", `{"confirmed":["a"],"pending":[]}`},
		{"by default", "", []string{"a"}, []string{"b", "c"}, purgeWait, "", `{"confirmed":["a"],"pending":["b","c"]}`},
		{"the database is away since", "", nil, []string{"a", "b"}, purgeWait, "", `{"confirmed":[],"pending":["a","b"]}`},
		{"preferred", "wait=60", []string{"a", "b"}, nil, time.Minute, "wait=60", `{"confirmed":["a","b"],"pending":[]}`},
		{"not at all", "wait=0", []string{"a"}, []string{"b"}, 0, "wait=0", `{"confirmed":["a"],"pending":["b"]}`},
		{"at most", "respond-async, wait=9999999999999999999999", []string{"a"}, nil, maxWait, "wait=300", `{"confirmed":["a"],"pending":[]}`},
		{"invalid", "wait=soon", []string{"a"}, nil, purgeWait, "", `{"confirmed":["a"],"pending":[]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var before time.Time
			begunSince := func(end time.Time, lasts time.Duration) bool { // it begins after before, whenever the test looks
				return !end.Before(before.Add(lasts)) && !end.After(time.Now().Add(lasts))
			}
			a := newAPI(t, withPurger(func(ctx context.Context, r PurgeRequest) (PurgeResult, error) {
				if end, _ := r.Wait.Deadline(); !begunSince(end, c.wait) {
					t.Errorf("the answer may wait until %v after the call, want %v", end.Sub(before), c.wait)
				}
				if end, _ := ctx.Deadline(); !begunSince(end, c.wait+callTimeout) {
					t.Errorf("the purge itself has until %v after the call, want %v", end.Sub(before), c.wait+callTimeout)
				}
				return PurgeResult{Fetches: 1, Confirmed: c.confirmed, Pending: c.pending}, nil
			}))
			a.register("shop")
			before = time.Now()
			r := a.do("POST", purgePath, `{"alias":"shop"}`, "Prefer", c.prefer).want(200, "")
			want := counts
			if c.nodes != "" {
				want += `,"nodes":` + c.nodes
			}
			if want += "}\n"; r.body != want {
				t.Errorf("got %s, want %s", r.body, want)
			}
			if got := r.header.Get("Preference-Applied"); got != c.applied {
				t.Errorf("Preference-Applied: got %q, want %q", got, c.applied)
			}
			if logged := strings.Contains(a.logs.String(), `"pending":`); logged != (c.nodes != "") {
				t.Errorf("the log names nodes: %t", logged)
			}
		})
	}
}

// TestPurgeWaitEnds: a client that leaves and the end of the server end the waiting, and not
// the purge.
func TestPurgeWaitEnds(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{true, false} {
		begun, ended := make(chan struct{}), make(chan error, 1)
		a := newAPI(t, withPurger(func(ctx context.Context, r PurgeRequest) (PurgeResult, error) {
			close(begun)
			<-r.Wait.Done()
			ended <- ctx.Err()
			return PurgeResult{Confirmed: []string{"a"}, Pending: []string{"b"}}, nil
		}))
		a.register("shop")
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+a.addr+purgePath, strings.NewReader(`{"alias":"shop"}`))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Authorization": "Bearer " + testToken, "Content-Type": mediaJSON, "Prefer": "wait=300",
		} {
			req.Header.Set(name, value)
		}
		answered := make(chan error, 1)
		go func() {
			resp, err := a.client.Do(req)
			if err == nil {
				resp.Body.Close()
			}
			answered <- err
		}()
		<-begun
		if leaves {
			leave()
		} else {
			a.server.startClose()
		}
		if err := <-ended; err != nil {
			t.Errorf("leaves=%t: the purge ended with the waiting: %v", leaves, err)
		}
		if err := <-answered; (err != nil) != leaves {
			t.Errorf("leaves=%t: %v", leaves, err)
		}
		leave()
	}
}

// TestPurgeWaitsAreBounded: when too many answers are held, the preference is not honoured.
func TestPurgeWaitsAreBounded(t *testing.T) {
	t.Parallel()
	h := purges{ops: operations{closing: t.Context(), held: make(chan struct{}, 1)}}
	h.purger = purgerFunc(func(_ context.Context, r PurgeRequest) (PurgeResult, error) {
		end, _ := r.Wait.Deadline()
		return PurgeResult{Bytes: int64(time.Until(end))}, nil
	})
	c := &call[purgeInput]{client: client{ctx: t.Context(), wait: parsePrefer([]string{"wait=100"})}}
	for _, full := range []bool{false, true} {
		if full {
			h.ops.enter()
		}
		got, applied, err := h.await(t.Context(), c, PurgeRequest{})
		if long := time.Duration(got.Bytes) > purgeWait; err != nil || long == full || (applied == "wait=100") == full {
			t.Errorf("full=%t: it waits for %v, %q, %v", full, time.Duration(got.Bytes), applied, err)
		}
	}
}
