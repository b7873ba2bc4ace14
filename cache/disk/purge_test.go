package disk

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func (e *env) purge(m Mark) (int, int64) {
	e.t.Helper()
	if m.Space == 0 {
		m.Space, m.Epoch = 7, 2
	}
	if m.Generation == 0 {
		m.Generation = e.Generation() + 2
	}
	m.At = time.Now()
	n, b, err := e.Purge(m)
	if err != nil {
		e.t.Fatal(err)
	}
	return n, b
}

// TestPurge: what each kind of mark covers, at once and after a restart.
func TestPurge(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		mark       Mark
		gone, soft []string // of a/1, a/2, b/1; the others stay
		n          int
	}{
		{"hard key", Mark{Object: "a/1", Hard: true}, []string{"a/1"}, nil, 1},
		{"soft key", Mark{Object: "a/1"}, nil, []string{"a/1"}, 1},
		{"hard prefix", Mark{Object: "a/", Prefix: true, Hard: true}, []string{"a/1", "a/2"}, nil, 0},
		{"soft prefix", Mark{Object: "a/", Prefix: true}, nil, []string{"a/1", "a/2"}, 0},
		{"hard space", Mark{Prefix: true, Hard: true}, []string{"a/1", "a/2", "b/1"}, nil, 3},
		{"soft space", Mark{Prefix: true}, nil, []string{"a/1", "a/2", "b/1"}, 3},
		{"key that is a prefix", Mark{Object: "a/", Hard: true}, nil, nil, 0},
		{"another epoch", Mark{Space: 7, Epoch: 1, Prefix: true, Hard: true}, nil, nil, 0},
		{"older", Mark{Prefix: true, Hard: true, Generation: 1}, nil, nil, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := open(t)
			all := []string{"a/1", "a/2", "b/1"}
			for i, o := range all {
				e.put(key(o), body(uint64(i), 5000))
			}
			if tt.n < 0 { // a space is dropped by its folder: with objects that are newer, it stays
				tt.mark.Object = "a/"
				tt.n = 0
			}
			if n, _ := e.purge(tt.mark); n != tt.n {
				t.Errorf("%d objects, want %d", n, tt.n)
			}
			for range 2 {
				for i, o := range all {
					switch {
					case slices.Contains(tt.gone, o):
						e.wantNone(key(o))
					case slices.Contains(tt.soft, o):
						e.want(key(o), body(uint64(i), 5000))
						obj, err := e.Get(key(o))
						if err != nil || obj.Mark == nil || obj.Mark.Hard {
							t.Fatalf("%s: got %+v, %v, want a soft mark", o, obj, err)
						}
						obj.Close()
					default:
						e.want(key(o), body(uint64(i), 5000))
						obj, err := e.Get(key(o))
						if err != nil || obj.Mark != nil {
							t.Fatalf("%s: got %+v, %v, want no mark", o, obj, err)
						}
						obj.Close()
					}
				}
				e.reopen()
			}
		})
	}
}

// TestPurgeBeatsWriter: an object that was fetched before a purge is not stored after it.
func TestPurgeBeatsWriter(t *testing.T) {
	t.Parallel()
	marks := map[string]Mark{
		"key": {Object: "a", Hard: true}, "prefix": {Object: "", Prefix: true, Hard: true}, "space": {Prefix: true, Hard: true},
	}
	for name, m := range marks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t)
			b := body(1, 100_000)
			h := e.header(key("a"), len(b))
			w, err := e.Create(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			e.purge(m)
			if _, err := w.Commit(); !errors.Is(err, ErrPurged) {
				t.Errorf("Commit: got %v, want %v", err, ErrPurged)
			}
			w.Abort()
			if err := e.Put(h, b); !errors.Is(err, ErrPurged) {
				t.Errorf("Put: got %v, want %v", err, ErrPurged)
			}
			e.wantNone(key("a"))
			h.Generation = e.Generation() + 2
			if err := e.Put(h, b); err != nil {
				t.Errorf("fetched after the purge: %v", err)
			}
			e.want(key("a"), b)
		})
	}
}

// TestUpdate: a 304 renews the times, and never an object that a purge covers.
func TestUpdate(t *testing.T) {
	t.Parallel()
	e := open(t)
	b := body(1, 70_000)
	e.put(key("a"), b)
	h := e.want(key("a"), b)
	h.Generation += 5
	h.Expires = h.Expires.Add(time.Hour)
	h.Meta = []byte("new")
	if err := e.Update(h); err != nil {
		t.Fatal(err)
	}
	e.reopen()
	got := e.want(key("a"), b)
	if !got.Expires.Equal(h.Expires) || string(got.Meta) != "new" || got.Generation != h.Generation {
		t.Errorf("got %+v, want %+v", got, h)
	}
	other := h
	other.Body++
	if err := e.Update(other); !errors.Is(err, ErrNotFound) {
		t.Errorf("of other bytes: got %v, want %v", err, ErrNotFound)
	}
	e.purge(Mark{Object: "a", Generation: h.Generation + 1})
	h.Generation += 2
	if err := e.Update(h); !errors.Is(err, ErrPurged) {
		t.Errorf("after a soft purge: got %v, want %v", err, ErrPurged)
	}
	e.put(key("b"), b)
	long := e.want(key("b"), b)
	long.Meta = make([]byte, 5000)
	if err := e.Update(long); !errors.Is(err, ErrNoRoom) {
		t.Errorf("longer than its pages: got %v, want %v", err, ErrNoRoom)
	}
	e.wantNone(key("b"))
}

