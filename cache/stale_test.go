package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// like loads the content of key with the metadata and times of src. If src is Same, there
// must be a stored entry.
func (w *env) like(key Key, size int64, src Source) Load {
	return func(_ context.Context, old *Entry) (*Source, error) {
		w.loads.Add(1)
		got := src
		if src.Same {
			if old == nil {
				w.t.Error("load did not get the stored entry")
			}
			return &got, nil
		}
		w.opened.Add(1)
		got.Size, got.Body = size, &testBody{Reader: bytes.NewReader(content(key, size)), w: w}
		return &got, nil
	}
}

// failing is a load that fails.
func (w *env) failing(err error) Load {
	return func(context.Context, *Entry) (*Source, error) {
		w.loads.Add(1)
		return nil, err
	}
}

// gated loads when the gate is open, unless it is cancelled before.
func gated(gate <-chan struct{}, load Load) Load {
	return func(ctx context.Context, old *Entry) (*Source, error) {
		select {
		case <-gate:
			return load(ctx, old)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// wantMeta checks which version a request got, and how.
func (got result) wantMeta(t testing.TB, meta any, status Status) {
	t.Helper()
	switch {
	case got.err != nil:
		t.Errorf("got error %v, want %v", got.err, meta)
	case got.r.Meta != meta || got.r.Status != status:
		t.Errorf("got %v with status %d, want %v with %d", got.r.Meta, got.r.Status, meta, status)
	}
}

// wantLoads checks how many loads there were since the last look.
func (w *env) wantLoads(want int64) {
	w.t.Helper()
	if n := w.loads.Swap(0); n != want {
		w.t.Errorf("%d loads, want %d", n, want)
	}
}

// lenient is an object that may be served for a minute after its minute, and for
// an hour while it cannot be fetched.
var lenient = Source{Meta: 1, Fresh: time.Minute, StaleWhileRevalidate: time.Minute, StaleIfError: time.Hour}

// as is another version of src, asSame the confirmation of the stored one.
func (src *Source) as(meta any) Source {
	other := *src
	other.Meta = meta
	return other
}

func (src *Source) asSame(meta any) Source {
	other := src.as(meta)
	other.Same = true
	return other
}

// TestStaleWhile: for a while, no request waits for the refresh.
func TestStaleWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
		elapse(time.Minute)
		w.wantEntry(keyA, false)
		w.wantLoads(1)
		load := gated(gate, w.like(keyA, 10, lenient.as(2)))
		for range 20 {
			got := w.all(t.Context(), keyA, load)
			got.want(t, keyA, 10, Stale)
			got.wantMeta(t, 1, Stale)
			if !got.r.Expires.Equal(time.Now()) {
				t.Errorf("Expires = %v, at %v", got.r.Expires, time.Now())
			}
		}
		synctest.Wait()
		if n := w.refreshes; n != 1 || len(w.fetches) != 1 {
			t.Errorf("%d renewals, %d fetches; want one", n, len(w.fetches))
		}
		close(gate)
		synctest.Wait()
		w.wantLoads(1)
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
		if n := w.rec.count(reasonReplaced); n != 1 {
			t.Errorf("%d entries replaced, want 1", n)
		}
	})
}

// TestStaleWhileEnds: after StaleWhileRevalidate a request waits for the fetch, also for a
// background fetch.
func TestStaleWhileEnds(t *testing.T) {
	t.Parallel()
	for name, underWay := range map[string]bool{"nothing under way": false, "a renewal is": true} {
		bubble(t, name, func(t *testing.T) {
			w, gate := newEnv(t, roomy), make(chan struct{})
			w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
			elapse(2*time.Minute - 1)
			load, status := gated(gate, w.like(keyA, 10, lenient.as(2))), Miss
			if underWay {
				w.all(t.Context(), keyA, load).wantMeta(t, 1, Stale)
				status = Collapsed
			}
			elapse(1)
			a := w.start(t.Context(), keyA, load)
			synctest.Wait()
			b := w.start(t.Context(), keyA, w.forbidden)
			synctest.Wait()
			if underWay { // it has readers now, and no end
				elapse(2 * idleTimeout)
			}
			close(gate)
			(<-a).wantMeta(t, 2, status)
			(<-b).wantMeta(t, 2, Collapsed)
			w.wantLoads(2)
		})
	}
}

// TestStaleWhileFails: after a failure in the background, of any kind, not every request
// starts a refresh, but a later one does.
func TestStaleWhileFails(t *testing.T) {
	t.Parallel()
	rows := map[string]func(w *env) Load{
		"outage": func(w *env) Load { return w.failing(&Unavailable{Err: errBoom}) },
		"error":  func(w *env) Load { return w.failing(errBoom) },
		"panic": func(w *env) Load {
			return func(context.Context, *Entry) (*Source, error) { w.loads.Add(1); panic("load panics") }
		},
		"broken body": func(w *env) Load {
			return func(ctx context.Context, old *Entry) (*Source, error) {
				f := newFeed()
				f.give(ten[:5], errBoom)
				return f.load(w, 10, time.Hour)(ctx, old)
			}
		},
		"not in time": func(w *env) Load {
			return func(ctx context.Context, _ *Entry) (*Source, error) {
				w.loads.Add(1)
				elapse(idleTimeout)
				return nil, context.Cause(ctx)
			}
		},
	}
	for name, load := range rows {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			src := lenient
			src.StaleWhileRevalidate = time.Hour
			w.all(t.Context(), keyA, w.like(keyA, 10, src))
			elapse(time.Minute)
			w.wantLoads(1)
			for range 3 {
				w.all(t.Context(), keyA, load(w)).wantMeta(t, 1, Stale)
				synctest.Wait()
				if name == "not in time" {
					elapse(idleTimeout)
				}
				elapse(retryDelay - 1)
				w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 1, Stale)
				elapse(1)
				w.wantLoads(1)
			}
			w.all(t.Context(), keyA, w.like(keyA, 10, lenient.as(2))).wantMeta(t, 1, Stale)
			synctest.Wait()
			w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
		})
	}
}

