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
	a := newArena(limit)
	if a == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	defer a.close()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	type piece struct {
		*extent
		mark byte
	}
	var live []piece
	var held int64
	for range 2000 {
		n := int64(1 + rng.IntN(200<<10))
		for held+wholePages(n) > limit {
			i := rng.IntN(len(live))
			p := live[i]
			for j, c := range a.bytes(p.extent, int(p.size)) {
				if c != p.mark {
					t.Fatalf("byte %d of an extent is %#x, want %#x", j, c, p.mark)
				}
			}
			a.free(p.extent)
			held -= p.size
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		}
		e := a.alloc(n)
		if e == nil {
			t.Fatalf("%d bytes do not fit beside %d of %d", n, held, limit)
		}
		held += e.size
		mem := a.bytes(e, int(e.size))
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
		a.free(p.extent)
	}
	if a.head.next != &a.head {
		t.Error("extents are left after all were freed")
	}
}

// TestArenaReturnsPages checks that freed memory is the system's again.
func TestArenaReturnsPages(t *testing.T) {
	t.Parallel()
	a := newArena(64 << 20)
	if a == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	defer a.close()
	for range 10 {
		e := a.alloc(32 << 20)
		mem := a.bytes(e, 32<<20)
		a.populate(e, 1, 10)
		if got := a.file.resident(t); got != pageSize {
			t.Fatalf("%d bytes are resident, want one page", got)
		}
		a.populate(e, 0, 32<<20)
		mem[0], mem[len(mem)-1] = 1, 1
		if got := a.file.resident(t); got < 32<<20 {
			t.Fatalf("%d bytes are resident, want all 32 MiB", got)
		}
		a.free(e)
		if got := a.file.resident(t); got != 0 {
			t.Fatalf("%d bytes are resident after all was freed", got)
		}
	}
}

// TestArenaFull finds no gap, goes round once, and says so.
func TestArenaFull(t *testing.T) {
	t.Parallel()
	a := newArena(pageSize) // a window of 16 pages
	if a == nil {
		t.Skip("SKIPPED: this system has no memory files; bodies lie on the heap")
	}
	defer a.close()
	var all []*extent
	for range windowFactor {
		e := a.alloc(1)
		if e == nil {
			t.Fatal("a page of the window is not to be had")
		}
		all = append(all, e)
	}
	if a.alloc(1) != nil {
		t.Error("a full window gave one more page")
	}
	a.free(all[3])
	a.free(all[5])
	if a.alloc(2*pageSize) != nil {
		t.Error("two gaps of a page were taken for one of two")
	}
	a.free(all[4])
	if e := a.alloc(3 * pageSize); e == nil || e.off != 3*pageSize {
		t.Errorf("the gap of three pages was not found: %+v", e)
	}
}
