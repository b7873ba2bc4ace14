package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// TestStress lets many clients do everything at once to a cache that is far too
// small, and verifies every byte that any of them sees.
func TestStress(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		memory, limit int64
		closes        bool
	}{
		"small":          {256 << 10, 512 << 10, false},
		"tiny":           {32 << 10, 64 << 10, false},
		"no memory":      {0, 256 << 10, false},
		"enough":         {64 << 20, 64 << 20, false},
		"closed halfway": {256 << 10, 512 << 10, true},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, Config{Memory: row.memory, ObjectMax: 100 << 10})
			w.memory.held.limit = row.limit
			var wg sync.WaitGroup
			for i := range 16 {
				c := &client{env: w, rnd: rand.New(rand.NewPCG(uint64(i), 1)), helpers: &wg}
				wg.Go(func() {
					for n := range 250 {
						c.request()
						if row.closes && i == 0 && n == 125 {
							w.Close()
						}
					}
				})
			}
			done := make(chan struct{})
			var watching sync.WaitGroup
			watching.Go(func() { w.watch(done) })
			wg.Wait()
			close(done)
			watching.Wait()
		})
	}
}

// watch looks at the budgets as often as it can.
func (w *env) watch(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
			runtime.Gosched()
		}
		held, stored := w.Stats().Bytes, w.memory.stored.used.Load()
		if held > w.memory.held.limit || stored > w.memory.stored.limit || held < 0 || stored < 0 {
			w.t.Errorf("held %d of %d, stored %d of %d",
				held, w.memory.held.limit, stored, w.memory.stored.limit)
			return
		}
	}
}

// client does one thing after another.
type client struct {
	*env
	rnd     *rand.Rand
	helpers *sync.WaitGroup // goroutines beside the client
}

// failures are the ways in which a fetch of the stress test can fail.
var failures = []error{
	errBoom, errShort, ErrTooLong, ErrClosed, ErrAbandoned, context.Canceled, ErrReaderClosed, &PanicError{}, ErrOutgrown,
}

func (c *client) request() {
	key := Key{Space: c.rnd.Int64N(2), Object: fmt.Sprint(c.rnd.IntN(20))}
	want := content(key, sizeOf(key))
	if c.rnd.IntN(3) == 0 {
		if e, ok := c.Hit(key, time.Now()); ok {
			defer e.Release()
			for range c.rnd.IntN(100) { // in which others may come and go
				runtime.Gosched()
			}
			if !bytes.Equal(e.Bytes(), want) {
				c.t.Errorf("wrong entry of %v", key)
			}
			return
		}
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	if c.rnd.IntN(10) == 0 {
		c.helpers.Go(cancel)
	}
	get := c.Get
	switch c.rnd.IntN(20) {
	case 0:
		c.Purge(key, c.rnd.IntN(2) == 0)
	case 1, 2, 3, 4:
		get = c.Stream
	case 5, 6:
		if n := sizeOf(key); c.Reserve(n) {
			defer c.Unreserve(n)
		}
	}
	r, err := get(ctx, key, c.load(want))
	if err != nil {
		c.check(err)
		return
	}
	defer r.Close()
	c.follow(r, want)
}

// follow reads: all of it or a part, quickly or slowly, or closes meanwhile.
func (c *client) follow(r *Reader, want []byte) {
	part, slow := c.rnd.IntN(4) == 0, c.rnd.IntN(4) == 0
	var mu sync.Mutex
	closed := false // by another goroutine: then the bytes are not this reader's any more
	if c.rnd.IntN(20) == 0 {
		c.helpers.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			r.Close()
			closed = true
		})
	}
	for off := 0; ; {
		p, err := r.Next(int64(off))
		if isEnd(err) && off == len(want) {
			return
		}
		if err != nil {
			c.check(err)
			return
		}
		mu.Lock()
		wrong := !closed && !bytes.HasPrefix(want[off:], p) || len(p) == 0
		mu.Unlock()
		if wrong {
			c.t.Errorf("%d wrong bytes at %d of %d", len(p), off, len(want))
			return
		}
		if slow {
			p = p[:1+c.rnd.IntN(len(p))]
			for range 10 {
				runtime.Gosched()
			}
			// A stream of one's own goes on where Next says, not the reader.
			if r.stream != nil {
				return
			}
		}
		if off += len(p); part && off > len(want)/2 {
			return
		}
	}
}

// check refuses every error that the test did not cause.
func (c *client) check(err error) {
	for _, known := range failures {
		if isError(err, known) {
			return
		}
	}
	c.t.Errorf("unexpected error %v", err)
}

// sizeOf is the size of key's object, some of which are larger than the cache
// of the stress test takes.
func sizeOf(key Key) int64 {
	sizes := []int64{0, 1, 2, 100, 4096, 5000, 20_000, 33_000, 80_000, 200_000}
	return sizes[(int(key.Object[len(key.Object)-1])+int(key.Space))%len(sizes)]
}

// load is good mostly, and bad in every way now and then.
func (c *client) load(want []byte) Load {
	fault, fresh := c.rnd.IntN(20), time.Duration(c.rnd.IntN(3))*time.Millisecond*(time.Duration(c.rnd.IntN(2))*1000+1)
	return func(ctx context.Context, _ *Entry) (*Source, error) {
		var r io.Reader = bytes.NewReader(want)
		size := int64(len(want))
		switch fault {
		case 0:
			return nil, errBoom
		case 1:
			panic("load panics")
		case 2:
			for range 100 { // perhaps it has no waiter any more
				runtime.Gosched()
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		case 3:
			r = io.MultiReader(r, iotest.ErrReader(errBoom))
		case 4:
			size++
		case 5:
			if size > 0 {
				size--
			}
		case 6:
			size = -1
		case 7, 8:
			r = iotest.HalfReader(r)
		case 9:
			r = iotest.DataErrReader(r)
		}
		return c.source(&yielding{ctx, r}, size, fresh), nil
	}
}

// yielding gives others a chance between reads, and notices its context's end.
type yielding struct {
	ctx context.Context //nolint:containedctx // of the load, which ends it
	r   io.Reader
}

func (y *yielding) Read(p []byte) (int, error) {
	runtime.Gosched()
	if y.ctx.Err() != nil {
		return 0, context.Cause(y.ctx)
	}
	return y.r.Read(p[:min(len(p), 7000)])
}
