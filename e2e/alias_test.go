package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// change merges a patch into an alias or fails the test.
func (s *site) change(name, patch string) {
	s.t.Helper()
	if r := s.api(http.MethodPatch, "/api/v1/aliases/"+name, patch); r.StatusCode != http.StatusOK {
		s.t.Fatalf("patch %s: %s: %s", name, r.Status, r.body)
	}
}

// A change of an alias counts from the next request on.
func TestAliasChanges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := s3.New(t)
	one := func(text string) s3.Object {
		return s3.Object{Body: append(fakePNG(100), text...), ContentType: "image/png"}
	}
	s.s3.Put("media", "web/a.png", one("web"))
	s.s3.Put("media", "new/a.png", one("new"))
	s.s3.Put("media", "a.png", one("root"))
	s.s3.Put("media2", "a.png", one("media2"))
	other.Put("media2", "a.png", one("other"))
	for _, step := range []struct {
		patch  string
		want   string // what /shop/a.png is then; empty: not found
		status string // what Cache-Status begins with
	}{
		{`{}`, "web", "ixmage; fwd=uri-miss"},
		{`{"enabled":false}`, "", ""},
		{`{"enabled":true}`, "web", "ixmage; hit"},
		{`{"ttl":"10m"}`, "web", "ixmage; hit"},
		{`{"prefix":"new"}`, "new", "ixmage; fwd=uri-miss"},
		{`{"prefix":"web/"}`, "web", "ixmage; fwd=uri-miss"}, // the entry of before is of an older epoch
		{`{"prefix":null}`, "root", "ixmage; fwd=uri-miss"},
		{`{"bucket":"media2"}`, "media2", "ixmage; fwd=uri-miss"},
		{`{"endpoint":"` + other.URL + `"}`, "other", "ixmage; fwd=uri-miss"},
		{`{"prefix":"none/"}`, "", ""},
		{`{"prefix":null,"endpoint":"` + s.s3.URL + `"}`, "media2", "ixmage; fwd=uri-miss"},
	} {
		s.change("shop", step.patch)
		for round := range 2 {
			r := s.get("/shop/a.png")
			if step.want == "" {
				wantProblem(t, r, http.StatusNotFound, "not-found")
				continue
			}
			wantPicture(t, r, one(step.want).Body)
			if got := r.Header.Get("Cache-Status"); round == 0 && !strings.HasPrefix(got, step.status) {
				t.Errorf("after %s: Cache-Status is %q, want %s…", step.patch, got, step.status)
			}
		}
	}
	// What was fetched before the ttl was changed keeps its time, what comes later has the new one.
	s.s3.Put("media2", "b.png", one("b"))
	if got := s.get("/shop/b.png").Header.Get("Cache-Control"); got != "public, max-age=600" {
		t.Errorf("Cache-Control is %q", got)
	}
}

// A name that is made again is another alias: nothing of the old one is served.
func TestAliasMadeAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put("a.png", s3.Object{Body: fakePNG(100)})
	s.put("only.png", s3.Object{Body: fakePNG(100)})
	s.s3.Put("media2", "web/a.png", s3.Object{Body: fakePNG(300), ContentType: "image/png"})
	for _, key := range []string{"a.png", "only.png", "a.png"} {
		wantPicture(t, s.get("/shop/"+key), fakePNG(100))
	}
	for range 3 {
		if r := s.api(http.MethodDelete, "/api/v1/aliases/shop", nil); r.StatusCode != http.StatusNoContent {
			t.Fatalf("delete: %s: %s", r.Status, r.body)
		}
		wantProblem(t, s.get("/shop/a.png"), http.StatusNotFound, "not-found")
		s.open("shop", "media2", "web/", nil)
		wantPicture(t, s.get("/shop/a.png"), fakePNG(300))
		wantProblem(t, s.get("/shop/only.png"), http.StatusNotFound, "not-found")
	}
}

// A new key pair is used from the next fetch on, and what is in memory stays.
func TestKeyPairReplaced(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put("a.png", s3.Object{Body: fakePNG(100)})
	s.put("b.png", s3.Object{Body: fakePNG(100)})
	wantPicture(t, s.get("/shop/a.png"), fakePNG(100))
	pair := map[string]any{"access_key_id": "AKIAREPLACED0EXAMPLE", "secret_access_key": "another-secret-that-is-not-real"}
	if r := s.api(http.MethodPut, "/api/v1/credentials/shop", pair); r.StatusCode != http.StatusOK {
		t.Fatalf("replace: %s: %s", r.Status, r.body)
	}
	wantPicture(t, s.get("/shop/a.png"), fakePNG(100))
	wantPicture(t, s.get("/shop/b.png"), fakePNG(100))
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("what was in memory was fetched again")
	}
	requests := s.s3.Requests()
	if got := requests[len(requests)-1].AccessKeyID; got != "AKIAREPLACED0EXAMPLE" {
		t.Errorf("the last request was signed by %s", got)
	}
}

// A flight that began before a change does not answer who comes after it.
func TestAliasChangesDuringFlight(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old, young := fakePNG(200_000), fakePNG(300)
	s.put("a.png", s3.Object{Body: old})
	s.s3.Put("media", "new/a.png", s3.Object{Body: young, ContentType: "image/png"})
	release := make(chan struct{})
	s.s3.Next("media", "web/a.png", s3.StallAfter(100_000, release))
	early := s.dial().send("GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := early.in.Peek(1); err != nil {
		t.Fatal(err)
	}
	s.change("shop", `{"prefix":"new/"}`)
	wantPicture(t, s.get("/shop/a.png"), young)
	close(release)
	wantPicture(t, early.answer(http.MethodGet), old)
	wantPicture(t, s.get("/shop/a.png"), young)
}
