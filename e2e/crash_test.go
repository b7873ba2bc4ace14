package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/internal/awstest/gateway"
)

// registryModel is the state of an alias as its writer knows it: the last answered
// change, and the last one without an answer.
type registryModel struct {
	name    string
	present bool   // as answered
	ttl     string // as answered
	pending *registryModel
}

// TestKillDuringWrites kills the program while aliases are written, a dozen times
// with one data folder. After each restart every alias is in the state of the last
// answered write, or of the one in progress.
func TestKillDuringWrites(t *testing.T) {
	t.Parallel()
	const rounds, writers = 12, 4
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	data := filepath.Join(t.TempDir(), "data")
	models := make([]*registryModel, writers)
	for i := range models {
		models[i] = &registryModel{name: fmt.Sprintf("writer%d", i)}
	}
	for round := range rounds {
		s := startIn(t, data)
		for _, m := range models {
			m.compare(t, s, round)
		}
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for i, m := range models {
			own := rand.New(rand.NewPCG(seed, uint64(round*writers+i)))
			wg.Go(func() { m.write(s, own, stop) })
		}
		time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond) //nolint:forbidigo // the moment of the cut is the test's input
		s.kill()
		close(stop)
		wg.Wait()
	}
}

// write changes the alias until the server is gone.
func (m *registryModel) write(s *server, rng *rand.Rand, stop <-chan struct{}) {
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		next := &registryModel{name: m.name, present: true, ttl: fmt.Sprintf("%ds", 1+rng.IntN(1<<20))}
		method, path := http.MethodPatch, "/api/v1/aliases/"+m.name
		var body any = map[string]any{"ttl": next.ttl}
		switch {
		case !m.present:
			method, path = http.MethodPost, "/api/v1/aliases"
			body = map[string]any{
				"name": m.name, "bucket": "crash", "region": "eu-west-1", "ttl": next.ttl,
				"credential": map[string]string{"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "crash-secret-key"},
			}
		case rng.IntN(4) == 0:
			method, body = http.MethodDelete, nil
			next.present, next.ttl = false, ""
		}
		m.pending = next
		if !s.tryAPI(c, method, path, body) {
			return
		}
		m.present, m.ttl, m.pending = next.present, next.ttl, nil
	}
}

// tryAPI reports whether a call succeeded. A refusal fails the test, because the model
// knows the state.
func (s *server) tryAPI(c *http.Client, method, path string, body any) bool {
	req := s.request(method, path, body)
	resp, err := c.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		s.t.Errorf("%s %s: %s", method, path, resp.Status)
		return false
	}
	return true
}

// compare checks the state of a restarted server, and adopts it.
func (m *registryModel) compare(t *testing.T, s *server, round int) {
	t.Helper()
	r := s.api(http.MethodGet, "/api/v1/aliases/"+m.name, nil)
	got := &registryModel{name: m.name, present: r.StatusCode == http.StatusOK}
	if got.present {
		var a struct {
			TTL string `json:"ttl"`
		}
		if err := json.Unmarshal(r.body, &a); err != nil {
			t.Fatal(err)
		}
		got.ttl = a.TTL
	}
	if !got.same(m) && (m.pending == nil || !got.same(m.pending)) {
		t.Errorf("round %d, %s: found present=%v ttl=%s; answered present=%v ttl=%s; under way %+v",
			round, m.name, got.present, got.ttl, m.present, m.ttl, m.pending)
	}
	m.present, m.ttl, m.pending = got.present, got.ttl, nil
}

func (m *registryModel) same(o *registryModel) bool {
	if m.present != o.present {
		return false
	}
	a, _ := time.ParseDuration(m.ttl)
	b, _ := time.ParseDuration(o.ttl)
	return a == b
}

// gate is a proxy between ixmage and IAM. It kills ixmage at one of its calls:
// before the call reaches IAM, or after it and before the answer. Only calls of operations
// count. There is at least
// one durable write between two calls, so the kills cover the writes too.
type gate struct {
	http.Handler
	mu    sync.Mutex // guards the fields below
	seen  int
	at    int // number of the call; 0: none
	after bool
	kill  func()
}

