package arena

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTestArena(t *testing.T, limit int64) *Arena {
	t.Helper()
	a := New(limit)
	if a == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	return a
}

// write fills all of e with one byte.
func (a *Arena) write(e *Extent, mark byte) {
	a.Populate(e, e.size)
	mem := a.Bytes(e, int(e.size))
	for i := range mem {
		mem[i] = mark
	}
}

// holds reports whether all of e is one byte.
func (a *Arena) holds(e *Extent, mark byte) bool {
	mem := a.Bytes(e, int(e.size))
	return bytes.Count(mem, []byte{mark}) == len(mem)
}

// check checks what the arena counts against its ring.
func (a *Arena) check(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var live, spare, dropped, pages, end int64
	for e := a.head.next; e != &a.head; e = e.next {
		if e.off < end || e.next.prev != e || e.pages > e.size || e.pages < 0 {
			t.Fatalf("extent %+v begins before %d, the end of the one before it, or is linked wrongly", e, end)
		}
		if e.spare && e.prev.spare && e.off == end {
			t.Fatalf("two spare neighbors at %d were not joined", end)
		}
		end = e.off + e.size
		pages += e.pages
		if e.spare {
			spare += e.size
		}
		live++
	}
	for _, e := range a.dropped {
		dropped += e.size
	}
	if end > a.head.off || pages != a.resident || spare != a.spare.bytes || dropped != a.droppedBytes || int(live) < a.live {
		t.Fatalf("resident %d, spare %d, dropped %d, %d in use: counted %d, %d, %d, %d",
			pages, spare, dropped, live, a.resident, a.spare.bytes, a.droppedBytes, a.live)
	}
	if before := a.after.prev; a.at > a.after.off && a.after.off+a.after.size < a.at || a.at < before.off+before.size && before != &a.head {
		t.Fatalf("the search goes on at %d, between %+v and %+v", a.at, before, a.after)
	}
}

// settle waits until the sweeper has ended.
func (a *Arena) settle() { a.sweepers.Wait() }

// TestArenaModel allocates and frees at random and checks what must hold: no two
// extents overlap, what is written stays, also in sockets, as much as was promised always
// fits, and pages are counted and bounded.
func TestArenaModel(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	a := newTestArena(t, limit)
	defer a.Close()
	a.spareMax, a.slack, a.batch = 1<<20, 256<<10, 128<<10
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	type piece struct {
		*Extent

		mark byte
	}
	var live []piece
	var held int64
	var sockets []*socket
	for i := range 3000 {
		n := int64(1 + rng.IntN(1+rng.IntN(200<<10)))
		for held+WholePages(n) > limit {
			i := rng.IntN(len(live))
			p := live[i]
			if !a.holds(p.Extent, p.mark) {
				t.Fatalf("an extent does not hold %#x any more", p.mark)
			}
			held -= p.size
			if rng.IntN(4) == 0 {
				sockets = append(sockets, a.send(t, p.Extent, p.mark))
			}
			a.Free(p.Extent)
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		}
		var e *Extent
		if rng.IntN(10) == 0 { // of which a part is used
			if e = a.AllocSparse(limit); e == nil {
				continue
			}
			a.Populate(e, WholePages(n)+n/2)
			a.Shrink(e, n)
		} else {
			e = a.Alloc(n)
		}
		if e == nil {
			t.Fatalf("%d bytes do not fit beside %d of %d", n, held, limit)
		}
		held += e.size
		mark := byte(1 + rng.IntN(255))
		a.write(e, mark)
		if got, most := a.Resident(), limit+a.slack+4*a.batch; got > most {
			t.Fatalf("%d bytes are resident, want %d at most", got, most)
		}
		live = append(live, piece{e, mark})
		if i%50 == 0 {
			a.check(t)
		}
		for len(sockets) > 8 {
			sockets[0].receive(t)
			sockets = sockets[1:]
		}
	}
	for _, p := range live {
		if !a.holds(p.Extent, p.mark) {
			t.Fatalf("an extent does not hold %#x any more", p.mark)
		}
		a.Free(p.Extent)
	}
	for _, s := range sockets {
		s.receive(t)
	}
	if !a.Empty() {
		t.Error("extents are left after all were freed")
	}
	a.settle()
	a.check(t)
	if got, most := a.Resident(), a.spareMax+2*a.batch; got > most {
		t.Errorf("%d bytes are resident after all was freed, want %d at most", got, most)
	}
	if got := a.file.resident(t); got != a.Resident() {
		t.Errorf("%d bytes are resident, counted %d", got, a.Resident())
	}
}

