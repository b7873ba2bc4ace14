package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

// forgetWrongTokens makes every address new to the server.
func (a *api) forgetWrongTokens() {
	a.server.wrong.mu.Lock()
	defer a.server.wrong.mu.Unlock()
	a.server.wrong.clients.Purge()
}

// guesser sends requests to a server without a connection, in the time of a synctest
// bubble.
type guesser struct {
	server *Server
	logs   *logBuffer
}

func newGuesser() guesser {
	logs := &logBuffer{}
	return guesser{New(Config{
		Token: alias.NewSecret(testToken), Log: slog.New(slog.NewTextHandler(logs, nil)),
	}), logs}
}

// send asks with a token, or without one if it is empty, and returns the answer and how
// long it took.
func (g guesser) send(ctx context.Context, peer, token string) (*http.Response, time.Duration) {
	r := httptest.NewRequestWithContext(context.WithValue(ctx, connKey{}, &conn{server: g.server}), "GET", "/api/v1/nowhere", nil)
	r.RemoteAddr = peer
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w, start := httptest.NewRecorder(), time.Now()
	g.server.ServeHTTP(w, r)
	return w.Result(), time.Since(start)
}

// status sends a guess and returns its status.
func (g guesser) status(t *testing.T, peer, token string) int {
	t.Helper()
	r, _ := g.send(t.Context(), peer, token)
	return r.StatusCode
}

// TestWrongTokenLimit plays hours of guesses.
func TestWrongTokenLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuesser()
		const peer = "192.0.2.1:1234"
		start := time.Now()
		for i := range 10 {
			if got := g.status(t, peer, "wrong"); got != 401 {
				t.Fatalf("guess %d: got %d, want 401", i, got)
			}
		}
		if took := time.Since(start); took != 7*wrongTokenPause {
			t.Errorf("10 guesses took %s, want %s", took, 7*wrongTokenPause)
		}
		r, took := g.send(t.Context(), peer, "wrong")
		if r.StatusCode != 429 || r.Header.Get("Retry-After") != "57" || took != 0 {
			t.Errorf("guess 11: got %s, Retry-After %q after %s, want 429, 57 at once", r.Status, r.Header.Get("Retry-After"), took)
		}
		for range 1000 { // refused guesses do not lengthen the time
			if got := g.status(t, peer, "wrong"); got != 429 {
				t.Fatalf("got %d, want 429", got)
			}
		}
		for _, tc := range []struct {
			name, peer, token string
			want              int
		}{
			{"right token", peer, testToken, 404},
			{"no token", peer, "", 401},
			{"other port", "192.0.2.1:1", "wrong", 429},
			{"mapped into IPv6", "[::ffff:192.0.2.1]:1", "wrong", 429},
			{"other address", "192.0.2.2:1234", "wrong", 401},
			{"IPv6", "[2001:db8::1]:1", "wrong", 401},
		} {
			if got := g.status(t, tc.peer, tc.token); got != tc.want {
				t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
			}
		}
		<-time.After(wrongTokensWindow - time.Since(start) - 1)
		if got := g.status(t, peer, "wrong"); got != 429 {
			t.Errorf("before the minute has passed: got %d, want 429", got)
		}
		<-time.After(1)
		if got := g.status(t, peer, "wrong"); got != 401 {
			t.Errorf("after a minute: got %d, want 401", got)
		}
		allowed := 0
		start = time.Now()
		for time.Since(start) < time.Hour {
			if g.status(t, peer, "wrong") == 401 {
				allowed++
			}
			<-time.After(time.Second)
		}
		if allowed > 600 || allowed < 590 {
			t.Errorf("%d guesses in an hour, want 600 at most", allowed)
		}
	})
}

// TestWrongTokenNetworks: IPv6 clients count by their network of 64 bits.
func TestWrongTokenNetworks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, a, b string
		same       bool
	}{
		{"one address", "192.0.2.1:1", "192.0.2.1:2", true},
		{"neighbours", "192.0.2.1:1", "192.0.2.2:1", false},
		{"one network", "[2001:db8::1]:1", "[2001:db8::ffff:1]:1", true},
		{"two networks", "[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"zones", "[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:1", "192.0.2.1:1", true},
		{"two IPv4 in IPv6", "[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:1", false},
		{"IPv4 and IPv6", "0.0.0.0:1", "[::]:1", false},
		{"no address", "pipe", "@", true},
	} {
		if same := clientOf(tc.a) == clientOf(tc.b); same != tc.same {
			t.Errorf("%s: %s and %s count together: %v, want %v", tc.name, tc.a, tc.b, same, tc.same)
		}
	}
}

// TestWrongTokenMemory: the number of remembered addresses is bounded.
func TestWrongTokenMemory(t *testing.T) {
	t.Parallel()
	w, now := newWrongTokens(), time.Now()
	for i := range 3 * wrongTokensClients {
		w.add(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>16, i&0xffff), now)
	}
	if n := w.clients.Len(); n != wrongTokensClients {
		t.Errorf("%d addresses are remembered, want %d", n, wrongTokensClients)
	}
}

// TestWrongTokenPause: a client that leaves, and the end of the server, end the pause.
func TestWrongTokenPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			name string
			end  func(g guesser, leave context.CancelFunc)
		}{
			{"the client leaves", func(_ guesser, leave context.CancelFunc) { leave() }},
			{"the server ends", func(g guesser, _ context.CancelFunc) { g.server.startClose() }},
		} {
			g := newGuesser()
			ctx, leave := context.WithCancel(t.Context())
			for range wrongTokensQuick {
				g.send(ctx, "192.0.2.1:1", "wrong")
			}
			time.AfterFunc(time.Millisecond, func() { tc.end(g, leave) })
			if r, took := g.send(ctx, "192.0.2.1:1", "wrong"); r.StatusCode != 401 || took != time.Millisecond {
				t.Errorf("%s: got %s after %s, want 401 after 1ms", tc.name, r.Status, took)
			}
			leave()
		}
	})
}

// TestRefusalLog: refused requests have a few lines in a second and then a count, and no
// request is missing in the log.
func TestRefusalLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuesser()
		for range 100 {
			g.send(t.Context(), "192.0.2.1:1", "")
		}
		if n := strings.Count(g.logs.String(), "\n"); n != refusalLines {
			t.Errorf("%d lines, want %d:\n%s", n, refusalLines, g.logs)
		}
		if r, _ := g.send(t.Context(), "192.0.2.1:1", testToken); r.StatusCode != 404 {
			t.Errorf("the right token: got %s, want 404", r.Status)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if text := g.logs.String(); !strings.HasSuffix(text, "level=WARN msg=\"admin requests refused\" count=95\n") {
			t.Errorf("no count of 95:\n%s", text)
		}
		g.send(t.Context(), "192.0.2.1:1", "")
		if text := g.logs.String(); strings.Count(text, "problem=unauthorized") != refusalLines+1 {
			t.Errorf("a refusal in another second has no line:\n%s", text)
		}
		for range 10 {
			g.send(t.Context(), "192.0.2.1:1", "")
		}
		if err := g.server.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if text := g.logs.String(); !strings.HasSuffix(text, "count=6\n") {
			t.Errorf("the count is lost at the end:\n%s", text)
		}
	})
}
