package alias

import (
	"hash/maphash"
	"iter"
)

// fan is how many ways each of a table's two levels branches. With 256 by 256
// buckets a table of 100,000 names has one or two in a bucket, and a change
// copies two arrays of 256 pointers and slices (8 KiB) whatever the size.
const fan = 256

// table is a persistent hash table: with and without leave the table they are
// called on as it was, and share with it all but what changed. A built-in map
// would have to be copied whole at each write, which makes n writes quadratic.
// A table is safe for concurrent use as long as put is not called.
type table[V any] struct {
	seed maphash.Seed
	root *[fan]*branch[V]
	size int
}

type branch[V any] [fan][]slot[V]

type slot[V any] struct {
	name  Name
	value V
}

func newTable[V any]() table[V] {
	return table[V]{seed: maphash.MakeSeed(), root: new([fan]*branch[V])}
}

// at says in which branch and bucket a name belongs.
func (t table[V]) at(name Name) (i, j uint8) {
	h := maphash.String(t.seed, string(name))
	return uint8(h), uint8(h >> 8)
}

// get allocates nothing.
func (t table[V]) get(name Name) (V, bool) {
	i, j := t.at(name)
	if b := t.root[i]; b != nil {
		for k := range b[j] {
			if b[j][k].name == name {
				return b[j][k].value, true
			}
		}
	}
	var none V
	return none, false
}

// len is how many names there are.
func (t table[V]) len() int { return t.size }

// all yields every name once, in no order.
func (t table[V]) all() iter.Seq2[Name, V] {
	return func(yield func(Name, V) bool) {
		for _, b := range t.root {
			if b != nil && !b.all(yield) {
				return
			}
		}
	}
}

func (b *branch[V]) all(yield func(Name, V) bool) bool {
	for _, bucket := range b {
		for _, s := range bucket {
			if !yield(s.name, s.value) {
				return false
			}
		}
	}
	return true
}

// put adds a name in place. It is for a table that nobody else has seen yet,
// and that does not have the name.
func (t *table[V]) put(name Name, value V) {
	i, j := t.at(name)
	if t.root[i] == nil {
		t.root[i] = new(branch[V])
	}
	t.root[i][j] = append(t.root[i][j], slot[V]{name, value})
	t.size++
}

// with is the table with name bound to value.
func (t table[V]) with(name Name, value V) table[V] {
	next, bucket := t.fork(name)
	for k := range *bucket {
		if (*bucket)[k].name == name {
			(*bucket)[k].value = value
			return next
		}
	}
	*bucket = append(*bucket, slot[V]{name, value})
	next.size++
	return next
}

// without is the table without name.
func (t table[V]) without(name Name) table[V] {
	if _, ok := t.get(name); !ok {
		return t
	}
	next, bucket := t.fork(name)
	kept := (*bucket)[:0] // fork gave us the array, so it may be written
	for _, s := range *bucket {
		if s.name != name {
			kept = append(kept, s)
		}
	}
	clear((*bucket)[len(kept):])
	*bucket = kept
	next.size--
	return next
}

// fork copies the path to a name's bucket and the bucket itself, with room for
// one more, and returns the copy for the caller to change.
func (t table[V]) fork(name Name) (table[V], *[]slot[V]) {
	i, j := t.at(name)
	root, b := *t.root, new(branch[V])
	if t.root[i] != nil {
		*b = *t.root[i]
	}
	root[i] = b
	b[j] = append(make([]slot[V], 0, len(b[j])+1), b[j]...)
	return table[V]{seed: t.seed, root: &root, size: t.size}, &b[j]
}
