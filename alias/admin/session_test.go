package admin

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

const fromConsole = "same-origin"

// signIn exchanges a token for the cookie of a session.
func (a *api) signIn(token string) (cookie string) {
	a.t.Helper()
	r := a.do("POST", sessionPath, `{"token":"`+token+`"}`, "Authorization", "").want(201, "")
	c, err := http.ParseSetCookie(r.header.Get("Set-Cookie"))
	if err != nil {
		a.t.Fatal(err)
	}
	if c.Name != "ixmage-session" || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" ||
		len(c.Value) < 26 || strings.Contains(token, c.Value) || c.MaxAge != 12*60*60 {
		a.t.Errorf("the cookie is %q", c)
	}
	return c.Name + "=" + c.Value
}

func TestSession(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	cookie := a.signIn(testToken)
	by := []string{"Authorization", "", "Cookie", cookie, "Sec-Fetch-Site", fromConsole}
	r := a.do("GET", sessionPath, "", by...).want(200, "")
	if want := `{"name":"admin","roles":["admin"],"buckets":[],"expires_at":null}` + "\n"; r.body != want {
		t.Errorf("got %s, want %s", r.body, want)
	}
	a.do("POST", "/api/v1/aliases", `{"name":"pub","bucket":"open-data","region":"eu-west-1","credential":null}`,
		append(by, "X-Ixmage-Console", "1")...).want(201, "")
	if strings.Contains(a.logs.String(), cookie[len(cookieName)+1:]) {
		t.Error("the log has the cookie")
	}
	a.do("DELETE", sessionPath, "", by...).want(403, "forbidden") // without the header of the console
	out := a.do("DELETE", sessionPath, "", append(by, "X-Ixmage-Console", "1")...).want(204, "")
	if c, err := http.ParseSetCookie(out.header.Get("Set-Cookie")); err != nil || c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("sign-out: the cookie is %q, %v", c, err)
	}
	a.do("GET", sessionPath, "", by...).want(401, "unauthorized")
}

// TestSessionSite: a cookie counts only for a page of the listener itself.
func TestSessionSite(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	cookie := a.signIn(testToken)
	const header = "X-Ixmage-Console"
	own := "http://" + a.addr
	for _, c := range []struct {
		name, method string
		headers      []string
		status       int
	}{
		{"no site and no origin", "GET", nil, 403},
		{"same origin", "GET", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"same site", "GET", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"cross site", "GET", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"typed by the user", "GET", []string{"Sec-Fetch-Site", "none"}, 403},
		{"equal origin", "GET", []string{"Origin", own}, 200},
		{"equal origin of another scheme", "GET", []string{"Origin", "https://" + a.addr}, 403},
		{"other origin", "GET", []string{"Origin", "http://evil.example"}, 403},
		{"other port", "GET", []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"null", "GET", []string{"Origin", "null"}, 403},
		{"equal origin, but cross site", "GET", []string{"Origin", own, "Sec-Fetch-Site", "cross-site"}, 403},
		{"other origin, same site", "GET", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"}, 403},
		{"HEAD", "HEAD", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"a change", "DELETE", []string{"Sec-Fetch-Site", "same-origin"}, 403},
		{"a change by the console", "DELETE", []string{"Sec-Fetch-Site", "same-origin", header, "1"}, 404},
		{"a change with another value", "DELETE", []string{"Sec-Fetch-Site", "same-origin", header, "0"}, 403},
		{"a change with an empty value", "DELETE", []string{"Sec-Fetch-Site", "same-origin", header, ""}, 403},
		{"a change with an equal origin", "DELETE", []string{"Origin", own}, 403},
		{"a change by the console with an equal origin", "DELETE", []string{"Origin", own, header, "1"}, 404},
		{"a change by the console of another origin", "DELETE", []string{"Origin", "http://evil.example", header, "1"}, 403},
	} {
		r := a.do(c.method, "/api/v1/aliases", "", append([]string{"Authorization", "", "Cookie", cookie}, c.headers...)...)
		if c.method == "DELETE" {
			r = a.do(c.method, "/api/v1/aliases/nope", "", append([]string{"Authorization", "", "Cookie", cookie}, c.headers...)...)
		}
		if r.status != c.status {
			t.Errorf("%s: got %d, want %d: %s", c.name, r.status, c.status, r.body)
		}
	}
	// A token needs none of this, and wins over the cookie.
	a.do("GET", "/api/v1/aliases", "", "Cookie", cookie).want(200, "")
	a.do("GET", "/api/v1/aliases", "", "Cookie", cookie, "Authorization", "Bearer wrong").want(401, "unauthorized")
}

// TestSessionEnds plays the hours of a session.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSessions()
		token := alias.DigestOf("x")
		idle, busy := s.begin(token), s.begin(token)
		for range 23 {
			time.Sleep(30 * time.Minute) //nolint:forbidigo // the clock of the bubble
			if got, ok := s.use(busy); !ok || got != token {
				t.Fatal("a session in use ended early")
			}
		}
		time.Sleep(30*time.Minute - 1) //nolint:forbidigo // the clock of the bubble
		if _, ok := s.use(busy); !ok {
			t.Error("a session ended before 12 hours")
		}
		time.Sleep(time.Nanosecond) //nolint:forbidigo // the clock of the bubble
		if _, ok := s.use(busy); ok {
			t.Error("a session is older than 12 hours")
		}
		if _, ok := s.use(idle); ok {
			t.Error("a session was idle for more than an hour")
		}
		short := s.begin(token)
		time.Sleep(time.Hour - 1) //nolint:forbidigo // the clock of the bubble
		if _, ok := s.use(short); !ok {
			t.Error("a session ended before an idle hour")
		}
		time.Sleep(time.Hour) //nolint:forbidigo // the clock of the bubble
		if _, ok := s.use(short); ok {
			t.Error("a session was idle for an hour")
		}
		if _, ok := s.use(""); ok {
			t.Error("the empty cookie has a session")
		}
	})
}

