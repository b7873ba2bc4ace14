package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// diskBubble runs a test of a disk tier.
func diskBubble(t *testing.T, name string, cfg Config, test func(w *diskEnv)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { test(newDiskEnv(t, cfg)) })
	})
}

// TestDiskFreshness checks the lifetimes of an entry that was found on disk.
func TestDiskFreshness(t *testing.T) {
	t.Parallel()
	o := object{Version: 1, Size: 5000, Fresh: time.Hour, While: time.Minute, Fault: 10 * time.Minute}
	newer := o
	newer.Version = 2
	outage := &Unavailable{Err: errBoom}
	for name, test := range map[string]struct {
		after time.Duration
		check func(w *diskEnv)
	}{
		"fresh": {time.Hour - time.Second, func(w *diskEnv) { w.want(keyA, o, Hit, w.forbidden) }},
		"stale while revalidated": {time.Hour + 30*time.Second, func(w *diskEnv) {
			w.want(keyA, o, Stale, w.load(keyA, newer))
			w.want(keyA, newer, Hit, w.forbidden)
		}},
		"stale":          {time.Hour + 2*time.Minute, func(w *diskEnv) { w.want(keyA, newer, Miss, w.load(keyA, newer)) }},
		"revalidated":    {time.Hour + 2*time.Minute, func(w *diskEnv) { w.want(keyA, o, Revalidated, w.same(o)) }},
		"stale if error": {time.Hour + 2*time.Minute, func(w *diskEnv) { w.want(keyA, o, Stale, w.fails(outage)) }},
		"too stale":      {time.Hour + 11*time.Minute, func(w *diskEnv) { w.wantErr(keyA, errBoom, w.fails(outage)) }},
		"shorter ttl now": {30 * time.Minute, func(w *diskEnv) {
			w.ttl = 20 * time.Minute
			w.want(keyA, newer, Miss, w.load(keyA, newer))
		}},
		"longer ttl now": {time.Hour + 2*time.Minute, func(w *diskEnv) {
			w.ttl = 10 * time.Hour
			w.want(keyA, newer, Miss, w.load(keyA, newer))
		}},
	} {
		diskBubble(t, name, onDisk, func(w *diskEnv) {
			w.put(keyA, o)
			elapse(test.after / 2)
			w.crash()
			elapse(test.after - test.after/2)
			test.check(w)
		})
	}
}

// TestDiskMustBeValidated keeps an object on disk that the source must confirm each time.
func TestDiskMustBeValidated(t *testing.T) {
	t.Parallel()
	o := object{Version: 1, Size: 5000, Unshared: true}
	diskBubble(t, "", onDisk, func(w *diskEnv) {
		w.want(keyA, o, Miss, w.load(keyA, o))
		w.want(keyA, o, Revalidated, w.same(o))
		w.wantEntry(keyA, false)
		newer := o
		newer.Version = 2
		w.want(keyA, newer, Miss, w.load(keyA, newer)) // is saved: its key has had more requests
		w.wantFile(keyA, true)
		w.crash()
		w.want(keyA, newer, Revalidated, w.same(newer))
		w.wantErr(keyA, errBoom, w.fails(errBoom))
	})
}

// TestDiskClockSetBack restarts with an object of the future: its age is not known, so it is
// neither fresh nor served stale.
func TestDiskClockSetBack(t *testing.T) {
	t.Parallel()
	o := object{Version: 1, Size: 5000, Fresh: time.Hour, While: time.Hour, Fault: time.Hour}
	diskBubble(t, "", onDisk, func(w *diskEnv) {
		w.want(keyA, o, Miss, func(ctx context.Context, old *Entry) (*Source, error) {
			src, err := w.load(keyA, o)(ctx, old)
			src.Age = -time.Hour
			return src, err
		})
		w.wantEntry(keyA, true)
		w.settle()
		w.wantFile(keyA, true)
		w.restart()
		w.wantErr(keyA, errBoom, w.fails(errBoom))
		w.want(keyA, o, Revalidated, w.same(o))
		w.want(keyA, o, Hit, w.forbidden)
	})
}

