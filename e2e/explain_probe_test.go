package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestExplainCircuit: while S3 is left alone clients are told so, whatever the probe
// finds out; the remedy says what that is.
func TestExplainCircuit(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--breaker-failures", "1", "--breaker-open", "1h")
	s.put("a.png", s3.Object{Body: fakePNG(100)})
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	wantProblem(t, s.get("/shop/a.png"), http.StatusBadGateway, "origin-error")
	for _, step := range []struct{ more, remedy string }{
		{"", "left alone for a moment"}, {"&probe=true", "S3 itself fails"}, {"&probe=true", "by now"},
	} {
		if step.remedy == "by now" {
			s.s3.Hook(nil)
		}
		wantProblem(t, s.get("/shop/a.png"), http.StatusServiceUnavailable, "circuit-open")
		e := s.explain("/shop/a.png", step.more)
		if e.Status != 503 || e.Code != "circuit-open" || e.Circuit.State != "open" || !strings.Contains(e.Remedy, step.remedy) {
			t.Errorf("%q: %d %s, circuit %s, %q; want %s", step.more, e.Status, e.Code, e.Circuit.State, e.Remedy, step.remedy)
		}
		if f := e.LastFailure; f == nil || f.Outcome != "error" || f.S3Code != "InternalError" || f.S3RequestID == "" {
			t.Errorf("%q: the last failure is %+v", step.more, f)
		}
	}
}

// TestExplainRemembered: what is remembered to be missing stays so for clients though
// S3 has it by now, and explain says why.
func TestExplainRemembered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.patch("shop", `{"negative_ttl":"1h"}`)
	wantProblem(t, s.get("/shop/a.png"), http.StatusNotFound, "not-found")
	s.put("a.png", s3.Object{Body: fakePNG(100)})
	wantProblem(t, s.get("/shop/a.png"), http.StatusNotFound, "not-found")
	e := s.explain("/shop/a.png", "&probe=true")
	if e.Status != 404 || e.Code != "not-found" || e.Cache.Missing == nil || e.Probe == nil || e.Probe.Status != 200 || !strings.Contains(e.Remedy, "purge") {
		t.Errorf("explained: %d %s, %q, probe %+v", e.Status, e.Code, e.Remedy, e.Probe)
	}
	s.purge(`{"alias":"shop","key":"a.png"}`)
	wantPicture(t, s.get("/shop/a.png"), fakePNG(100))
}
