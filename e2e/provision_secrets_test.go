package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
)

// tap stands between ixmage and IAM and keeps which calls came when, and every
// key pair that IAM gave out.
type tap struct {
	proxy *httputil.ReverseProxy
	mu    sync.Mutex // guards the fields below
	pairs []alias.KeyPair
	calls []iamCall
}

type iamCall struct {
	action, key string // key is the id of the one that signed
	at          time.Time
}

func newTap(t *testing.T, g *gateway.Server) (*tap, string) {
	t.Helper()
	p := &tap{proxy: toIAM(t, g)}
	p.proxy.ModifyResponse = p.keep
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server.URL
}

func (p *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body)) // what it cannot read is for IAM to refuse
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(rest, "/")
	p.mu.Lock()
	p.calls = append(p.calls, iamCall{form.Get("Action"), key, time.Now()})
	p.mu.Unlock()
	p.proxy.ServeHTTP(w, r)
}

// keep reads the key pair out of an answer, if there is one in it.
func (p *tap) keep(resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var out struct {
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	if xml.Unmarshal(body, &out) == nil && out.Secret != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pairs = append(p.pairs, alias.KeyPair{AccessKeyID: out.ID, SecretAccessKey: alias.NewSecret(out.Secret)})
	}
	return nil
}

// gave are the key pairs that IAM gave out, the newest last.
func (p *tap) gave() []alias.KeyPair {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.pairs)
}

// signedBy are the times of the calls of an action that a key signed.
func (p *tap) signedBy(action, key string) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	var at []time.Time
	for _, c := range p.calls {
		if c.action == action && c.key == key {
			at = append(at, c.at)
		}
	}
	return at
}

// TestNoSecretLeavesProvisioning takes a server through the life of its users,
// good and bad, against the real IAM, and then looks for every secret that ever
// lived in all that it has said and stored.
func TestNoSecretLeavesProvisioning(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	iam, iamURL := newTap(t, g)
	l := &leaks{t: t, seen: places{}, secrets: map[string]string{}}
	l.secrets["the provisioner's key"] = g.Root.SecretAccessKey.Reveal()
	data := filepath.Join(t.TempDir(), "data")
	args := append([]string{"--provision-verify-timeout", "1s", "--reconcile-age", "1ns"}, quickWaits...)

	with := provisionArgs(g, iamURL, args...)

	l.begin(startProvisioningIn(t, program, data, with...))
	user := l.provisions(g, bucket)
	l.rotates(g, user, iam)
	l.failsToProvision(g, bucket)
	l.readsAll("shop", "blog")
	l.end()

	wrong := slices.Clone(with)
	wrong[len(wrong)-1] = l.secret("the provisioner's wrong key")
	l.begin(startProvisioningIn(t, program, data, wrong...))
	l.operates("failed", "POST", "/api/v1/provision", provisionBody(g, "late", bucket))
	l.operates("failed", "POST", "/api/v1/credentials/shop/rotate", nil)
	l.readsAll("shop")
	l.end()

	l.begin(startProvisioningIn(t, program, data, with...))
	l.removes(g, user)
	l.readsAll()
	l.end()

	gave := iam.gave()
	for i, kp := range gave {
		l.secrets[fmt.Sprintf("key %d that IAM gave out", i+1)] = kp.SecretAccessKey.Reveal()
	}
	if len(gave) != 4 {
		t.Errorf("IAM gave out %d keys, want 4: to provision, to rotate, to rotate in an emergency, to fail", len(gave))
	}
	l.hunt()
	l.wantSeen(map[string][]string{
		gave[0].AccessKeyID:   {"log", "file registry.db ", "answer to GET", "answer to POST"},
		gave[3].AccessKeyID:   {"log", "file registry.db ", "answer to GET", "answer to POST"},
		user:                  {"log", "file registry.db ", "file registry.db-wal ", "answer to GET", "answer to POST"},
		`credential="shop"`:   {"answer to GET"}, // metrics
		"iam:CreateAccessKey": {"log", "file registry.db ", "answer to GET"},
		`"kind":"key"`:        {"answer to GET"},  // an orphan
		"with_key()":          {"answer to POST"}, // a plan
		"unknown-keys":        {"log", "file registry.db ", "answer to GET", "answer to POST", "answer to DELETE"},
		"scope-violated":      {"log", "answer to GET", "answer to POST"},
		"does not accept the credentials of this server": {"log", "answer to GET", "answer to POST"},
		"problems/not-allowed":                           {"answer to POST"},
		"problems/invalid":                               {"answer to POST"},
		l.secrets["the master key"]:                      {"file master.keyset "},
		l.secrets["the admin token"]:                     {"file admin-token "},
		l.secrets["the provisioner's key"]:               {"process environ "},
	})
}

