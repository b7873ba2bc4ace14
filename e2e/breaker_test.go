package e2e

import (
	"net/http"
	"strconv"
	"testing"

	"ixmage/internal/awstest/s3"
)

// An S3 that fails is left alone: what is cached is served, what is not gets 503 at
// once, and the first request that S3 answers opens the way again.
func TestBreaker(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--breaker-failures", "3", "--breaker-open", "1s")
	s.put("cached.png", s3.Object{Body: fakePNG(100)})
	s.put("cold.png", s3.Object{Body: fakePNG(200)})
	wantPicture(t, s.get("/shop/cached.png"), fakePNG(100))
	const circuit = `ixmage_origin_circuit{credential="shop"}`
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	// One object counts once, however often it fails.
	for range 10 {
		wantProblem(t, s.get("/shop/broken.png"), http.StatusBadGateway, "origin-error")
	}
	if got := s.metric(circuit); got != 0 {
		t.Errorf("the gauge shows %v when one object fails", got)
	}
	for _, path := range []string{"/shop/second.png", "/shop/third.png"} {
		wantProblem(t, s.get(path), http.StatusBadGateway, "origin-error")
	}
	// The probe fails as well, whenever it comes.
	asked := s.s3.Total()
	r := s.get("/shop/cold.png")
	for r.StatusCode == http.StatusBadGateway {
		r = s.get("/shop/cold.png")
	}
	wantProblem(t, r, http.StatusServiceUnavailable, "circuit-open")
	if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 9 {
		t.Errorf("Retry-After is %q", r.Header.Get("Retry-After"))
	}
	for range 100 {
		s.get("/shop/cold.png")
	}
	if n := s.s3.Total() - asked; n > 20 {
		t.Errorf("%d requests went to an S3 that fails", n)
	}
	wantPicture(t, s.get("/shop/cached.png"), fakePNG(100))
	if got := s.metric(circuit); got != 2 {
		t.Errorf("the gauge shows %v while it is open", got)
	}
	s.s3.Hook(nil)
	eventually(t, "a request goes out again", func() bool {
		r = s.get("/shop/cold.png")
		return r.StatusCode != http.StatusServiceUnavailable
	})
	wantPicture(t, r, fakePNG(200))
	if got := s.metric(circuit); got != 0 {
		t.Errorf("the gauge shows %v when S3 is well", got)
	}
}
