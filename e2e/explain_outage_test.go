package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestExplainTimeout: S3 that says nothing is told from one that says no. Nothing here
// has to be in time, so the deadlines are as short as they like.
func TestExplainTimeout(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--origin-first-byte-timeout", "100ms", "--origin-call-timeout", "300ms")
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(s3.BeforeHeaders, nil) })
	s.wantExplained(t, "shop", blunder{status: 504, code: "origin-timeout", outcome: "timeout", remedy: "in time"})
}

// TestExplainOverload: with every place before S3 taken nobody is let in, the probe no
// more than a client, and what is stale is served on.
func TestExplainOverload(t *testing.T) {
	t.Parallel()
	s := newSite(
		t, "--origin-concurrency", "1", "--origin-alias-concurrency", "1", "--origin-queue", "1",
		"--origin-first-byte-timeout", "5m", "--origin-call-timeout", "5m", "--origin-queue-timeout", "5m",
	)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"1h"}`)
	s.put("old.png", s3.Object{Body: fakePNG(100)})
	wantPicture(t, s.get("/shop/old.png"), fakePNG(100))
	gate := make(chan struct{})
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(s3.BeforeHeaders, gate) })
	var stuck sync.WaitGroup
	for _, path := range []string{"/shop/stuck-1.png", "/shop/stuck-2.png"} {
		stuck.Go(func() { single(s.public, http.MethodGet, path) })
	}
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(func() { open(); stuck.Wait() })
	s.rest(2)
	wantProblem(t, s.get("/shop/a.png"), http.StatusServiceUnavailable, "overloaded")
	e := s.explain("/shop/a.png", "&probe=true")
	if e.Status != 503 || e.Code != "overloaded" || !strings.Contains(e.Remedy, "Too many requests wait") {
		t.Errorf("explained: %d %s, %q", e.Status, e.Code, e.Remedy)
	}
	if e.Probe == nil || e.Probe.Outcome != "overloaded" || e.Probe.Status != 0 || e.LastFailure != nil {
		t.Errorf("the probe says %+v, the last failure %+v: S3 was not asked", e.Probe, e.LastFailure)
	}
	eventually(t, "it is stale", func() bool {
		return strings.HasPrefix(s.get("/shop/old.png").Header.Get("Cache-Status"), "ixmage; hit; ttl=-")
	})
	wantPicture(t, s.get("/shop/old.png"), fakePNG(100))
	open()
	stuck.Wait()
	s.put("a.png", s3.Object{Body: fakePNG(200)})
	eventually(t, "there is a place again", func() bool { return s.get("/shop/a.png").StatusCode == http.StatusOK })
}

// TestExplainConditions: what a client's own headers bring about is no trouble of the
// picture, and none is explained.
func TestExplainConditions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for key, tc := range map[string]struct {
		line, code string
		status     int
	}{
		"range.png": {"Range: bytes=100-", "range", http.StatusRequestedRangeNotSatisfiable},
		"match.png": {`If-Match: "another"`, "precondition-failed", http.StatusPreconditionFailed},
	} {
		s.put(key, s3.Object{Body: fakePNG(100)})
		wantProblem(t, s.ask("/shop/"+key, tc.line), tc.status, tc.code)
		for _, more := range []string{"&probe=true", ""} {
			if more == "" {
				wantPicture(t, s.get("/shop/"+key), fakePNG(100))
			}
			e := s.explain("/shop/"+key, more)
			if e.Status != http.StatusOK || e.Code != "" || !strings.Contains(e.Remedy, "Nothing is wrong") || e.LastFailure != nil {
				t.Errorf("%s%s: %d %s, %q, last failure %+v", key, more, e.Status, e.Code, e.Remedy, e.LastFailure)
			}
		}
	}
}
