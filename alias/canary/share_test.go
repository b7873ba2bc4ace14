package canary

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

// nodes are the live nodes of a test.
type nodes struct {
	mu   sync.Mutex
	live []string
}

func (n *nodes) set(live ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.live = live
}

func (n *nodes) of(own string) func() (string, []string) {
	return func() (string, []string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return own, slices.Clone(n.live)
	}
}

// TestShare: each alias has one reader, the aliases are spread, and only those of a node that died
// move.
func TestShare(t *testing.T) {
	t.Parallel()
	const aliases = 3000
	var n nodes
	readers := func(live ...string) map[int64]string {
		n.set(live...)
		of := map[int64]string{}
		for _, name := range live {
			s := New(Config{Nodes: n.of(name)}).share()
			for id := range int64(aliases) {
				if !s.has(id) {
					continue
				}
				if of[id] != "" {
					t.Fatalf("%s and %s read the canary of alias %d", of[id], name, id)
				}
				of[id] = name
			}
		}
		if len(of) != aliases {
			t.Fatalf("%d of %d aliases have a reader", len(of), aliases)
		}
		return of
	}
	before, after := readers("a", "b", "c"), readers("a", "c")
	count := map[string]int{}
	for id, name := range before {
		count[name]++
		if now := after[id]; name != "b" && now != name {
			t.Errorf("alias %d moved from %s, which lives, to %s", id, name, now)
		}
	}
	for name, got := range count {
		if got < aliases/3*8/10 || got > aliases/3*12/10 {
			t.Errorf("%s reads %d of %d", name, got, aliases)
		}
	}
	if s := New(Config{}).share(); !s.has(1) || !s.has(2) {
		t.Error("a process without others does not read all canaries")
	}
	if all := maps.Collect(maps.All(readers("a"))); all[7] != "a" {
		t.Error("a node without others does not read all canaries")
	}
}

// TestCanaryMoves: the canaries of a node that dies are read by the others, and a node shows no
// result of a canary that it does not read any more.
func TestCanaryMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n nodes
		n.set("a", "b")
		a, b := newEnv(t, Config{Every: time.Minute, Nodes: n.of("a")}), newEnv(t, Config{Every: time.Minute, Nodes: n.of("b")})
		for id := range int64(10) {
			a.add(id, nil)
			b.add(id, nil)
		}
		defer a.run()()
		stopB := b.run()
		pass(t, 3*time.Minute)
		wantEach := func(when string, shown ...map[string][]bool) {
			t.Helper()
			for id := range int64(10) {
				name, times := fmt.Sprintf("a%d", id), 0
				for _, s := range shown {
					if len(s[name]) > 0 {
						times++
					}
				}
				if times != 1 {
					t.Errorf("%s: %d nodes show the canary of %s", when, times, name)
				}
			}
		}
		shown := func(e *env) map[string][]bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return maps.Clone(e.recorded)
		}
		wantEach("two nodes", shown(a), shown(b))
		if len(shown(a)) == 0 || len(shown(b)) == 0 {
			t.Fatalf("not shared out: %v, %v", shown(a), shown(b))
		}
		stopB()
		n.set("a")
		pass(t, 3*time.Minute)
		wantEach("one node", shown(a))
		n.set("a", "c")
		pass(t, 3*time.Minute)
		if left := len(shown(a)); left == 0 || left == 10 {
			t.Errorf("%d canaries are left when another node has joined", left)
		}
	})
}

// TestCanaryOfAnotherNode: what is not read here is read on demand, for requests and operators, and
// is in no metric.
func TestCanaryOfAnotherNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n nodes
		n.set("a", "b")
		a := newEnv(t, Config{Every: time.Minute, Nodes: n.of("a")})
		var r alias.Route
		for id := int64(0); a.share().has(id) || r.Alias == nil; id++ {
			if !a.share().has(id) {
				r = a.add(id, nil)
				break
			}
		}
		if ok, _, known := a.State(r.Alias.ID); !ok || !known || a.total() != 1 {
			t.Errorf("ok %v, known %v after %d readings, want one", ok, known, a.total())
		}
		pass(t, 30*time.Second)
		if a.State(r.Alias.ID); a.total() != 1 {
			t.Errorf("%d readings within the interval", a.total())
		}
		a.says("403 AccessDenied")
		pass(t, time.Minute)
		if ok, _, known := a.State(r.Alias.ID); ok || !known {
			t.Errorf("ok %v, known %v of a refused canary", ok, known)
		}
		if !a.Refused(t.Context(), r) {
			t.Error("not refused for a request")
		}
		if len(a.recorded) > 0 {
			t.Errorf("recorded %v", a.recorded)
		}
	})
}
