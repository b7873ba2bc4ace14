package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// watched is a Canary that a test decides about.
type watched struct {
	noCanary

	mu      sync.Mutex
	refused bool
	asked   int
	bound   int           // questions under a context that can end
	held    chan struct{} // if set, answers wait until it is closed
}

func (w *watched) Refused(ctx context.Context, r alias.Route) bool {
	w.mu.Lock()
	w.asked++
	if ctx.Done() != nil {
		w.bound++
	}
	refused, held := w.refused && r.Alias.Name == "shop", w.held
	w.mu.Unlock()
	if held != nil {
		<-held
	}
	return refused
}

func (w *watched) set(refused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused = refused
}

func (w *watched) questions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// shopKeys are the keys that newProxyBefore reads the alias shop with.
var shopKeys = alias.KeyPair{
	AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: alias.NewSecret("not-a-real-secret-key"),
}

// A refusal of S3 is a missing object, unless the alias's canary is refused too.
func TestCanaryDecidesRefusals(t *testing.T) {
	t.Parallel()
	png := s3.Object{Body: []byte("\x89PNG\r\n\x1a\n and more"), ContentType: "image/png"}
	denied := func(fakeS3 *s3.Server) { fakeS3.Allow(shopKeys, "acme-media", "public/") }
	of := func(refused bool) *watched { return &watched{refused: refused} }
	for _, tc := range []struct {
		name   string
		s3     func(*s3.Server)
		canary *watched // nil: none is wired
		status int
		code   string
		asked  int
	}{
		{"no canary wired", denied, nil, 404, "not-found", 0},
		{"alias without one, or nobody can tell", denied, of(false), 404, "not-found", 1},
		{"canary refused", denied, of(true), 502, "origin-denied", 1},
		{"canary refused, but the object is readable", func(*s3.Server) {}, of(true), 200, "", 0},
		{"canary refused, but the object is not there", func(fakeS3 *s3.Server) { fakeS3.Delete("acme-media", "a.png") }, of(true), 404, "not-found", 0},
		{"object hidden, canary refused", func(fakeS3 *s3.Server) { fakeS3.Delete("acme-media", "a.png"); fakeS3.HideMissing() }, of(true), 502, "origin-denied", 1},
		{"object hidden, canary green", func(fakeS3 *s3.Server) { fakeS3.Delete("acme-media", "a.png"); fakeS3.HideMissing() }, of(false), 404, "not-found", 1},
		{"key refused", failing("InvalidAccessKeyId"), of(true), 502, "origin-credential", 0},
		{"throttled", failing("SlowDown"), of(true), 503, "origin-throttled", 0},
		{"archived", failing("InvalidObjectState"), of(true), 502, "origin-error", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			fakeS3 := s3.New(t)
			fakeS3.Put("acme-media", "a.png", png)
			tc.s3(fakeS3)
			for _, method := range []string{"GET", "HEAD"} {
				var canary Canary
				before := 0
				if tc.canary != nil {
					canary, before = tc.canary, tc.canary.questions()
				}
				p := newProxyBefore(t, fakeS3.URL, canary)
				got := send(t, p, method, "/shop/a.png")
				if got.StatusCode != tc.status || method == "GET" && tc.code != "" && !strings.Contains(got.text, "/problems/"+tc.code+`"`) {
					t.Errorf("%s: %d %s, want %d %s", method, got.StatusCode, got.text, tc.status, tc.code)
				}
				if tc.canary != nil && tc.canary.questions()-before != tc.asked {
					t.Errorf("%s: the canary was asked %d times, want %d", method, tc.canary.questions()-before, tc.asked)
				}
			}
			if tc.canary != nil && tc.asked > 0 && tc.canary.bound == 0 {
				t.Error("a fetch asked under a context that never ends")
			}
		})
	}
}

func failing(code string) func(*s3.Server) {
	return func(fakeS3 *s3.Server) { fakeS3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail(code) }) }
}

