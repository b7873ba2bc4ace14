package cache

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

var partOfA = Key{Space: keyA.Space, Epoch: keyA.Epoch, Object: keyA.Object + PartMark + "1"}

// share is Share, which must succeed.
func (w *world) share(key Key, load Load) *Reader {
	w.t.Helper()
	r, err := w.Share(w.t.Context(), key, load)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// wantHeld checks what the budget counts, in bodies of 100 kB.
func (w *world) wantHeld(bodies int64) {
	w.t.Helper()
	if got := w.Stats(); got.Bytes/100_000 != bodies || got.Entries != 0 {
		w.t.Errorf("%+v, want %d bodies held and no entry", got, bodies)
	}
}

// What is shared has one fetch while one is under way, or somebody reads it yet, and
// is not there after that.
func TestShare(t *testing.T) {
	t.Parallel()
	bubble(t, "under way", func(t *testing.T) {
		w, f := newWorld(t, roomy), newFeed()
		readers := []*Reader{w.share(partOfA, f.load(w, 100_000, 0)), w.share(partOfA, w.forbidden)}
		body := content(partOfA, 100_000)
		f.give(body[:50_000], nil)
		synctest.Wait()
		readers = append(readers, w.share(partOfA, w.forbidden))
		f.give(body[50_000:], io.EOF)
		for i, r := range readers {
			if err := readAs(r, body); err != nil {
				t.Errorf("reader %d: %v", i, err)
			}
			if want := []Status{Miss, Collapsed, Collapsed}[i]; r.Status != want || r.Stores {
				t.Errorf("reader %d: status %d, stores %t", i, r.Status, r.Stores)
			}
			r.Close()
		}
		w.wantHeld(0)
	})
	bubble(t, "read yet", func(t *testing.T) {
		w := newWorld(t, roomy)
		body := content(partOfA, 100_000)
		first := w.share(partOfA, w.good(partOfA, 100_000))
		synctest.Wait()
		elapse(time.Hour) // it is no matter of time
		second := w.share(partOfA, w.forbidden)
		first.Close()
		w.wantHeld(1)
		third := w.share(partOfA, w.forbidden)
		second.Close()
		if err := readAs(third, body); err != nil {
			t.Error(err)
		}
		third.Close()
		w.wantHeld(0)
		w.share(partOfA, w.good(partOfA, 100_000)).Close()
		w.wantLoads(2)
	})
	bubble(t, "nothing but metadata", func(t *testing.T) {
		w := newWorld(t, roomy)
		r := w.share(partOfA, w.good(partOfA, 0))
		if r.Meta != "meta" || r.Size != 0 {
			t.Errorf("got %v of %d bytes", r.Meta, r.Size)
		}
		r.Close()
	})
}

// Who shares has no claim on what the last of them leaves behind.
func TestShareAbandoned(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		w, f := newWorld(t, roomy), newFeed()
		a, b := w.share(partOfA, f.load(w, 100, 0)), w.share(partOfA, w.forbidden)
		f.give(content(partOfA, 100)[:99], nil) // all but nothing is left to fetch
		synctest.Wait()
		a.Finish()
		a.Close()
		if f.ctx.Err() != nil {
			t.Error("cancelled while it is read")
		}
		b.Close()
		if context.Cause(f.ctx) != ErrAbandoned { //nolint:errorlint // it is the cause itself
			t.Errorf("the fetch goes on: %v", context.Cause(f.ctx))
		}
		synctest.Wait()
		w.wantHeld(0)
		w.share(partOfA, w.good(partOfA, 100)).Close()
	})
}