// TestSessionsOfToken: sign-ins with one token end its own sessions only.
func TestSessionsOfToken(t *testing.T) {
	t.Parallel()
	s := newSessions()
	other, own := alias.DigestOf("other"), alias.DigestOf("own")
	stays := s.begin(other)
	first, second := s.begin(own), s.begin(own)
	s.use(first)
	for range maxSessionsOfToken - 1 {
		s.begin(own)
	}
	if s.has(second) || !s.has(first) {
		t.Error("not the session that was idle for the longest time has ended")
	}
	for range maxSessions {
		s.begin(own)
	}
	if !s.has(stays) {
		t.Error("the session of another token has ended")
	}
}

// TestSessionEndsWithToken: deleting a token ends its sessions, and no others.
func TestSessionEndsWithToken(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	text := strings.TrimPrefix(a.makeToken("ci", `["read"]`, `[]`), "Bearer ")
	of := func(cookie string) []string {
		return []string{"Authorization", "", "Cookie", cookie, "Sec-Fetch-Site", fromConsole}
	}
	ci, own := of(a.signIn(text)), of(a.signIn(testToken))
	a.do("GET", "/api/v1/aliases", "", ci...).want(200, "")
	a.do("POST", "/api/v1/purge", `{"alias":"shop"}`, append(ci, "X-Ixmage-Console", "1")...).want(403, "forbidden")
	a.do("DELETE", tokensPath+"/ci", "").want(204, "")
	a.do("GET", "/api/v1/aliases", "", ci...).want(401, "unauthorized")
	a.do("GET", "/api/v1/aliases", "", own...).want(200, "")
}

// TestSessionWrongToken: guesses at the sign-in count like all others.
func TestSessionWrongToken(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for range wrongTokensMax {
		a.do("POST", sessionPath, `{"token":"wrong-wrong-wrong"}`, "Authorization", "").want(401, "unauthorized")
	}
	a.do("POST", sessionPath, `{"token":"wrong-wrong-wrong"}`, "Authorization", "").want(429, "wrong-tokens")
	a.signIn(testToken)
	a.do("POST", sessionPath, `{}`, "Authorization", "").want(400, "invalid")
	a.do("POST", sessionPath, `{"token":"x"}`, "Authorization", "", "Origin", "http://evil.example").want(403, "forbidden")
	a.do("POST", sessionPath, `{"token":"x"}`, "Authorization", "", "Content-Type", "text/plain").want(415, "media-type")
}

// TestEventsEndWithToken: a stream sends nothing after its token was deleted.
func TestEventsEndWithToken(t *testing.T) {
	t.Parallel()
	watched, deleted := make(chan struct{}), make(chan struct{})
	a := newAPI(t, with(&fake{watch: func(context.Context, string, int64) (*alias.Operation, error) {
		close(watched)
		<-deleted
		next := running("op-1")
		next.Revision, next.Steps[0].Detail = 2, "not for the holder of a deleted token"
		return next, nil
	}}))
	a.put(func(tx alias.Tx) error { return tx.InsertOperation(running("op-1")) })
	token := a.makeToken("ci", `["read"]`, `[]`)
	body := make(chan string)
	go func() {
		body <- a.raw("GET /api/v1/operations/op-1/events HTTP/1.0\r\nHost: localhost\r\nAuthorization: " + token + "\r\n\r\n").body
	}()
	<-watched
	a.do("DELETE", tokensPath+"/ci", "").want(204, "")
	close(deleted)
	if got := <-body; !strings.Contains(got, `"op-1"`) || strings.Contains(got, "deleted token") {
		t.Errorf("got %s", got)
	}
}

// TestSessionTLS: under TLS the cookie is bound to the host and to TLS, on a listener like
// main's.
func TestSessionTLS(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	server, _, logs := newTestServer(t)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := serveOn(t, server, logs, tls.NewListener(plain, certified.TLS))
	client := certified.Client()
	defer client.CloseIdleConnections()
	do := func(method, body string, cookies ...*http.Cookie) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+a.addr+sessionPath, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", mediaJSON)
		r.Header.Set("Origin", "https://"+a.addr)
		r.Header.Set(consoleHeader, "1")
		for _, c := range cookies {
			r.AddCookie(c)
		}
		got, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		return got
	}
	status := func(want int, got *http.Response) {
		t.Helper()
		if got.StatusCode != want {
			t.Errorf("got %d, want %d", got.StatusCode, want)
		}
	}
	k := do("POST", `{"token":"`+testToken+`"}`).Cookies()[0]
	if k.Name != "__Host-ixmage-session" || !k.Secure || !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/" || k.Domain != "" {
		t.Fatalf("the cookie is %q", k)
	}
	status(200, do("GET", "", k))
	status(401, do("GET", "", &http.Cookie{Name: cookieName, Value: k.Value})) // the cookie of plain http
	out := do("DELETE", "", k)
	status(204, out)
	if gone := out.Cookies()[0]; gone.Name != k.Name || !gone.Secure || gone.MaxAge >= 0 {
		t.Errorf("sign-out: %q", gone)
	}
	status(401, do("GET", "", k))
}