func newGate(t *testing.T, g *gateway.Server) (*gate, string) {
	t.Helper()
	d := &gate{Handler: toIAM(t, g)}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	return d, server.URL
}

// heldIAM starts a proxy of the real IAM and returns its URL. Calls of operations wait until open is
// called: those with an action, or all of them.
func heldIAM(t *testing.T, g *gateway.Server, action string) (iamURL string, open func()) {
	t.Helper()
	pass, released := toIAM(t, g), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.Contains(r.UserAgent(), operationAgent) && bytes.Contains(body, []byte("Action="+action)) {
			select {
			case <-released:
			case <-r.Context().Done():
			}
		}
		pass.ServeHTTP(w, r)
	}))
	open = sync.OnceFunc(func() { close(released) })
	t.Cleanup(func() {
		open()
		server.Close()
	})
	return server.URL, open
}

// operationAgent begins the part of the User-Agent that names the operation of a call of IAM.
const operationAgent = "ixmage-operation/op-"

// toIAM passes requests on to the real IAM.
func toIAM(t *testing.T, g *gateway.Server) *httputil.ReverseProxy {
	t.Helper()
	target, err := url.Parse(g.IAMURL)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which is signed
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // it complains of what we abort
	}
}

func (d *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.UserAgent(), operationAgent) { // of reconcile
		d.Handler.ServeHTTP(w, r)
		return
	}
	d.mu.Lock()
	d.seen++
	now, after, kill := d.seen == d.at, d.after, d.kill
	d.mu.Unlock()
	if now && !after {
		kill()
		panic(http.ErrAbortHandler)
	}
	if now {
		d.Handler.ServeHTTP(discard{}, r)
		kill()
		panic(http.ErrAbortHandler)
	}
	d.Handler.ServeHTTP(w, r)
}

// arm has the nth call from now kill the server. disarm returns the number of calls.
func (d *gate) arm(n int, after bool, kill func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen, d.at, d.after, d.kill = 0, n, after, kill
}

func (d *gate) disarm() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = 0
	return d.seen
}

// discard is the response writer of a client that is gone.
type discard struct{}

func (discard) Header() http.Header { return http.Header{} }

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (discard) WriteHeader(int) {}

// TestProvisionKilled kills the program at each of its calls of IAM, during a
// provision and a rotation, and starts it again. It converges by itself to one user
// with one working key, and nothing else: a key whose secret is lost is made inactive and
// named, and deleted by a later reconcile. Each case has its own installation, because most
// of the time is spent waiting.
func TestProvisionKilled(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	for _, after := range []bool{false, true} {
		if !after && testing.Short() {
			continue // a call that was made and not answered is the harder case
		}
		when := map[bool]string{false: "before", true: "after"}[after]
		t.Run("provisioning, "+when+" the call", func(t *testing.T) {
			t.Parallel()
			v := newKillEnv(t, g, after)
			v.everywhere(func(n int) { v.begin("/api/v1/provision", provisionBody(g, fmt.Sprintf("shop-%d", n), bucket)) })
			v.wantOneKeyEach(t, g)
		})
		t.Run("rotating, "+when+" the call", func(t *testing.T) {
			t.Parallel()
			v := newKillEnv(t, g, after)
			v.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
			v.everywhere(func(int) { v.begin("/api/v1/credentials/shop/rotate", nil) })
			v.wantOneKeyEach(t, g)
		})
	}
}

// killEnv is a server that is killed, and started again in the same folder.
type killEnv struct {
	*server
	door  *gate
	after bool
	run   func() *server
}

