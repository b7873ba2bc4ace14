package cache

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// small is an object that fits into memory, large one that does not.
var (
	small = object{Version: 1, Size: 5000, Fresh: time.Hour}
	large = object{Version: 1, Size: 300_000, Fresh: time.Hour}
)

// both runs a test with a small object and with a large one.
func both(t *testing.T, test func(t *testing.T, w *diskEnv, o object)) {
	t.Helper()
	for name, o := range map[string]object{"small": small, "large": large} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, newDiskEnv(t, onDisk), o) })
		})
	}
}

func TestDiskHitAfterRestart(t *testing.T) {
	t.Parallel()
	both(t, func(_ *testing.T, w *diskEnv, o object) {
		w.putFile(keyA, o)
		w.want(keyA, o, Hit, w.forbidden)
		w.crash()
		w.want(keyA, o, Hit, w.forbidden)
	})
}

func TestDiskNotModifiedRenewsFile(t *testing.T) {
	t.Parallel()
	both(t, func(_ *testing.T, w *diskEnv, o object) {
		w.put(keyA, o)
		elapse(o.Fresh + time.Minute)
		w.want(keyA, o, Revalidated, w.same(o))
		w.wantFile(keyA, true)
		w.crash()
		w.want(keyA, o, Hit, w.forbidden)
		elapse(o.Fresh + time.Minute)
		w.want(keyA, o, Revalidated, w.same(o))
		w.restart()
		w.want(keyA, o, Hit, w.forbidden)
	})
}

// TestDiskDropped lets an object disappear, change, or become one that may not be stored.
// What was on disk of it must not be served again, wherever it is when that happens.
func TestDiskDropped(t *testing.T) {
	t.Parallel()
	newer := func(o object) object { o.Version = 2; return o }
	for name, event := range map[string]func(w *diskEnv, o object){
		"not found": func(w *diskEnv, _ object) {
			w.wantErr(keyA, errBoom, w.fails(&NotFound{Err: errBoom}))
		},
		"changed": func(w *diskEnv, o object) {
			w.want(keyA, newer(o), Miss, w.load(keyA, newer(o)))
		},
		"not storable": func(w *diskEnv, o object) {
			n := newer(o)
			n.Fresh = 0
			w.want(keyA, n, Miss, w.load(keyA, n))
		},
		"too large": func(w *diskEnv, o object) {
			n := newer(o)
			n.Size = 9 << 20
			w.want(keyA, n, Bypass, w.load(keyA, n))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(_ *testing.T, w *diskEnv, o object) {
				o.Fault = 24 * time.Hour
				w.putFile(keyA, o)
				elapse(o.Fresh + time.Minute)
				event(w, o)
				w.restart()
				w.hitForPass = newHitForPass()
				w.notOlder(keyA, 2)
			})
		})
	}
}

// notOlder checks that no object of key is found that is older than version, fresh or stale.
func (w *diskEnv) notOlder(key Key, version int) {
	w.t.Helper()
	w.Open(w.t.Context(), key)
	synctest.Wait()
	if e, ok := w.GetStale(key); ok {
		if got := e.Meta.(object).Version; got < version {
			w.t.Errorf("%s: version %d is back", key.Object, got)
		}
		e.Release()
	}
}

// TestDiskSaveInFlight lets an object be replaced or dropped while it is being written.
func TestDiskSaveInFlight(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]func(w *diskEnv){
		"not found": func(w *diskEnv) { w.wantErr(keyA, errBoom, w.fails(&NotFound{Err: errBoom})) },
		"not storable": func(w *diskEnv) {
			n := object{Version: 2, Size: 10}
			w.want(keyA, n, Miss, w.load(keyA, n))
		},
		"changed": func(w *diskEnv) {
			n := object{Version: 2, Size: 6000, Fresh: time.Hour}
			w.want(keyA, n, Miss, w.load(keyA, n))
		},
		"large": func(w *diskEnv) {
			n := object{Version: 2, Size: 300_000, Fresh: time.Hour}
			w.want(keyA, n, Miss, w.load(keyA, n))
		},
	} {
		for _, op := range []string{"create", "write", "rename"} {
			t.Run(name+" "+op, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newDiskEnv(t, onDisk)
					w.want(keyA, small, Miss, w.load(keyA, small))
					gate := w.block(op, "", true)
					w.wantEntry(keyA, true) // queues it
					<-gate.reached
					elapse(small.Fresh + time.Minute)
					done := make(chan bool)
					go func() { event(w); close(done) }()
					for range 1000 { // it may wait for a mutex that the blocked goroutine holds
						runtime.Gosched()
					}
					gate.release()
					<-done
					w.settle()
					w.crash()
					w.notOlder(keyA, 2)
				})
			})
		}
	}
}

