package cache

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

var seedFlag = flag.Uint64("cache.seed", 0, "first seed of TestOperations; 0 is 1")

// TestOperations lets a cache and its model do the same random things, and
// compares everything after every step.
func TestOperations(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = 1
	}
	runs := uint64(40)
	if testing.Short() {
		runs = 10
	}
	for i := range runs {
		t.Run(fmt.Sprintf("cache.seed=%d", seed+i), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed+i, 0))
			steps := 4000
			synctest.Test(t, func(t *testing.T) {
				operate(t, func(n int) (int, bool) { steps--; return rnd.IntN(n), steps > 0 })
			})
		})
	}
}

// FuzzOperations lets the fuzzer choose the operations. It needs -fuzzminimizetime=1x:
// coverage varies with the scheduler, so that minimising does not end.
func FuzzOperations(f *testing.F) {
	for seed := range byte(8) {
		data := make([]byte, 4000)
		rand.NewChaCha8([32]byte{seed}).Read(data)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			operate(t, func(n int) (int, bool) {
				if len(data) == 0 {
					return 0, false
				}
				c := int(data[0]) % n
				data = data[1:]
				return c, true
			})
		})
	})
}

// operator does things to a cache and its model.
type operator struct {
	*env
	m     *model
	pick  func(n int) (int, bool) // below n; false when it is enough
	open  []*opened
	feeds map[*modelFetch]*feed

	// Every load tells its number. What was fetched before a purge is not given
	// as fresh after it, nor given at all after a hard one: this is checked
	// without the model.
	number        int
	floor, ground map[Key]int
}

// opened is a reader that is held open.
type opened struct {
	modelOutcome
	r    *Reader
	want []byte
	off  int
	took bool // the rest of an outgrown object
}

// operate makes a cache, in which a few objects fill everything, and does
// things to it as long as pick says so.
func operate(t *testing.T, pick func(n int) (int, bool)) {
	capacities := []int64{1 << 20, 300 << 10, 20_000, 0}
	c, more := pick(len(capacities))
	w := newEnv(t, Config{Memory: capacities[c]})
	w.memory.held.limit = max(capacities[c], 400<<10) // instead of fetchFloor
	w.memory.objectMax = 390 << 10
	o := &operator{
		env: w, pick: pick, feeds: make(map[*modelFetch]*feed),
		m:     newModel(capacities[c], w.memory.held.limit, w.memory.objectMax),
		floor: make(map[Key]int), ground: make(map[Key]int),
	}
	things := []func(){
		o.get, o.get, o.get, o.get, o.get, o.get, o.get, o.get, o.hit, o.renew, o.feed, o.feed, o.finish, o.finish,
		o.finish, o.finish, o.read, o.close, o.close, o.close, o.wait, o.wait, o.purge, o.sweep, o.miss, o.absent,
		o.revalidate,
	}
	for more && !t.Failed() {
		var thing int
		if thing, more = pick(len(things)); more {
			things[thing]()
			synctest.Wait()
			o.compare()
		}
	}
	for len(o.open) > 0 {
		o.close()
	}
	for _, f := range o.feeds {
		f.give(nil, errBoom)
	}
}

// oneOf is a choice below n, without caring whether there will be another.
func (o *operator) oneOf(n int) int {
	c, _ := o.pick(n)
	return c
}

const manyKeys = 9

func keyNo(n int) Key {
	return Key{Space: int64(n % 3), Object: string([]byte{"xy"[n/3%2], byte('a' + n)})}
}

func (o *operator) key() Key { return keyNo(o.oneOf(manyKeys)) }

// script chooses the result of a load.
func (o *operator) script() script {
	sizes := []int64{0, 1, 100, 1000, 1000, 5000, 5000, 10_000, 40_000, 100_000, 300_000, 380_000, 400_000}
	return script{
		kind:    []modelKind{comes, comes, comes, same, same, same, goes, outage, fails}[o.oneOf(9)],
		size:    sizes[o.oneOf(len(sizes))],
		meta:    []int64{0, 0, 0, 50}[o.oneOf(4)],
		fresh:   []time.Duration{time.Hour, time.Minute, 0}[min(o.oneOf(7)/2, 2)],
		while:   []time.Duration{0, time.Minute, 2 * time.Hour}[o.oneOf(3)],
		fault:   []time.Duration{0, time.Minute, 2 * time.Hour}[o.oneOf(3)],
		gone:    []time.Duration{0, time.Minute}[o.oneOf(2)],
		unknown: o.oneOf(3) == 0, validate: o.oneOf(2) == 0, byDefault: o.oneOf(2) == 0,
		now: []*Lifetimes{nil, nil, {time.Minute, 0}, {0, time.Minute}, {time.Hour, time.Hour}}[o.oneOf(5)],
	}
}

