package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDiskOperations does random things to a cache with a disk tier, which is small in all
// respects, and checks every answer: its bytes are right, it is not older than a purge allows, and
// not staler than the lifetimes allow. In the end nothing may be held.
func TestDiskOperations(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1 << 40)
	}
	for i := range uint64(12) {
		t.Run(fmt.Sprintf("cache.seed=%d", seed+i), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed+i, 0))
			synctest.Test(t, func(t *testing.T) { newTierOperator(t, rnd).operate(1500) })
		})
	}
}

// tierOperator does things to a cache, and knows what the source has.
type tierOperator struct {
	*diskEnv

	rnd    *rand.Rand
	source map[Key]*tierObject
	wg     sync.WaitGroup // of requests

	logged sync.Mutex // guards log
	log    []string
}

// tierObject is an object of the source with its history. Guarded by diskEnv.mu.
type tierObject struct {
	object
	gone bool
	// confirmed is when the source last gave or confirmed a version.
	confirmed map[int]time.Time
	lives     map[int]object // the lifetimes of each version
	hard      int            // this version and older ones may not be served
	soft      int            // may be served stale only
	seen      int            // the latest version that was given in this process
}

func newTierOperator(t *testing.T, rnd *rand.Rand) *tierOperator {
	t.Helper()
	memory := []int64{60_000, 200_000, 0}[rnd.IntN(3)]
	w := newDiskEnv(t, Config{Memory: memory, ObjectMax: 20_000})
	o := &tierOperator{diskEnv: w, rnd: rnd, source: map[Key]*tierObject{}}
	w.stop()
	w.limit, w.openMax = []int64{600 << 10, 1 << 30}[rnd.IntN(2)], []int{1, 3, 100}[rnd.IntN(3)]
	w.start(t)
	for i := range 8 {
		key := Key{Space: int64(i % 2), Epoch: 1, Object: string([]byte{"xy"[i/2%2], byte('a' + i)})}
		o.source[key] = &tierObject{
			confirmed: map[int]time.Time{}, lives: map[int]object{}, hard: -1, soft: -1,
			object: object{
				Size:  []int64{100, 3000, 15_000, 30_000, 60_000}[i%5],
				While: []time.Duration{0, time.Minute}[i%2], Fault: []time.Duration{0, 5 * time.Minute}[i/2%2],
			},
		}
		o.change(key)
	}
	return o
}

func (o *tierOperator) key() Key {
	i := o.rnd.IntN(8)
	return Key{Space: int64(i % 2), Epoch: 1, Object: string([]byte{"xy"[i/2%2], byte('a' + i)})}
}

func (o *tierOperator) operate(steps int) {
	things := []func(){
		o.get, o.get, o.get, o.get, o.get, o.get, o.get, o.get, o.get, o.get, o.hit, o.hit, o.hit, o.hit,
		func() { o.change(o.key()) }, func() { o.change(o.key()) }, o.delete, o.purge, o.purge, o.purge, o.evict,
		o.wait, o.wait, o.wait, o.disturb, o.heal, o.heal, o.heal, o.again,
	}
	for range steps {
		things[o.rnd.IntN(len(things))]()
		if o.rnd.IntN(2) == 0 {
			synctest.Wait()
		}
		if o.t.Failed() {
			o.logged.Lock()
			o.t.Log(o.log[max(0, len(o.log)-40):])
			o.logged.Unlock()
			break
		}
	}
	o.wg.Wait()
	o.fs.setHook(nil)
	elapse(10 * time.Minute)
	synctest.Wait()
	if st := o.DiskStats(); !o.t.Failed() && (!st.Available || st.Entries != len(o.fs.objects())) {
		o.t.Errorf("%+v, with %d files", st, len(o.fs.objects()))
	}
	o.stop()
}

func (o *tierOperator) notef(format string, args ...any) {
	o.logged.Lock()
	defer o.logged.Unlock()
	o.log = append(o.log, fmt.Sprintf("\n%s "+format, append([]any{time.Now().Format("15:04:05.000")}, args...)...))
}