// TestArenaConcurrent lets many goroutines allocate, write, send and free.
func TestArenaConcurrent(t *testing.T) {
	t.Parallel()
	a := newTestArena(t, 8<<20)
	a.spareMax, a.slack, a.batch = 1<<20, 256<<10, 64<<10
	var wg sync.WaitGroup
	var left atomic.Int64
	for id := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(id), 1))
			for range 120 {
				e := a.Alloc(int64(1 + rng.IntN(300<<10)))
				if e == nil {
					left.Add(1)
					continue
				}
				a.write(e, byte(id))
				if rng.IntN(3) == 0 {
					a.File(e)
				}
				runtime.Gosched()
				if !a.holds(e, byte(id)) {
					t.Error("another goroutine's bytes are in an extent")
				}
				a.Free(e)
			}
		})
	}
	wg.Wait()
	a.settle()
	a.check(t)
	a.Close()
	if left.Load() > 0 || !a.Empty() || a.file.mem != nil {
		t.Errorf("%d allocations failed; empty: %t; the file must be closed", left.Load(), a.Empty())
	}
}

// TestReusesPages: pages that were only copied out are used again, and cost no hole and no
// new page.
func TestReusesPages(t *testing.T) {
	t.Parallel()
	a := newTestArena(t, 64<<20)
	defer a.Close()
	for _, n := range []int64{PageSize, 10 * PageSize, 1 << 20, 3<<20 + 1} {
		e := a.Alloc(n)
		a.write(e, 1)
		a.Free(e)
		before := a.file.resident(t)
		for range 10 {
			e := a.Alloc(n)
			if e.pages != e.size {
				t.Fatalf("an extent of %d bytes has pages for %d, want all of those that were freed", e.size, e.pages)
			}
			a.write(e, 2)
			a.Free(e)
		}
		if got := a.file.resident(t); got != before {
			t.Errorf("%d bytes are resident, want the %d of before", got, before)
		}
	}
}

// TestReturnsPages checks that freed memory is the system's again, but for a share.
func TestReturnsPages(t *testing.T) {
	t.Parallel()
	a := newTestArena(t, 64<<20)
	defer a.Close()
	for range 3 {
		e := a.AllocSparse(32 << 20)
		a.Populate(e, 10)
		if got, had := a.file.resident(t), a.Resident(); got != had {
			t.Fatalf("%d bytes are resident, want %d", got, had)
		}
		a.Populate(e, 32<<20)
		mem := a.Bytes(e, 32<<20)
		mem[0], mem[len(mem)-1] = 1, 1
		if got := a.file.resident(t); got < 32<<20 || got > 64<<20 {
			t.Fatalf("%d bytes are resident, want all 32 MiB", got)
		}
		a.Free(e)
		a.settle()
		if got := a.file.resident(t); got > a.spareMax || got != a.Resident() {
			t.Fatalf("%d bytes are resident after all was freed, counted %d, want %d", got, a.Resident(), a.spareMax)
		}
	}
}

// TestExcessIsReturnedAtOnce: an allocation that finds no spare extent of its size gives
// back others when the limit is reached, and does not wait for the sweeper.
func TestExcessIsReturnedAtOnce(t *testing.T) {
	t.Parallel()
	a := newTestArena(t, 8<<20)
	defer a.Close()
	a.slack, a.batch = 0, 1<<40 // the sweeper never runs
	var all []*Extent
	for range 8 << 20 / PageSize {
		e := a.Alloc(PageSize)
		a.write(e, 1)
		all = append(all, e)
	}
	for i, e := range all {
		if i%2 == 0 {
			a.Free(e)
		}
	}
	for range 4 {
		a.write(a.Alloc(1<<20), 2) // there is no spare extent of more than a page
		if got := a.file.resident(t); got > 8<<20 {
			t.Fatalf("%d bytes are resident, want 8 MiB at most", got)
		}
	}
	a.check(t)
	for i, e := range all {
		if i%2 == 1 && !a.holds(e, 1) {
			t.Fatal("an extent in use lost its bytes")
		}
	}
}

