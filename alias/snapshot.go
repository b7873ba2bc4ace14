package alias

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
)

// snapshot is an immutable state of the registry. A write makes a new snapshot, which
// shares all but a few small maps and arrays with the previous one.
type snapshot struct {
	names  table
	states map[State]int // number of aliases by state
}

// errNoName is the damage of a row whose name ixmage would not write. No request can
// name it.
var errNoName = errors.New("its name is not valid")

// load reads the whole store. Rows that cannot be read are in damaged, and so are aliases
// whose credential cannot be read.
func load(ctx context.Context, store loader) (s *snapshot, at Position, damaged []*DamagedError, err error) {
	s = &snapshot{names: newTable(), states: map[State]int{}}
	at, err = store.Load(ctx,
		func(c *Credential) error {
			if !IsName(string(c.Name)) {
				damaged = append(damaged, &DamagedError{Kind: "credential", Name: c.Name, ID: c.ID, Cause: errNoName})
				return nil
			}
			s.names.put(c.Name, entry{credential: c})
			return nil
		},
		func(a *Alias) error {
			if !IsName(string(a.Name)) {
				damaged = append(damaged, &DamagedError{Kind: "alias", Name: a.Name, ID: a.ID, Cause: errNoName})
				return nil
			}
			before := s.names.get(a.Name)
			s.names.put(a.Name, entry{alias: a, credential: before.credential})
			if _, ok := s.route(a.Name); !ok {
				s.names.put(a.Name, before)
				cause := fmt.Errorf("its credential %s cannot be read", a.Credential)
				damaged = append(damaged, &DamagedError{Kind: "alias", Name: a.Name, ID: a.ID, Cause: cause})
				return nil
			}
			s.states[a.State]++
			return nil
		})
	if rows, ok := errors.AsType[*DamagedRowsError](err); ok {
		damaged, err = append(rows.Rows, damaged...), nil
	}
	return s, at, damaged, err
}

// loader is a Store or a Replica.
type loader interface {
	Load(ctx context.Context, credential func(*Credential) error, alias func(*Alias) error) (Position, error)
}

// route joins an alias to its credential, which mostly has the same name.
func (s *snapshot) route(name Name) (Route, bool) {
	e := s.names.get(name)
	if e.alias == nil {
		return Route{}, false
	}
	if e.alias.Credential != name {
		e.credential = s.names.get(e.alias.Credential).credential
	}
	// A credential in use cannot be deleted, so its name identifies it. The ID is
	// compared too, because a request must never be signed with the key of another
	// credential.
	if e.credential == nil || e.credential.ID != e.alias.CredentialID {
		return Route{}, false
	}
	return Route{Alias: e.alias, Credential: e.credential}, true
}

// has reports whether the snapshot already has the alias or credential that a change
// puts.
func (s *snapshot) has(c Change) bool {
	switch {
	case c.AliasPut != nil:
		a := s.names.get(c.AliasPut.Name).alias
		return a != nil && a.ID == c.AliasPut.ID && a.Revision == c.AliasPut.Revision && a.Epoch == c.AliasPut.Epoch
	case c.CredentialPut != nil:
		have := s.names.get(c.CredentialPut.Name).credential
		return have != nil && have.ID == c.CredentialPut.ID && have.Revision == c.CredentialPut.Revision
	}
	return false
}

// with returns the snapshot after changes.
func (s *snapshot) with(changes []Change) *snapshot {
	next := &snapshot{names: s.names, states: maps.Clone(s.states)}
	for _, c := range changes {
		switch {
		case c.AliasPut != nil:
			next.setAlias(c.AliasPut.Name, c.AliasPut)
		case c.AliasDeleted != nil:
			next.setAlias(c.AliasDeleted.Name, nil)
		case c.CredentialPut != nil:
			next.setCredential(c.CredentialPut.Name, c.CredentialPut)
		case c.CredentialDeleted != nil:
			next.setCredential(c.CredentialDeleted.Name, nil)
		}
	}
	return next
}

// setAlias and setCredential change a snapshot that no other goroutine has seen yet;
// nil removes.
func (s *snapshot) setAlias(name Name, a *Alias) {
	e := s.names.get(name)
	if e.alias != nil {
		if s.states[e.alias.State]--; s.states[e.alias.State] == 0 {
			delete(s.states, e.alias.State)
		}
	}
	if a != nil {
		s.states[a.State]++
	}
	s.names = s.names.with(name, entry{alias: a, credential: e.credential})
}

func (s *snapshot) setCredential(name Name, c *Credential) {
	s.names = s.names.with(name, entry{alias: s.names.get(name).alias, credential: c})
}

// entry holds the alias and the credential of one name; either may be nil.
type entry struct {
	alias      *Alias
	credential *Credential
}

// fan is the number of branches at each of the two levels of a table. A write
// copies one array of each level and one map: at 100,000 names that map has
// about 100 of them, and the copies are 5 KiB in all.
const fan = 32

// table is a map that a write does not change: with returns another table, which
// shares all of its maps but one with the first. A single map would have to be
// copied whole at each write, 3.5 MiB at 100,000 names, which makes n writes
// quadratic; a map behind a lock would make each lookup write to memory that all
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

// at returns the position of the map for a name.
func (t table) at(name Name) (i, j uint64) {
	h := maphash.String(t.seed, string(name))
	return h % fan, h / fan % fan
}

// get returns the zero entry for an unknown name. It allocates nothing.
func (t table) get(name Name) entry {
	i, j := t.at(name)
	return t.root[i][j][name]
}

// all yields every entry once, in no particular order.
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

// put sets an entry in place; the zero entry removes the name. The caller must own the
// table: no other goroutine has seen it.
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

// with returns a table that has e under name.
func (t table) with(name Name, e entry) table {
	i, j := t.at(name)
	root, b := *t.root, *t.root[i]
	b[j] = maps.Clone(b[j])
	root[i] = &b
	next := table{seed: t.seed, root: &root}
	next.put(name, e)
	return next
}