// change gives the source a new version.
func (o *tierOperator) change(key Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.source[key]
	s.Version++
	s.gone = false
	s.Fresh = []time.Duration{time.Minute, time.Hour, time.Hour, 0}[o.rnd.IntN(4)]
	s.Unshared = s.Fresh == 0 && o.rnd.IntN(2) == 0
	s.lives[s.Version] = s.object
	o.notef("change %v to %d, fresh for %s", key, s.Version, s.Fresh)
}

func (o *tierOperator) delete() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.source[o.key()].gone = true
}

// fetch is a Load. Some of them fail, and some bodies take their time.
func (o *tierOperator) fetch(key Key, fate int) Load {
	e := o.env
	return func(ctx context.Context, old *Entry) (*Source, error) {
		e.loads.Add(1)
		o.mu.Lock()
		defer o.mu.Unlock()
		s := o.source[key]
		switch {
		case fate == 0:
			return nil, errBoom
		case fate == 1:
			return nil, &Unavailable{Err: errBoom}
		case s.gone:
			return nil, &NotFound{Err: errBoom, For: time.Second}
		}
		s.confirmed[s.Version] = time.Now()
		if old != nil && !old.Purged() && old.Meta.(object).Version == s.Version {
			src := s.source()
			src.Same = true
			return src, nil
		}
		body := io.Reader(bytes.NewReader(s.content(key)))
		switch fate {
		case 2:
			body = io.MultiReader(io.LimitReader(body, s.Size/2), failingReader{})
		case 3, 4, 5:
			body = &slowReader{Reader: body, ctx: ctx}
		}
		return e.open(s.object, body), nil
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBoom }

// slowReader takes a second for each read.
type slowReader struct {
	io.Reader

	ctx context.Context //nolint:containedctx // of the load, which ends it
}

func (r *slowReader) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p[:min(len(p), 9000)])
}

// get requests an object and checks the answer when it comes.
func (o *tierOperator) get() {
	key, fate := o.key(), o.rnd.IntN(12)
	e := o.env
	before := o.state(key)
	began := time.Now()
	load := o.fetch(key, fate)
	leave := o.rnd.IntN(8) == 0
	o.wg.Go(func() {
		r, err := e.Get(e.t.Context(), key, load)
		if err != nil {
			if !errors.Is(err, errBoom) && !errors.Is(err, ErrClosed) {
				e.t.Errorf("%v: %v", key, err)
			}
			return
		}
		defer r.Close()
		v := r.Meta.(object)
		o.check(key, v, r.Status, began, before)
		if leave {
			return
		}
		data, err := readAll(r, 0)
		whole := v.content(key)
		if err == nil && !bytes.Equal(data, whole) || !bytes.HasPrefix(whole, data) {
			e.t.Errorf("%v: %d wrong bytes of version %d, %v", key, len(data), v.Version, err)
		}
	})
}

func (o *tierOperator) state(key Key) tierObject {
	o.mu.Lock()
	defer o.mu.Unlock()
	return *o.source[key]
}

// check checks the version of an answer to a request that began when the state was before.
func (o *tierOperator) check(key Key, v object, status Status, began time.Time, before tierObject) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.source[key]
	at := s.confirmed[v.Version]
	l := s.lives[v.Version]
	switch {
	case v.Version <= before.hard:
		o.t.Errorf("%v: version %d with status %d; up to %d were purged hard", key, v.Version, status, before.hard)
	case v.Version <= before.soft && status != Stale:
		o.t.Errorf("%v: version %d with status %d; up to %d were purged", key, v.Version, status, before.soft)
	case v.Version < before.seen && status != Bypass:
		o.t.Errorf("%v: version %d with status %d, though %d was given before", key, v.Version, status, before.seen)
	case status == Hit && began.After(at.Add(l.Fresh)):
		o.t.Errorf("%v: version %d is a hit after %s, fresh for %s", key, v.Version, began.Sub(at), l.Fresh)
	case status == Stale && began.After(at.Add(l.Fresh+max(l.While, l.Fault))):
		o.t.Errorf("%v: version %d is served stale after %s", key, v.Version, began.Sub(at))
	}
	if status == Hit || status == Stale || status == Revalidated { // what is being fetched may never be stored
		s.seen = max(s.seen, v.Version)
	}
	o.notef("got %v version %d status %d", key, v.Version, status)
}