// TestArenaFull finds no gap, goes round once, and says so.
func TestArenaFull(t *testing.T) {
	t.Parallel()
	for name, pages := range map[string]bool{"freed extents are gaps": false, "freed extents are spare": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newTestArena(t, PageSize) // a window of 16 pages
			defer a.Close()
			var all []*Extent
			for range WindowFactor {
				e := a.Alloc(1)
				if e == nil {
					t.Fatal("a page of the window is not available")
				}
				if pages {
					a.write(e, 1)
				}
				all = append(all, e)
			}
			if a.Alloc(1) != nil {
				t.Error("a full window gave one more page")
			}
			a.Free(all[3])
			a.Free(all[5])
			if a.Alloc(2*PageSize) != nil {
				t.Error("two gaps of a page were taken for one of two")
			}
			a.Free(all[4])
			e := a.Alloc(3 * PageSize)
			if e == nil || e.off != 3*PageSize {
				t.Fatalf("the gap of three pages was not found: %+v", e)
			}
			a.Shrink(e, PageSize+1)
			a.Shrink(e, 3*PageSize) // no change
			if got := a.Alloc(1); got == nil || got.off != 5*PageSize || e.size != 2*PageSize {
				t.Errorf("the page that an extent of %d bytes gave back was not found: %+v", e.size, got)
			}
			if a.Alloc(1) != nil {
				t.Error("a full window gave one more page")
			}
			a.check(t)
		})
	}
}

// TestCloseWaits: the file stays until its last extent is freed, and no pages are kept after
// Close.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	a := newTestArena(t, 8<<20)
	kept, other, freed := a.Alloc(1<<20), a.Alloc(1<<20), a.Alloc(1<<20)
	for _, e := range []*Extent{kept, other, freed} {
		a.write(e, 1)
	}
	a.Free(freed)
	a.Close()
	a.Close() // no change
	if a.Alloc(1) != nil || a.AllocSparse(1) != nil {
		t.Error("a closed arena gave an extent")
	}
	a.Free(other)
	if got := a.file.resident(t); got != 1<<20 || !a.holds(kept, 1) {
		t.Errorf("%d bytes are resident after Close, want those of the extent in use", got)
	}
	a.Free(kept)
	if a.file.mem != nil {
		t.Error("the file is open after its last extent was freed")
	}
}

func TestBins(t *testing.T) {
	t.Parallel()
	last := 0
	for pages := int64(1); pages < 1<<40; pages += 1 + pages/16 {
		i := binOf(pages * PageSize)
		if i < last || i >= bins {
			t.Fatalf("%d pages are in bin %d, those before in %d", pages, i, last)
		}
		last = i
	}
	var s spares
	sizes := []int64{1, 3, 8, 9, 17, 1000}
	for _, n := range sizes {
		s.add(&Extent{size: n * PageSize})
	}
	for _, row := range [][2]int64{{1, 1}, {2, 3}, {4, 9}, {8, 9}, {9, 9}, {10, 17}, {16, 17}, {17, 17}, {18, 1000}, {1001, 0}} {
		got := int64(0)
		if e := s.find(row[0] * PageSize); e != nil {
			got = e.size / PageSize
		}
		if got != row[1] {
			t.Errorf("%d pages: got an extent of %d, want %d", row[0], got, row[1])
		}
	}
	for _, n := range slices.Backward(sizes) {
		e := s.largest()
		if e.size != n*PageSize {
			t.Errorf("the largest extent has %d bytes, want %d pages", e.size, n)
		}
		s.remove(e)
	}
	if s.largest() != nil || s.find(PageSize) != nil || s.bytes != 0 {
		t.Error("an empty list is not empty")
	}
}
