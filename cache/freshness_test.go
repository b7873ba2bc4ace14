package cache

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestFreshness walks through the life of an entry.
func TestFreshness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		begun := time.Now()
		slow := func(ctx context.Context, old *Entry) (*Source, error) {
			elapse(time.Second) // freshness counts from the metadata's coming
			return w.goodFor(keyA, 10, time.Minute)(ctx, old)
		}
		got := w.all(t.Context(), keyA, slow)
		got.want(t, keyA, 10, Miss)
		stored := begun.Add(time.Second)
		if r := got.r; r.Stale || !r.Stores || !r.Stored.Equal(stored) || !r.Expires.Equal(stored.Add(time.Minute)) {
			t.Errorf("got %+v, want it stored %v for a minute", r, stored)
		}
		e, ok := w.Hit(keyA, time.Now())
		if !ok || e.Meta != "meta" || !e.Stored.Equal(stored) || !e.Expires.Equal(stored.Add(time.Minute)) {
			t.Fatalf("entry %+v, want it stored %v for a minute", e, stored)
		}
		e.Release()
		elapse(time.Minute - 1)
		w.wantEntry(keyA, true)
		w.all(t.Context(), keyA, w.forbidden).want(t, keyA, 10, Hit)
		elapse(1)
		w.wantEntry(keyA, false)

		// A failed refresh leaves the expired entry where it is.
		fail := func(context.Context, *Entry) (*Source, error) { return nil, errBoom }
		if got := w.all(t.Context(), keyA, fail); !errors.Is(got.err, errBoom) {
			t.Errorf("got %v, want the load's error", got.err)
		}
		got = w.all(t.Context(), keyA, w.goodFor(keyA, 10, time.Minute))
		got.want(t, keyA, 10, Miss)
		if !got.r.Stale {
			t.Error("not told that an expired entry was there")
		}
		w.wantEntry(keyA, true)
		if n := w.rec.count(reasonReplaced); n != 1 {
			t.Errorf("%d entries replaced, want 1", n)
		}
	})
}

// TestAge: an object that is not new when it comes is fresh for less.
func TestAge(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		age  time.Duration
		left time.Duration // 0: not stored
	}{
		"new":              {0, time.Minute},
		"half its time":    {30 * time.Second, 30 * time.Second},
		"nearly all of it": {time.Minute - 1, 1},
		"all of it":        {time.Minute, 0},
		"more":             {time.Hour, 0},
	} {
		bubble(t, name, func(t *testing.T) {
			w, now := newEnv(t, roomy), time.Now()
			got := w.all(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
				src, err := w.goodFor(keyA, 10, time.Minute)(ctx, old)
				src.Age = row.age
				return src, err
			})
			got.want(t, keyA, 10, Miss)
			r := got.r
			if !r.Stored.Equal(now.Add(-row.age)) || !r.Expires.Equal(now.Add(time.Minute-row.age)) || r.Stores != (row.left > 0) {
				t.Errorf("got %+v, want it to be of %v before %v", r, row.age, now)
			}
			if row.left > 0 {
				elapse(row.left - 1)
				w.wantEntry(keyA, true)
				elapse(1)
			}
			w.wantEntry(keyA, false)
		})
	}
}

// TestJoinStale: a fetch that takes longer than its object is fresh cannot be joined any
// more. It continues for its readers only.
func TestJoinStale(t *testing.T) {
	t.Parallel()
	const size = 200 << 10 // worth finishing
	for name, followed := range map[string]bool{"followed": true, "left": false} {
		bubble(t, name, func(t *testing.T) {
			w, f, body := newEnv(t, roomy), newFeed(), content(keyA, size)
			a, err := w.Get(t.Context(), keyA, f.load(w, size, time.Second))
			if err != nil {
				t.Fatal(err)
			}
			elapse(time.Second - 1)
			var b <-chan result
			if followed {
				b = w.start(t.Context(), keyA, w.forbidden)
				synctest.Wait()
			} else {
				a.Close()
			}
			elapse(1)
			w.all(t.Context(), keyA, w.goodFor(keyA, size, time.Hour)).want(t, keyA, size, Miss)
			if synctest.Wait(); (f.ctx.Err() == nil) != followed {
				t.Errorf("the old fetch goes on: %t", !followed)
			}
			if followed {
				f.give(body, io.EOF)
				(<-b).want(t, keyA, size, Collapsed)
				data, err := readAll(a, 0)
				result{a, data, err}.want(t, keyA, size, Miss)
				a.Close()
			}
			// The newer one is stored.
			elapse(time.Minute)
			w.wantEntry(keyA, true)
			if n := w.rec.count(reasonReplaced); n != 0 {
				t.Errorf("%d entries were replaced", n)
			}
		})
	}
}

// TestReplaceWhileRead: the old object's reader keeps its bytes, which count until it
// releases them.
func TestReplaceWhileRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.goodFor(keyA, 1000, time.Second))
		old, ok := w.Hit(keyA, time.Now())
		if !ok {
			t.Fatal("no entry")
		}
		elapse(time.Second)
		before := w.Stats().Bytes
		w.all(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) { return w.good(keyB, 1000)(ctx, old) })
		if got := w.Stats(); got.Bytes != 2*before || got.Entries != 1 {
			t.Errorf("%+v, want two bodies of %d bytes in all and one entry", got, before)
		}
		if string(old.Bytes()) != string(content(keyA, 1000)) {
			t.Error("the old body changed")
		}
		old.Release()
		if got := w.Stats().Bytes; got != before {
			t.Errorf("%d bytes held, want %d", got, before)
		}
	})
}