func TestShareFails(t *testing.T) {
	t.Parallel()
	bubble(t, "load", func(t *testing.T) {
		w, gate := newWorld(t, roomy), make(chan struct{})
		ends := make(chan error, 10)
		for range 10 {
			go func() {
				_, err := w.Share(t.Context(), partOfA, func(context.Context, *Entry) (*Source, error) {
					w.loads.Add(1)
					<-gate
					return nil, errBoom
				})
				ends <- err
			}()
		}
		synctest.Wait()
		close(gate)
		for range 10 {
			if err := <-ends; !isError(err, errBoom) {
				t.Errorf("got %v", err)
			}
		}
		w.wantLoads(1)
		if n := w.MissingStats().Entries; n != 0 {
			t.Errorf("%d keys are taken for missing", n)
		}
	})
	bubble(t, "body", func(t *testing.T) {
		w, f := newWorld(t, roomy), newFeed()
		a, b := w.share(partOfA, f.load(w, 100, 0)), w.share(partOfA, w.forbidden)
		f.give(content(partOfA, 100)[:50], errBoom)
		for _, r := range []*Reader{a, b} {
			if data, err := readAll(r, 0); !isError(err, errBoom) || len(data) != 50 {
				t.Errorf("got %d bytes, %v", len(data), err)
			}
		}
		synctest.Wait()
		c := w.share(partOfA, w.good(partOfA, 100)) // although a and b are not closed
		for _, r := range []*Reader{a, b, c} {
			r.Close()
		}
	})
	bubble(t, "closed", func(t *testing.T) {
		w := newWorld(t, roomy)
		r := w.share(partOfA, w.good(partOfA, 100))
		synctest.Wait()
		w.Close()
		if err := readAs(r, content(partOfA, 100)); err != nil {
			t.Error(err)
		}
		r.Close()
		if _, err := w.Share(t.Context(), partOfA, w.forbidden); !isError(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// Nobody joins what was under way, or read, when its object was purged.
func TestSharePurged(t *testing.T) {
	t.Parallel()
	for name, purge := range map[string]func(*world){
		"key":        func(w *world) { w.Purge(keyA, false) },
		"key, hard":  func(w *world) { w.Purge(keyA, true) },
		"prefix":     func(w *world) { w.PurgePrefix(Key{Space: 1, Epoch: 1, Object: "a."}, false) },
		"everything": func(w *world) { w.PurgeSpace(1, 1) },
		"retired":    func(w *world) { w.Retire(1, 1) },
	} {
		bubble(t, name, func(t *testing.T) {
			w, f := newWorld(t, roomy), newFeed()
			ended, going := w.share(partOfA, w.good(partOfA, 100)), Key{Space: 1, Epoch: 1, Object: keyA.Object + PartMark + "2"}
			under := w.share(going, f.load(w, 100, 0))
			synctest.Wait()
			purge(w)
			again := []*Reader{w.share(partOfA, w.good(partOfA, 100)), w.share(going, w.good(going, 100))}
			w.wantLoads(4)
			f.give(content(going, 100), io.EOF)
			for key, r := range map[Key]*Reader{partOfA: ended, going: under} {
				if err := readAs(r, content(key, 100)); err != nil {
					t.Errorf("%q: %v", key.Object, err)
				}
			}
			for _, r := range append(again, ended, under) {
				r.Close()
			}
		})
	}
	bubble(t, "another key", func(t *testing.T) {
		w := newWorld(t, roomy)
		r := w.share(partOfA, w.good(partOfA, 100))
		synctest.Wait()
		w.Purge(Key{Space: 1, Epoch: 1, Object: "a"}, true)
		w.Purge(Key{Space: 1, Epoch: 2, Object: keyA.Object}, true)
		w.share(partOfA, w.forbidden).Close()
		r.Close()
	})
}

// What makes no entry takes little from what does; past that each fetches alone.
func TestShareBounded(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t, Config{Memory: 32 << 20, ObjectMax: 8 << 20})
		var readers []*Reader
		alone := 0
		for i := range 100 {
			key := keyA
			key.Object += PartMark + string(rune('0'+i))
			for range 2 {
				room := w.Shares(key, 110_000)
				r := w.share(key, w.good(key, 100_000))
				synctest.Wait()
				readers = append(readers, r)
				if r.Alone() {
					alone++
				}
				if room == r.Alone() {
					t.Errorf("%d: room %t, alone %t", i, room, r.Alone())
				}
			}
		}
		if held := w.Stats().Bytes; held > 4<<20 || held < 3<<20 {
			t.Errorf("%d bytes are held", held)
		}
		if alone < 100 {
			t.Errorf("%d of 200 are alone", alone)
		}
		for i, r := range readers {
			key := keyA
			key.Object += PartMark + string(rune('0'+i/2))
			if err := readAs(r, content(key, 100_000)); err != nil {
				t.Errorf("reader %d: %v", i, err)
			}
			r.Close()
		}
		w.wantHeld(0)
	})
}
