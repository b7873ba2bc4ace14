package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"ixmage/cache"
)

var (
	errBroken = errors.New("it breaks")
	firstOne  = version{Key: cache.Key{Object: "a"}, etag: `"1"`}
)

type ignoreEvictions struct{}

func (ignoreEvictions) Evicted(string, string, int) {}

func (ignoreEvictions) Rejected(string, int)     {}
func (ignoreEvictions) Pushed(int64, int64, int) {}

// newTestGroup is a group whose cache has a budget of 32 MiB, which must have
// nothing left in the end.
func newTestGroup(t *testing.T) *blockGroup {
	t.Helper()
	c := cache.New(cache.Config{Memory: 32 << 20, ObjectMax: 1 << 20}, ignoreEvictions{})
	g := newBlockGroup(c)
	t.Cleanup(func() {
		if len(g.blocks) != 0 || len(g.ranges) != 0 || c.Stats().Bytes != 0 {
			t.Errorf("left with %v, %v and %d bytes", g.blocks, g.ranges, c.Stats().Bytes)
		}
		c.Close()
	})
	return g
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		there    []byteRange
		asked    byteRange
		overlaps bool
	}{
		{"nobody", nil, byteRange{0, 9}, false},
		{"the same", []byteRange{{0, 9}}, byteRange{0, 9}, true},
		{"its last byte", []byteRange{{0, 9}}, byteRange{9, 20}, true},
		{"its first byte", []byteRange{{9, 20}}, byteRange{0, 9}, true},
		{"within", []byteRange{{0, 100}}, byteRange{5, 5}, true},
		{"around", []byteRange{{5, 5}}, byteRange{0, 100}, true},
		{"before", []byteRange{{10, 20}}, byteRange{0, 9}, false},
		{"behind", []byteRange{{0, 9}}, byteRange{10, 20}, false},
		{"the second", []byteRange{{0, 9}, {50, 60}}, byteRange{55, 70}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g := newTestGroup(t)
			for _, other := range []version{
				{Key: cache.Key{Object: "b"}, etag: `"1"`}, {Key: cache.Key{Object: "a"}, etag: `"2"`},
				{Key: cache.Key{Object: "a"}, etag: `"1"`, generation: 1},
			} {
				_, leave := g.enter(other, tc.asked)
				t.Cleanup(leave)
			}
			for _, r := range tc.there {
				_, leave := g.enter(firstOne, r)
				t.Cleanup(leave)
			}
			overlaps, leave := g.enter(firstOne, tc.asked)
			defer leave()
			if overlaps != tc.overlaps {
				t.Errorf("overlaps: %t, want %t", overlaps, tc.overlaps)
			}
		})
	}
}

// TestOverlapLeaves: a range that has left, once or twice, overlaps nothing and leaves
// nothing behind.
func TestOverlapLeaves(t *testing.T) {
	t.Parallel()
	g := newTestGroup(t)
	_, one := g.enter(firstOne, byteRange{0, 9})
	_, two := g.enter(firstOne, byteRange{0, 9})
	one()
	one()
	if overlaps, leave := g.enter(firstOne, byteRange{0, 0}); !overlaps {
		t.Error("the second is there yet")
	} else {
		leave()
	}
	two()
	if overlaps, leave := g.enter(firstOne, byteRange{0, 0}); overlaps {
		t.Error("all had left")
	} else {
		leave()
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for range 1000 {
				first := rnd.Int64N(100)
				_, leave := g.enter(firstOne, byteRange{first, first + rnd.Int64N(20)})
				leave()
			}
		})
	}
	wg.Wait()
}

// piece is a chunkReader that returns its chunks.
type piece struct{ chunks [][]byte }

func (*piece) Close() error { return nil }

func (p *piece) Next(int64) ([]byte, error) {
	chunk := p.chunks[0]
	p.chunks = p.chunks[1:]
	return chunk, nil
}

// TestRangeAlone: a range that is fetched by itself has left before its client can have its
// last byte. One in blocks stays, because others share the block that is being sent.
func TestRangeAlone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		alone int64
		left  bool
	}{{"by itself", 5, true}, {"in blocks", 0, false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g, part := newTestGroup(t), byteRange{10, 14}
			_, leave := g.enter(firstOne, part)
			s := &rangeStream{
				chunkReader: &piece{[][]byte{[]byte("abc"), []byte("de")}},
				alone:       tc.alone, leave: leave, done: func() {},
			}
			sent := int64(0)
			for _, left := range []bool{false, tc.left} {
				chunk, err := s.Next(sent)
				must(t, err)
				sent += int64(len(chunk))
				overlaps, leave := g.enter(firstOne, part)
				leave()
				if overlaps == left {
					t.Errorf("after %d bytes the same range overlaps: %t", sent, overlaps)
				}
			}
			s.Close()
		})
	}
}