// load returns the result of s. f provides the body.
func (o *operator) load(s script, f *feed, behind bool) Load {
	return func(ctx context.Context, old *Entry) (*Source, error) {
		if !behind {
			synctest.Wait() // a fetch that this one replaces has released its memory
		}
		o.loads.Add(1)
		src := s.source(o.number)
		switch {
		case s.kind == fails:
			return nil, errBoom
		case s.kind == outage:
			return nil, &Unavailable{Err: errBoom, Now: s.now}
		case s.kind == goes:
			return nil, &NotFound{Err: errBoom, For: s.gone}
		case s.kind == same && old != nil:
			src.Same = true
			return src, nil
		}
		f.ctx = ctx
		o.opened.Add(1)
		src.Body = &testBody{Reader: f, w: o.env}
		return src, nil
	}
}

// get requests an object. A part of the body comes at once, or all of it if the object is
// not shared.
func (o *operator) get() {
	key, s := o.key(), o.script()
	loads, f, before := o.loads.Load(), newFeed(), o.fetches[key]
	guess := o.m.get(key, s, time.Now())
	ask := o.Get
	if o.oneOf(2) == 0 { // where only one waits, it is the same
		ask = o.GetMeta
	}
	o.number++
	r, err := ask(o.t.Context(), key, o.load(s, f, guess.behind))
	synctest.Wait()
	ran := o.loads.Load() > loads
	if ran != guess.loads || (err != nil) != guess.err || err == nil && r.Status != guess.status {
		o.t.Fatalf("%v: %+v, %v, load ran: %t; want %+v; %+v", key, r, err, ran, guess, s)
	}
	if ran && o.m.fetches[key] != nil && o.fetches[key] != before {
		o.feeds[o.m.fetches[key]] = f
	}
	if err != nil {
		return
	}
	if r.Stores != guess.stores {
		o.t.Errorf("%v: Stores is %t, want %t; %+v; %+v", key, r.Stores, guess.stores, guess, s)
	}
	o.checkPurged(key, r.Status, r.Meta)
	want := content(key, max(r.Size, s.size))
	switch {
	case guess.fetch == nil && guess.body == nil:
		f.give(content(key, s.size), io.EOF)
	case guess.fetch != nil:
		want = content(key, guess.fetch.script.size)
	default:
		want = content(key, r.Size)
	}
	o.open = append(o.open, &opened{modelOutcome: guess, r: r, want: want})
}

// checkPurged checks that nothing is given from before a purge.
func (o *operator) checkPurged(key Key, status Status, meta any) {
	number := meta.(int)
	if number <= o.ground[key] || number <= o.floor[key] && status != Stale {
		o.t.Errorf("%v of load %d with status %d; loads up to %d were purged, up to %d hard",
			key, number, status, o.floor[key], o.ground[key])
	}
}

func (o *operator) hit() {
	key := o.key()
	if e := o.held(key); e != nil {
		e.Release()
		o.m.release(o.m.entries[key].body)
	}
}

// held is a hit, nil if there is none.
func (o *operator) held(key Key) *Entry {
	guess := o.m.hit(key, time.Now())
	e, ok := o.Hit(key, time.Now())
	if ok != (guess != nil) {
		o.t.Fatalf("Hit(%v) = %t, want %t", key, ok, guess != nil)
	}
	if ok {
		o.checkPurged(key, Hit, e.Meta)
		if !bytes.Equal(e.Bytes(), content(key, int64(len(e.Bytes())))) {
			o.t.Errorf("wrong bytes of %v", key)
		}
	}
	return e
}

// renew has a fresh entry fetched ahead of time.
func (o *operator) renew() {
	key, s := o.key(), o.script()
	e := o.held(key)
	if e == nil {
		return
	}
	entry, loads, f := o.m.entries[key], o.loads.Load(), newFeed()
	o.number++
	o.Refresh(key, e, o.load(s, f, true))
	guess := o.m.renew(entry, s, time.Now())
	synctest.Wait()
	if ran := o.loads.Load() > loads; ran != guess {
		o.t.Errorf("Refresh(%v) loads: %t, want %t", key, ran, guess)
	}
	if fl := o.m.fetches[key]; guess && fl != nil {
		o.feeds[fl] = f
	}
	e.Release()
	o.m.release(entry.body)
}

// running returns one of the running fetches, nil if there is none.
func (o *operator) running() *modelFetch {
	if len(o.m.live) == 0 {
		return nil
	}
	return o.m.live[o.oneOf(len(o.m.live))]
}

