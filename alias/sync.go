package alias

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// Replica keeps a copy of a registry on a node, so that the node can start while the database is
// away.
type Replica interface {
	// Load is that of a Store. The position is zero if the replica is empty.
	Load(ctx context.Context, credential func(*Credential) error, alias func(*Alias) error) (Position, error)
	// Apply stores changes and the position after them, all or nothing. A replica that it
	// cannot store is of no use any more: the implementation drops it.
	Apply(ctx context.Context, changes []Change, at Position)
}

// first loads the replica, or else the store, with which the replica is filled later.
func (r *Registry) first(ctx context.Context) (*snapshot, Position, []*DamagedError, error) {
	if r.replica != nil {
		snap, at, damaged, err := load(ctx, openingLoader{r.replica, r.sealer})
		if err == nil && at != (Position{}) {
			return snap, at, damaged, nil
		}
	}
	return load(ctx, r.store)
}

// Position returns the place in the history up to which memory has every change. It is zero
// if no other process uses the store.
func (r *Registry) Position() Position { return *r.position.Load() }

func (r *Registry) shared() bool { return r.Position() != Position{} }

// Sync applies the changes of other nodes that memory lacks, and returns when memory has every
// change that was committed before the call. It does I/O, and waits for writes under way.
func (r *Registry) Sync(ctx context.Context) error {
	if !r.shared() {
		return nil
	}
	select {
	case r.writing <- struct{}{}:
		defer func() { <-r.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return r.catchUp(ctx)
}

// ready makes memory as new as the transaction, which no other write precedes any more: checks
// of a write read memory too.
func (r *Registry) ready(ctx context.Context, tx Tx) error {
	before := tx.Position().Before
	if before == r.Position() {
		return nil
	}
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	if now := r.Position(); now != before {
		return fmt.Errorf("%w: the registry is at revision %d, and its log ends at %d",
			ErrUnavailable, before.Revision, now.Revision)
	}
	return nil
}

// logBatch is how many revisions are applied at a time.
const logBatch = 500

// catchUp applies the log after the position of memory. The caller holds writing.
func (r *Registry) catchUp(ctx context.Context) error {
	for {
		at := r.Position()
		entries, to, err := r.store.Log(ctx, at, logBatch)
		switch {
		case errors.Is(err, ErrHistory):
			return r.reload(ctx)
		case err != nil || to == at:
			return err
		}
		if err := r.applyLog(ctx, entries, to); err != nil {
			return err
		}
	}
}

// applyLog applies entries of the log. It reads the state of now, which may be newer than they
// are; then the later entries find nothing to change.
func (r *Registry) applyLog(ctx context.Context, entries []LogEntry, to Position) error {
	var names []Name
	var others []Change
	if slices.ContainsFunc(entries, func(e LogEntry) bool { return e.Kind == LogTokens }) {
		if err := r.reloadTokens(ctx); err != nil {
			return err
		}
	}
	for _, e := range entries {
		switch e.Kind {
		case LogAlias, LogCredential:
			names = append(names, e.Name)
		case LogPurge:
			others = append(others, Change{Purge: e.Purge})
		case LogTokens:
			others = append(others, Change{Tokens: true})
		case LogOperation:
			others = append(others, Change{Operation: e.Name})
		}
	}
	pairs, err := r.current(ctx, names)
	if err != nil {
		return err
	}
	r.publish(ctx, append(differences(pairs), others...), to)
	return nil
}

// current reads the state of names, and of the credentials that their aliases use. Of a
// credential that is gone it reads the aliases too that memory has with it: their change may be
// in a later part of the log.
func (r *Registry) current(ctx context.Context, names []Name) ([]change, error) {
	slices.Sort(names)
	names = slices.Compact(names)
	aliases, credentials, err := r.store.Named(ctx, names)
	if err != nil {
		return nil, err
	}
	if more := r.snap.Load().users(names, credentials); len(more) > 0 {
		return r.current(ctx, append(names, more...))
	}
	snap, found := r.snap.Load(), map[Name]change{}
	for _, name := range names {
		found[name] = change{from: snap.names.get(name)}
	}
	for _, c := range credentials {
		p, asked := found[c.Name]
		if !asked { // only an alias uses it
			p.from = snap.names.get(c.Name)
			p.to.alias = p.from.alias
		}
		p.to.credential = c
		found[c.Name] = p
	}
	for _, a := range aliases {
		p := found[a.Name]
		p.to.alias = a
		found[a.Name] = p
	}
	pairs := make([]change, 0, len(found))
	for _, p := range found {
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// users are the aliases, beside names, of those credentials among names that are gone.
func (s *snapshot) users(names []Name, there []*Credential) []Name {
	gone := map[int64]bool{}
	for _, name := range names {
		if c := s.names.get(name).credential; c != nil {
			gone[c.ID] = true
		}
	}
	for _, c := range there {
		delete(gone, c.ID)
	}
	if len(gone) == 0 {
		return nil
	}
	var users []Name
	for e := range s.names.all() {
		if e.alias != nil && gone[e.alias.CredentialID] {
			if _, asked := slices.BinarySearch(names, e.alias.Name); !asked {
				users = append(users, e.alias.Name)
			}
		}
	}
	return users
}

// Snapshot returns everything in memory, as changes of an empty registry, and its position.
// took is called at that moment, before any further change reaches the replica.
func (r *Registry) Snapshot(took func()) ([]Change, Position) {
	r.writing <- struct{}{}
	snap, at := r.snap.Load(), r.Position()
	took()
	<-r.writing
	return (&snapshot{names: newTable()}).changesTo(snap), at
}

// reload reads everything, because the log does not have all that was missed.
func (r *Registry) reload(ctx context.Context) error {
	next, at, _, err := load(ctx, r.store)
	if err != nil {
		return fmt.Errorf("reload the registry: %w", err)
	}
	if err := r.reloadTokens(ctx); err != nil {
		return err
	}
	changes := append(r.snap.Load().changesTo(next), Change{Tokens: true}, Change{Missed: true})
	r.show(ctx, changes, next, at)
	return nil
}

// change is the state of a name before and after a change.
type change struct{ from, to entry }

// differences lists the changes of names, in an order in which an alias is never without its
// credential.
func differences(pairs []change) []Change {
	var list []Change
	for _, p := range pairs {
		list = append(list, p.differences()...)
	}
	slices.SortStableFunc(list, func(a, b Change) int { return cmp.Compare(a.order(), b.order()) })
	return list
}

func (p change) differences() []Change { return append(p.ofCredential(), p.ofAlias()...) }

func (p change) ofCredential() []Change {
	var list []Change
	was, is := p.from.credential, p.to.credential
	if was != nil && (is == nil || is.ID != was.ID) {
		list = append(list, Change{CredentialDeleted: was})
	}
	if is != nil && (was == nil || !was.same(is)) { // another history may have the same revision
		list = append(list, Change{CredentialPut: is})
	}
	return list
}

func (p change) ofAlias() []Change {
	var list []Change
	a, b := p.from.alias, p.to.alias
	if a != nil && (b == nil || b.ID != a.ID) {
		list = append(list, Change{AliasDeleted: a})
	}
	if b != nil && (a == nil || !a.same(b)) {
		list = append(list, Change{AliasPut: b})
	}
	return list
}

// order is the place of a change among others: aliases go before their credentials, and come
// after them.
func (c Change) order() int {
	switch {
	case c.AliasDeleted != nil:
		return 0
	case c.CredentialDeleted != nil:
		return 1
	case c.CredentialPut != nil:
		return 2
	}
	return 3
}

// changesTo lists the changes from one snapshot to another.
func (s *snapshot) changesTo(next *snapshot) []Change {
	var pairs []change
	for e := range s.names.all() {
		pairs = append(pairs, change{e, next.names.get(e.name())})
	}
	for e := range next.names.all() {
		if s.names.get(e.name()) == (entry{}) {
			pairs = append(pairs, change{to: e})
		}
	}
	return differences(pairs)
}

func (e entry) name() Name {
	if e.alias != nil {
		return e.alias.Name
	}
	return e.credential.Name
}

// Purge logs a purge of an alias for all nodes, and calls local, which purges on this one, before
// the position of the purge is reported. It returns ErrStale if the alias with this name is
// another one by now: its objects would stay, and the caller was asked about the other one.
func (r *Registry) Purge(ctx context.Context, name Name, p Purge, local func()) error {
	return r.write(ctx, nil, func(tx Tx) ([]Change, error) {
		a, err := tx.Alias(name)
		if err == nil && a.ID != p.AliasID {
			err = ErrStale
		}
		if err != nil {
			return nil, aliasError(name, err)
		}
		return []Change{{Purge: &p, local: local}}, tx.LogPurge(p)
	})
}
