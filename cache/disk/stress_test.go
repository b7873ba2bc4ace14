package disk

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStress runs everything at once on the real file system. A body tells its version; no reader sees another
// body than its header says, and none that a confirmed hard purge covers.
func TestStress(t *testing.T) {
	t.Parallel()
	e := open(t, func(c *Config) { c.Limit = 4 << 20 })
	const keys = 40
	var generation atomic.Uint64
	generation.Store(e.Generation())
	var purged [keys]atomic.Uint64 // the last confirmed hard purge
	var hits atomic.Int64
	version := func(i int, g uint64) []byte { return body(g, int(g*7919%uint64(100_000))+i) }
	store := func(r *rand.Rand, i int) {
		g := generation.Add(1)
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(1000))) //nolint:forbidigo // the object comes late
		}
		b := version(i, g)
		h := e.header(numbered(i), len(b))
		h.Generation, h.Meta = g, meta(g, 0)
		var err error
		if r.IntN(2) == 0 {
			err = e.Put(h, b)
		} else if w, cerr := e.Create(h); cerr == nil {
			var followed sync.WaitGroup
			followed.Go(func() {
				p := make([]byte, len(b)+1)
				if n, err := w.ReadAt(p, 0); err == nil || !bytes.Equal(p[:n], b[:n]) {
					t.Errorf("read of what is being written: %d, %v", n, err)
				}
			})
			w.Write(b[:len(b)/2])
			w.Write(b[len(b)/2:])
			followed.Wait()
			var o *Object
			if o, err = w.Commit(); err == nil {
				o.Close()
			}
			w.Abort()
		}
		if err != nil && !errors.Is(err, ErrPurged) && !errors.Is(err, ErrNoRoom) {
			t.Error(err)
		}
	}
	get := func(r *rand.Rand, i int) {
		bound := purged[i].Load()
		o, err := e.Get(numbered(i))
		if err != nil {
			return
		}
		defer o.Close()
		hits.Add(1)
		if o.Generation < bound {
			t.Errorf("%d of %d came back after %d", i, o.Generation, bound)
		}
		b := version(i, order.Uint64(o.Meta))
		off := r.Int64N(o.Size + 1)
		p := make([]byte, 1+r.IntN(100_000))
		n, err := o.ReadAt(p, off)
		if err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(p[:n], b[off:min(int(off)+len(p), len(b))]) {
			t.Errorf("%d of %d: wrong bytes, %v", i, o.Generation, err)
		}
		if r.IntN(4) == 0 {
			if err := o.Verify(); err != nil {
				t.Error(err)
			}
		}
		if r.IntN(4) == 0 {
			h := o.Header
			h.Expires = h.Expires.Add(time.Second)
			h.Generation = generation.Add(1)
			if err := e.Update(h); err != nil && !errors.Is(err, ErrPurged) && !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		}
		o.Touch()
	}
	purge := func(r *rand.Rand, i int) {
		g := generation.Add(1)
		m := Mark{Space: 7, Epoch: 2, Object: numbered(i).Object, Hard: r.IntN(2) == 0, Generation: g, At: time.Now()}
		all := r.IntN(8) == 0
		if all {
			m.Object, m.Prefix = "", true
		}
		if _, _, err := e.Purge(m); err != nil {
			t.Error(err)
		}
		for j := range keys {
			for m.Hard && (all || i == j) {
				old := purged[j].Load()
				if old >= g || purged[j].CompareAndSwap(old, g) {
					break
				}
			}
		}
	}
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 3))
			for range 300 {
				i := r.IntN(keys)
				switch r.IntN(12) {
				case 0, 1, 2, 3:
					store(r, i)
				case 4:
					purge(r, i)
				case 5:
					e.Remove(numbered(i), "gone")
				case 6:
					if n == 0 {
						e.compact(spaceID{7, 2})
						e.saveIndex(false)
						e.walk()
					}
				default:
					get(r, i)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d hits, %v", hits.Load(), e.rec.all())
	if !e.Stats().Available || e.rec.get("disk corrupt") > 0 {
		t.Errorf("%+v, %v", e.Stats(), e.rec.all())
	}
	e.removeDoomed()
	e.lockAll()
	e.unlockAll()
	for e.hasTrash() {
		e.emptyTrash()
	}
	e.mu.Lock()
	sum := int64(baseCost)
	for _, sp := range e.index.spaces {
		sum += sp.bytes + int64(sp.folders)*folderCost
	}
	if sum != e.used || e.reserved != 0 || len(e.opened) != 0 {
		t.Errorf("entries take %d, the counter says %d; %d reserved, %d open", sum, e.used, e.reserved, len(e.opened))
	}
	e.mu.Unlock()
	before := e.Stats()
	e.reopen()
	e.walk()
	if got := e.Stats(); got != before {
		t.Errorf("got %+v, want %+v", got, before)
	}
}