// TestDiskForgetClosesFiles deletes a space whose file is open: the room of the file is free
// only when nobody has it open.
func TestDiskForgetClosesFiles(t *testing.T) {
	t.Parallel()
	diskBubble(t, "", onDisk, func(w *diskEnv) {
		before := w.DiskStats().Bytes
		o := object{Version: 1, Size: 2 * w.cfg.ObjectMax, Fresh: time.Hour}
		w.putFile(keyA, o)
		w.want(keyA, o, Hit, w.forbidden)
		w.Forget(keyA.Space, AllEpochs)
		w.settle()
		if n := w.DiskStats().Bytes - before; n != 0 {
			w.t.Errorf("%d bytes are still taken", n)
		}
	})
}

// TestDiskPurgeAfterRestart checks what a purge does to objects that are on disk alone, and
// that it holds for the next process.
func TestDiskPurgeAfterRestart(t *testing.T) {
	t.Parallel()
	o := object{Version: 1, While: time.Hour, Fault: 2 * time.Hour, Size: 5000, Fresh: time.Hour}
	all := Key{Space: 1, Epoch: 1}
	for name, test := range map[string]struct {
		purge func(w *diskEnv)
		hard  bool
		other bool // keyB is purged too
	}{
		"soft":             {func(w *diskEnv) { w.Purge(keyA, false) }, false, false},
		"hard":             {func(w *diskEnv) { w.Purge(keyA, true) }, true, false},
		"soft after hard":  {func(w *diskEnv) { w.Purge(keyA, true); w.Purge(keyA, false) }, true, false},
		"soft prefix":      {func(w *diskEnv) { w.PurgePrefix(Key{Space: 1, Epoch: 1, Object: "a."}, false) }, false, false},
		"hard prefix":      {func(w *diskEnv) { w.PurgePrefix(Key{Space: 1, Epoch: 1, Object: "a."}, true) }, true, false},
		"soft, all":        {func(w *diskEnv) { w.PurgePrefix(all, false) }, false, true},
		"hard, all":        {func(w *diskEnv) { w.PurgePrefix(all, true) }, true, true},
		"space":            {func(w *diskEnv) { w.PurgeSpace(1, 1) }, false, true},
		"retired":          {func(w *diskEnv) { w.Retire(1, 1) }, true, true},
		"another space":    {func(w *diskEnv) { w.Retire(2, 1); w.Retire(1, 2) }, false, false},
		"another epoch":    {func(w *diskEnv) { w.PurgePrefix(Key{Space: 1, Epoch: 2}, true) }, false, false},
		"forgotten":        {func(w *diskEnv) { w.Forget(1, AllEpochs); w.settle() }, true, true},
		"forgotten before": {func(w *diskEnv) { w.Forget(1, 1); w.settle() }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(_ *testing.T, w *diskEnv, size object) {
				o := o
				o.Size = size.Size
				w.put(keyA, o)
				w.put(keyB, o)
				w.restart()
				test.purge(w)
				untouched := strings.HasPrefix(name, "another") || name == "forgotten before"
				for _, then := range []func(){func() {}, w.crash, w.restart} {
					then()
					switch {
					case untouched:
						w.want(keyA, o, Hit, w.forbidden)
					case test.hard:
						w.notOlder(keyA, 2)
					default:
						w.wantPurged(keyA, o)
					}
					if test.other && test.hard {
						w.notOlder(keyB, 2)
					} else if !test.other {
						w.want(keyB, o, Hit, w.forbidden)
					}
				}
				newer := o
				newer.Version = 2
				if untouched {
					return
				}
				elapse(3 * time.Hour)
				w.want(keyA, newer, Miss, w.load(keyA, newer))
				w.want(keyA, newer, Hit, w.forbidden)
			})
		})
	}
}

// wantPurged checks that o is served stale, and that a Load does not ask whether it is still
// the same.
func (w *diskEnv) wantPurged(key Key, o object) {
	w.t.Helper()
	asked := false
	w.want(key, o, Stale, func(_ context.Context, old *Entry) (*Source, error) {
		asked = true
		if !old.Purged() {
			w.t.Error("the entry does not say that it was purged")
		}
		return nil, &Unavailable{Err: errBoom}
	})
	if !asked && w.Inspect(key, time.Now()).Fresh {
		w.t.Error("the entry is fresh after a purge")
	}
}