func (o *tierOperator) hit() {
	key := o.key()
	before := o.state(key)
	e, ok := o.Hit(key, time.Now())
	if !ok {
		return
	}
	defer e.Release()
	v := e.Meta.(object)
	o.check(key, v, Hit, time.Now(), before)
	r := e.NewReader()
	defer r.Close()
	if data, err := readAll(r, 0); err == nil && !bytes.Equal(data, v.content(key)) || !bytes.HasPrefix(v.content(key), data) {
		o.t.Errorf("%v: %d wrong bytes of a hit, %v", key, len(data), err)
	}
	if e.Due(time.Now()) {
		o.Refresh(key, e, o.fetch(key, o.rnd.IntN(12)))
	}
}

// purge purges in one of all ways.
func (o *tierOperator) purge() {
	key, way, hard := o.key(), o.rnd.IntN(4), o.rnd.IntN(2) == 0
	match := func(k Key) bool { return k == key }
	prefix := Key{Space: key.Space, Epoch: 1, Object: key.Object[:1]}
	versions := map[Key]int{}
	switch way {
	case 1:
		match = func(k Key) bool { return under(k, prefix) }
	case 2, 3:
		match, hard = func(k Key) bool { return k.Space == key.Space }, false
	}
	o.mu.Lock()
	for k, s := range o.source {
		if match(k) {
			versions[k] = s.Version
			s.Version++ // what comes from now on can be told from what is purged
			s.lives[s.Version] = s.object
		}
	}
	o.mu.Unlock()
	o.notef("purge %v, way %d, hard %t", key, way, hard)
	var err error
	switch way {
	case 0:
		err = o.Purge(key, hard).Err
	case 1:
		err = o.PurgePrefix(prefix, hard).Err
	case 2:
		err = o.PurgeSpace(key.Space, 1).Err
	case 3: // an object that is confirmed is fresh again
		o.Revalidate(key.Space, 1, 0)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, v := range versions {
		s := o.source[k]
		s.soft = max(s.soft, v)
		if hard {
			s.hard = max(s.hard, v)
		}
	}
	if err != nil {
		o.mu.Unlock()
		o.heal() // only a purge without an error holds after a crash
		elapse(2 * time.Minute)
		o.mu.Lock()
	}
}

func (o *tierOperator) evict() {
	for range 1 + o.rnd.IntN(3) {
		if e := o.memory.removeKey(o.key()); e != nil {
			o.memory.evicted(e, reasonCapacity)
		}
	}
}

func (o *tierOperator) wait() {
	elapse([]time.Duration{time.Second, 3 * time.Second, 20 * time.Second, time.Minute, 10 * time.Minute, time.Hour}[o.rnd.IntN(6)])
}

// disturb lets some operations on files fail.
func (o *tierOperator) disturb() {
	ops := []string{"read", "write", "open", "create", "rename", "remove", "fsync", "list", "stat", "fstat"}
	op, share := ops[o.rnd.IntN(len(ops))], o.rnd.IntN(3)
	var mu sync.Mutex
	n := 0
	o.notef("operations %s fail", op)
	o.fs.setHook(func(done, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		if done == op && n%(share+1) == 0 {
			return errBoom
		}
		return nil
	})
}

func (o *tierOperator) heal() { o.fs.setHook(nil) }

// again starts another process, after an end or a crash of this one.
func (o *tierOperator) again() {
	if o.rnd.IntN(3) > 0 {
		return
	}
	o.heal()
	if o.rnd.IntN(2) == 0 {
		o.notef("crash")
		old, fs := o.env, o.fs
		o.fs = fs.clone()
		o.start(old.t)
		old.mu.Lock()
		old.stop(ErrClosed)
		old.mu.Unlock()
		o.wg.Wait() // the requests hold bodies
		end(old, fs)
	} else {
		o.notef("restart")
		o.wg.Wait()
		o.restart()
	}
	o.wg.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.source {
		s.seen = 0 // a version that was in memory alone is lost
	}
}
