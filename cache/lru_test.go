package cache

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fill stores n objects of 1000 bytes in w.
func (w *env) fill(n int, fresh time.Duration) []Key {
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = Key{Space: int64(i), Object: fmt.Sprint("object ", i)}
		w.all(w.t.Context(), keys[i], w.goodFor(keys[i], 1000, fresh))
	}
	return keys
}

// costOfFilled is the cost of each object of fill.
func costOfFilled(key Key) int64 { return cost(key, &Source{Size: 1000}) }

// TestEvictionOrder: all shards together evict in the order of the lists: first the newest
// entries, which are in the window, then those that had no hit, then those that had one.
func TestEvictionOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
		keys := w.fill(300, time.Minute)
		var used, unused, newest []Key
		for i, key := range keys {
			switch left := int64(len(keys) - i); {
			case left*costOfFilled(key) <= w.memory.policy.windowLimit():
				newest = append(newest, key)
			case i%3 == 0:
				w.wantEntry(key, true)
				used = append(used, key)
			default:
				unused = append(unused, key)
			}
		}
		want := append(append(newest, unused...), used...)
		for i, key := range want {
			e := w.memory.policy.anyOf(0)
			if e == nil || e.key != key {
				t.Fatalf("the entry evicted as number %d was not %v", i, key)
			}
			w.memory.evict(e, 0)
		}
	})
}

// TestEvictionReasons: the eviction of an expired entry does not count as one for capacity.
func TestEvictionReasons(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		keys := w.fill(2, time.Minute)
		elapse(time.Minute)
		fresh := Key{Object: "fresh one"}
		w.all(t.Context(), fresh, w.good(fresh, 1000))
		need := w.memory.held.limit - costOfFilled(keys[0]) + 1 // lets none of the three stay
		if !w.memory.room(0, need) {
			t.Fatal("no room, though nothing is in use")
		}
		w.memory.held.release(need)
		if e, c := w.rec.count(reasonExpired), w.rec.count(reasonCapacity); e != 2 || c != 1 {
			t.Errorf("%d expired and %d for capacity, want 2 and 1", e, c)
		}
	})
}

// TestReadingIsNoUse: an entry that is being read is evicted in its turn. Its bytes stay
// held until it is released.
func TestReadingIsNoUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		keys := w.fill(10, time.Hour)
		read, _ := w.Hit(keys[0], time.Now())
		for _, key := range keys[1:] {
			w.wantEntry(key, true)
		}
		each := costOfFilled(keys[0])
		need := w.memory.held.limit - 8*each // two must go
		if !w.memory.room(0, need) {
			t.Fatal("no room")
		}
		for i, key := range keys {
			// The eviction of the first one has freed nothing.
			w.wantEntry(key, i > 2)
		}
		if got, want := w.Stats().Bytes, need+8*each; got != want {
			t.Errorf("%d bytes held, want %d", got, want)
		}
		if string(read.Bytes()) != string(content(keys[0], 1000)) {
			t.Error("an evicted entry changed while it was read")
		}
		w.memory.held.release(need)
		read.Release()
		if got, want := w.Stats().Bytes, 7*each; got != want {
			t.Errorf("%d bytes held after the release, want %d", got, want)
		}
	})
}

// TestNoRoom: slow readers hold all there is. The next object is streamed to
// its reader alone; once they are gone it is shared and stored again.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	const size = 300 << 10
	w := newEnv(t, Config{Memory: 1 << 20, ObjectMax: 1 << 20})
	w.memory.held.limit = 1 << 20
	var slow []*Reader
	for i := range 3 {
		r, err := w.Get(t.Context(), Key{Object: fmt.Sprint(i)}, w.good(Key{Object: fmt.Sprint(i)}, size))
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, r)
	}
	got := w.all(t.Context(), keyA, w.good(keyA, size))
	got.want(t, keyA, size, Miss)
	if got.r.Stores {
		t.Error("Stores is set")
	}
	w.wantEntry(keyA, false)
	for i, r := range slow {
		data, err := readAll(r, 0)
		result{r, data, err}.want(t, Key{Object: fmt.Sprint(i)}, size, Miss)
		r.Close()
	}
	// The want of room was no property of the key: it is not passed by.
	w.all(t.Context(), keyA, w.good(keyA, size)).want(t, keyA, size, Miss)
	w.wantEntry(keyA, true)
}

// TestOverwriteAccounting: an object that replaces another of its key is counted
// once, whatever their sizes, even if it finds no room itself.
func TestOverwriteAccounting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, Config{Memory: 100 << 10, ObjectMax: 1 << 20})
		for _, row := range []struct{ size, entries int64 }{{1000, 1}, {50_000, 1}, {10, 1}, {0, 1}, {200_000, 0}, {90_000, 1}} {
			w.all(t.Context(), keyA, w.goodFor(keyA, row.size, time.Second))
			synctest.Wait() // the fetch releases the entry it replaced
			want := row.entries * cost(keyA, &Source{Size: row.size})
			if st := w.Stats(); st.Bytes != want || st.Entries != row.entries {
				t.Errorf("%+v after %d bytes, want %d bytes", st, row.size, want)
			}
			elapse(time.Second)
		}
		if n := w.rec.count(reasonReplaced); n != 4 {
			t.Errorf("%d entries replaced, want 4", n)
		}
	})
}

// TestMetaIsCounted: the metadata of an object counts like its body.
func TestMetaIsCounted(t *testing.T) {
	t.Parallel()
	w := newEnv(t, roomy)
	w.all(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
		src, err := w.good(keyA, 0)(ctx, old)
		src.MetaBytes = 1 << 20
		return src, err
	})
	if got, want := w.Stats().Bytes, int64(1<<20+entryOverhead)+allocated(5); got != want {
		t.Errorf("%d bytes held, want %d", got, want)
	}
}

// TestBudget: many take and give back, and the limit holds at every moment.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := budget{limit: 1000}
	var wg sync.WaitGroup
	for n := range int64(8) {
		wg.Go(func() {
			for range 2000 {
				if b.reserve(100 + n) {
					if used := b.used.Load(); used > b.limit {
						t.Errorf("%d used of %d", used, b.limit)
					}
					b.release(100 + n)
				}
			}
		})
	}
	wg.Wait()
	if !b.reserve(1000) || b.reserve(1) {
		t.Error("not exactly the limit can be taken")
	}
}

func TestReleaseTooOften(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	bl := newBody(&budget{limit: 1}, nil, 1, 1)
	bl.release()
	bl.release()
}

// TestReasonsAreAnnounced: the recorder knows every reason before an entry left
// for it.
func TestReasonsAreAnnounced(t *testing.T) {
	t.Parallel()
	want := map[string]int{reasonCapacity: 0, reasonExpired: 0, reasonReplaced: 0, reasonPurged: 0, reasonGone: 0}
	if got := newEnv(t, roomy).rec.n; !maps.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}
