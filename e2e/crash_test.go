package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// registryModel is what one writer knows of its alias: what was answered, and
// what was asked last without an answer.
type registryModel struct {
	name    string
	present bool   // as answered
	ttl     string // as answered
	pending *registryModel
}

// TestKillDuringWrites cuts the power, as it were, while aliases are written, a
// dozen times over one data folder. After each restart every alias is as the
// last answered write left it, or as the one under way would have.
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
		s := startIn(t, program, data)
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
		s.cmd.Process.Kill()
		close(stop)
		wg.Wait()
		<-s.exited
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

// tryAPI reports whether a call was answered with success. A refusal is a
// failure of the test: the model knows what is there.
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

// compare checks what a restarted server knows, and takes it as the truth.
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