// operates makes a call that begins an operation, which must end like this.
func (l *leaks) operates(state, method, path string, body any) operation {
	l.t.Helper()
	op := parseOperation(l.t, l.sees(l.api(method, path, body, "Prefer", "wait=300")).body)
	if op.State != state {
		l.t.Fatalf("%s %s: %+v, want %s", method, path, op, state)
	}
	return op
}

// provisions makes an alias, and another with the same key, has both verified
// and is refused what is wrong. It returns the IAM user.
func (l *leaks) provisions(g *gateway.Server, bucket string) (user string) {
	const provision = "/api/v1/provision"
	body := provisionBody(g, "shop", bucket)
	l.call(200, "POST", provision+"/plan", body)
	l.operates("done", "POST", provision, body)
	l.call(200, "POST", "/api/v1/aliases/shop/verify", nil)
	again := provisionBody(g, "shop", bucket)
	again["prefix"], again["probe"] = "blog/", map[string]any{"inside": "blog/a.png"}
	l.call(409, "POST", provision, again)
	again["alias"], again["credential"] = "blog", "shop"
	l.operates("done", "POST", provision, again)
	l.call(200, "POST", "/api/v1/aliases/blog/verify", nil)
	l.call(403, "POST", provision, provisionBody(g, "other", "other-bucket"))
	again["probe"] = map[string]any{"inside": l.secret("a key as a probe")}
	l.call(400, "POST", provision, again)
	l.call(409, "DELETE", "/api/v1/credentials/shop", nil)
	for _, path := range []string{"/shop/a.png", "/blog/a.png", "/shop/nothing.png"} {
		l.sees(l.get(path))
	}
	return l.iamUsers(g)[0]
}

// rotates makes a new key three times: well, in an emergency, and in vain,
// because somebody else made one.
func (l *leaks) rotates(g *gateway.Server, user string, iam *tap) {
	const rotate = "/api/v1/credentials/shop/rotate"
	for i, body := range []any{nil, map[string]any{"emergency": true}} {
		l.operates("done", "POST", rotate, body)
		l.call(200, "POST", "/api/v1/aliases/shop/verify", nil)
		gave := iam.gave()
		if got := l.keyPair("shop"); len(gave) != i+2 || got.AccessKeyID != gave[i+1].AccessKeyID ||
			got.SecretAccessKey.Reveal() != gave[i+1].SecretAccessKey.Reveal() {
			l.t.Errorf("the key that signs is not the last of the %d that IAM gave out", len(gave))
		}
	}
	foreign, err := g.AddKey(l.t.Context(), user)
	if err != nil {
		l.t.Fatal(err)
	}
	l.foreign, l.secrets["somebody else's key"] = foreign.AccessKeyID, foreign.SecretAccessKey.Reveal()
	l.operates("failed", "POST", rotate, nil)
}

// failsToProvision makes a key that must be deleted again: the picture to prove
// it with is not there.
func (l *leaks) failsToProvision(g *gateway.Server, bucket string) {
	body := provisionBody(g, "void", bucket)
	body["probe"] = map[string]any{"inside": "web/void.png"}
	op := l.operates("failed", "POST", "/api/v1/provision", body)
	if got := l.iamUsers(g); len(got) != 1 || op.Error == nil || op.Error.Step != "verify" {
		l.t.Errorf("users after a failure: %v: %+v", got, op)
	}
}

// readsAll reads everything that the API has to tell.
func (l *leaks) readsAll(aliases ...string) {
	for _, path := range []string{"aliases", "credentials", "operations", "audit?limit=1000", "orphans"} {
		l.call(200, "GET", "/api/v1/"+path, nil)
	}
	for _, name := range aliases {
		l.call(200, "GET", "/api/v1/aliases/"+name, nil)
	}
	var list struct{ Operations []operation }
	if err := json.Unmarshal(l.api("GET", "/api/v1/operations", nil).body, &list); err != nil {
		l.t.Fatal(err)
	}
	for _, op := range list.Operations {
		l.call(200, "GET", "/api/v1/operations/"+op.ID, nil)
	}
	l.sees(l.api("GET", "/api/v1/credentials/shop", nil))
}

// removes takes the credential away: in vain at first, because of somebody
// else's key.
func (l *leaks) removes(g *gateway.Server, user string) {
	eventually(l.t, "the key that nobody knows is reported", func() bool {
		return bytes.Contains(l.sees(l.api("GET", "/api/v1/orphans", nil)).body, []byte(user))
	})
	for _, name := range []string{"shop", "blog", "void", "late"} {
		l.call(204, "DELETE", "/api/v1/aliases/"+name, nil)
	}
	l.operates("failed", "DELETE", "/api/v1/credentials/shop", nil)
	if err := g.DeleteKey(l.t.Context(), user, l.foreign); err != nil {
		l.t.Fatal(err)
	}
	l.operates("done", "DELETE", "/api/v1/credentials/shop", nil)
}