// A client sees no difference between a refusal with a green canary and any
// other thing that is not there.
func TestCanaryKeepsNotFoundUniform(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("acme-media", "")
	fakeS3.Allow(shopKeys, "acme-media", "public/")
	with, without := newProxyBefore(t, fakeS3.URL, &watched{}), newProxyBefore(t, fakeS3.URL, nil)
	for _, method := range []string{"GET", "HEAD"} {
		want := send(t, without, method, "/nobody/a.png").uniform()
		if !strings.HasPrefix(want, "HTTP/1.1 404 ") || strings.Count(want, "ID") == 0 {
			t.Fatalf("%s: no alias is answered\n%s", method, want)
		}
		for name, got := range map[string]answered{
			"canary green": send(t, with, method, "/shop/a.png"), "no canary": send(t, without, method, "/shop/a.png"),
			"no object": send(t, with, method, "/shop/public/a.png"), "no alias": send(t, with, method, "/nobody/a.png"),
		} {
			if got := got.uniform(); got != want {
				t.Errorf("%s, %s: answered\n%s\nwant\n%s", method, name, got, want)
			}
		}
	}
}

// Neither the refusal nor what the canary said is kept for the next request.
func TestCanaryIsNotCached(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	fakeS3.Put("acme-media", "a.png", s3.Object{Body: []byte("\x89PNG\r\n\x1a\n"), ContentType: "image/png"})
	fakeS3.Allow(shopKeys, "acme-media", "public/")
	w := &watched{refused: true}
	p := newProxyBefore(t, fakeS3.URL, w)
	for i, step := range []struct {
		change func()
		status int
	}{
		{func() {}, 502},
		{func() {}, 502},
		{func() { w.set(false) }, 404},
		{func() { w.set(true) }, 502},
		{func() { fakeS3.Allow(shopKeys, "acme-media", "") }, 200},
	} {
		step.change()
		got := send(t, p, "GET", "/shop/a.png")
		if got.StatusCode != step.status {
			t.Errorf("step %d: %d, want %d", i, got.StatusCode, step.status)
		}
		if got.Header.Get("Cache-Control") != "no-store" && step.status != 200 {
			t.Errorf("step %d: Cache-Control is %q", i, got.Header.Get("Cache-Control"))
		}
	}
	if n := w.questions(); n != 4 {
		t.Errorf("the canary was asked %d times, want 4", n)
	}
}

// Who waits for one object shares one question.
func TestCanaryIsAskedOncePerFetch(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	fakeS3.Allow(shopKeys, "acme-media", "public/")
	w := &watched{refused: true, held: make(chan struct{})}
	p := newProxyBefore(t, fakeS3.URL, w)
	const crowd = 20
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			if got := send(t, p, "GET", "/shop/crowd.png"); got.StatusCode != 502 {
				t.Errorf("status %d, want 502", got.StatusCode)
			}
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	stacks := make([]byte, 16<<20) // of all tests
	for waitingIn("TestCanaryIsAskedOncePerFetch", stacks) < crowd {
		<-tick.C
	}
	close(w.held)
	wg.Wait()
	if w.questions() != 1 || fakeS3.Count("acme-media", "crowd.png") != 1 {
		t.Errorf("%d questions and %d requests, want one each", w.questions(), fakeS3.Count("acme-media", "crowd.png"))
	}
}

// waitingIn counts the goroutines of a test that wait for a fetch. It overwrites buf.
func waitingIn(test string, buf []byte) int {
	n := 0
	for stack := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if bytes.Contains(stack, []byte("cache.waiter.wait(")) && bytes.Contains(stack, []byte(test)) {
			n++
		}
	}
	return n
}

// answered is an answer whose body was read.
type answered struct {
	*http.Response

	raw, text string
}

// send asks the proxy by a connection that only memory is behind.
func send(t testing.TB, p *Proxy, method, path string) answered {
	t.Helper()
	conn := &once{replay: replay{request: []byte(method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"), left: 1}}
	serveConn(t, p, conn)
	raw := conn.out.String()
	resp, err := http.ReadResponse(bufio.NewReader(&conn.out), &http.Request{Method: method})
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
	return answered{resp, raw, string(body)}
}

// uniform is the answer byte for byte, without its time and request id.
func (a answered) uniform() string {
	return strings.NewReplacer(a.Header.Get("Date"), "DATE", a.Header.Get("X-Request-Id"), "ID").Replace(a.raw)
}

// once keeps what is written.
type once struct {
	replay

	out bytes.Buffer
}

func (o *once) Write(p []byte) (int, error) { return o.out.Write(p) }
