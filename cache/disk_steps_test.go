package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestDiskPurgeAtEachStep stops the disk at each operation of what moves an object between
// the source and the tiers, and purges it there. The object from before must not be served after
// the purge, nor by a process that starts after it.
func TestDiskPurgeAtEachStep(t *testing.T) {
	t.Parallel()
	at := Key{Space: 1, Epoch: 1, Object: "a"}
	acts := map[string]struct {
		o       object
		prepare func(w *diskEnv)
	}{
		"open":       {small, func(w *diskEnv) { w.putFile(keyA, small) }},
		"open large": {large, func(w *diskEnv) { w.putFile(keyA, large) }},
		"promote":    {small, func(w *diskEnv) { w.putFile(keyA, small); w.Open(w.t.Context(), keyA) }},
		"save":       {small, func(w *diskEnv) { w.want(keyA, small, Miss, w.load(keyA, small)) }},
		"fill":       {large, func(w *diskEnv) { w.want(keyA, large, Miss, w.load(keyA, large)) }},
		"renew":      {small, func(w *diskEnv) { w.put(keyA, small); elapse(small.Fresh + time.Minute) }},
	}
	events := map[string]func(w *diskEnv){
		"soft":       func(w *diskEnv) { w.Purge(keyA, false) },
		"hard":       func(w *diskEnv) { w.Purge(keyA, true) },
		"prefix":     func(w *diskEnv) { w.PurgePrefix(at, false) },
		"hardprefix": func(w *diskEnv) { w.PurgePrefix(at, true) },
		"space":      func(w *diskEnv) { w.PurgeSpace(1, 1) },
		"retire":     func(w *diskEnv) { w.Retire(1, 1) },
		"revalidate": func(w *diskEnv) { w.Revalidate(1, 1, 0) },
	}
	for name, a := range acts {
		for event, purge := range events {
			t.Run(name+" "+event, func(t *testing.T) {
				t.Parallel()
				for step, reached := 0, true; reached; step++ {
					synctest.Test(t, func(t *testing.T) {
						w := newDiskEnv(t, onDisk)
						a.prepare(w)
						reached = w.purgeAtStep(step, a.o, purge)
						w.checkPurgedAtStep(event)
					})
					if t.Failed() {
						t.Fatalf("at step %d", step)
					}
				}
			})
		}
	}
}

// purgeAtStep lets a request wait before the operation of the number step that it causes until
// event has happened, or waits for it too. At the event the object changes. It reports whether
// there are so many operations.
func (w *diskEnv) purgeAtStep(step int, o object, event func(*diskEnv)) (reached bool) {
	var mu sync.Mutex
	at, gate := make(chan bool), make(chan bool)
	w.blocked.Store(true)
	w.fs.setHook(func(string, string) error {
		mu.Lock()
		mine := step == 0
		step--
		mu.Unlock()
		if mine {
			close(at)
			<-gate
		}
		return nil
	})
	acted, done := make(chan bool), make(chan bool)
	var changed atomic.Bool
	go func() { w.request(o, &changed); close(acted) }()
	select {
	case <-at:
		reached = true
	case <-time.After(time.Minute): // all has been done
	}
	changed.Store(true)
	go func() { event(w); close(done) }()
	for range 300 { // it may wait for a mutex that the stopped goroutine holds
		runtime.Gosched()
	}
	close(gate)
	<-acted
	<-done
	w.blocked.Store(false)
	return reached
}

// request requests o, which is confirmed if it is there, or its next version.
func (w *diskEnv) request(o object, changed *atomic.Bool) {
	if e, ok := w.Hit(keyA, time.Now()); ok {
		e.Release()
		return
	}
	got := w.all(w.t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
		if changed.Load() {
			o.Version++
		} else if old != nil {
			return w.same(o)(ctx, old)
		}
		return w.load(keyA, o)(ctx, old)
	})
	if got.err != nil || !bytes.Equal(got.data, got.r.Meta.(object).content(keyA)) {
		w.t.Errorf("the request got %d bytes and %v", len(got.data), got.err)
	}
}

func (w *diskEnv) checkPurgedAtStep(event string) {
	w.t.Helper()
	newer := object{Version: 3, Size: 4000, Fresh: time.Hour}
	if event != "revalidate" { // the lifetimes of what is on disk are new after each start
		old, fs := w.env, w.fs
		w.fs = fs.clone()
		w.start(old.t)
		w.wantNewer(newer)
		w.stop()
		w.env, w.fs = old, fs
	}
	w.wantNewer(newer)
	synctest.Wait()
	w.notOlder(keyA, 2)
	w.crash()
	w.notOlder(keyA, 2)
}

// wantNewer requests keyA, and must get newer or version 2, which a fetch after the purge may
// have stored.
func (w *diskEnv) wantNewer(newer object) {
	w.t.Helper()
	got := w.all(w.t.Context(), keyA, w.load(keyA, newer))
	if got.err != nil || got.r.Meta.(object).Version < 2 || !bytes.Equal(got.data, got.r.Meta.(object).content(keyA)) {
		w.t.Errorf("got %d bytes and %v of %+v", len(got.data), got.err, got.r)
	}
}

// TestDiskOlderFillIsLate lets a large object be complete after a newer one was fetched: since
// its lifetimes changed, it was purged, or it became stale on the way.
func TestDiskOlderFillIsLate(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]func(w *diskEnv){
		"revalidate": func(w *diskEnv) { w.Revalidate(1, 1, 0) },
		"soft":       func(w *diskEnv) { w.Purge(keyA, false) },
		"stale":      func(*diskEnv) { elapse(large.Fresh + time.Minute) },
	} {
		for _, step := range []string{"", "write", "rename"} { // where the disk stops the older one
			if name == "stale" && step != "" {
				continue // once it is complete, no other fetch takes its place
			}
			t.Run(fmt.Sprint(name, step), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newDiskEnv(t, onDisk)
					w.want(keyA, large, Miss, w.load(keyA, large))
					f := newFeed()
					got := w.env.start(t.Context(), keyA, w.feed(f, large))
					synctest.Wait()
					f.give(large.content(keyA)[:200_000], nil)
					synctest.Wait()
					release := func() {}
					if step != "" {
						gate := w.block(step, "", true)
						release = gate.release
						f.give(large.content(keyA)[200_000:], io.EOF)
						<-gate.reached
						if step == "write" { // not the body, but what commits it
							next := w.block(step, "", true)
							gate.open <- struct{}{}
							release = next.release
							<-next.reached
						}
					}
					event(w)
					newer := large
					newer.Version = 2
					newer.Size = 200_000
					if step != "rename" { // it would wait for the same lock
						w.want(keyA, newer, Miss, w.load(keyA, newer))
					}
					if step == "" {
						f.give(large.content(keyA)[200_000:], io.EOF)
					}
					release()
					if r := <-got; r.err != nil || !bytes.Equal(r.data, large.content(keyA)) {
						t.Errorf("the reader of the older one got %d bytes and %v", len(r.data), r.err)
					}
					w.settle()
					if step == "rename" {
						w.want(keyA, newer, Miss, w.load(keyA, newer))
					}
					w.crash()
					w.notOlder(keyA, 2)
				})
			})
		}
	}
}

// feed loads o, whose bytes come from f.
func (w *diskEnv) feed(f *feed, o object) Load {
	e := w.env
	return func(ctx context.Context, _ *Entry) (*Source, error) {
		e.loads.Add(1)
		f.ctx = ctx
		return e.open(o, f), nil
	}
}