// TestDiskRefuses checks what is not used although it is on disk.
func TestDiskRefuses(t *testing.T) {
	t.Parallel()
	newer := func(o object) object { o.Version = 2; return o }
	for name, change := range map[string]func(w *diskEnv){
		"another origin": func(w *diskEnv) { w.setOrigin(1, 1, 7) },
		"no origin":      func(w *diskEnv) { w.setOrigin(1, 1, 0) },
		"codec":          func(w *diskEnv) { w.badMeta = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(_ *testing.T, w *diskEnv, o object) {
				w.putFile(keyA, o)
				change(w)
				w.want(keyA, newer(o), Miss, w.load(keyA, newer(o)))
				w.settle()
				w.badMeta = false
				w.origins = map[spaceID][16]byte{}
				w.crash()
				w.notOlder(keyA, 2)
			})
		})
	}
	both(t, func(_ *testing.T, w *diskEnv, o object) {
		w.bare = true
		w.want(keyA, o, Miss, w.load(keyA, o))
		w.want(keyA, o, []Status{Miss, Hit}[b2i(o.Size == small.Size)], w.load(keyA, o))
		w.wantEntry(keyA, o.Size == small.Size)
		w.settle()
		w.wantFile(keyA, false)
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestDiskCorruptBody changes a byte of a file. No reader gets wrong bytes, and the next
// request gets the object from the source.
func TestDiskCorruptBody(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w *diskEnv, o object) {
		o.While = time.Hour
		w.putFile(keyA, o)
		for _, n := range w.fs.objects() {
			i := bytes.Index(n.data, o.content(keyA)[o.Size-500:o.Size-400])
			n.data[i] ^= 1
		}
		w.Open(t.Context(), keyA)
		e, ok := w.Hit(keyA, time.Now())
		if !ok {
			t.Fatal("no hit")
		}
		r := e.NewReader()
		e.Release()
		got, err := readAll(r, 0)
		if err == nil || isEnd(err) || !bytes.HasPrefix(o.content(keyA), got) {
			t.Errorf("got %d bytes and %v, want an error after good bytes", len(got), err)
		}
		r.Close()
		newer := o
		newer.Version = 2
		w.want(keyA, newer, Miss, w.load(keyA, newer))
		w.settle()
		if n := w.recorded("corrupt"); n != 1 {
			t.Errorf("counted %d corrupt files, want 1", n)
		}
		w.crash()
		w.notOlder(keyA, 2)
	})
}

// TestDiskCorruptWhileRefreshed finds a stale entry corrupt while it is being refreshed.
func TestDiskCorruptWhileRefreshed(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w *diskEnv, o object) {
		o.While = time.Hour
		w.putFile(keyA, o)
		for _, n := range w.fs.objects() {
			n.data[bytes.Index(n.data, o.content(keyA)[:100])] ^= 1
		}
		elapse(o.Fresh + time.Minute)
		newer := o
		newer.Version = 2
		f := newFeed()
		r, err := w.Get(t.Context(), keyA, w.feed(f, newer))
		if err != nil || r.Status != Stale {
			t.Fatalf("got %+v, %v", r, err)
		}
		if _, err := r.Next(0); err == nil {
			t.Error("corrupt bytes are served")
		}
		r.Close()
		f.give(newer.content(keyA), io.EOF)
		if got := w.all(t.Context(), keyA, w.load(keyA, newer)); got.err != nil || !bytes.Equal(got.data, newer.content(keyA)) {
			t.Errorf("the next request got %d bytes and %v", len(got.data), got.err)
		}
	})
}

// TestDiskWritesAtSecondRequest counts what is written: nothing for one request, once for
// many, and nothing again for an object that comes from disk and goes back.
func TestDiskWritesAtSecondRequest(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w *diskEnv, o object) {
		w.want(keyA, o, Miss, w.load(keyA, o))
		if n := w.recorded("written"); n != 0 {
			t.Errorf("%d objects were written at the first request", n)
		}
		w.put(keyC, o)
		if n := w.recorded("written"); n != 1 {
			t.Errorf("%d objects were written, want 1", n)
		}
		w.restart()
		for range 3 {
			w.want(keyC, o, Hit, w.forbidden)
			w.wantEntry(keyC, true)
			w.settle()
		}
		if o.Size == small.Size {
			w.wantTier(keyC, Tier)
			if n := w.recorded("promoted"); n != 1 {
				t.Errorf("%d objects were copied to memory, want 1", n)
			}
			w.memory.evicted(w.memory.removeKey(keyC), reasonCapacity)
		}
		w.want(keyC, o, Hit, w.forbidden)
		if n := w.recorded("written"); n != 1 {
			t.Errorf("%d objects were written, want 1", n)
		}
	})
}