// TestBlockShared: a block has one fetch while one is under way or somebody reads it,
// and is not there after that.
func TestBlockShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, gate, want := newTestGroup(t), make(chan struct{}), []byte("0123456789")
		var loads atomic.Int64
		load := func() ([]byte, error) {
			loads.Add(1)
			<-gate
			return want, nil
		}
		key := blockKey{firstOne, 3}
		got := make(chan *block, 10)
		for range 10 {
			go func() {
				b, err := g.get(key, 100_000, load)
				if err != nil {
					t.Error(err)
				}
				got <- b
			}()
		}
		synctest.Wait()
		if n := g.cache.Stats().Bytes; n != 100_000 {
			t.Errorf("%d bytes are counted while a block is fetched, want 100000", n)
		}
		close(gate)
		var all []*block
		for range 10 {
			b := <-got
			if b == nil || !bytes.Equal(b.data, want) {
				t.Fatalf("got %+v", b)
			}
			all = append(all, b)
		}
		for _, b := range all[1:] {
			g.release(b)
		}
		late, err := g.get(key, 100_000, load) // one reads it yet
		if err != nil || late != all[0] || loads.Load() != 1 {
			t.Errorf("got %+v, %v after %d loads; want the block that is being read", late, err, loads.Load())
		}
		g.release(all[0])
		if n := g.cache.Stats().Bytes; n != 100_000 {
			t.Errorf("%d bytes are counted while a block is read, want 100000", n)
		}
		g.release(late)
		if n := g.cache.Stats().Bytes; n != 0 {
			t.Errorf("%d bytes are counted when nobody reads, want none", n)
		}
		for _, other := range []blockKey{key, {firstOne, 4}, {version{firstOne.Key, `"2"`, 0}, 3}, {version{firstOne.Key, `"1"`, 1}, 3}} {
			before := loads.Load()
			b, err := g.get(other, 100_000, load)
			if err != nil || loads.Load() != before+1 {
				t.Errorf("%v: %v, %d loads; want one of its own", other, err, loads.Load()-before)
			}
			t.Cleanup(func() { g.release(b) })
		}
	})
}

// TestBlockFails: everybody who waits gets the error, nothing is held, and the next
// request begins anew.
func TestBlockFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		load func() ([]byte, error)
		want error
		own  bool // the request that loads gets no answer itself
	}{
		"error": {func() ([]byte, error) { return nil, errBroken }, errBroken, false},
		"panic": {func() ([]byte, error) { panic("load panics") }, errBlockExited, true},
		"exit":  {func() ([]byte, error) { runtime.Goexit(); return nil, nil }, errBlockExited, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, gate := newTestGroup(t), make(chan struct{})
				key := blockKey{firstOne, 0}
				ends := make(chan error, 10)
				for range 10 {
					go func() {
						defer func() { _ = recover() }()
						_, err := g.get(key, 100, func() ([]byte, error) {
							<-gate
							return tc.load()
						})
						ends <- err
					}()
				}
				synctest.Wait()
				close(gate)
				synctest.Wait()
				want := 10
				if tc.own {
					want = 9
				}
				if len(ends) != want {
					t.Fatalf("%d requests got an answer, want %d", len(ends), want)
				}
				for range want {
					if err := <-ends; !errors.Is(err, tc.want) {
						t.Errorf("got %v, want %v", err, tc.want)
					}
				}
				b, err := g.get(key, 100, func() ([]byte, error) { return []byte("x"), nil })
				if err != nil {
					t.Fatal(err)
				}
				g.release(b)
			})
		})
	}
}

// TestBlocksBounded: blocks take an eighth of the budget; who finds no room is told.
func TestBlocksBounded(t *testing.T) {
	t.Parallel()
	g := newTestGroup(t)
	var held []*block
	for i := range int64(100) {
		b, err := g.get(blockKey{firstOne, i}, 100_000, func() ([]byte, error) { return nil, nil })
		if err != nil {
			t.Fatal(err)
		}
		if (b == nil) != (i >= 41) { // 41 of them fit into 4 MiB
			t.Errorf("block %d: room %t", i, b != nil)
		}
		if b != nil {
			held = append(held, b)
		}
	}
	if n := g.cache.Stats().Bytes; n > 4<<20 || n < 4_000_000 {
		t.Errorf("%d bytes are held", n)
	}
	for _, b := range held {
		g.release(b)
	}
}

// TestBlockStress lets many get and release the same few blocks, of which some fail and
// not all find room, and checks every byte.
func TestBlockStress(t *testing.T) {
	t.Parallel()
	g := newTestGroup(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for range 2000 {
				n := rnd.Int64N(4)
				want := fmt.Appendf(nil, "block %d", n)
				fails := rnd.IntN(10) == 0
				b, err := g.get(blockKey{firstOne, n}, 1_500_000, func() ([]byte, error) {
					for range rnd.IntN(10) {
						runtime.Gosched()
					}
					if fails {
						return nil, errBroken
					}
					return want, nil
				})
				switch {
				case err != nil && !errors.Is(err, errBroken):
					t.Error(err)
				case b == nil:
				case !bytes.Equal(b.data, want):
					t.Errorf("got %q, want %q", b.data, want)
				default:
					for range rnd.IntN(10) {
						runtime.Gosched()
					}
					g.release(b)
				}
			}
		})
	}
	wg.Wait()
}
