package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
)

// consolePerson is a browser with the console behind a balancer.
type consolePerson struct {
	t   *testing.T
	web *http.Client
	b   *balancer
}

func newConsolePerson(t *testing.T, b *balancer) *consolePerson {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	web := webClient(t, false)
	web.Jar = jar
	return &consolePerson{t, web, b}
}

// call makes a call as the console does, and returns the status and the node that has answered.
func (p *consolePerson) call(method, path, body string) (status int, node string) {
	p.t.Helper()
	req, err := http.NewRequest(method, "https://"+p.b.addr+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("X-Ixmage-Console", "1")
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.web.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct{ Nodes []struct{ Name string } }
	if path == "/api/v1/nodes" && resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || len(out.Nodes) != 1 {
			p.t.Fatal(out, err)
		}
		node = out.Nodes[0].Name
	}
	return resp.StatusCode, node
}

func (p *consolePerson) signIn() {
	p.t.Helper()
	if status, _ := p.call(http.MethodPost, "/api/v1/session", `{"token":"`+consoleToken+`"}`); status != http.StatusCreated {
		p.t.Fatalf("sign in: %d", status)
	}
}

// stays calls some times and returns the node, or "" if a call found the person not signed in.
func (p *consolePerson) stays() (node string) {
	p.t.Helper()
	for i := range 8 {
		status, at := p.call(http.MethodGet, "/api/v1/nodes", "")
		switch {
		case status == http.StatusUnauthorized:
			return ""
		case status != http.StatusOK || i > 0 && at != node:
			p.t.Fatalf("call %d: %d by %s after %s", i, status, at, node)
		}
		node = at
	}
	return node
}

const consoleToken = "the-admin-token-of-all-nodes"

// TestFleetConsole: behind the sample for the admin listeners a person who has signed in stays on a node, the nodes
// share the persons, and one whose node is gone signs in again. Without its cookie calls go to nodes that do not
// know the person.
func TestFleetConsole(t *testing.T) {
	t.Parallel()
	const sticky = "    cookie ixmage-node insert"
	sample := string(readFile(t, "../deploy/fleet/haproxy-admin.cfg"))
	cert, key := certificate(t, "127.0.0.1")
	nodes := map[string]*server{}
	change := []string{"/etc/ssl/ixmage-admin-ca.pem", cert}
	for i, name := range abc {
		nodes[name] = startWith(t, []string{"IXMAGE_ADMIN_TOKEN=" + consoleToken}, "--node", name, "--admin-tls-cert", cert, "--admin-tls-key", key)
		change = append(change, fmt.Sprintf("192.0.2.1%d:8081", i+1), nodes[name].admin)
	}
	run := func(sample string) *balancer {
		return runHAProxy(t, replaceOnce(t, sample, "bind :8443 ", "bind :443 ", "/etc/ssl/private/admin.pem", "/etc/ssl/private/pictures.pem"), change...)
	}
	b := run(sample)
	persons := map[string]*consolePerson{}
	for range 12 {
		p := newConsolePerson(t, b)
		p.signIn()
		node := p.stays()
		if node == "" {
			t.Fatal("the person is not known any more")
		}
		persons[node] = p
	}
	if len(persons) != len(abc) {
		t.Errorf("only the nodes %v have persons", persons)
	}
	if status, _ := persons["a"].call(http.MethodGet, "/metrics", ""); status != http.StatusForbidden {
		t.Errorf("metrics: %d", status)
	}
	nodes["a"].process.Kill()
	left := persons["a"]
	eventually(t, "another node asks for a token", func() bool {
		status, _ := left.call(http.MethodGet, "/api/v1/nodes", "")
		return status == http.StatusUnauthorized
	})
	left.signIn()
	if node := left.stays(); node == "" || node == "a" {
		t.Errorf("after the end of a node: at %q", node)
	}
	for _, name := range abc[1:] {
		if got := persons[name].stays(); got != name {
			t.Errorf("the person of %s is at %q", name, got)
		}
	}

	p := newConsolePerson(t, run(strings.Replace(sample, sticky, "    #"+sticky, 1)))
	p.signIn()
	if node := p.stays(); node != "" {
		t.Errorf("without the cookie of the balancer all calls went to %s", node)
	}
}
