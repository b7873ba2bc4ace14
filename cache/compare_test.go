package cache

import (
	"maps"
	"slices"
	"time"
)

// compare looks at everything that the model knows.
func (o *operator) compare() {
	o.t.Helper()
	st, m := o.Stats(), o.m
	stored := o.memory.stored.used.Load()
	if st.Bytes != m.held || stored != m.stored.used.Load() || st.Entries != int64(len(m.entries)) {
		o.t.Errorf("held %d, stored %d, %d entries; want %d, %d, %d",
			st.Bytes, stored, st.Entries, m.held, m.stored.used.Load(), len(m.entries))
	}
	if st.Bytes > m.limit || stored > m.capacity {
		o.t.Errorf("held %d of %d, stored %d of %d", st.Bytes, m.limit, stored, m.capacity)
	}
	if !maps.Equal(o.rec.n, m.evicted) {
		o.t.Errorf("evicted %v, want %v", o.rec.n, m.evicted)
	}
	if !maps.Equal(o.rec.pushed, m.pushed) || o.rec.rejected != m.rejected {
		o.t.Errorf("pushed %v, rejected %d; want %v, %d", o.rec.pushed, o.rec.rejected, m.pushed, m.rejected)
	}
	if found := o.compareEntries(); found != len(m.entries) {
		o.t.Errorf("%d entries, want %d", found, len(m.entries))
	}
	o.comparePolicy()
	o.mu.Lock() // giveUp comes from a timer
	fetches, renewals := len(o.fetches), o.refreshes
	o.mu.Unlock()
	if fetches != len(m.fetches) || renewals != m.refreshes {
		o.t.Errorf("%d fetches, %d renewals; want %d, %d", fetches, renewals, len(m.fetches), m.refreshes)
	}
	o.compareNegative()
	if n := o.misused.Load(); n > 0 {
		o.t.Errorf("bodies misused %d times", n)
	}
}

func (o *operator) compareEntries() (found int) {
	now := time.Now()
	for i := range o.memory.shard {
		for _, e := range o.memory.shard[i].all {
			want := o.m.entries[e.key]
			found++
			if want == nil || e.body.refs.Load() != int64(want.body.refs) {
				o.t.Errorf("entry %v with %d holders, want %+v", e.key, e.body.refs.Load(), want)
				continue
			}
			if e.fresh(now) != want.isFresh(now) || e.servableStale(now) != want.servableStale(now) {
				o.t.Errorf("entry %v is fresh: %t, servableStale: %t; want %+v", e.key, e.fresh(now), e.servableStale(now), want)
			}
		}
	}
	return found
}

// comparePolicy compares how often keys were requested, and the order in which entries leave.
func (o *operator) comparePolicy() {
	for n := range manyKeys {
		key := keyNo(n)
		if got, want := o.memory.requests(key), min(o.m.requests[key], sketchCounterMax); got != want {
			o.t.Errorf("%v was requested %d times, want %d", key, got, want)
		}
	}
	for list := window; list < segments; list++ {
		got, want := order(&o.memory.policy, list), order(&o.m.policy, list)
		if !slices.Equal(got, want) {
			o.t.Errorf("list %d has %v, want %v", list, got, want)
		}
	}
}

// place is that of an entry in a list of a policy.
type place struct {
	key  Key
	cost int64
	hits int32
}

func order(p *policy, list segment) (places []place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.lists[list].lru.Keys() {
		places = append(places, place{e.key, e.body.cost, e.hits.Load()})
	}
	return places
}

func (o *operator) compareNegative() {
	var bytes int64
	for key := range o.m.negative {
		bytes += negativeCost(key)
	}
	if st := o.NegativeStats(); st.Entries != int64(len(o.m.negative)) || st.Bytes != bytes || st.Bytes > st.Capacity {
		o.t.Errorf("%+v missing, want %d with %d bytes", st, len(o.m.negative), bytes)
	}
}
