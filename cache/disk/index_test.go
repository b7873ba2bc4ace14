package disk

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func randomHash(r *rand.Rand) (h hash) {
	order.PutUint64(h[:], r.Uint64())
	order.PutUint64(h[8:], r.Uint64())
	return h
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestIndexMemory: an entry takes less than 100 bytes, also right after the tables have grown.
func TestIndexMemory(t *testing.T) { //nolint:paralleltest // it measures the heap
	const n = 1_000_000
	r := rand.New(rand.NewPCG(1, 1))
	before := heap()
	x := newIndex()
	most := int64(0)
	for i := range n {
		x.insert(randomHash(r), spaceID{int64(i % 100), 1}, 2)
		if i >= n/2 && i%(n/20) == 0 {
			most = max(most, (heap()-before)/int64(i))
		}
	}
	at := (heap() - before) / n
	t.Logf("%d bytes for each of %d entries, at most %d with half as many", at, n, most)
	if most >= 100 || at >= 100 {
		t.Errorf("%d and %d bytes for an entry, want less than 100", most, at)
	}
	runtime.KeepAlive(x)
}

// TestClock: an object that is used stays longer than one that is not.
func TestClock(t *testing.T) {
	t.Parallel()
	x := newIndex()
	r := rand.New(rand.NewPCG(1, 1))
	var used, unused []hash
	for i := range 100 {
		h := randomHash(r)
		e := x.insert(h, spaceID{1, 1}, 1)
		if i%2 == 0 {
			e.touch()
			used = append(used, h)
		} else {
			unused = append(unused, h)
		}
	}
	keep := func(e *entry) bool { return e.hash == unused[0] }
	for range len(unused) - 1 {
		x.remove(x.victim(keep).hash)
	}
	for _, h := range used {
		if x.lookup(h) == nil {
			t.Fatal("an entry that was used has left before one that was not")
		}
	}
	if x.lookup(unused[0]) == nil {
		t.Error("an open file was evicted")
	}
	for x.live > 1 {
		x.remove(x.victim(keep).hash)
	}
	if x.victim(keep) != nil || x.lookup(unused[0]) == nil {
		t.Error("an open file was evicted")
	}
	x.drop(spaceID{1, 1})
	x.sweep(0, len(x.entries))
	if len(x.slot) != 0 || len(x.spaces) != 0 || x.live != 0 {
		t.Errorf("%d, %d, %d are left", len(x.slot), len(x.spaces), x.live)
	}
	for range 100 {
		x.insert(randomHash(r), spaceID{1, 2}, 1)
	}
	if len(x.entries) > 100 {
		t.Errorf("%d entries for 100: freed ones are not used again", len(x.entries))
	}
}

// bigIndex leaves an index file of n entries, without objects.
func bigIndex(tb testing.TB, n int) *env {
	tb.Helper()
	e := open(tb, func(c *Config) { c.Limit = 1 << 50 })
	e.lockAll()
	e.mu.Lock()
	e.limit = 1 << 50
	r := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		en := e.index.insert(randomHash(r), spaceID{int64(i % 1000), 1}, 2)
		e.used += en.bytes()
	}
	e.mu.Unlock()
	e.unlockAll()
	e.Close()
	e.Store = nil
	return e
}

// BenchmarkOpen reads the index of a million objects. It is what a start waits for.
func BenchmarkOpen(b *testing.B) {
	e := bigIndex(b, 1_000_000)
	path := filepath.Join(e.cfg.Dir, "index")
	saved, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	var spent time.Duration
	n := 0
	for b.Loop() {
		if err := os.WriteFile(path, saved, 0o600); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		s, err := Open(e.cfg)
		if err != nil {
			b.Fatal(err)
		}
		spent += time.Since(start)
		if n++; s.Stats().Entries < 900_000 {
			b.Fatalf("%d entries", s.Stats().Entries)
		}
		s.Close()
	}
	b.ReportMetric(float64(len(saved))/1e6, "MB")
	b.ReportMetric(float64(spent.Milliseconds())/float64(n), "ms/open")
	e.Store, _ = Open(e.cfg)
}

// BenchmarkWalk finds objects without an index file.
func BenchmarkWalk(b *testing.B) {
	const n = 20_000
	e := open(b, func(c *Config) { c.Limit = 1 << 40 })
	for i := range n {
		e.put(numbered(i), []byte("x"))
	}
	var spent time.Duration
	rounds := 0
	for b.Loop() {
		e.Close()
		os.Remove(filepath.Join(e.cfg.Dir, "index"))
		start := time.Now()
		e.Store = nil
		e.reopen()
		e.walk()
		spent += time.Since(start)
		if rounds++; e.Stats().Entries != n {
			b.Fatalf("%d entries", e.Stats().Entries)
		}
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(n*rounds), "us/object")
}

