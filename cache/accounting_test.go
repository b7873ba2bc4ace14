package cache

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"
)

// TestAccountingMatchesHeap fills a cache with objects of one size and compares the bytes
// that it reports with the growth of the heap. It is not parallel, because other tests use
// the same heap.
func TestAccountingMatchesHeap(t *testing.T) { //nolint:paralleltest // others would be measured
	rows := []struct {
		size    int64
		count   int
		variant string // of each object, and nothing else
	}{
		{0, 10_000, ""}, {100, 10_000, ""}, {1000, 10_000, ""}, {4 << 10, 5000, ""}, {10_000, 2000, ""}, {64 << 10, 300, ""},
		{1 << 20, 20, ""}, {100, 10_000, "w"},
	}
	for _, row := range rows {
		t.Run(fmt.Sprint(row.size, row.variant), func(t *testing.T) {
			w := newEnv(t, Config{Memory: 1 << 30, ObjectMax: 1 << 30})
			before := heap() + inFile(t, w.Cache)
			for i := range row.count {
				key := Key{Space: 1, Object: fmt.Sprintf("website-images/2024/some-picture-%06d.jpg", i)}
				if row.variant != "" {
					key = key.Variant(row.variant)
				}
				w.all(t.Context(), key, func(context.Context, *Entry) (*Source, error) {
					return w.source(bytes.NewReader(make([]byte, row.size)), row.size, time.Hour), nil
				})
			}
			grown, counted := heap()+inFile(t, w.Cache)-before, w.Stats().Bytes
			off := float64(counted)/float64(grown) - 1
			t.Logf("%d objects of %d bytes: heap %d, counted %d (%+.1f %%), %d a piece beside bodies and keys",
				row.count, row.size, grown, counted, 100*off, grown/int64(row.count)-bodyCost(row.size)-allocated(41))
			if math.Abs(off) > 0.10 {
				t.Errorf("counted %d bytes, the heap grew by %d", counted, grown)
			}
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // frees the memory that finalizers and pools kept
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestAllocated compares allocated with the allocator.
func TestAllocated(t *testing.T) {
	t.Parallel()
	for n := 1; n < 200_000; n += 1 + n/100 {
		p := append([]byte(nil), make([]byte, n)...)
		if got, want := allocated(int64(n)), int64(cap(p)); got != want {
			t.Errorf("allocated(%d) = %d, want %d", n, got, want)
		}
	}
	if got := allocated(0); got != 0 {
		t.Errorf("allocated(0) = %d, want 0", got)
	}
}
