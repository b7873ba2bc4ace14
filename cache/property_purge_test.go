package cache

import (
	"time"
)

func (o *operator) purge() {
	key, hard := o.key(), o.oneOf(2) == 0
	match := func(k Key) bool { return k == key }
	want, gone := o.m.purge(match, hard, time.Now())
	o.purged(o.Purge(key, hard), want, gone)
	o.bar(match, hard)
}

// sweep is a purge of many.
func (o *operator) sweep() {
	if o.oneOf(3) == 0 {
		o.purgeSpace()
	} else {
		o.purgePrefix()
	}
}

func (o *operator) purgePrefix() {
	at, hard := o.key(), o.oneOf(2) == 0
	at.Object = at.Object[:o.oneOf(3)]
	want, gone := o.m.purge(prefixed(at), hard, time.Now())
	o.purged(o.PurgePrefix(at, hard), want, gone)
	o.bar(prefixed(at), hard)
}

func (o *operator) purgeSpace() {
	no, retire := int64(o.oneOf(3)), o.oneOf(2) == 0
	purge := o.PurgeSpace
	if retire {
		purge = o.Retire
	}
	want, gone := o.m.purgeSpace(no, retire, time.Now())
	o.purged(purge(no, 0), want, gone)
	o.bar(prefixed(Key{Space: no}), false)
}

// purged compares the result of a purge, and forgets the fetches that it ended.
func (o *operator) purged(got, want Purged, gone []*modelFetch) {
	if got != want {
		o.t.Errorf("purged %+v, want %+v", got, want)
	}
	for _, f := range gone {
		delete(o.feeds, f)
	}
}

// bar records the loads whose objects must not be served any more.
func (o *operator) bar(match func(Key) bool, hard bool) {
	for n := range manyKeys {
		if key := keyNo(n); match(key) {
			o.floor[key] = o.number
			if hard {
				o.ground[key] = o.number
			}
		}
	}
}
