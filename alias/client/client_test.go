package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/internal/awstest/netfault"
)

// serve starts a server and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(s.URL+"/", alias.NewSecret("right"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNew(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{
		"http://127.0.0.1:8081":  "",
		"https://admin.example/": "",
		"":                       "not the URL of an admin listener",
		"127.0.0.1:8081":         "is not the URL of an admin listener; use one like http://",
		"localhost:8081":         "not the URL of an admin listener",
		"ftp://host":             "not the URL of an admin listener",
		"http://":                "not the URL of an admin listener",
		"http://a:b@host":        "use only scheme, host and port, like http://host",
		"http://host?x":          "use only scheme",
		"http://host/\x7f":       "is not the URL of an admin listener; use one like http://",
	} {
		_, err := New(base, alias.Secret{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", base, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "a:b") {
			t.Errorf("the error has the password: %v", err)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"8"`)
		io.WriteString(w, `{"b":1,"a":[true,null,"x"]}`)
	})
	resp, err := c.Do(t.Context(), Request{
		Method: http.MethodPatch, Path: Path("aliases", "a/b?"), IfMatch: "7", Wait: 2 * time.Minute, Body: map[string]any{"prefix": "a&b/"},
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := []string{
		got.Method, got.RequestURI, got.Header.Get("Authorization"), got.Header.Get("If-Match"), got.Header.Get("Prefer"),
		got.Header.Get("Content-Type"), body, resp.ETag(), string(resp.Body),
	}
	want := []string{
		"PATCH", "/api/v1/aliases/a%2Fb%3F", "Bearer right", `"7"`, "wait=120",
		"application/json", `{"prefix":"a&b/"}` + "\n", `"8"`, `{"b":1,"a":[true,null,"x"]}`,
	}
	if d := cmp.Diff(want, seen); d != "" {
		t.Error(d)
	}
	if _, err := c.Do(t.Context(), Request{Path: Path("aliases"), IfMatch: `"8"`}); err != nil {
		t.Fatal(err)
	}
	if v := got.Header.Get("If-Match"); v != `"8"` || got.Method != http.MethodGet || got.ContentLength != 0 {
		t.Errorf("If-Match %q, %s, %d bytes", v, got.Method, got.ContentLength)
	}
}

func TestProblem(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusConflict)
		io.WriteString(w, `{"type":"https://ixmage.dev/problems/in-use","title":"It is in use","status":409,"detail":"by shop",
			"request_id":"R","errors":[{"field":"ttl","detail":"wrong"}],"commands":["aws x"],"more":1}`)
	})
	_, err := c.Do(t.Context(), Request{Path: Path("aliases")})
	p, ok := errors.AsType[*Problem](err)
	want := &Problem{
		Status: 409, Code: "in-use", Title: "It is in use", Detail: "by shop", Fields: []Field{{"ttl", "wrong"}},
		Commands: []string{"aws x"}, RequestID: "R", Retry: "5",
	}
	if d := cmp.Diff(want, p); !ok || d != "" {
		t.Error(err, d)
	}
	if !IsStatus(err, 409) || IsStatus(err, 404) || IsStatus(io.EOF, 409) {
		t.Error("IsStatus is wrong")
	}
}

// TestNotTheAPI: what is no answer of the API is its own error, and no token follows a
// redirect.
func TestNotTheAPI(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"page":          func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"error page":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusNotFound) },
		"redirect":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		"public one":    func(w http.ResponseWriter, _ *http.Request) { problem(w, `{"title":"Not found"}`) },
		"broken answer": func(w http.ResponseWriter, _ *http.Request) { problem(w, "{") },
	} {
		calls := 0
		c := serve(t, func(w http.ResponseWriter, r *http.Request) { calls++; h(w, r) })
		_, err := c.Do(t.Context(), Request{Path: Path("aliases")})
		_, away := errors.AsType[*UnreachableError](err)
		_, refused := errors.AsType[*Problem](err)
		if err == nil || away || refused || calls != 1 {
			t.Errorf("%s: %v after %d calls", name, err, calls)
		}
	}
}

func problem(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusBadRequest)
	io.WriteString(w, text)
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	away, _ := New("http://"+netfault.Refused(t), alias.Secret{})
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "{")
	})
	for name, c := range map[string]*Client{"gone": away, "cut": cut} {
		_, err := c.Do(t.Context(), Request{Path: Path("aliases")})
		if u, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), c.URL()) || strings.Contains(u.Err.Error(), "Get ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cut.Do(ctx, Request{Path: Path("aliases")}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	var limits []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		limits = append(limits, r.FormValue("limit")+r.FormValue("state"))
		from, _ := strconv.Atoi(r.FormValue("after"))
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		var parts []string
		for i := from + 1; i <= min(from+limit, 7); i++ {
			parts = append(parts, `{"id":`+strconv.Itoa(i)+`}`)
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"things":[`+strings.Join(parts, ",")+`]}`)
	})
	for _, row := range []struct {
		size, limit, want int
		limits            string
	}{
		{3, 0, 7, "3x,3x,3x"}, {7, 0, 7, "7x,7x"}, {3, 5, 5, "3x,2x"}, {3, 3, 3, "3x"}, {10, 2, 2, "2x"},
	} {
		limits = nil
		got, err := c.List(t.Context(), Pages{
			Path: Path("things"), Query: map[string][]string{"state": {"x"}}, Member: "things", By: "id", Param: "after", Size: row.size, Limit: row.limit,
		})
		if err != nil || len(got) != row.want || strings.Join(limits, ",") != row.limits {
			t.Errorf("pages of %d, at most %d: %d elements, calls %q, %v", row.size, row.limit, len(got), limits, err)
		}
	}
}