// BenchmarkGet opens, reads and closes an object whose file is in the page cache.
func BenchmarkGet(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size>>10, " KiB"), func(b *testing.B) {
			e := open(b)
			e.put(key("a"), body(1, size))
			p := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				o, err := e.Get(key("a"))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := o.ReadAt(p, 0); err != nil {
					b.Fatal(err)
				}
				o.Close()
			}
		})
	}
}

// BenchmarkPut writes objects into a full store.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size>>10, " KiB"), func(b *testing.B) {
			e := open(b)
			p := body(1, size)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				e.put(numbered(i), p)
			}
		})
	}
}

// TestIndexFile: what was used often is still known, and the counters are right.
func TestIndexFile(t *testing.T) {
	t.Parallel()
	e := open(t)
	for i := range 50 {
		k := Key{Space: int64(i % 3), Epoch: 1, Object: fmt.Sprint(i)}
		e.put(k, body(uint64(i), i*100))
		o, err := e.Get(k) // a use
		if err != nil {
			t.Fatal(err)
		}
		for range i % 5 {
			o.Touch()
		}
		o.Close()
	}
	before := e.Stats()
	e.reopen()
	if got := e.Stats(); got != before {
		t.Errorf("got %+v, want %+v", got, before)
	}
	for i := range 50 {
		k := Key{Space: int64(i % 3), Epoch: 1, Object: fmt.Sprint(i)}
		if !e.Has(k) {
			t.Fatalf("%v is lost", k)
		}
		e.mu.Lock()
		if got := int(e.index.lookup(k.hash()).use); got != min(1+i%5, useMax) {
			t.Errorf("%d: used %d times", i, got)
		}
		e.mu.Unlock()
	}
	if e.Has(key("none")) {
		t.Error("an index of a store that was closed is not complete")
	}
}

// TestNoIndexFile: without a usable index file, every object is found at once, and the walk brings the counters back.
func TestNoIndexFile(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte) []byte{
		"missing":          nil,
		"empty":            func([]byte) []byte { return nil },
		"torn":             func(b []byte) []byte { return b[:len(b)-9] },
		"damaged":          func(b []byte) []byte { b[len(b)-20] ^= 1; return b },
		"other block size": func(b []byte) []byte { order.PutUint64(b[24:], 8192); appendSum(b[:indexHeader], 0); return b },
		"of a crash":       func(b []byte) []byte { b[32] = 0; appendSum(b[:indexHeader], 0); return b },
		"of earlier":       func(b []byte) []byte { b[16]--; appendSum(b[:indexHeader], 0); return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t)
			for i := range 20 {
				e.put(numbered(i), body(uint64(i), i*100))
			}
			before := e.Stats()
			e.Close()
			path := filepath.Join(e.cfg.Dir, "index")
			if change == nil {
				os.Remove(path)
			} else {
				damage(t, path, change)
			}
			e.Store = nil
			e.reopen()
			for i := range 20 {
				if !e.Has(numbered(i)) {
					t.Fatalf("%d is not found", i)
				}
				e.want(numbered(i), body(uint64(i), i*100))
			}
			e.walk()
			if got := e.Stats(); got != before {
				t.Errorf("got %+v, want %+v", got, before)
			}
			if e.Has(key("none")) {
				t.Error("the index is complete, and Has does not know")
			}
		})
	}
}

// TestReconcile: the walk removes entries whose files are gone, and finds files that have no entry.
func TestReconcile(t *testing.T) {
	t.Parallel()
	e := open(t)
	for i := range 10 {
		e.put(numbered(i), body(uint64(i), 1000))
	}
	e.Close()
	index, err := os.ReadFile(filepath.Join(e.cfg.Dir, "index"))
	if err != nil {
		t.Fatal(err)
	}
	e.Store = nil
	e.reopen()
	e.put(key("new"), body(1, 1000))
	e.Close()
	order.PutUint64(index[16:], e.Generation()>>incarnationShift) // as if it were complete
	appendSum(index[:indexHeader], 0)
	os.WriteFile(filepath.Join(e.cfg.Dir, "index"), index, 0o600)
	os.Remove(e.path(numbered(3)))
	e.Store = nil
	e.reopen()
	e.walk()
	e.want(key("new"), body(1, 1000))
	if e.Has(numbered(3)) || e.Stats().Entries != 10 || e.rec.get("disk gone") != 1 {
		t.Errorf("got %+v, %v", e.Stats(), e.rec.all())
	}
}