// TestDiskOpenInFlight lets an object be replaced or dropped while its file is being opened,
// for which the requests do not wait any more.
func TestDiskOpenInFlight(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]func(w *diskEnv){
		"not found": func(w *diskEnv) { w.wantErr(keyA, errBoom, w.fails(&NotFound{Err: errBoom})) },
		"not storable": func(w *diskEnv) {
			n := object{Version: 2, Size: 10}
			w.want(keyA, n, Miss, w.load(keyA, n))
		},
		"too large": func(w *diskEnv) {
			n := object{Version: 2, Size: 9 << 20, Fresh: time.Hour}
			w.want(keyA, n, Bypass, w.load(keyA, n))
		},
		"evicted": func(w *diskEnv) {
			n := object{Version: 2, Size: 6000, Fresh: time.Hour}
			w.want(keyA, n, Miss, w.load(keyA, n))
			w.memory.evicted(w.memory.removeKey(keyA), reasonCapacity)
		},
	} {
		for _, op := range []string{"open", "read"} {
			t.Run(name+" "+op, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newDiskEnv(t, onDisk)
					w.putFile(keyA, small)
					gate := w.block(op, "objects/", false)
					event(w)
					gate.release()
					w.settle()
					w.notOlder(keyA, 2)
					w.crash()
					w.notOlder(keyA, 2)
				})
			})
		}
	}
}

// TestDiskHangs checks that a disk which does not answer delays a request by openWait only.
func TestDiskHangs(t *testing.T) {
	t.Parallel()
	newer := small
	newer.Version = 2
	for name, test := range map[string]struct {
		prepare func(w *diskEnv)
		request func(w *diskEnv)
	}{
		"open": {func(w *diskEnv) { w.putFile(keyA, small) }, func(w *diskEnv) {
			w.want(keyA, newer, Miss, w.load(keyA, newer))
		}},
		"open, asked for twice": {func(w *diskEnv) { w.putFile(keyA, small) }, func(w *diskEnv) {
			if w.Open(w.t.Context(), keyA) {
				w.t.Error("opened")
			}
			w.want(keyA, newer, Miss, w.load(keyA, newer))
		}},
		"replace": {func(w *diskEnv) { w.put(keyA, small); elapse(small.Fresh + time.Minute) }, func(w *diskEnv) {
			w.want(keyA, newer, Miss, w.load(keyA, newer))
		}},
		"not found": {func(w *diskEnv) { w.put(keyA, small); elapse(small.Fresh + time.Minute) }, func(w *diskEnv) {
			w.wantErr(keyA, errBoom, w.fails(&NotFound{Err: errBoom}))
		}},
		"renew": {func(w *diskEnv) { w.put(keyA, small); elapse(small.Fresh + time.Minute) }, func(w *diskEnv) {
			w.want(keyA, small, Revalidated, w.same(small))
		}},
		"fill": {func(w *diskEnv) { w.want(keyB, large, Miss, w.load(keyB, large)) }, func(w *diskEnv) {
			w.want(keyB, large, Miss, w.load(keyB, large))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newDiskEnv(t, onDisk)
				test.prepare(w)
				gate := w.block("", "", false)
				begin := time.Now()
				defer time.AfterFunc(time.Hour, gate.release).Stop()
				test.request(w)
				if took := time.Since(begin); took > openWait {
					t.Errorf("the request took %s", took)
				}
				gate.release()
				w.settle()
			})
		})
	}
}