// feed lets a part of an object come.
func (o *operator) feed() {
	if f := o.running(); f != nil {
		n := (f.script.size - f.given) * int64(o.oneOf(5)) / 4
		if n == 0 {
			return // too many empty reads would end it
		}
		o.feeds[f].give(content(f.key, f.script.size)[f.given:f.given+n], nil)
		f.given += n
		o.m.grow(f, false, time.Now())
		o.drain(f)
	}
}

// drain ends the source of a fetch that has ended because of its size.
func (o *operator) drain(f *modelFetch) {
	if feed := o.feeds[f]; feed != nil && f.end != nil {
		feed.give(content(f.key, f.script.size)[f.gone:], io.EOF)
		delete(o.feeds, f)
	}
}

// finish ends an object, rarely with an error.
func (o *operator) finish() {
	f := o.running()
	if f == nil {
		return
	}
	end := []error{io.EOF, io.EOF, io.EOF, errBoom}[o.oneOf(4)]
	o.feeds[f].give(content(f.key, f.script.size)[f.given:], end)
	delete(o.feeds, f)
	f.given = f.script.size
	o.m.grow(f, true, time.Now())
	if f.end == nil {
		o.m.finish(f, end, time.Now())
	}
	f.tail = end
}

// any takes one of the open readers out, nil if there is none.
func (o *operator) any() *opened {
	if len(o.open) == 0 {
		return nil
	}
	i := o.oneOf(len(o.open))
	r := o.open[i]
	o.open = append(o.open[:i], o.open[i+1:]...)
	return r
}

// read checks that a reader gets exactly the published bytes.
func (o *operator) read() {
	r := o.any()
	if r == nil {
		return
	}
	o.open = append(o.open, r)
	may, end := len(r.want), io.EOF
	if r.fetch != nil {
		may, end = int(r.fetch.published()), r.fetch.end
	}
	if end == errOutgrown { //nolint:errorlint // it is never wrapped
		end = ErrOutgrown
		if may == r.off && !r.fetch.taken {
			r.fetch.taken, r.took = true, true
			o.m.release(r.fetch.body)
		}
		if r.took {
			may, end = len(r.want), r.fetch.tail
			if !isEnd(end) {
				may--
			}
		}
	}
	if may == r.off && end == nil {
		return // it would wait
	}
	p, err := r.r.Next(int64(r.off))
	switch {
	case may == r.off && !errors.Is(err, end):
		o.t.Errorf("reader got %v at the end, want %v", err, end)
	case may > r.off && (len(p) == 0 || len(p) > may-r.off || !bytes.HasPrefix(r.want[r.off:], p)):
		o.t.Errorf("reader got %d bytes, %v; want some of %d right ones", len(p), err, may-r.off)
	}
	r.off += len(p)
}

func (o *operator) close() {
	r := o.any()
	if r == nil {
		return
	}
	if o.oneOf(4) == 0 {
		r.r.KeepFetching()
		if r.fetch != nil && r.fetch.promised {
			r.fetch.wanted = true
		}
	}
	r.r.Close()
	switch {
	case r.took:
		r.fetch.waiters--
	case r.fetch != nil:
		if o.m.leave(r.fetch, time.Now()); r.fetch.end != nil {
			delete(o.feeds, r.fetch)
		}
	case r.body != nil:
		o.m.release(r.body)
	}
}

func (o *operator) wait() {
	waits := []time.Duration{time.Second, 3 * time.Second, 30 * time.Second, time.Minute, time.Minute, time.Hour}
	elapse(waits[o.oneOf(len(waits))])
	for _, f := range o.m.elapse(time.Now()) {
		delete(o.feeds, f)
	}
}

// miss adds a negative entry, or drops those of a space.
func (o *operator) miss() {
	key := o.key()
	if life := time.Duration(o.oneOf(4)) * time.Minute; life > 0 {
		o.AddNegative(key, &NotFound{Err: errBoom, For: life}, o.Generation(key))
		if o.m.entries[key] == nil && o.m.fetches[key] == nil {
			o.m.addNegative(key, life, time.Now())
		}
		return
	}
	o.ForgetNegative(key.Space)
	maps.DeleteFunc(o.m.negative, func(k Key, _ time.Time) bool { return k.Space == key.Space })
}

func (o *operator) absent() {
	key := o.key()
	if got, want := o.Negative(key, time.Now()) != nil, o.m.absent(key, time.Now()); got != want {
		o.t.Errorf("Negative(%v): %t, want %t", key, got, want)
	}
	if got, want := o.Has(key), o.m.entries[key] != nil; got != want {
		o.t.Errorf("Has(%v) = %t, want %t", key, got, want)
	}
}
