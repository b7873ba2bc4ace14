package alias

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sealer protects secrets at rest. It is implemented by seal.
type Sealer interface {
	// Seal and Open bind the value to a credential id and version: a sealed
	// value moved to another row, or kept over a replacement, does not open.
	Seal(secret Secret, credentialID, version int64) ([]byte, error)
	Open(sealed []byte, credentialID, version int64) (Secret, error)
}

// Route is an alias and the credential it is read with, as they stood at one
// moment. Both are shared and must not be changed.
type Route struct {
	Alias      *Alias
	Credential *Credential
}

// Change is told to observers after a write is durable and visible to Lookup.
// Exactly one of the fields is set, but for AliasWas.
type Change struct {
	AliasPut *Alias
	// AliasWas is what Lookup gave in AliasPut's place before the write, nil if
	// nothing. The registry fills it in.
	AliasWas          *Alias
	AliasDeleted      *Alias
	CredentialPut     *Credential
	CredentialDeleted *Credential
}

// Registry answers lookups from memory and writes through a Store. All methods
// are safe for concurrent use. Only Lookup, Reveal and Count are free of I/O.
type Registry struct {
	store  Store
	sealer Sealer
	policy Policy

	snap atomic.Pointer[snapshot]

	// writing holds a token while a write runs. It is a channel and not a mutex:
	// a write waits for the disk of the write before it, and must be able to give
	// up when its context ends.
	writing chan struct{}

	mu        sync.Mutex // guards observers
	observers []func(Change)
}

// Open loads everything in store into memory, after it has made sure that
// sealer holds the key that the stored secrets were sealed with: ErrWrongKey
// when it does not. The store stays the caller's to close.
func Open(ctx context.Context, store Store, sealer Sealer, policy Policy) (*Registry, error) {
	if err := checkKey(ctx, store, sealer); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	snap, err := load(ctx, store)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	r := &Registry{store: store, sealer: sealer, policy: policy, writing: make(chan struct{}, 1)}
	r.snap.Store(snap)
	return r, nil
}

// Lookup finds an alias and its credential by name, disabled aliases too. It
// reads memory only, allocates nothing and never waits.
func (r *Registry) Lookup(name string) (Route, bool) {
	return r.snap.Load().route(Name(name))
}

// Policy is what the registry validates with.
func (r *Registry) Policy() Policy { return r.policy }

// Count says how many aliases are in each state.
func (r *Registry) Count() map[State]int { return maps.Clone(r.snap.Load().states) }

// Reveal opens the secret of a credential. Call it where a client is made; the
// result must not be kept elsewhere. ErrNoKeyPair when the kind has none.
func (r *Registry) Reveal(c *Credential) (KeyPair, error) {
	id := c.AccessKeyID()
	if id == "" || c.Sealed == nil {
		return KeyPair{}, fmt.Errorf("credential %s of kind %s: %w", c.Name, c.Provider.Kind(), ErrNoKeyPair)
	}
	return r.RevealSealed(c, SealedKey{AccessKeyID: id, Sealed: c.Sealed, Version: c.Version})
}

// SealedKey is a key pair of a credential that is not, or no longer, the one
// that it signs with.
type SealedKey struct {
	AccessKeyID string `json:"access_key_id"`
	Sealed      []byte `json:"sealed"` // bound to the credential's id and Version
	Version     int64  `json:"version"`
}

// SealKey seals a key pair for a credential, bound to one of its versions.
func (r *Registry) SealKey(c *Credential, kp KeyPair, version int64) (SealedKey, error) {
	sealed, err := r.sealer.Seal(kp.SecretAccessKey, c.ID, version)
	if err != nil {
		return SealedKey{}, fmt.Errorf("seal the secret of credential %s: %w", c.Name, err)
	}
	return SealedKey{AccessKeyID: kp.AccessKeyID, Sealed: sealed, Version: version}, nil
}

// RevealSealed opens a key pair that SealKey made for the same credential. The
// result must not be kept.
func (r *Registry) RevealSealed(c *Credential, k SealedKey) (KeyPair, error) {
	secret, err := r.sealer.Open(k.Sealed, c.ID, k.Version)
	if err != nil {
		return KeyPair{}, fmt.Errorf("open the secret of credential %s: %w", c.Name, err)
	}
	return KeyPair{AccessKeyID: k.AccessKeyID, SecretAccessKey: secret}, nil
}

// Apply runs fn in one transaction and then publishes the changes that it returns:
// all changes that it made to aliases and credentials, and no others. fn may touch
// only names, which lists credentials before the aliases that use them. Operations
// use it to write an alias or credential together with their own progress. An
// error of fn is returned as it is.
func (r *Registry) Apply(ctx context.Context, names []Name, fn func(Tx) ([]Change, error)) error {
	return r.write(ctx, names, fn)
}