// TestManyExpireAtOnce: the number of background fetches is bounded, and in the end every
// entry is refreshed.
func TestManyExpireAtOnce(t *testing.T) {
	t.Parallel()
	const count = 10_000
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		keys := make([]Key, count)
		for i := range keys {
			keys[i] = Key{Space: int64(i % 8), Object: fmt.Sprint(i)}
			w.all(t.Context(), keys[i], w.like(keys[i], 0, lenient))
		}
		elapse(time.Minute)
		w.wantLoads(count)
		for _, key := range keys {
			w.all(t.Context(), key, gated(gate, w.like(key, 0, lenient.as(2)))).wantMeta(t, 1, Stale)
		}
		synctest.Wait()
		if w.refreshes != maxRefreshes || len(w.fetches) != maxRefreshes {
			t.Errorf("%d renewals, %d fetches; want %d", w.refreshes, len(w.fetches), maxRefreshes)
		}
		// Who has to wait is not held up by them.
		w.all(t.Context(), keyA, w.like(keyA, 0, lenient)).wantMeta(t, 1, Miss)
		close(gate)
		synctest.Wait()
		w.wantLoads(maxRefreshes + 1)
		for i, key := range keys {
			w.all(t.Context(), key, w.like(key, 0, lenient.as(2)))
			if i%maxRefreshes == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		w.wantLoads(count - maxRefreshes)
		for _, key := range keys {
			w.wantEntry(key, true)
		}
	})
}

// TestRenewalsOfOneSpace: a space whose source does not answer leaves the others room
// to be renewed.
func TestRenewalsOfOneSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		slow := make([]Key, 2*maxRefreshes)
		for i := range slow {
			slow[i] = Key{Space: 1, Object: fmt.Sprint(i)}
			w.all(t.Context(), slow[i], w.like(slow[i], 0, lenient))
		}
		other := Key{Space: 2, Object: "a"}
		w.all(t.Context(), other, w.like(other, 0, lenient))
		elapse(time.Minute)
		for _, key := range slow {
			w.all(t.Context(), key, gated(gate, w.like(key, 0, lenient.as(2)))).wantMeta(t, 1, Stale)
		}
		w.all(t.Context(), other, w.like(other, 0, lenient.as(2))).wantMeta(t, 1, Stale)
		synctest.Wait()
		w.all(t.Context(), other, w.forbidden).wantMeta(t, 2, Hit)
		close(gate)
	})
}

// TestRenewalsEndWithCache: Close ends background fetches too.
func TestRenewalsEndWithCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, roomy)
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
		elapse(time.Minute)
		e := w.memory.look(keyA)
		w.all(t.Context(), keyA, gated(nil, nil)).wantMeta(t, 1, Stale)
		w.Close()
		if string(e.Bytes()) != string(content(keyA, 10)) {
			t.Error("the entry was released before its reader")
		}
		w.Refresh(keyA, e, w.forbidden)
		e.Release()
		if got := w.all(t.Context(), keyA, w.forbidden); !errors.Is(got.err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", got.err)
		}
	})
}

// TestRenewalNotStored: the result of a background fetch counts even if it may not be
// stored. Its body is closed.
func TestRenewalNotStored(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]Source{
		"no store":       {Meta: 2},
		"too large":      {Meta: 2, Fresh: time.Hour},
		"same, no store": {Meta: 2, Same: true},
		"same, but more": {Meta: 2, Same: true, Fresh: time.Hour, MetaBytes: 1},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
			elapse(time.Minute)
			w.all(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
				got, err := w.like(keyA, 10, src)(ctx, old)
				if name == "too large" {
					got.Size = roomy.ObjectMax + 1
				}
				return got, err
			}).wantMeta(t, 1, Stale)
			synctest.Wait()
			if w.Has(keyA) || w.rec.count(reasonReplaced) != 1 {
				t.Error("the entry is still there")
			}
			w.all(t.Context(), keyA, w.like(keyA, 10, Source{Meta: 3})).wantMeta(t, 3, Miss)
		})
	}
}

// TestStaleThenBroken: an object whose body fails after its metadata came does not replace
// the stored one.
func TestStaleThenBroken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f := newEnv(t, roomy), newFeed()
		w.all(t.Context(), keyA, w.like(keyA, 10, lenient))
		elapse(time.Minute)
		w.all(t.Context(), keyA, f.load(w, 10, time.Hour)).wantMeta(t, 1, Stale)
		synctest.Wait()
		f.give(ten[:5], io.ErrUnexpectedEOF)
		synctest.Wait()
		w.all(t.Context(), keyA, w.forbidden).want(t, keyA, 10, Stale)
	})
}