// TestDiskPurgeWhileItHangs checks that a purge works at once in memory, though it waits for
// the disk before it returns.
func TestDiskPurgeWhileItHangs(t *testing.T) {
	t.Parallel()
	for name, purge := range map[string]func(w *diskEnv){
		"key":    func(w *diskEnv) { w.Purge(keyA, true) },
		"prefix": func(w *diskEnv) { w.PurgePrefix(Key{Space: 1, Epoch: 1, Object: "a"}, true) },
		"space":  func(w *diskEnv) { w.PurgeSpace(1, 1) },
		"epoch":  func(w *diskEnv) { w.Retire(1, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, w *diskEnv, o object) {
				w.put(keyA, o)
				gate := w.block("fsync", "journal", false)
				done := make(chan bool)
				go func() { purge(w); close(done) }()
				select {
				case <-done:
					t.Error("the purge did not wait until it was durable")
				case <-gate.reached:
				}
				w.wantEntry(keyA, false)
				gate.release()
				<-done
			})
		})
	}
}

// TestDiskOffWhile lets the disk fail while objects are dropped and replaced. When it works
// again, they must not come back.
func TestDiskOffWhile(t *testing.T) {
	t.Parallel()
	newer := small
	newer.Version = 2
	for name, event := range map[string]func(w *diskEnv){
		"not found": func(w *diskEnv) { w.wantErr(keyA, errBoom, w.fails(&NotFound{Err: errBoom})) },
		"changed":   func(w *diskEnv) { w.want(keyA, newer, Miss, w.load(keyA, newer)) },
		"not storable": func(w *diskEnv) {
			n := newer
			n.Fresh = 0
			w.want(keyA, n, Miss, w.load(keyA, n))
		},
		"purged":  func(w *diskEnv) { w.Purge(keyA, true) },
		"prefix":  func(w *diskEnv) { w.PurgePrefix(Key{Space: 1, Epoch: 1}, true) },
		"retired": func(w *diskEnv) { w.Retire(1, 1) },
	} {
		for _, first := range []bool{true, false} { // the event finds out that the disk fails, or it is off already
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newDiskEnv(t, onDisk)
					w.put(keyA, small)
					elapse(small.Fresh + time.Minute)
					w.fs.setHook(func(string, string) error { return errBoom })
					if !first {
						w.want(keyB, small, Miss, w.load(keyB, small))
						w.wantEntry(keyB, true)
						synctest.Wait()
						if w.DiskStats().Available {
							t.Fatal("the disk is still on")
						}
					}
					event(w)
					if w.memory.has(keyA) {
						w.memory.evicted(w.memory.removeKey(keyA), reasonCapacity)
					}
					w.fs.setHook(nil)
					elapse(5 * time.Minute)
					synctest.Wait()
					if !w.DiskStats().Available {
						t.Fatal("the disk is still off")
					}
					w.notOlder(keyA, 2)
					w.restart()
					w.notOlder(keyA, 2)
				})
			})
		}
	}
}

// TestPromotionEndsNoReader hits an object on disk while slow readers have all memory: the copy
// in memory is not worth one of them.
func TestPromotionEndsNoReader(t *testing.T) {
	t.Parallel()
	ended := 0
	cfg := onDisk
	cfg.Relieve = func(int64, int64) Relief { ended++; return NoRelief }
	o := object{Version: 1, Size: 5000, Fresh: time.Hour}
	diskBubble(t, "", cfg, func(w *diskEnv) {
		w.putFile(keyA, o)
		held := &w.memory.held
		n := held.limit - held.used.Load()
		if !held.reserve(n) {
			t.Fatal("no room")
		}
		for range 2 { // the first opens the file
			w.want(keyA, o, Hit, w.forbidden)
			w.wantEntry(keyA, true)
			w.settle()
		}
		w.wantTier(keyA, TierDisk)
		held.release(n)
		if ended > 0 {
			w.t.Errorf("%d readers were to be ended", ended)
		}
	})
}
