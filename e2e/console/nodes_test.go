package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// fleetProxy stands in front of a server, and answers for a fleet: a node that is live and one
// that is silent, with a stale registry from the moment that stale is set.
type fleetProxy struct {
	mu      sync.Mutex // guards the fields below
	stale   bool
	removed []string
}

func (f *fleetProxy) answer(w http.ResponseWriter, r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now().UTC().Format(time.RFC3339)
	var body string
	switch r.Method + " " + r.URL.Path {
	case "GET /api/v1/server":
		detail := ""
		if f.stale {
			detail = "the registry is stale since then. Pictures are served"
		}
		body = fmt.Sprintf(`{"version":"v2","public_url":"http://127.0.0.1:1","admin_tls":false,"provisioning":true,"started_at":%q,"warnings":[],`+
			`"node":"web-1","registry":{"revision":214,"lag":0,"stale":%t,"since":null,"detail":%q}}`, now, f.stale, detail)
	case "GET /api/v1/nodes":
		silent := fmt.Sprintf(`,{"name":"web-2.example.com","self":false,"state":"silent","version":"v1","started_at":%q,"seen_at":%q,"revision":211,"lag":3,"leases":[],"clock_offset":"1.204s"}`, now, now)
		if len(f.removed) > 0 {
			silent = ""
		}
		body = fmt.Sprintf(`{"revision":214,"stale":%t,"since":null,"nodes":[{"name":"web-1","self":true,"state":"live","version":"v2","started_at":%q,"seen_at":%q,`+
			`"revision":214,"lag":0,"leases":["reconcile","schedule"],"clock_offset":"-2ms"}%s]}`, f.stale, now, now, silent)
	case "DELETE /api/v1/nodes/web-2.example.com":
		f.removed = append(f.removed, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
		return true
	default:
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(body))
	return true
}

func (f *fleetProxy) set(stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = stale
}

// before puts the proxy in front of the admin listener of s.
func (f *fleetProxy) before(t *testing.T, s *server) {
	t.Helper()
	target, err := url.Parse(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // calls by cookie must come from it
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.answer(w, r) {
			through.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	s.admin = front.URL
}

// TestNodes: a server that is alone has no entry for nodes in its menu; one of a fleet shows the
// nodes, removes a silent one after the question, and says on every screen that its registry is
// stale.
func TestNodes(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	s := start(t)
	p := open(t, s)
	p.signIn(s.token)
	p.sees("Register an alias")
	p.wait("the menu is complete", `document.querySelector('nav a')`)
	if eval[bool](p, `[...document.querySelectorAll('nav a')].some((a) => a.textContent === 'Nodes')`) {
		t.Error("a server that is alone has nodes in its menu")
	}
	f := &fleetProxy{}
	f.before(t, s)
	p = open(t, s)
	p.signIn(s.token)
	p.click("link", "Nodes")
	p.sees("web-2.example.com")
	for _, text := range []string{"(this one)", "live", "silent", "reconcile, schedule", "1.204s fast", "in time"} {
		p.sees(text)
	}
	p.settled()
	p.axe(source, "nodes")
	p.shot("nodes", false, false)
	p.resize(390, 844)
	p.axe(source, "nodes on a phone")
	if got := eval[int](p, "document.documentElement.scrollWidth"); got > 390 {
		t.Errorf("%d pixels wide on a phone of 390: %s", got, p.widest())
	}
	p.resize(1280, 800)
	p.click("button", "Remove web-2.example.com")
	p.sees("Rotations no longer wait")
	p.axe(source, "the question")
	p.fill("Type web-2.example.com to confirm", "web-2.example.com")
	p.click("button", "Remove")
	p.sees("The node web-2.example.com is removed")
	p.wait("the node has left the list", `![...document.querySelectorAll('td')].some((e) => e.textContent.includes('web-2'))`)
	if len(f.removed) != 1 {
		t.Errorf("removed %q", f.removed)
	}
	f.set(true)
	p = open(t, s)
	p.signIn(s.token)
	p.sees("The registry is stale")
	p.settled()
	p.axe(source, "a stale registry")
	p.shot("stale", false, false)
	p.visit("#/about", "shared with other nodes")
	p.sees("The registry is stale")
	p.visit("#/nodes", "this is the list of its last answer")
}
