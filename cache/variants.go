package cache

import (
	"strings"
	"sync"
)

// variants finds the variants of an object among the entries in memory: a purge of the object would
// have to look at all entries. A hit does not touch it. It is changed under the lock of the shard of a
// variant, so that it has the entries that the shards have.
type variants struct {
	mu sync.Mutex
	of map[Key][]*Entry // by object; the place of an entry is Entry.atVariant
}

// variantOverhead is the memory that a variant takes in variants, at most: a slot of the map and the
// only place of a slice. TestAccountingMatchesHeap measures it.
const variantOverhead = 136

// objectOf returns the key of the object of a variant; ok is false for the key of an object.
func (k Key) objectOf() (object Key, ok bool) {
	k.Object, _, ok = strings.Cut(k.Object, variantMark)
	return k, ok
}

func (v *variants) add(e *Entry) {
	object, ok := e.key.objectOf()
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of == nil {
		v.of = make(map[Key][]*Entry)
	}
	all := v.of[object]
	e.atVariant = int32(len(all))
	v.of[object] = append(all, e)
}

// replace puts e in the place of old, which has the same key.
func (v *variants) replace(old, e *Entry) {
	if object, ok := e.key.objectOf(); ok {
		v.mu.Lock()
		defer v.mu.Unlock()
		e.atVariant = old.atVariant
		v.of[object][e.atVariant] = e
	}
}

// remove removes e. The last variant of its object takes its place.
func (v *variants) remove(e *Entry) {
	object, ok := e.key.objectOf()
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.of[object]
	end := len(all) - 1
	last := all[end]
	last.atVariant = e.atVariant
	all[last.atVariant], all[end] = last, nil
	if end == 0 {
		delete(v.of, object)
		return
	}
	v.of[object] = all[:end]
}

// each calls visit with the keys of the variants that an object has at the time of the call.
func (v *variants) each(object Key, visit func(Key)) {
	v.mu.Lock()
	keys := make([]Key, 0, len(v.of[object]))
	for _, e := range v.of[object] {
		keys = append(keys, e.key)
	}
	v.mu.Unlock()
	for _, k := range keys {
		visit(k)
	}
}

// clear forgets all variants.
func (v *variants) clear() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.of = nil
}