func newKillEnv(t *testing.T, g *gateway.Server, after bool) *killEnv {
	t.Helper()
	door, iamURL := newGate(t, g)
	data := filepath.Join(t.TempDir(), "data")
	v := &killEnv{door: door, after: after, run: func() *server {
		args := append([]string{
			"--provision-visible-timeout", "5s", "--reconcile-interval", "200ms", "--reconcile-age", "50ms",
		}, quickWaits...)
		return startProvisioningIn(t, data, provisionArgs(g, iamURL, args...)...)
	}}
	v.server = v.run()
	return v
}

// everywhere begins an operation once for each of its calls, and that call kills the
// server.
func (v *killEnv) everywhere(begin func(n int)) {
	v.t.Helper()
	killed := 0
	for n := 1; ; n++ {
		v.door.arm(n, v.after, v.kill)
		begin(n)
		if v.ended() {
			killed++
			v.server = v.run()
		}
		if v.door.disarm() < n {
			break
		}
		v.settled()
		v.namesNothing()
	}
	v.namesNothing()
	if killed < 12 {
		v.t.Errorf("it was killed %d times, which are not all places", killed)
	}
}

// namesNothing waits until reconcile has nothing to report.
func (v *killEnv) namesNothing() {
	v.t.Helper()
	eventually(v.t, "reconcile reports nothing", func() bool {
		var report struct {
			ScannedAt *time.Time               `json:"scanned_at"`
			Orphans   []struct{ State string } `json:"orphans"`
		}
		body := v.api(http.MethodGet, "/api/v1/orphans", nil).body
		if err := json.Unmarshal(body, &report); err != nil {
			v.t.Fatalf("%v: %s", err, body)
		}
		for _, o := range report.Orphans {
			if o.State != "deleted" {
				return false
			}
		}
		return report.ScannedAt != nil
	})
}

// begin makes a call during which the server may be killed.
func (s *server) begin(path string, body any) {
	resp, err := client(s.t).Do(s.request(http.MethodPost, path, body))
	if err == nil {
		resp.Body.Close()
	}
}

// ended waits until the process is killed, and returns true, or until no operation
// runs.
func (s *server) ended() bool {
	s.t.Helper()
	for {
		select {
		case <-s.process.Done():
			return true
		default:
		}
		if n, err := s.running(); err == nil && n == 0 {
			return false
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // across a process border there is no event
	}
}

// running returns the number of running operations.
func (s *server) running() (int, error) {
	resp, err := client(s.t).Do(s.request(http.MethodGet, "/api/v1/operations?state=running", nil))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var list struct {
		Operations []operation `json:"operations"`
	}
	err = json.NewDecoder(resp.Body).Decode(&list)
	return len(list.Operations), err
}

// settled waits until interrupted operations have ended.
func (s *server) settled() {
	s.t.Helper()
	eventually(s.t, "every operation has ended", func() bool {
		n, err := s.running()
		return err == nil && n == 0
	})
}

// wantOneKeyEach checks that every alias is open and readable, and that there is one
// user for each credential, with the key in the registry and no other.
func (s *server) wantOneKeyEach(t *testing.T, g *gateway.Server) {
	t.Helper()
	var list struct {
		Aliases []struct {
			Name  string `json:"name"`
			State string `json:"state"`
		} `json:"aliases"`
	}
	if err := json.Unmarshal(s.api(http.MethodGet, "/api/v1/aliases", nil).body, &list); err != nil {
		t.Fatal(err)
	}
	for _, a := range list.Aliases {
		if r := s.get("/" + a.Name + "/a.png"); a.State != "active" || r.StatusCode != http.StatusOK {
			t.Errorf("alias %s is %s and answers %s", a.Name, a.State, r.Status)
		}
	}
	users := s.iamUsers(g)
	if len(users) != len(list.Aliases) {
		t.Errorf("%d users for %d aliases: %v", len(users), len(list.Aliases), users)
	}
	for _, user := range users {
		if ids, err := g.Keys(t.Context(), user); err != nil || len(ids) != 1 {
			t.Errorf("user %s has the keys %v, %v; want one", user, ids, err)
		}
	}
}