// keyC is a key that was not requested before.
var keyC = Key{Space: 1, Epoch: 1, Object: "c.jpg"}

func (w *diskEnv) recorded(what string) int { return w.disk.count(what) }

// TestDiskSaveQueue lets more wait than the queue takes, and closes the cache over it.
func TestDiskSaveQueue(t *testing.T) {
	t.Parallel()
	diskBubble(t, "number", Config{Memory: 64 << 20, ObjectMax: 1 << 20}, func(w *diskEnv) {
		o := object{Version: 1, Size: 100, Fresh: time.Hour}
		gate := w.block("create", "", false)
		for i := range saveQueue + 20 {
			key := Key{Space: 1, Epoch: 1, Object: string(rune('a' + i))}
			w.want(key, o, Miss, w.load(key, o))
			w.wantEntry(key, true)
		}
		<-gate.reached
		if n := w.recorded("dropped"); n < 10 || n > 20 {
			w.t.Errorf("%d were dropped of %d", n, saveQueue+20)
		}
		gate.release()
		w.settle()
	})
	diskBubble(t, "bytes", Config{Memory: 16 << 20, ObjectMax: 4 << 20}, func(w *diskEnv) {
		o := object{Version: 1, Size: 2 << 20, Fresh: time.Hour} // more than 1/16: it waits alone
		for i := range 3 {
			key := Key{Space: 1, Epoch: 1, Object: string(rune('a' + i))}
			w.want(key, o, Miss, w.load(key, o))
			w.wantEntry(key, true)
			w.settle()
			w.wantFile(key, true)
		}
	})
	diskBubble(t, "close", onDisk, func(w *diskEnv) {
		gate := w.block("create", "", false)
		for _, key := range []Key{keyA, keyB} {
			w.want(key, small, Miss, w.load(key, small))
			w.wantEntry(key, true)
		}
		<-gate.reached
		late := newFeed() // a fetch that ends during Close
		late.deaf = true
		other := Key{Space: 1, Epoch: 1, Object: "late"}
		first, second := w.env.start(w.t.Context(), other, w.feed(late, small)), w.env.start(w.t.Context(), other, w.feed(late, small))
		synctest.Wait()
		w.Cache.mu.Lock()
		w.Cache.stop(ErrClosed)
		w.Cache.mu.Unlock()
		gate.release()
		synctest.Wait()
		late.give(small.content(other), io.EOF)
		<-first
		<-second
	})
}

