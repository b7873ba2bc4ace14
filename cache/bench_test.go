package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// quiet is a recorder of nothing.
type quiet struct{}

func (quiet) Evicted(string, string, int) {}

func (quiet) Rejected(string, int)     {}
func (quiet) Pushed(int64, int64, int) {}

// plain loads data as it is.
func plain(data []byte) Load {
	return func(context.Context, *Entry) (*Source, error) {
		return &Source{Size: int64(len(data)), Fresh: time.Hour, Body: io.NopCloser(bytes.NewReader(data))}, nil
	}
}

// drain reads a reader to its end, without looking.
func drain(b *testing.B, r *Reader, err error) { //nolint:thelper // Helper costs more than a hit
	if err != nil {
		b.Error(err)
		return
	}
	defer r.Close()
	for off := int64(0); ; {
		p, err := r.Next(off)
		if isEnd(err) {
			return
		}
		if err != nil {
			b.Error(err)
			return
		}
		off += int64(len(p))
	}
}

// stocked is a cache of a thousand objects, and their keys.
func stocked(b *testing.B) (*Cache, []Key) {
	b.Helper()
	c := New(Config{Memory: 64 << 20, ObjectMax: 1 << 20}, quiet{})
	b.Cleanup(c.Close)
	keys := make([]Key, 1024)
	for i := range keys {
		keys[i] = Key{Space: 7, Epoch: 1, Object: fmt.Sprintf("website-images/2024/some-picture-%06d.jpg", i)}
		r, err := c.Get(b.Context(), keys[i], plain(make([]byte, 4<<10)))
		drain(b, r, err)
	}
	return c, keys
}

func hitOne(b *testing.B, c *Cache, key Key, now time.Time) { //nolint:thelper // as above
	e, ok := c.Hit(key, now)
	if !ok {
		b.Error("no hit")
		return
	}
	e.Release()
}

func BenchmarkHit(b *testing.B) {
	c, keys := stocked(b)
	now := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		hitOne(b, c, keys[i%len(keys)], now)
	}
}

func BenchmarkHitParallel(b *testing.B) {
	c, keys := stocked(b)
	now := time.Now()
	for name, spread := range map[string]int{"one key": 1, "1024 keys": 1024} {
		b.Run(name, func(b *testing.B) {
			var start atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := int(start.Add(333)); pb.Next(); i++ {
					hitOne(b, c, keys[i%spread], now)
				}
			})
		})
	}
}

func BenchmarkGetHit(b *testing.B) {
	c, keys := stocked(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r, err := c.Get(b.Context(), keys[i%len(keys)], nil)
		drain(b, r, err)
	}
}

// BenchmarkMiss is a fetch from the miss to the entry, in a cache that is full:
// each evicts another.
func BenchmarkMiss(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := New(Config{Memory: 32 << 20, ObjectMax: 1 << 20}, quiet{})
			defer c.Close()
			load := plain(make([]byte, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := int64(0); b.Loop(); i++ {
				r, err := c.Get(b.Context(), Key{Space: i, Object: "picture.jpg"}, load)
				drain(b, r, err)
			}
		})
	}
}

// BenchmarkFollow is a fetch of 1 MiB that a hundred readers follow.
func BenchmarkFollow(b *testing.B) {
	const readers = 100
	c := New(Config{Memory: 32 << 20, ObjectMax: 1 << 20}, quiet{})
	defer c.Close()
	load := plain(make([]byte, 1<<20))
	b.SetBytes(readers << 20)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() {
				r, err := c.Get(b.Context(), Key{Space: i, Object: "picture.jpg"}, load)
				drain(b, r, err)
			})
		}
		wg.Wait()
	}
}

// BenchmarkNoRoom is a miss while slow readers hold everything.
func BenchmarkNoRoom(b *testing.B) {
	c := New(Config{Memory: 32 << 20, ObjectMax: 32 << 20}, quiet{})
	defer c.Close()
	for i := range int64(400) {
		r, err := c.Get(b.Context(), Key{Space: -1 - i, Object: "picture.jpg"}, plain(make([]byte, 64<<10)))
		drain(b, r, err)
		e, _ := c.Hit(Key{Space: -1 - i, Object: "picture.jpg"}, time.Now())
		b.Cleanup(e.Release)
	}
	load := plain(make([]byte, 20<<20))
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		r, err := c.Get(b.Context(), Key{Space: i, Object: "picture.jpg"}, load)
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

// TestHitDoesNotAllocate: a hit allocates nothing, on which the hot path depends.
func TestHitDoesNotAllocate(t *testing.T) { //nolint:paralleltest // others would be counted
	w := newEnv(t, roomy)
	w.all(t.Context(), keyA, w.good(keyA, 5000))
	now := time.Now()
	n := testing.AllocsPerRun(1000, func() {
		e, ok := w.Hit(keyA, now)
		if !ok {
			t.Fatal("no hit")
		}
		e.Release()
		if w.Bypasses(keyA) {
			t.Fatal("passed by")
		}
		w.Hit(keyB, now)
	})
	if n != 0 {
		t.Errorf("a hit makes %v allocations", n)
	}
}
