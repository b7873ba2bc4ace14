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

var seedFlag = flag.Uint64("cache.seed", 0, "seed of TestOperations; 0 takes a new one")

// TestOperations lets a cache and its model do the same random things, and
// compares everything after every step.
func TestOperations(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1 << 40)
	}
	for i := range uint64(40) {
		t.Run(fmt.Sprintf("cache.seed=%d", seed+i), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed+i, 0))
			steps := 300
			synctest.Test(t, func(t *testing.T) {
				operate(t, func(n int) (int, bool) { steps--; return rnd.IntN(n), steps > 0 })
			})
		})
	}
}

// FuzzOperations lets the fuzzer choose the things. It wants -fuzzminimizetime=1x:
// coverage varies with the scheduler, and minimising would go on in vain.
func FuzzOperations(f *testing.F) {
	for seed := range byte(8) {
		data := make([]byte, 400)
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
	*world
	m     *model
	pick  func(n int) (int, bool) // below n; false when it is enough
	open  []*opened
	feeds map[*modelFlight]*feed
}

// opened is a reader that is held open.
type opened struct {
	outcome
	r    *Reader
	want []byte
	off  int
}

// operate makes a cache, in which a few objects fill everything, and does
// things to it as long as pick says so.
func operate(t *testing.T, pick func(n int) (int, bool)) {
	capacities := []int64{1 << 20, 300 << 10, 20_000, 0}
	c, more := pick(len(capacities))
	w := newWorld(t, Config{Memory: capacities[c]})
	w.memory.held.limit = max(capacities[c], 400<<10) // instead of flightFloor
	w.objectMax = 390 << 10
	o := &operator{
		world: w, pick: pick, feeds: make(map[*modelFlight]*feed),
		m: newModel(capacities[c], w.memory.held.limit, w.objectMax),
	}
	things := []func(){o.get, o.get, o.get, o.get, o.hit, o.feed, o.feed, o.finish, o.read, o.close, o.close, o.wait}
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

func (o *operator) key() Key {
	c := o.oneOf(24)
	return Key{Space: int64(c % 3), Object: string(rune('a' + c))}
}

// get asks for an object, of which a part comes at once, and all if nobody else
// is to have it.
func (o *operator) get() {
	sizes := []int64{0, 1, 100, 1000, 5000, 40_000, 100_000, 300_000, 380_000, 400_000, -1}
	key, size := o.key(), sizes[o.oneOf(len(sizes))]
	fresh := []time.Duration{time.Hour, time.Minute, 0}[min(o.oneOf(8)/3, 2)]
	want := content(key, max(size, 0))
	loads, f := o.loads.Load(), newFeed()
	guess := o.m.get(key, size, fresh, time.Now())
	r, err := o.Get(o.t.Context(), key, func(ctx context.Context) (*Source, error) {
		synctest.Wait() // what this ends has given back what it held
		return f.load(o.world, size, fresh)(ctx)
	})
	if err != nil {
		o.t.Fatal(err)
	}
	if ran := o.loads.Load() > loads; ran != guess.loads || r.Status != guess.status {
		o.t.Fatalf("%v of %d bytes: status %d, load ran: %t; want %d, %t",
			key, size, r.Status, ran, guess.status, guess.loads)
	}
	switch {
	case guess.loads && guess.flight != nil:
		o.feeds[guess.flight] = f
		want = content(key, size)
	case guess.loads:
		f.give(want, io.EOF)
	default: // another's, of another size perhaps
		want = content(key, r.Size)
	}
	o.open = append(o.open, &opened{outcome: guess, r: r, want: want})
}

func (o *operator) hit() {
	key := o.key()
	guess := o.m.hit(key, time.Now())
	e, ok := o.Hit(key, time.Now())
	if ok != (guess != nil) {
		o.t.Fatalf("Hit(%v) = %t, want %t", key, ok, guess != nil)
	}
	if ok {
		if !bytes.Equal(e.Bytes(), content(key, int64(len(e.Bytes())))) {
			o.t.Errorf("wrong bytes of %v", key)
		}
		e.Release()
		o.m.release(guess)
	}
}

// flight is one of those under way, nil if there is none.
func (o *operator) flight() *modelFlight {
	for c := o.oneOf(24); c >= 0; c-- { // keys have an order, maps do not
		for key, f := range o.m.flights {
			if key.Object == string(rune('a'+c)) {
				return f
			}
		}
	}
	return nil
}

// feed lets a part of an object come.
func (o *operator) feed() {
	if f := o.flight(); f != nil {
		n := (f.size - f.given) * int64(o.oneOf(5)) / 4
		if n == 0 {
			return // too many empty reads would end it
		}
		o.feeds[f].give(content(f.key, f.size)[f.given:f.given+n], nil)
		f.given += n
	}
}

// finish ends an object, rarely with an error.
func (o *operator) finish() {
	f := o.flight()
	if f == nil {
		return
	}
	end := []error{io.EOF, io.EOF, io.EOF, errBoom}[o.oneOf(4)]
	o.feeds[f].give(content(f.key, f.size)[f.given:], end)
	delete(o.feeds, f)
	f.given = f.size
	o.m.land(f, end, time.Now())
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

// read checks that a reader sees exactly what it may.
func (o *operator) read() {
	r := o.any()
	if r == nil {
		return
	}
	o.open = append(o.open, r)
	may, end := len(r.want), io.EOF
	if r.flight != nil {
		may, end = int(r.flight.published()), r.flight.end
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
		r.r.Finish()
		if r.flight != nil && r.flight.blob.cost <= o.m.capacity {
			r.flight.wanted = true
		}
	}
	r.r.Close()
	switch {
	case r.flight != nil:
		if o.m.leave(r.flight, time.Now()); r.flight.end != nil {
			delete(o.feeds, r.flight)
		}
	case r.entry != nil:
		o.m.release(r.entry)
	}
}

func (o *operator) wait() {
	elapse([]time.Duration{time.Second, 30 * time.Second, time.Minute, time.Hour}[o.oneOf(4)])
	for _, f := range o.m.pass(time.Now()) {
		delete(o.feeds, f)
	}
}

// compare looks at everything that the model knows.
func (o *operator) compare() {
	o.t.Helper()
	st, m := o.Stats(), o.m
	stored := o.memory.stored.used.Load()
	if st.Bytes != m.held || stored != m.stored || st.Entries != int64(len(m.entries)) {
		o.t.Errorf("held %d, stored %d, %d entries; want %d, %d, %d",
			st.Bytes, stored, st.Entries, m.held, m.stored, len(m.entries))
	}
	if st.Bytes > m.limit || stored > m.capacity {
		o.t.Errorf("held %d of %d, stored %d of %d", st.Bytes, m.limit, stored, m.capacity)
	}
	if !maps.Equal(o.rec.n, m.evicted) {
		o.t.Errorf("evicted %v, want %v", o.rec.n, m.evicted)
	}
	found := 0
	for i := range o.memory.shard {
		for _, key := range o.memory.shard[i].lru.Keys() {
			e, _ := o.memory.shard[i].lru.Peek(key)
			if want := m.entries[key]; want == nil || e.blob.refs.Load() != int64(want.refs) {
				o.t.Errorf("entry %v with %d holders, want %+v", key, e.blob.refs.Load(), want)
			}
			found++
		}
	}
	o.mu.Lock() // giveUp comes from a timer
	flights := len(o.flights)
	o.mu.Unlock()
	if found != len(m.entries) || flights != len(m.flights) {
		o.t.Errorf("%d entries, %d flights; want %d, %d", found, flights, len(m.entries), len(m.flights))
	}
	if n := o.misused.Load(); n > 0 {
		o.t.Errorf("bodies misused %d times", n)
	}
}