// TestDiskLarge follows an object that is filled into a file.
func TestDiskLarge(t *testing.T) {
	t.Parallel()
	diskBubble(t, "followers", onDisk, func(w *diskEnv) {
		w.want(keyA, large, Miss, w.load(keyA, large))
		f := newFeed()
		body := large.content(keyA)
		first := w.env.start(w.t.Context(), keyA, w.feed(f, large))
		synctest.Wait()
		f.give(body[:150_000], nil)
		second := w.env.start(w.t.Context(), keyA, w.forbidden)
		synctest.Wait()
		r, err := w.Get(w.t.Context(), keyA, w.forbidden)
		if err != nil {
			w.t.Fatal(err)
		}
		if have, ok := r.Filling(); !ok || have != 150_000 {
			w.t.Errorf("Filling: %d, %t", have, ok)
		}
		near, err := r.Next(100_000)
		if err != nil || !bytes.HasPrefix(body[100_000:150_000], near) {
			w.t.Errorf("a near range: %d bytes, %v", len(near), err)
		}
		far := make(chan bool)
		go func() {
			p, err := r.Next(200_000)
			if err != nil || !bytes.HasPrefix(body[200_000:], p) {
				w.t.Errorf("a far range: %d bytes, %v", len(p), err)
			}
			close(far)
		}()
		f.give(body[150_000:], io.EOF)
		<-far
		r.Close()
		(<-first).wantObject(w.t, large, Miss)
		(<-second).wantObject(w.t, large, Collapsed)
		w.want(keyA, large, Hit, w.forbidden)
		w.wantTier(keyA, TierDisk)
	})
	for _, cut := range []string{"write", "create", "rename", "purge"} {
		diskBubble(t, "disk error in "+cut, onDisk, func(w *diskEnv) {
			w.want(keyA, large, Miss, w.load(keyA, large))
			f := newFeed()
			if cut == "create" {
				w.failing(cut)
			}
			first := w.env.start(w.t.Context(), keyA, w.feed(f, large))
			synctest.Wait()
			f.give(large.content(keyA)[:150_000], nil)
			synctest.Wait()
			if cut == "purge" {
				w.Purge(keyA, true)
			} else {
				w.failing(cut)
			}
			f.give(large.content(keyA)[150_000:], io.EOF)
			status := Miss
			if cut == "create" { // there is no tier any more that takes the object
				status = Bypass
			}
			(<-first).wantObject(w.t, large, status)
			w.settle()
			w.fs.setHook(nil)
			w.wantEntry(keyA, false)
		})
	}
	diskBubble(t, "abandoned", onDisk, func(w *diskEnv) {
		w.want(keyA, large, Miss, w.load(keyA, large))
		f := newFeed()
		r, err := w.Get(w.t.Context(), keyA, w.feed(f, large))
		if err != nil {
			w.t.Fatal(err)
		}
		f.give(large.content(keyA)[:1000], nil)
		synctest.Wait()
		r.Close()
		w.settle()
		w.wantFile(keyA, false)
		w.want(keyA, large, Miss, w.load(keyA, large))
		w.wantFile(keyA, true)
	})
	diskBubble(t, "broken source", onDisk, func(w *diskEnv) {
		w.want(keyA, large, Miss, w.load(keyA, large))
		f := newFeed()
		got := w.env.start(w.t.Context(), keyA, w.feed(f, large))
		synctest.Wait()
		f.give(large.content(keyA)[:200_000], errBoom)
		if r := <-got; !errors.Is(r.err, errBoom) || !bytes.HasPrefix(large.content(keyA), r.data) {
			w.t.Errorf("got %d bytes and %v", len(r.data), r.err)
		}
		w.settle()
		w.wantFile(keyA, false)
	})
	diskBubble(t, "too long", onDisk, func(w *diskEnv) {
		w.want(keyA, large, Miss, w.load(keyA, large))
		f := newFeed()
		got := w.env.start(w.t.Context(), keyA, w.feed(f, large))
		synctest.Wait()
		f.give(append(large.content(keyA), 1), io.EOF)
		if r := <-got; !errors.Is(r.err, ErrTooLong) || len(r.data) >= int(large.Size) {
			w.t.Errorf("got %d bytes and %v", len(r.data), r.err)
		}
		w.settle()
		w.wantFile(keyA, false)
	})
	for _, size := range []int64{8<<20 - 1, 8 << 20, 8<<20 + 1} {
		diskBubble(t, "object max", onDisk, func(w *diskEnv) {
			o := object{Version: 1, Size: size, Fresh: time.Hour}
			status := Miss
			if size > 8<<20 {
				status = Bypass
			}
			for range 3 {
				w.want(keyA, o, status, w.load(keyA, o))
				if w.tier(keyA) == TierDisk {
					status = Hit
				}
			}
			w.wantFile(keyA, size <= 8<<20)
		})
	}
	diskBubble(t, "unknown length", onDisk, func(w *diskEnv) {
		o := large
		o.Unknown = true
		for range 3 {
			if got := w.all(w.t.Context(), keyA, w.load(keyA, o)); got.err != nil || !bytes.Equal(got.data, o.content(keyA)) {
				w.t.Errorf("got %d bytes and %v", len(got.data), got.err)
			}
			w.settle()
		}
		w.wantFile(keyA, false)
		o.Size = 5000 // fits into memory
		w.hitForPass = newHitForPass()
		w.want(keyA, o, Miss, w.load(keyA, o))
		w.want(keyA, o, Hit, w.forbidden)
	})
}

func (got result) wantObject(t testing.TB, o object, status Status) {
	t.Helper()
	if got.err != nil || !bytes.Equal(got.data, o.content(keyA)) || got.r.Status != status {
		t.Errorf("got %d bytes, %v, %+v; want %+v with status %d", len(got.data), got.err, got.r, o, status)
	}
}

