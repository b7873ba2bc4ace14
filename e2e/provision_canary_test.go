package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ixmage/alias"
)

// TestCanary takes the right to read away from a user and gives it back, at the
// real server. In between an answer of AccessDenied means that the grant is
// broken, and not that the object is missing.
func TestCanary(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, append([]string{"--canary-interval", "100ms", "--canary-fresh", "50ms"}, quickWaits...)...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	user, kp := s.iamUsers(g)[0], s.keyPair("shop")
	document, err := g.UserPolicy(t.Context(), user, "ixmage-read")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	missing := func() *response { // one that is not known yet to be missing
		asked++
		return s.get(fmt.Sprintf("/shop/nothing-%d.png", asked))
	}
	green := func() bool { return s.metric(`ixmage_canary_success{alias="shop"}`) == 1 }
	eventually(t, "the canary is green", green)
	if r := missing(); r.StatusCode != http.StatusNotFound {
		t.Errorf("a missing object while the canary is green: %s", r.Status)
	}
	if r := s.get("/shop/b.png"); r.StatusCode != http.StatusOK {
		t.Fatalf("b.png: %s", r.Status)
	}

	if err := g.DeleteUserPolicy(t.Context(), user, "ixmage-read"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the canary is red", func() bool { return !green() })
	s.wantDenied(t, missing(), bucket, user, kp)
	s.wantDenied(t, s.get("/shop/a.png"), bucket, user, kp) // there, and not in the cache
	if r := s.get("/shop/b.png"); r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit") {
		t.Errorf("what is fresh in the cache: %s, %s", r.Status, r.Header.Get("Cache-Status"))
	}

	if err := g.PutUserPolicy(t.Context(), user, "ixmage-read", document); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the canary is green again", green)
	if r := missing(); r.StatusCode != http.StatusNotFound {
		t.Errorf("a missing object after the repair: %s: %s", r.Status, r.body)
	}
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("what was refused, after the repair: %s: %s", r.Status, r.body)
	}
}

// wantDenied wants an answer to say that the alias is broken, and nothing of
// what is behind it.
func (s *server) wantDenied(t *testing.T, r *response, bucket, user string, kp alias.KeyPair) {
	t.Helper()
	if r.StatusCode != http.StatusBadGateway || !bytes.Contains(r.body, []byte("problems/origin-denied")) ||
		r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s, Cache-Control %q: %s; want 502, no-store, origin-denied", r.Status, r.Header.Get("Cache-Control"), r.body)
	}
	for _, hidden := range []string{bucket, user, kp.AccessKeyID, "AccessDenied"} {
		if bytes.Contains(r.body, []byte(hidden)) {
			t.Errorf("the answer names %s: %s", hidden, r.body)
		}
	}
}
