package cache

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// racer has many goroutines purge, revalidate, get, hit and refresh a few keys of a cache
// that is too small. Every load returns its number. An object that was loaded before a
// purge must not be served as fresh to a request that starts after the purge has returned,
// and not at all after a hard purge. The same holds for an object from before a change of
// lifetimes, unless the source does not answer.
type racer struct {
	*env
	number        atomic.Int64
	floor, ground [len(raceKeys)]atomic.Int64 // the newest load that was purged, or purged hard

	mu               sync.Mutex      // one change at a time
	current, reached [3]atomic.Int64 // changes of each space: that loads heed, that have returned
}

// raced is the metadata that a load returns.
type raced struct{ number, revision int64 }

var raceKeys = [...]Key{{1, 1, "a"}, {1, 1, "ab"}, {1, 1, "b"}, {2, 1, "a"}}

// TestPurgeRace is worth most under the race detector.
func TestPurgeRace(t *testing.T) {
	t.Parallel()
	for name, memory := range map[string]int64{"enough": 1 << 20, "too little": 9000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &racer{env: newEnv(t, Config{Memory: memory, ObjectMax: 1 << 20})}
			var wg sync.WaitGroup
			for i := range 8 {
				rnd := rand.New(rand.NewPCG(uint64(i), 7))
				wg.Go(func() {
					for range 1500 {
						r.do(rnd)
					}
				})
			}
			wg.Wait()
		})
	}
}

func (r *racer) do(rnd *rand.Rand) {
	i := rnd.IntN(len(raceKeys))
	switch rnd.IntN(9) {
	case 0:
		r.purge(rnd, i)
	case 1:
		r.ForgetNegative(raceKeys[i].Space)
	case 2:
		r.revalidate(raceKeys[i])
	case 3, 4, 5:
		r.hit(rnd, i)
	default:
		r.get(rnd, i)
	}
}

// raise sets a to n unless it is more.
func raise(a *atomic.Int64, n int64) {
	for old := a.Load(); old < n; old = a.Load() {
		if a.CompareAndSwap(old, n) {
			return
		}
	}
}

func (r *racer) purge(rnd *rand.Rand, i int) {
	key, hard, n := raceKeys[i], rnd.IntN(2) == 0, r.number.Load()
	var reached []int
	switch rnd.IntN(4) {
	case 0:
		r.PurgeSpace(key.Space, key.Epoch)
		reached, hard = []int{0, 1, 2}, false
		if key.Space == 2 {
			reached = []int{3}
		}
	case 1:
		r.PurgePrefix(key, hard)
		if reached = []int{i}; i == 0 {
			reached = []int{0, 1}
		}
	default:
		r.Purge(key, hard)
		reached = []int{i}
	}
	for _, at := range reached {
		raise(&r.floor[at], n)
		if hard {
			raise(&r.ground[at], n)
		}
	}
}

// revalidate has loads heed other lifetimes, and then the cache, as a change of an alias
// does.
func (r *racer) revalidate(key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.current[key.Space].Add(1)
	r.Revalidate(key.Space, key.Epoch, time.Minute)
	r.reached[key.Space].Store(n)
}

// bounds limit the results of a request that starts now: no load up to floor as fresh, none
// up to ground at all, and none from before revision unless it is stale.
type bounds struct{ floor, ground, revision int64 }

func (r *racer) bounds(i int) bounds {
	return bounds{r.floor[i].Load(), r.ground[i].Load(), r.reached[raceKeys[i].Space].Load()}
}

func (r *racer) checkBounds(i int, status Status, meta any, b bounds) {
	m := meta.(raced)
	if m.number <= b.ground || m.number <= b.floor && status != Stale || m.revision < b.revision && status != Stale {
		r.t.Errorf("%+v of %v with status %d; the bounds are %+v", m, raceKeys[i], status, b)
	}
}

func (r *racer) hit(rnd *rand.Rand, i int) {
	b := r.bounds(i)
	e, ok := r.Hit(raceKeys[i], time.Now())
	if !ok {
		return
	}
	defer e.Release()
	r.checkBounds(i, Hit, e.Meta, b)
	if rnd.IntN(4) == 0 {
		r.Refresh(raceKeys[i], e, r.load(rnd.Uint64(), i))
	}
	if !bytes.Equal(e.Bytes(), content(raceKeys[i], int64(len(e.Bytes())))) {
		r.t.Error("wrong bytes")
	}
}

func (r *racer) get(rnd *rand.Rand, i int) {
	ask := r.Get
	if rnd.IntN(3) == 0 {
		ask = r.GetMeta
	}
	b := r.bounds(i)
	got, err := ask(r.t.Context(), raceKeys[i], r.load(rnd.Uint64(), i))
	if err != nil {
		return
	}
	defer got.Close()
	r.checkBounds(i, got.Status, got.Meta, b)
	if got.NoBody || rnd.IntN(4) == 0 {
		return
	}
	if data, err := readAll(got, 0); err == nil && !bytes.Equal(data, content(raceKeys[i], int64(len(data)))) {
		r.t.Error("wrong bytes")
	}
}

// raceSource lives for any time.
func raceSource(rnd *rand.Rand) Source {
	src := Source{
		Fresh: time.Duration(rnd.IntN(4)) * 300 * time.Microsecond, Validate: rnd.IntN(4) == 0,
		StaleWhileRevalidate: time.Duration(rnd.IntN(2)) * time.Minute, StaleIfError: time.Duration(rnd.IntN(2)) * time.Minute,
		DefaultStaleWhileRevalidate: rnd.IntN(2) == 0,
	}
	if rnd.IntN(2) == 0 {
		src.Fresh = time.Minute
	}
	return src
}

// load takes its number when it starts: its object may be as old as that.
func (r *racer) load(seed uint64, i int) Load {
	return func(_ context.Context, old *Entry) (*Source, error) {
		rnd, n := rand.New(rand.NewPCG(seed, 0)), r.number.Add(1)
		src := raceSource(rnd)
		for range rnd.IntN(10) {
			runtime.Gosched()
		}
		src.Meta = raced{n, r.current[raceKeys[i].Space].Load()}
		for range rnd.IntN(10) {
			runtime.Gosched()
		}
		switch what := rnd.IntN(20); {
		case what < 2:
			return nil, &NotFound{Err: errBoom, For: time.Millisecond}
		case what < 4:
			return nil, &Unavailable{Err: errBoom}
		case what < 6:
			return nil, errBoom
		case what < 13 && old != nil:
			src.Same = true
			return &src, nil
		}
		src.Size = int64(rnd.IntN(5000))
		r.opened.Add(1)
		src.Body = &testBody{Reader: bytes.NewReader(content(raceKeys[i], src.Size)), w: r.env}
		return &src, nil
	}
}
