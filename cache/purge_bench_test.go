package cache

import (
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"sync"
	"testing"
	"time"
)

func pictureKey(i int) Key {
	return Key{Space: 7, Object: fmt.Sprintf("%03d/some-picture-%06d.jpg", i%1000, i)}
}

// fill stores an entry for each key, as if it had been fetched, which would take minutes.
func (c *Cache) fill(keys []Key) {
	s, never := &space{}, time.Now().Add(time.Hour)
	for _, key := range keys {
		c.memory.held.reserve(entryOverhead)
		c.memory.admit(key, entryOverhead, true)
		e := &Entry{key: key, Expires: never, space: s, body: newBody(&c.memory.held, nil, 0, entryOverhead)}
		c.memory.put(e)
		e.Release()
	}
}

// BenchmarkPurgePrefix looks through a million entries, one in a thousand of which it
// purges, while others hit. It reports how long the hits take with and without it,
// and the longest that a shard was locked in one go.
func BenchmarkPurgePrefix(b *testing.B) {
	const count = 1_000_000
	c := New(Config{Memory: 1 << 30, ObjectMax: 1 << 20}, quiet{})
	b.Cleanup(c.Close)
	keys := make([]Key, count)
	for i := range keys {
		keys[i] = pictureKey(i)
	}
	c.fill(keys)
	hitters := max(1, runtime.GOMAXPROCS(0)-1) // the purge has a core of its own
	b.Run("quiet", func(b *testing.B) {
		var all latencies
		for b.Loop() {
			all.add(hits(c, keys, hitters, func() { elapse(200 * time.Millisecond) }))
		}
		all.report(b)
	})
	b.Run("purging", func(b *testing.B) {
		var all latencies
		n := 0
		for b.Loop() {
			all.add(hits(c, keys, hitters, func() {
				c.PurgePrefix(Key{Space: 7, Object: fmt.Sprintf("%03d/", n%1000)}, false)
				n++
			}))
		}
		all.report(b)
	})
}

// BenchmarkPurgeKey purges one object of a million entries, a quarter of which are variants, four of each of
// their objects.
func BenchmarkPurgeKey(b *testing.B) {
	const count = 1_000_000
	c := New(Config{Memory: 2 << 30, ObjectMax: 1 << 20}, quiet{})
	b.Cleanup(c.Close)
	c.variants.Store(true)
	keys := make([]Key, count)
	for i := range keys {
		if keys[i] = pictureKey(i); i%4 == 0 {
			keys[i] = pictureKey(i/16*16 + 1).Variant(fmt.Sprint("variant-", i))
		}
	}
	c.fill(keys)
	for name, purge := range map[string]func(Key) Purged{
		"key":  func(k Key) Purged { return c.Purge(k, false) },
		"walk": func(k Key) Purged { return c.PurgePrefix(k, false) }, // what it would be without variants
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 1; b.Loop(); i += 16 {
				if p := purge(keys[i%count]); p.Entries != 5 {
					b.Fatalf("purged %+v", p)
				}
			}
		})
	}
}

// BenchmarkStep is how long a shard of a million entries is locked for by a purge.
func BenchmarkStep(b *testing.B) {
	var s shard
	s.init()
	for i := range 1_000_000 / shards {
		s.addLocked(&Entry{key: Key{Object: fmt.Sprint(i)}})
	}
	buf := make([]*Entry, 0, stepSize)
	b.ReportAllocs()
	for end := math.MaxInt; b.Loop(); {
		if buf, end = s.step(buf, end); end == 0 {
			end = math.MaxInt
		}
	}
}

// latencies count how many hits took how long, in steps of an eighth of a power of
// two of nanoseconds.
type latencies [64 * 8]int

func (l *latencies) note(d time.Duration) {
	n := uint64(max(d, 8))
	e := bits.Len64(n) - 4
	l[e*8+int(n>>e)-8]++
}

func (l *latencies) add(others []latencies) {
	for i := range others {
		for j, n := range others[i] {
			l[j] += n
		}
	}
}

// percentile is the upper end of the step that it is in.
func (l *latencies) percentile(p float64) float64 {
	all := 0
	for _, n := range l {
		all += n
	}
	sum := 0
	for i, n := range l {
		if sum += n; float64(sum) >= p*float64(all) {
			return math.Ldexp(float64(9+i%8), i/8)
		}
	}
	return 0
}

func (l *latencies) report(b *testing.B) {
	b.Helper()
	for name, p := range map[string]float64{"p50-ns": 0.5, "p99-ns": 0.99, "p99.9-ns": 0.999, "p99.99-ns": 0.9999} {
		b.ReportMetric(l.percentile(p), name)
	}
}

// hits measures hits of all keys while others do something.
func hits(c *Cache, keys []Key, hitters int, meanwhile func()) []latencies {
	all, done := make([]latencies, hitters), make(chan struct{})
	var wg sync.WaitGroup
	for n := range all {
		wg.Go(func() {
			for i := n * 7919; ; i += 104729 {
				select {
				case <-done:
					return
				default:
				}
				from := time.Now()
				if e, ok := c.Hit(keys[i%len(keys)], from); ok {
					e.Release()
				}
				all[n].note(time.Since(from))
			}
		})
	}
	meanwhile()
	close(done)
	wg.Wait()
	return all
}