// TestNeverShared: an object that is not fresh or too large is neither stored nor shared, and
// its Status says so.
func TestNeverShared(t *testing.T) {
	t.Parallel()
	cfg := Config{Memory: 64 << 20, ObjectMax: 1000}
	rows := map[string]struct {
		cfg    Config
		size   int64
		fresh  time.Duration
		status Status
		stored bool
	}{
		"the largest":              {cfg, 1000, time.Hour, Miss, true},
		"one byte too large":       {cfg, 1001, time.Hour, Bypass, false},
		"unknown length":           {cfg, -1, time.Hour, Miss, true},
		"unknown, none allowed":    {Config{Memory: 1 << 20}, -1, time.Hour, Bypass, false},
		"unknown, nothing stored":  {Config{Memory: 0, ObjectMax: 1000}, -1, time.Hour, Miss, false},
		"fresh for nothing":        {cfg, 10, 0, Miss, false},
		"stale on arrival":         {cfg, 10, -time.Second, Miss, false},
		"no object allowed":        {Config{Memory: 1 << 20}, 1, time.Hour, Bypass, false},
		"an empty one is":          {Config{Memory: 1 << 20}, 0, time.Hour, Miss, true},
		"larger than all memory":   {Config{Memory: 64 << 20, ObjectMax: 1 << 40}, 64 << 20, time.Hour, Bypass, false},
		"as large as all memory":   {Config{Memory: 33 << 20, ObjectMax: 1 << 40}, 31 << 20, time.Hour, Miss, true},
		"larger than the floor":    {Config{Memory: 0, ObjectMax: 1 << 40}, 32 << 20, time.Hour, Bypass, false},
		"larger than small memory": {Config{Memory: 1 << 20, ObjectMax: 8 << 20}, 1 << 20, time.Hour, Miss, false},
		"smaller than small one":   {Config{Memory: 1 << 20, ObjectMax: 8 << 20}, 1<<20 - 8192, time.Hour, Miss, true},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, size := newEnv(t, row.cfg), max(row.size, 0)
			load := func(ctx context.Context, old *Entry) (*Source, error) {
				src, err := w.goodFor(keyA, size, row.fresh)(ctx, old)
				src.Size = row.size
				return src, err
			}
			got := w.all(t.Context(), keyA, load)
			got.want(t, keyA, size, row.status)
			if got.r.Stores != row.stored || got.r.Size != row.size {
				t.Errorf("Stores %t, size %d; want %t, %d", got.r.Stores, got.r.Size, row.stored, row.size)
			}
			w.wantEntry(keyA, row.stored)
		})
	}
}

// TestPredict: Predict returns the status that Get then has.
func TestPredict(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		before, wait time.Duration // for how long what came before was fresh, and how long ago it came; 0: nothing came
		size         int64
		fresh        time.Duration
		status       Status
		stale        bool
	}{
		"nothing there":            {size: 1000, fresh: time.Hour, status: Miss},
		"one byte too large":       {size: 1001, fresh: time.Hour, status: Bypass},
		"unknown length":           {size: -1, fresh: time.Hour, status: Miss},
		"fresh for nothing":        {size: 10, status: Miss},
		"expired":                  {before: time.Minute, wait: time.Minute, size: 10, fresh: time.Hour, status: Miss, stale: true},
		"expired, not to be kept":  {before: time.Minute, wait: time.Hour, size: 10, status: Miss, stale: true},
		"expired, and too large":   {before: time.Minute, wait: time.Hour, size: 1001, fresh: time.Hour, status: Bypass, stale: true},
		"passed by, and too large": {before: -1, wait: hitForPassTTL - 1, size: 1001, fresh: time.Hour, status: Bypass},
		"passed by":                {before: -1, wait: hitForPassTTL - 1, size: 10, fresh: time.Hour, status: Miss},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, Config{Memory: 64 << 20, ObjectMax: 1000})
				if row.before != 0 {
					w.all(t.Context(), keyA, w.goodFor(keyA, 10, row.before))
					elapse(row.wait)
				}
				status, stale := w.Predict(keyA, &Source{Size: row.size})
				if status != row.status || stale != row.stale {
					t.Errorf("foresees %v, stale %t; want %v, %t", status, stale, row.status, row.stale)
				}
				got := w.all(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
					src, err := w.goodFor(keyA, max(row.size, 0), row.fresh)(ctx, old)
					src.Size = row.size
					return src, err
				})
				got.want(t, keyA, max(row.size, 0), row.status)
				if got.r.Stale != row.stale {
					t.Errorf("Get tells stale %t, want %t", got.r.Stale, row.stale)
				}
			})
		})
	}
}

// TestNoMemory: nothing is stored, fetches are shared all the same.
func TestNoMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f := newEnv(t, Config{Memory: 0, ObjectMax: 1 << 20}), newFeed()
		a := w.start(t.Context(), keyA, f.load(w, 10, time.Hour))
		synctest.Wait()
		b := w.start(t.Context(), keyA, w.forbidden)
		synctest.Wait()
		if st := w.Stats(); st.Bytes == 0 || st.Capacity != 0 || st.Entries != 0 {
			t.Errorf("%+v, want the fetch's bytes and no entry", st)
		}
		f.give(content(keyA, 10), io.EOF)
		for status, c := range map[Status]<-chan result{Miss: a, Collapsed: b} {
			got := <-c
			got.want(t, keyA, 10, status)
			if got.r.Stores {
				t.Error("Stores is set")
			}
		}
		if st := w.Stats(); st.Bytes != 0 {
			t.Errorf("%d bytes held in the end", st.Bytes)
		}
	})
}