// TestManyMarks: their number is bounded, and nothing that they cover comes back.
func TestManyMarks(t *testing.T) {
	t.Parallel()
	memEnv(t, nil, func(e *env, disk *memFS) {
		const n = 3000
		for i := range 50 {
			e.put(numbered(i*60), body(uint64(i), 1000))
			e.put(key(fmt.Sprint("other ", i)), body(uint64(i), 1000))
		}
		for i := range n {
			e.purge(Mark{Object: numbered(i).Object, Hard: i%2 == 0, Generation: e.Generation() + 2 + uint64(i)})
			if i < 200 {
				e.purge(Mark{Object: fmt.Sprint("prefix ", i), Prefix: true, Hard: i%2 == 0, Generation: e.Generation() + 2 + uint64(i)})
			}
			if i%500 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		for range 2 {
			for i := range 50 {
				if o, err := e.Get(numbered(i * 60)); err == nil {
					if i*60%2 == 0 || o.Mark == nil {
						t.Fatalf("%d came back", i*60)
					}
					o.Close()
				}
				e.want(key(fmt.Sprint("other ", i)), body(uint64(i), 1000))
			}
			e.mu.Lock()
			if e.markCount > 2*keyMarks || e.markCount != e.marks[spaceID{7, 2}].count() {
				t.Errorf("%d marks, counted %d", e.marks[spaceID{7, 2}].count(), e.markCount)
			}
			e.mu.Unlock()
			e.reopen()
			synctest.Wait()
		}
		if n := len(disk.files("/cache")["/cache/journal"].data); n > 200_000 {
			t.Errorf("a journal of %d bytes", n)
		}
		// An object that was fetched before a forgotten mark is not stored any more.
		h := e.header(numbered(60), 3)
		h.Generation = e.Generation()
		for i := range 2 * keyMarks {
			e.purge(Mark{Object: numbered(i).Object, Generation: e.Generation() + 2 + uint64(i)})
		}
		synctest.Wait()
		if err := e.Put(h, []byte("abc")); !errors.Is(err, ErrPurged) {
			t.Errorf("got %v, want %v", err, ErrPurged)
		}
	})
}

// TestCollapse: marks that come faster than they can be compacted become one of the whole space.
func TestCollapse(t *testing.T) {
	t.Parallel()
	memEnv(t, nil, func(e *env, _ *memFS) {
		e.put(key("a"), []byte("abc"))
		e.put(Key{Space: 8, Object: "a"}, []byte("abc"))
		e.mu.Lock()
		for i := range 5 * prefixMarks {
			e.addMarkLocked(&Mark{Space: 7, Epoch: 2, Object: fmt.Sprint(i), Prefix: true, Generation: e.generation + 2 + uint64(i)})
		}
		if n := e.marks[spaceID{7, 2}].count(); n > 2*prefixMarks {
			t.Errorf("%d marks", n)
		}
		e.mu.Unlock()
		e.wantNone(key("a"))
		e.want(Key{Space: 8, Object: "a"}, []byte("abc"))
	})
}

// TestCompactVariants: purges of keys, each with a mark of the variants, cost other objects nothing, and
// no variant comes back when the marks are forgotten.
func TestCompactVariants(t *testing.T) {
	t.Parallel()
	memEnv(t, nil, func(e *env, _ *memFS) {
		variant := func(k Key) Key { return Key{k.Space, k.Epoch, k.Object + variantMark + "w"} }
		e.put(key("other"), body(1, 1000))
		if e.HasVariants(7, 2) {
			t.Error("a store without variants has some")
		}
		for _, k := range []Key{key("other"), numbered(0), numbered(keyMarks - 1)} {
			e.put(variant(k), body(2, 1000))
		}
		if !e.HasVariants(7, 2) || e.HasVariants(8, 2) {
			t.Error("the store does not tell where it has variants")
		}
		e.mu.Lock() // they come faster than they can be compacted
		for i := range 5 * prefixMarks {
			e.addMarkLocked(&Mark{Space: 7, Epoch: 2, Object: numbered(i).Object + variantMark, Prefix: true, Generation: e.generation + 2})
		}
		e.mu.Unlock()
		for i := range 2 * keyMarks {
			e.purge(Mark{Object: numbered(i).Object})
			e.purge(Mark{Object: numbered(i).Object + variantMark, Prefix: true})
			synctest.Wait()
		}
		e.want(key("other"), body(1, 1000))
		e.want(variant(key("other")), body(2, 1000))
		e.wantNone(variant(numbered(0)))
		e.wantNone(variant(numbered(keyMarks - 1)))
		e.reopen()
		synctest.Wait()
		e.want(variant(key("other")), body(2, 1000))
		e.wantNone(variant(numbered(0)))
		e.mu.Lock()
		defer e.mu.Unlock()
		if n := e.marks[spaceID{7, 2}].count(); n > 2*keyMarks || n != e.markCount {
			t.Errorf("%d marks, counted %d", n, e.markCount)
		}
	})
}

// TestGetDuringCompact: an object that is purged is not found either if its file and the mark that
// covers it are removed after the file was opened.
func TestGetDuringCompact(t *testing.T) {
	t.Parallel()
	memEnv(t, nil, func(e *env, disk *memFS) {
		e.put(key("a"), []byte("abc"))
		synctest.Wait()
		e.mu.Lock()
		e.addMarkLocked(&Mark{Space: 7, Epoch: 2, Object: "a", Prefix: true, Hard: true, Generation: e.generation + 2})
		e.mu.Unlock()
		disk.mu.Lock()
		disk.fault = func(op, _ string) error {
			if op != "read" {
				return nil
			}
			disk.fault = nil
			disk.mu.Unlock() // it is locked for this operation, and compact has its own
			defer disk.mu.Lock()
			return e.compact(spaceID{7, 2})
		}
		disk.mu.Unlock()
		e.wantNone(key("a"))
		if n := e.marks[spaceID{7, 2}].count(); n > 0 {
			t.Errorf("%d marks", n)
		}
	})
}
