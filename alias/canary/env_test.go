package canary

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/alias/scope"
)

// env is a Canary with aliases and an S3 without a network. Its tests run
// in a bubble of synctest.
type env struct {
	*Canary
	t *testing.T

	mu       sync.Mutex // guards what follows
	routes   map[int64]alias.Route
	answer   string        // "403 AccessDenied …" or "200"; empty: no answer until the request is canceled
	takes    time.Duration // before the answer
	broken   error         // of Client
	reads    map[string]int
	asked    []*http.Request
	running  int
	most     int // at the same time
	recorded map[string][]bool
	log      bytes.Buffer
}

func newEnv(t *testing.T, cfg Config) *env {
	a := &env{t: t, routes: map[int64]alias.Route{}, answer: "200", reads: map[string]int{}, recorded: map[string][]bool{}}
	cfg.Routes, cfg.Read, cfg.Recorder = a.each, a.read, a
	cfg.Log = slog.New(slog.NewTextHandler(lockedWriter{&a.mu, &a.log}, nil))
	a.Canary = New(cfg)
	return a
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (a *env) each(fn func(alias.Route) bool) {
	a.mu.Lock()
	routes := slices.Collect(maps.Values(a.routes))
	a.mu.Unlock()
	for _, r := range routes {
		if !fn(r) {
			return
		}
	}
}

// add makes an alias that is served, changed as the test has it.
func (a *env) add(id int64, change func(*alias.Alias, *alias.Credential)) alias.Route {
	r := alias.Route{
		Alias: &alias.Alias{
			ID: id, Name: alias.Name("a" + string(rune('0'+id%10))), Enabled: true, State: alias.StateActive, Revision: 1,
			Location: alias.Location{Bucket: "media", Prefix: "shop/", Region: "us-east-1"}, Canary: "canary.png",
		},
		Credential: &alias.Credential{ID: 100 + id, Version: 1},
	}
	if change != nil {
		change(r.Alias, r.Credential)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.routes[id] = r
	return r
}

func (a *env) drop(id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.routes, id)
}

func (a *env) says(answer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

func (a *env) read(ctx context.Context, r alias.Route) error {
	a.mu.Lock()
	broken := a.broken
	a.mu.Unlock()
	if broken != nil {
		return broken
	}
	client := s3.New(s3.Options{
		Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1, HTTPClient: a,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATESTTESTTESTTEST", "s3cr3t", ""),
	})
	return scope.ReadByte(ctx, client, r.Alias.Location, r.Alias.Prefix+r.Alias.Canary)
}

// Do is S3.
func (a *env) Do(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.reads[req.URL.Path]++
	a.asked = append(a.asked, req)
	a.running++
	a.most = max(a.most, a.running)
	answer, takes := a.answer, a.takes
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running--
	}()
	if takes > 0 {
		timer := time.NewTimer(takes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	if answer == "" {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	status, code, message := split(answer)
	body := "x"
	if status != 200 {
		body = "<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Request: req, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

// CanaryResult is the Recorder.
func (a *env) CanaryResult(name string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recorded[name] = append(a.recorded[name], ok)
}

func (a *env) total() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

// run has the Canary run; what is returned ends it and waits.
func (a *env) run() (stop func()) {
	ctx, cancel := context.WithCancel(a.t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Error(err)
		}
	}
}

// pass lets time pass in a bubble.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	if !sleep(t.Context(), d) {
		t.Fatal(t.Context().Err())
	}
}

// split reads an answer of a row: "403 AccessDenied some message".
func split(answer string) (status int, code, message string) {
	parts := strings.SplitN(answer+"  ", " ", 3)
	fmt.Sscan(parts[0], &status)
	return status, parts[1], strings.TrimSpace(parts[2])
}

// ForgetCanary is the Recorder.
func (a *env) ForgetCanary(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.recorded, name)
}