// History reads operations, the audit and verifications from the store. It is
// read-only: a write around the registry would not reach its memory.
func (r *Registry) History() History { return r.store } //nolint:ireturn // it has several implementations

// AddAudit adds an entry to the audit, in a transaction of its own.
func (r *Registry) AddAudit(ctx context.Context, e *AuditEntry) error {
	return r.store.Update(ctx, func(tx Tx) error { return tx.AddAudit(e) })
}

// Routes calls fn with every alias and its credential, in no order, as they
// stand at this moment, until fn returns false. It reads memory only.
func (r *Registry) Routes(fn func(Route) bool) {
	snap := r.snap.Load()
	for e := range snap.names.all() {
		if e.alias == nil {
			continue
		}
		if route, ok := snap.route(e.alias.Name); ok && !fn(route) {
			return
		}
	}
}

// CredentialsInMemory calls fn with every credential, in no order, until it
// returns false. It reads memory only.
func (r *Registry) CredentialsInMemory(fn func(*Credential) bool) {
	for e := range r.snap.Load().names.all() {
		if e.credential != nil && !fn(e.credential) {
			return
		}
	}
}

// Observe has fn called after each write, in the order of the writes and with
// no two calls at once. The write waits for fn, so fn must be quick, and must
// not write to the registry: it would wait for itself.
func (r *Registry) Observe(fn func(Change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observers = append(r.observers, fn)
}

// write runs fn in a transaction and then publishes its changes, first to Lookup,
// then to the observers. fn may touch the aliases and credentials called names, and
// may make a credential for such an alias.
func (r *Registry) write(ctx context.Context, names []Name, fn func(Tx) ([]Change, error)) error {
	select {
	case r.writing <- struct{}{}:
		defer func() { <-r.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var changes []Change
	refused := false // by fn, so nothing was committed
	err := r.store.Update(ctx, func(tx Tx) error {
		var err error
		changes, err = fn(tx)
		refused = err != nil
		return err
	})
	switch {
	case err == nil:
		r.publish(changes)
	case !refused:
		for _, name := range names {
			r.resync(ctx, name)
		}
	}
	return err
}

// resyncTimeout bounds the reads that follow a failed commit.
const resyncTimeout = 5 * time.Second

// resync reads a name again after a commit that failed. A database on a network
// can commit and the answer be lost; memory must then show the stored state. If
// this read fails too, memory keeps the state before the write until the next
// write of the name or a restart.
func (r *Registry) resync(ctx context.Context, name Name) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resyncTimeout)
	defer cancel()
	snap := r.snap.Load()
	c, err := r.store.Credential(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return
	}
	a, err := r.store.Alias(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return
	}
	changes := difference(snap.names.get(name), entry{a, c})
	if a != nil && a.Credential != name {
		used, err := r.store.Credential(ctx, a.Credential)
		if err != nil {
			return
		}
		changes = append([]Change{{CredentialPut: used}}, changes...)
	}
	r.publish(changes)
}

// difference lists the changes from one state of a name to another, in an order
// that never shows an alias without its credential.
func difference(from, to entry) []Change {
	var changes []Change
	if c := to.credential; c != nil &&
		(from.credential == nil || from.credential.Revision != c.Revision || from.credential.ID != c.ID) {
		changes = append(changes, Change{CredentialPut: to.credential})
	}
	switch {
	case to.alias == nil && from.alias != nil:
		changes = append(changes, Change{AliasDeleted: from.alias})
	case to.alias != nil && (from.alias == nil || !from.alias.same(to.alias)):
		changes = append(changes, Change{AliasPut: to.alias})
	}
	if to.credential == nil && from.credential != nil {
		changes = append(changes, Change{CredentialDeleted: from.credential})
	}
	return changes
}

// publish makes changes visible and tells the observers, except for changes that
// memory has already. The caller holds writing, so that no other write runs.
func (r *Registry) publish(changes []Change) {
	snap := r.snap.Load()
	changes = slices.DeleteFunc(changes, snap.has)
	if len(changes) == 0 {
		return
	}
	for i, c := range changes {
		if c.AliasPut != nil {
			changes[i].AliasWas = snap.names.get(c.AliasPut.Name).alias
		}
	}
	r.snap.Store(snap.with(changes))
	r.mu.Lock()
	observers := r.observers
	r.mu.Unlock()
	for _, c := range changes {
		for _, fn := range observers {
			fn(c)
		}
	}
}