// failing lets the operation op fail.
func (w *diskEnv) failing(ops ...string) {
	w.fs.setHook(func(op, _ string) error {
		if slices.Contains(ops, op) {
			return errBoom
		}
		return nil
	})
}

// TestDiskFollowersAfterDiskError lets the disk fail while two readers follow a fill: one takes
// the rest of the source, and the other learns where it must go on.
func TestDiskFollowersAfterDiskError(t *testing.T) {
	t.Parallel()
	diskBubble(t, "", onDisk, func(w *diskEnv) {
		w.want(keyA, large, Miss, w.load(keyA, large))
		f := newFeed()
		var got [2]<-chan result
		for i := range got {
			got[i] = w.env.start(w.t.Context(), keyA, w.feed(f, large))
			synctest.Wait()
		}
		f.give(large.content(keyA)[:150_000], nil)
		synctest.Wait()
		w.failing("write")
		f.give(large.content(keyA)[150_000:], io.EOF)
		whole := 0
		for i := range got {
			r := <-got[i]
			switch {
			case r.err == nil && bytes.Equal(r.data, large.content(keyA)):
				whole++
			case !errors.Is(r.err, ErrOutgrown) || !bytes.Equal(r.data, large.content(keyA)[:150_000]):
				w.t.Errorf("got %d bytes and %v", len(r.data), r.err)
			}
		}
		if whole != 1 {
			w.t.Errorf("%d readers got all bytes, want 1", whole)
		}
	})
}

// TestDiskWithoutMemory checks that the disk is used if nothing may be kept in memory.
func TestDiskWithoutMemory(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w *diskEnv, o object) {
		w.stop()
		w.cfg.Memory = 0
		w.env = &env{t: t}
		w.start(t)
		w.want(keyA, o, Miss, w.load(keyA, o))
		w.wantFile(keyA, false)
		w.want(keyA, o, Miss, w.load(keyA, o))
		w.wantFile(keyA, true)
		for range 3 {
			w.want(keyA, o, Hit, w.forbidden)
			w.wantEntry(keyA, true)
			w.settle()
			w.wantTier(keyA, TierDisk)
		}
		w.restart()
		w.want(keyA, o, Hit, w.forbidden)
	})
	diskBubble(t, "larger than the queue", Config{ObjectMax: 4 << 20}, func(w *diskEnv) {
		o := object{Version: 1, Size: 3 << 20, Fresh: time.Hour}
		w.want(keyA, o, Miss, w.load(keyA, o))
		w.want(keyA, o, Miss, w.load(keyA, o))
		w.want(keyA, o, Hit, w.forbidden)
	})
}

// TestDiskEntryOverNotFound lets a private fetch find no object while there is an entry on disk.
func TestDiskEntryOverNotFound(t *testing.T) {
	t.Parallel()
	diskBubble(t, "", onDisk, func(w *diskEnv) {
		w.putFile(keyA, large)
		go1, found := make(chan bool), make(chan error)
		go func() {
			_, err := w.Stream(w.t.Context(), keyA, func(context.Context, *Entry) (*Source, error) {
				<-go1
				return nil, &NotFound{Err: errBoom, For: time.Minute}
			})
			found <- err
		}()
		synctest.Wait()
		w.want(keyA, large, Hit, w.forbidden)
		close(go1)
		<-found
		w.want(keyA, large, Hit, w.forbidden)
	})
}

// TestDiskOpenFiles keeps no more files open than it may.
func TestDiskOpenFiles(t *testing.T) {
	t.Parallel()
	diskBubble(t, "", onDisk, func(w *diskEnv) {
		keys := make([]Key, 5)
		for i := range keys {
			keys[i] = Key{Space: 1, Epoch: 1, Object: string(rune('a' + i))}
			w.put(keys[i], large)
		}
		w.openMax = 2
		w.restart()
		idle := w.fs.openFiles()
		for range 2 {
			for _, key := range keys {
				w.want(key, large, Hit, w.forbidden)
				if n := w.fs.openFiles() - idle; n > 2 {
					w.t.Errorf("%d files are open, want 2 at most", n)
				}
			}
		}
	})
}
