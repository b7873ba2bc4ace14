package alias

import (
	"hash/maphash"
	"iter"
	"maps"
)

// entry is what one name stands for: an alias, a credential or both.
type entry struct {
	alias      *Alias
	credential *Credential
}

// fan is how many ways each of the two levels of a table branches. A write
// copies one array of each level and one map: at 100,000 names that map has
// about 100 of them, and the copies are 5 KiB in all.
const fan = 32

// table is a map that a write does not change: with returns another table, which
// shares all of its maps but one with the first. A single map would have to be
// copied whole at each write, 3.5 MiB at 100,000 names, which makes n writes
// quadratic; one behind a lock would make each lookup write to memory that all
// cores share. A table is safe for concurrent use as long as put is not called.
type table struct {
	seed maphash.Seed
	root *[fan]*branch
}

type branch [fan]map[Name]entry

func newTable() table {
	t := table{seed: maphash.MakeSeed(), root: new([fan]*branch)}
	for i := range t.root {
		t.root[i] = new(branch)
	}
	return t
}

// at is where the map is that a name belongs to.
func (t table) at(name Name) (i, j uint64) {
	h := maphash.String(t.seed, string(name))
	return h % fan, h / fan % fan
}

// get is the zero entry for an unknown name. It allocates nothing.
func (t table) get(name Name) entry {
	i, j := t.at(name)
	return t.root[i][j][name]
}

// all yields every entry once, in no order.
func (t table) all() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, b := range t.root {
			for _, m := range b {
				for _, e := range m {
					if !yield(e) {
						return
					}
				}
			}
		}
	}
}

// put sets an entry in place; the zero entry removes the name. It is for a table
// that no other goroutine has seen.
func (t table) put(name Name, e entry) {
	i, j := t.at(name)
	m := &t.root[i][j]
	switch {
	case e == entry{}:
		delete(*m, name)
	case *m == nil:
		*m = map[Name]entry{name: e}
	default:
		(*m)[name] = e
	}
}

// with is the table with e under name.
func (t table) with(name Name, e entry) table {
	i, j := t.at(name)
	root, b := *t.root, *t.root[i]
	b[j] = maps.Clone(b[j])
	root[i] = &b
	next := table{seed: t.seed, root: &root}
	next.put(name, e)
	return next
}
