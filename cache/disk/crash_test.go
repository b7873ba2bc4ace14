package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// script is a short life of a store with every kind of operation. confirm is called as each
// purge is confirmed.
func script(s *Store, confirm func(Mark)) {
	base := s.Generation()
	header := func(i int, generation uint64, size int) Header {
		return Header{
			Key: numbered(i), Generation: base + generation, Stored: time.Now(), Expires: time.Now().Add(time.Hour),
			Meta: meta(uint64(i)<<32|generation, 0), Size: int64(size),
		}
	}
	put := func(i int, generation uint64, size int) {
		h := header(i, generation, size)
		s.Put(h, body(uint64(i)<<32|generation, size))
	}
	purge := func(m Mark) {
		m.Space, m.Epoch, m.Generation, m.At = 7, 2, base+m.Generation, time.Now()
		if _, _, err := s.Purge(m); err == nil {
			confirm(m)
		}
	}
	for i := range 6 {
		put(i, 1, 1000+i*30_000)
	}
	purge(Mark{Object: numbered(0).Object, Hard: true, Generation: 2})
	purge(Mark{Object: numbered(1).Object, Generation: 3})
	put(0, 4, 70_000)
	put(2, 4, 500)
	if o, err := s.Get(numbered(3)); err == nil {
		o.Verify()
		h := o.Header
		h.Generation = base + 5
		o.Close()
		s.Update(h)
	}
	h := header(6, 5, 200_000)
	if w, err := s.Create(h); err == nil {
		w.Write(body(6<<32|5, 200_000))
		if o, err := w.Commit(); err == nil {
			o.Close()
		}
		w.Abort()
	}
	s.Remove(numbered(4), "expired")
	purge(Mark{Object: numbered(5).Object, Prefix: true, Hard: true, Generation: 6})
	s.compact(spaceID{7, 2})
	put(5, 7, 3000)
	purge(Mark{Prefix: true, Hard: true, Generation: 8})
	put(1, 9, 66_000)
	s.saveIndex(false)
}

// TestCrash cuts the power at every operation on the file system, twice: while the store lives, and while the next one
// starts on what is left. No wrong byte is served, and no object that a confirmed purge covers.
func TestCrash(t *testing.T) {
	t.Parallel()
	var total int
	for at := 1; ; at++ {
		done := false
		for try := range max(1, sequences(t, 0)/100) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(at), uint64(try)))
				done = crashAt(t, r, at)
			})
		}
		if t.Failed() {
			t.Fatalf("the power cut was before operation %d", at)
		}
		if done {
			total = at
			break
		}
	}
	t.Logf("%d operations", total)
	if total < 100 {
		t.Errorf("%d operations are too few", total)
	}
}

var errPower = errors.New("no power")

// crashAt returns true if the script has fewer than at operations.
func crashAt(t *testing.T, r *rand.Rand, at int) (done bool) {
	disk := newMemFS()
	cut := func(at int) (dead *bool) {
		dead = new(bool)
		n := 0
		disk.fault = func(string, string) error {
			n++
			if n >= at {
				*dead = true
				return errPower
			}
			return nil
		}
		return dead
	}
	var marks []Mark
	run := func(at int, script func(*Store)) (dead bool) {
		cfg := Config{Dir: "/cache", Limit: 64 << 20, ObjectMax: 1 << 20, Recorder: new(counts), FS: disk}
		power := cut(at)
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		script(s)
		s.Close()
		disk.mu.Lock()
		defer disk.mu.Unlock()
		disk.fault = nil
		return *power
	}
	dead := run(at, func(s *Store) { script(s, func(m Mark) { marks = append(marks, m) }) })
	disk = disk.powerCut(r)
	run(1+r.IntN(40), func(s *Store) { checkAfter(t, s, marks) })
	disk = disk.powerCut(r)
	run(1<<30, func(s *Store) {
		checkAfter(t, s, marks)
		time.Sleep(time.Minute) //nolint:forbidigo // of the bubble
		synctest.Wait()
		checkAfter(t, s, marks)
		if !s.Stats().Available {
			t.Error("the store is off")
		}
		h := Header{Key: numbered(9), Generation: s.Generation(), Size: 10}
		if err := s.Put(h, body(9, 10)); err != nil {
			t.Errorf("a new object: %v", err)
		}
	})
	return !dead
}

func checkAfter(t *testing.T, s *Store, marks []Mark) {
	for i := range 10 {
		o, err := s.Get(numbered(i))
		if err != nil {
			continue
		}
		seed := order.Uint64(append(o.Meta, make([]byte, 8)...))
		for _, m := range marks {
			if m.contains(&Mark{Object: o.Key.Object}) && o.Generation < m.Generation {
				if m.Hard {
					t.Errorf("%s of %d came back after %+v", o.Key.Object, o.Generation, m)
				} else if o.Mark == nil {
					t.Errorf("%s of %d has no mark, want %+v", o.Key.Object, o.Generation, m)
				}
			}
		}
		p := make([]byte, o.Size)
		if _, err := o.ReadAt(p, 0); err == nil && i < 9 && string(p) != string(body(seed, len(p))) {
			t.Errorf("%s: wrong bytes", o.Key.Object)
		}
		o.Close()
	}
}

// TestFaults fails each kind of operation in each way. The store goes off or goes on without
// the object, never serves what is wrong, and comes back by itself.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"open", "mkdir", "rename", "remove", "list", "stat", "sync", "free", "read", "write", "fsync", "fstat", "lock"} {
		for name, fault := range faults {
			for _, when := range []string{"start", "work", "once"} {
				t.Run(fmt.Sprintf("%s %s %s", op, name, when), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { playFault(t, op, when, fault) })
				})
			}
		}
	}
}
