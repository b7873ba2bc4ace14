package arena

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestArenaModel allocates and frees at random and checks what must hold: no two
// extents overlap, memory is zero when it comes, what is written stays, and as
// much as was promised always fits.
func TestArenaModel(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	a := New(limit)
	if a == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	defer a.Close()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	type piece struct {
		*Extent
		mark byte
	}
	var live []piece
	var held int64
	for range 2000 {
		n := int64(1 + rng.IntN(200<<10))
		for held+WholePages(n) > limit {
			i := rng.IntN(len(live))
			p := live[i]
			for j, c := range a.Bytes(p.Extent, int(p.size)) {
				if c != p.mark {
					t.Fatalf("byte %d of an extent is %#x, want %#x", j, c, p.mark)
				}
			}
			a.Free(p.Extent)
			held -= p.size
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		}
		e := a.Alloc(n)
		if e == nil {
			t.Fatalf("%d bytes do not fit beside %d of %d", n, held, limit)
		}
		held += e.size
		mem := a.Bytes(e, int(e.size))
		for j := 0; j < len(mem); j += 1024 {
			if mem[j] != 0 {
				t.Fatalf("fresh memory holds %#x", mem[j])
			}
		}
		mark := byte(1 + rng.IntN(255))
		for j := range mem {
			mem[j] = mark
		}
		for _, p := range live {
			if e.off < p.off+p.size && p.off < e.off+e.size {
				t.Fatalf("extent %d+%d overlaps %d+%d", e.off, e.size, p.off, p.size)
			}
		}
		live = append(live, piece{e, mark})
	}
	for _, p := range live {
		a.Free(p.Extent)
	}
	if !a.Empty() {
		t.Error("extents are left after all were freed")
	}
}

// TestArenaReturnsPages checks that freed memory is the system's again.
func TestArenaReturnsPages(t *testing.T) {
	t.Parallel()
	a := New(64 << 20)
	if a == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	defer a.Close()
	for range 10 {
		e := a.Alloc(32 << 20)
		mem := a.Bytes(e, 32<<20)
		a.Populate(e, 1, 10)
		if got := a.file.resident(t); got != PageSize {
			t.Fatalf("%d bytes are resident, want one page", got)
		}
		a.Populate(e, 0, 32<<20)
		mem[0], mem[len(mem)-1] = 1, 1
		if got := a.file.resident(t); got < 32<<20 {
			t.Fatalf("%d bytes are resident, want all 32 MiB", got)
		}
		a.Free(e)
		if got := a.file.resident(t); got != 0 {
			t.Fatalf("%d bytes are resident after all was freed", got)
		}
	}
}

// TestArenaFull finds no gap, goes round once, and says so.
func TestArenaFull(t *testing.T) {
	t.Parallel()
	a := New(PageSize) // a window of 16 pages
	if a == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	defer a.Close()
	var all []*Extent
	for range WindowFactor {
		e := a.Alloc(1)
		if e == nil {
			t.Fatal("a page of the window is not to be had")
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
}
