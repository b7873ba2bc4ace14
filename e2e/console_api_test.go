package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// follow reads the events of an operation until its stream ends, and calls seen after each event.
func (s *server) follow(id string, seen func()) []operation {
	s.t.Helper()
	resp, err := client(s.t).Do(s.request("GET", "/api/v1/operations/"+id+"/events", nil))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("events: %s %v", resp.Status, resp.Header)
	}
	var events []operation
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			events = append(events, parseOperation(s.t, []byte(data)))
			seen()
		}
	}
	return events
}

// TestConsoleAPI provisions at the real server as the console does: it follows the steps, and
// looks at the checks, the picture, the cache and the server.
func TestConsoleAPI(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	iamURL, open := heldIAM(t, g, "") // so that the operation does not end before it is followed
	s := startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), provisionArgs(g, iamURL, quickWaits...)...)
	op := s.begun(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	s.wantFollowed(op, open)
	var v struct {
		Scope  string            `json:"scope"`
		Checks []json.RawMessage `json:"checks"`
	}
	s.read("/api/v1/aliases/shop/verification", &v)
	if len(v.Checks) == 0 || v.Scope == "" || v.Scope == "violated" {
		t.Errorf("verification: %+v", v)
	}
	r := s.api("GET", "/api/v1/aliases/shop/picture", nil)
	if r.StatusCode != 200 || string(r.body) != string(bytesOf(20_000, "web/a.png")) || r.Header.Get("Content-Type") != "image/png" ||
		r.Header.Get("Content-Security-Policy") != "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox" {
		t.Errorf("canary: %s, %d bytes, %v", r.Status, len(r.body), r.Header)
	}
	if r := s.api("GET", "/api/v1/aliases/shop/picture?key=none.png", nil); r.StatusCode != 404 ||
		!strings.Contains(string(r.body), "clients get 404 not-found for /shop/none.png") {
		t.Errorf("missing: %s %s", r.Status, r.body)
	}
	s.wantCached(t)
	var about struct {
		PublicURL    string   `json:"public_url"`
		Provisioning bool     `json:"provisioning"`
		Warnings     []string `json:"warnings"`
	}
	s.read("/api/v1/server", &about)
	if about.PublicURL != "http://"+s.public || !about.Provisioning ||
		!slices.ContainsFunc(about.Warnings, func(w string) bool { return strings.Contains(w, "without a permissions boundary") }) {
		t.Errorf("server: %+v, public listener %s", about, s.public)
	}
}

// wantFollowed follows an operation to its end, and calls seen after each event.
func (s *server) wantFollowed(op operation, seen func()) {
	s.t.Helper()
	events := s.follow(op.ID, seen)
	last := events[len(events)-1]
	if last.State != "done" || len(events) < 3 {
		s.t.Errorf("%d events, the last one %+v", len(events), last)
	}
	done := 0
	for i, o := range events {
		n := 0
		for _, step := range o.Steps {
			if step.State == "done" {
				n++
			}
		}
		if n < done || i < len(events)-1 && o.State != "running" {
			s.t.Errorf("event %d: %d steps are done after %d, %s", i, n, done, o.State)
		}
		done = n
	}
}

// read decodes an answer of the API.
func (s *server) read(path string, into any) {
	s.t.Helper()
	r := s.api("GET", path, nil)
	if err := json.Unmarshal(r.body, into); err != nil || r.StatusCode != 200 {
		s.t.Fatalf("%s: %s %s, %v", path, r.Status, r.body, err)
	}
}

func (s *server) wantCached(t *testing.T) {
	t.Helper()
	var state struct {
		Tiers []struct {
			Tier      string           `json:"tier"`
			Bytes     int64            `json:"bytes"`
			Capacity  int64            `json:"capacity"`
			Entries   int64            `json:"entries"`
			Evictions map[string]int64 `json:"evictions"`
		} `json:"tiers"`
		Aliases []struct {
			Alias string `json:"alias"`
			Bytes int64  `json:"bytes"`
		} `json:"aliases"`
	}
	s.read("/api/v1/cache", &state)
	if m := state.Tiers[0]; m.Tier != "memory" || m.Entries != 1 || m.Bytes < 20_000 || m.Capacity != 256<<20 || len(m.Evictions) < 5 {
		t.Errorf("memory: %+v", m)
	}
	if a := state.Aliases; len(a) != 1 || a[0].Alias != "shop" || a[0].Bytes < 20_000 {
		t.Errorf("aliases: %+v", a)
	}
}

// TestEventsEndWithServer: a client that follows an operation does not hold up the end of the
// server, and does not read either.
func TestEventsEndWithServer(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	// The first check of the key is followed by a long wait.
	s := startProvisioning(t, g, "--provision-verify-interval", "1h", "--provision-verify-timeout", "10h")
	op := s.begun(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	s.reach(op.ID, "verify")
	resp, err := client(t).Do(s.request("GET", "/api/v1/operations/"+op.ID+"/events", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	begin := time.Now()
	if code := s.stop(); code != 0 {
		t.Errorf("exit status %d after %s", code, time.Since(begin))
	}
	if strings.Contains(s.output(), "shutdown timed out") {
		t.Errorf("log: %s", tail(s.output(), 2000))
	}
}

// TestPictureAndServer has the parts that need no IAM: an SVG, a picture that is too large, and a
// public URL.
func TestPictureAndServer(t *testing.T) {
	t.Parallel()
	s := newEnvOn(t, start(t, "--public-url", "https://images.example.com/", "--cache-disk", "64MiB"))
	svg := `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	s.put("logo é.svg", s3.Object{Body: []byte(svg), ContentType: "image/svg+xml"})
	s.put("large.png", s3.Object{Body: png(8<<20+1, "")})
	r := s.api("GET", "/api/v1/aliases/shop/picture?key=logo%20%C3%A9.svg", nil)
	if r.StatusCode != 200 || string(r.body) != svg || !strings.Contains(r.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("svg: %s %s %v", r.Status, r.body, r.Header)
	}
	for query, want := range map[string]string{
		"?key=large.png": "413 has 8388609 bytes", "?key=../a.png": "404 clients get 400 bad-key", "": "400 the alias has no canary",
	} {
		r := s.api("GET", "/api/v1/aliases/shop/picture"+query, nil)
		status, says, _ := strings.Cut(want, " ")
		if !strings.HasPrefix(r.Status, status) || !strings.Contains(string(r.body), says) {
			t.Errorf("%q: %s %s, want %s", query, r.Status, r.body, want)
		}
	}
	var about map[string]any
	s.read("/api/v1/server", &about)
	if about["public_url"] != "https://images.example.com" || about["provisioning"] != false {
		t.Errorf("server: %v", about)
	}
	var state struct {
		Tiers []struct {
			Tier      string `json:"tier"`
			Available bool   `json:"available"`
		} `json:"tiers"`
	}
	s.read("/api/v1/cache", &state)
	if len(state.Tiers) != 3 || state.Tiers[2].Tier != "disk" || !state.Tiers[2].Available {
		t.Errorf("tiers: %+v", state.Tiers)
	}
}
