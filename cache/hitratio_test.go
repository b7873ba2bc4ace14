package cache

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"ixmage/internal/bench/trace"
)

// replay lets a memory tier decide about the objects of a trace, as fetch does but without their
// bytes, and returns the share of the requests and of their bytes that were hits.
func replay(m *memory, requests func(func(trace.Request) bool)) (byRequests, byBytes float64) {
	var n, hits, bytes, hitBytes int64
	state, forever := new(space), time.Now().Add(1000*time.Hour)
	for r := range requests {
		n++
		bytes += r.Size
		key := Key{Space: 1, Object: strconv.FormatUint(r.Key, 36)}
		if e := m.hit(key, time.Time{}); e != nil {
			e.Release()
			hits++
			hitBytes += r.Size
			continue
		}
		m.look(key)
		if !m.fetchRoom(key.Space, r.Size) {
			continue
		}
		b := &body{budget: &m.held, cost: r.Size}
		b.refs.Store(1)
		if m.admit(key, b.cost, m.policy.admits(key, b.cost, &m.stored)) {
			m.put(&Entry{key: key, body: b, space: state, Expires: forever})
		}
		b.release()
	}
	return float64(hits) / float64(n), float64(hitBytes) / float64(bytes)
}

// TestHitRatio replays the beginning of each trace. The floors are a little below what the policy
// reaches; plain LRU has a share of bytes that is a sixth lower, or more. With IXMAGE_HITRATIO=n
// it replays n requests and prints the ratios, for make bench-hitratio.
func TestHitRatio(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIPPED with -short: it takes long")
	}
	n, err := strconv.Atoi(os.Getenv("IXMAGE_HITRATIO"))
	long := err == nil
	if !long {
		n = 300_000
	}
	for kind, floor := range map[trace.Kind]struct{ bytes, requests, plain float64 }{
		trace.Zipf:    {0.450, 0.440, 0.368},
		trace.Wonders: {0.291, 0.277, 0.218},
		trace.Scans:   {0.238, 0.229, 0.195},
		trace.Drift:   {0.427, 0.418, 0.363},
	} {
		for _, mib := range []int64{128, 512} {
			if mib != 128 && !long {
				continue
			}
			t.Run(fmt.Sprintf("%s %d MiB", kind, mib), func(t *testing.T) {
				t.Parallel()
				m := newMemory(Config{Memory: mib << 20, ObjectMax: 32 << 20}, quiet{})
				defer m.clear()
				requests, bytes := replay(m, trace.Requests(kind, n))
				if long {
					fmt.Fprintf(os.Stdout, "hitratio %s %d %f %f\n", kind, mib, requests, bytes)
					return
				}
				if bytes < floor.bytes || requests < floor.requests {
					t.Errorf("hit ratio %.3f by bytes and %.3f by requests, want %.3f and %.3f; plain LRU has %.3f by bytes",
						bytes, requests, floor.bytes, floor.requests, floor.plain)
				}
			})
		}
	}
}
