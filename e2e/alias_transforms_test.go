package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// answer decodes an answer, which must have a status.
func (s *server) answer(status int, r *response, v any) {
	s.t.Helper()
	if r.StatusCode != status {
		s.t.Fatalf("%s %s: %s: %s", r.Request.Method, r.Request.URL, r.Status, r.body)
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		s.t.Fatal(err)
	}
}

// signedBy has the server sign a path of an alias, and wants it to use a key.
func (s *server) signedBy(name, path, kid string) string {
	s.t.Helper()
	var signed struct{ URL string }
	body, err := json.Marshal(map[string]string{"path": path, "expires_in": "24h"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.answer(http.StatusOK, s.api(http.MethodPost, "/api/v1/aliases/"+name+"/sign", string(body)), &signed)
	if !strings.HasPrefix(signed.URL, path) || !strings.Contains(signed.URL, "&kid="+kid+"&sig=") || !strings.Contains(signed.URL, "exp=") {
		s.t.Errorf("signed with %s: %s", kid, signed.URL)
	}
	return signed.URL
}

// TestAliasTransforms: templates have one spelling, mistakes are named, and all of it is there after
// a restart.
func TestAliasTransforms(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	read := func() string { return string(s.api(http.MethodGet, "/api/v1/aliases/shop", nil).body) }
	const ladder = `"widths":[20,40,60,120,250,330,500,960,1280,1920,3840]`
	if got := read(); !strings.Contains(got, `"transforms":"templates","access":"open",`+ladder+`,"templates":{}`) {
		t.Errorf("a new alias: %s", got)
	}
	s.change("shop", `{"transforms":"signed","widths":[100,200],"templates":{"thumb":"width=240&height=240&fit=cover","card":{"w":400,"q":75}}}`)
	s.change("shop", `{"templates":{"card":null,"big":{"w":2000}}}`)
	const want = `"transforms":"signed","access":"open","widths":[100,200],"templates":{"big":"w=2000","thumb":"fit=cover&h=240&w=240"}`
	if got := read(); !strings.Contains(got, want) {
		t.Errorf("got %s, want %s in it", got, want)
	}
	for patch, detail := range map[string]string{
		`{"templates":{"t":"w=wide"}}`:         "templates.t: must be options as in the query of a URL",
		`{"templates":{"t":{"colour":"red"}}}`: "is no option; the options are",
		`{"templates":{"T":"w=1"}}`:            "templates: the name of a template must be 1 to 63",
		`{"transforms":"on"}`:                  "transforms: must be off, templates, signed or open",
		`{"access":"none"}`:                    "access: must be open or signed",
		`{"widths":[200,100]}`:                 "widths: entry 2 must be above the one before it",
	} {
		r := s.api(http.MethodPatch, "/api/v1/aliases/shop", patch)
		if r.StatusCode != http.StatusBadRequest || !strings.Contains(string(r.body), detail) {
			t.Errorf("%s: %s: %s", patch, r.Status, r.body)
		}
	}
	before := read()
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status is %d", code)
	}
	s.server = startIn(t, s.data)
	if got := read(); got != before {
		t.Errorf("after a restart: %s, before: %s", got, before)
	}
}

// TestSigningKeysStay: keys open a locked alias after a restart and after a new master key, until
// they are deleted.
func TestSigningKeysStay(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(4096, "locked")
	s.put("a.png", s3.Object{Body: body})
	s.change("shop", `{"access":"signed"}`)
	wantProblem(t, s.get("/shop/a.png"), http.StatusForbidden, "signature")
	r := s.api(http.MethodPost, "/api/v1/aliases/shop/sign", `{"path":"/shop/a.png"}`)
	wantProblem(t, r, http.StatusConflict, "no-signing-key")

	first, second := s.newSigningKey("shop"), s.newSigningKey("shop")
	url := s.signedBy("shop", "/shop/a.png?v=2", second.KID)
	wantPicture(t, s.get(url), body)
	restart := func(args ...string) {
		t.Helper()
		if code := s.stop(); code != 0 {
			t.Fatalf("exit status is %d", code)
		}
		s.server = startIn(t, s.data, args...)
		wantPicture(t, s.get(url), body)
		wantProblem(t, s.get("/shop/a.png"), http.StatusForbidden, "signature")
	}
	restart()
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status is %d", code)
	}
	next := "file:" + filepath.Join(t.TempDir(), "next.keyset")
	wantRun(t, nil, 0, "Start the server with --master-key "+next, "rekey", "--data", s.data, "--new-master-key", next)
	s.server = startIn(t, s.data, "--master-key", next)
	wantPicture(t, s.get(url), body)
	s.signedBy("shop", "/shop/a.png", second.KID)

	s.deleteSigningKey("shop", second.KID)
	wantProblem(t, s.get(url), http.StatusForbidden, "signature")
	wantPicture(t, s.get(s.signedBy("shop", "/shop/a.png", first.KID)), body)
}

// TestSigningKeysOfFleet: a node serves what another node has made a key for, and refuses what it
// has deleted one of.
func TestSigningKeysOfFleet(t *testing.T) {
	t.Parallel()
	bucket := s3.New(t)
	body := png(4096, "fleet")
	bucket.Put("media", "a.png", s3.Object{Body: body, ContentType: "image/png"})
	f := newFleet(t, sharedDatabase(t), []string{"a", "b"}, "--allow-private-endpoints")
	one, other := f.nodes[0], f.nodes[1]
	one.createOn("shop", bucket.URL, "media")
	patch := `{"access":"signed","transforms":"off","templates":{"thumb":"w=240"}}`
	if r := one.api(http.MethodPatch, "/api/v1/aliases/shop", patch); r.StatusCode != http.StatusOK {
		t.Fatalf("patch: %s: %s", r.Status, r.body)
	}
	key := one.newSigningKey("shop")
	f.caughtUp(other)
	url := other.signedBy("shop", "/shop/a.png", key.KID)
	wantPicture(t, other.get(url), body)
	wantProblem(t, other.get("/shop/a.png"), http.StatusForbidden, "signature")
	if got := string(other.api(http.MethodGet, "/api/v1/aliases/shop", nil).body); !strings.Contains(got, `"templates":{"thumb":"w=240"}`) {
		t.Errorf("the other node: %s", got)
	}
	// A node that cannot reach the database has them in its replica.
	f.reported()
	other.partition()
	other.restart()
	wantPicture(t, other.get(url), body)
	other.heal()
	f.caughtUp(other)
	other.deleteSigningKey("shop", key.KID)
	f.caughtUp(one)
	wantProblem(t, one.get(url), http.StatusForbidden, "signature")
}
