package disk

import "strings"

// marks are the purges of one epoch of a space that may still cover a file. Guarded by
// Store.mu.
type marks struct {
	// keys has those of one key, and of the variants of one: soft, hard. See Mark.variants.
	keys     map[string][2]*Mark
	prefixes []*Mark // also of the whole epoch
	// floor is the highest generation of the marks that were forgotten because no file is
	// older. An object that was fetched before is no longer stored.
	floor uint64
}

// A space with more marks is compacted, and with four times as many dropped.
const (
	keyMarks    = 1024
	prefixMarks = 64
)

func (m *Mark) spaceID() spaceID { return spaceID{m.Space, m.Epoch} }

func (m *Mark) wholeSpace() bool { return m.Prefix && m.Object == "" }

// variantMark ends the name of an object in the names of its variants. No object has it in its name.
const variantMark = "\x00"

// variants reports whether m is about the variants of one object. Each purge of a key makes such a
// mark, so that there are as many as there are marks of keys.
func (m *Mark) variants() bool { return m.Prefix && strings.HasSuffix(m.Object, variantMark) }

func (m *Mark) kind() int {
	if m.Hard {
		return 1
	}
	return 0
}

// contains reports whether m is about every key that o is about.
func (m *Mark) contains(o *Mark) bool {
	if m.Prefix {
		return strings.HasPrefix(o.Object, m.Object)
	}
	return !o.Prefix && m.Object == o.Object
}

// replaces reports whether o says nothing more once m is there.
func (m *Mark) replaces(o *Mark) bool {
	return o.Generation <= m.Generation && m.contains(o) && (m.Hard || !o.Hard && o.contains(m))
}

// add adds a mark and removes those that it replaces.
func (ms *marks) add(m *Mark) {
	if m.Prefix && !m.variants() {
		for object, pair := range ms.keys {
			ms.keep(object, pair, func(o *Mark) bool { return !m.replaces(o) })
		}
		ms.prefixes = filter(ms.prefixes, func(o *Mark) bool { return !m.replaces(o) })
		ms.prefixes = append(ms.prefixes, m)
		return
	}
	if ms.keys == nil {
		ms.keys = make(map[string][2]*Mark)
	}
	pair := ms.keys[m.Object]
	if old := pair[m.kind()]; old != nil && old.Generation > m.Generation {
		return
	}
	if soft := pair[0]; soft != nil && m.replaces(soft) {
		pair[0] = nil
	}
	pair[m.kind()] = m
	ms.keys[m.Object] = pair
}

// keep removes the marks of a key that are not wanted.
func (ms *marks) keep(object string, pair [2]*Mark, want func(*Mark) bool) {
	for i, o := range pair {
		if o != nil && !want(o) {
			pair[i] = nil
		}
	}
	if pair == [2]*Mark{} {
		delete(ms.keys, object)
	} else {
		ms.keys[object] = pair
	}
}

func filter(in []*Mark, want func(*Mark) bool) (out []*Mark) {
	for _, m := range in {
		if want(m) {
			out = append(out, m)
		}
	}
	return out
}

// covers returns what the marks say about an object of this generation: a hard mark, or
// the soft ones as one with the earliest time and the greatest generation.
func (ms *marks) covers(object string, generation uint64) (hard bool, soft *Mark) {
	if ms == nil {
		return false, nil
	}
	see := func(m *Mark) {
		switch {
		case m == nil || generation >= m.Generation || !strings.HasPrefix(object, m.Object):
		case m.Hard:
			hard = true
		default:
			soft = soft.join(m)
		}
	}
	of, _, _ := strings.Cut(object, variantMark)
	for _, pair := range [...][2]*Mark{ms.keys[object], ms.keys[of+variantMark]} {
		see(pair[0])
		see(pair[1])
	}
	for _, m := range ms.prefixes {
		see(m)
	}
	return hard, soft
}

// join gives m the earlier time and the greater generation of both. It copies other if m is nil.
func (m *Mark) join(other *Mark) *Mark {
	if m == nil {
		one := *other
		return &one
	}
	if other.At.Before(m.At) {
		m.At = other.At
	}
	m.Generation = max(m.Generation, other.Generation)
	return m
}

// len counts the marks, without those of the whole space.
func (ms *marks) len() (keys, prefixes int) {
	for _, m := range ms.prefixes {
		if !m.wholeSpace() {
			prefixes++
		}
	}
	return len(ms.keys), prefixes
}

// count is the number of all marks.
func (ms *marks) count() (n int) {
	if ms == nil {
		return 0
	}
	for _, pair := range ms.keys {
		for _, m := range pair {
			if m != nil {
				n++
			}
		}
	}
	return n + len(ms.prefixes)
}

// all returns every mark.
func (ms *marks) all() []*Mark {
	out := append([]*Mark(nil), ms.prefixes...)
	for _, pair := range ms.keys {
		for _, m := range pair {
			if m != nil {
				out = append(out, m)
			}
		}
	}
	return out
}

// forget removes marks of which no older file is left.
func (ms *marks) forget(gone []*Mark) {
	set := make(map[*Mark]bool, len(gone))
	for _, m := range gone {
		set[m] = true
	}
	for object, pair := range ms.keys {
		ms.keep(object, pair, func(m *Mark) bool { return !set[m] })
	}
	ms.prefixes = filter(ms.prefixes, func(m *Mark) bool { return !set[m] })
}
