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
	// Seal and Open bind the value to a credential id and version: Open fails for a
	// sealed value that was moved to another row, or is older than a replacement.
	Seal(secret Secret, credentialID, version int64) ([]byte, error)
	Open(sealed []byte, credentialID, version int64) (Secret, error)
	// SealSigningKey and OpenSigningKey bind a signing key to the id of its alias and to its kid.
	SealSigningKey(secret Secret, aliasID int64, kid string) ([]byte, error)
	OpenSigningKey(sealed []byte, aliasID int64, kid string) (Secret, error)
}

// Route is an alias and its credential, from one snapshot of the registry. Both are
// shared and must not be changed.
type Route struct {
	Alias      *Alias
	Credential *Credential
}

// Change is passed to observers after a write, of this or another process, is durable and
// visible to Lookup. Exactly one field besides AliasWas is set.
type Change struct {
	AliasPut *Alias
	// AliasWas is the alias that Lookup returned before the write that put AliasPut, or
	// nil. The registry sets it.
	AliasWas          *Alias
	AliasDeleted      *Alias
	CredentialPut     *Credential
	CredentialDeleted *Credential

	// The others are only of a registry that many nodes share. Purge is one that another
	// node was asked for; Tokens means that admin tokens changed, and Operation that an
	// operation of this credential did.
	Purge     *Purge
	Tokens    bool
	Operation Name
	// Missed means that the log did not have all changes since the last one: every purge
	// may have been missed, and so every object in a cache may be one that was purged.
	Missed bool

	local func() // is called instead of the observers
}

// Registry answers lookups from memory and writes through a Store. All methods
// are safe for concurrent use. Methods with a context do I/O; the others do not.
type Registry struct {
	store  Store
	sealer Sealer
	policy Policy

	snap atomic.Pointer[snapshot]
	ids  idTable

	replica  Replica // nil: none
	position atomic.Pointer[Position]

	damaged []*DamagedError // at the start

	// writing holds a token while a write runs. It is a channel and not a mutex: a write
	// waits for the disk while another write runs, and must return when its context
	// ends.
	writing chan struct{}

	mu        sync.Mutex // guards observers
	observers []func(Change)
	tokens    *Tokens // nil: they are not followed
}

// Open checks that sealer opens the stored secrets, or returns ErrWrongKey, and loads
// the whole store into memory. The caller closes the store.
func Open(ctx context.Context, store Store, sealer Sealer, policy Policy) (*Registry, error) {
	return OpenReplica(ctx, store, nil, Options{sealer, policy})
}

// Options are those of a registry.
type Options struct {
	Sealer Sealer
	Policy Policy
}

// OpenReplica is Open of a registry that many nodes share. It loads the replica, which may lack
// changes until Sync, or fills it if it is empty.
func OpenReplica(ctx context.Context, store Store, replica Replica, o Options) (*Registry, error) {
	if err := checkKey(ctx, store, o.Sealer); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	r := &Registry{
		store: opened{store, o.Sealer}, replica: replica, sealer: o.Sealer, policy: o.Policy, writing: make(chan struct{}, 1),
	}
	snap, at, damaged, err := r.first(ctx)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	r.snap.Store(snap)
	r.position.Store(&at)
	r.ids.fill(snap)
	r.damaged = slices.Concat(damaged, r.unreadableSecrets())
	return r, nil
}

// unreadableSecrets opens the secret of each credential.
func (r *Registry) unreadableSecrets() []*DamagedError {
	var damaged []*DamagedError
	r.CredentialsInMemory(func(c *Credential) bool {
		if _, err := r.Reveal(c); err != nil && !errors.Is(err, ErrNoKeyPair) {
			damaged = append(damaged, &DamagedError{Kind: "credential", Name: c.Name, ID: c.ID, Cause: err})
		}
		return true
	})
	return damaged
}

// Damaged returns the rows that could not be read when the registry was opened, and the
// credentials whose secret could not be opened then.
func (r *Registry) Damaged() []*DamagedError { return r.damaged }

// Lookup finds an alias and its credential by name, disabled aliases too. It
// reads memory only, allocates nothing and never waits.
func (r *Registry) Lookup(name string) (Route, bool) {
	return r.snap.Load().route(Name(name))
}

// ByID is Lookup by the alias's ID.
func (r *Registry) ByID(id int64) (Route, bool) {
	route, ok := r.snap.Load().route(r.ids.get(id))
	if !ok || route.Alias.ID != id {
		return Route{}, false
	}
	return route, true
}

// Policy returns the policy by which the registry validates.
func (r *Registry) Policy() Policy { return r.policy }

// Count returns the number of aliases by state.
func (r *Registry) Count() map[State]int { return maps.Clone(r.snap.Load().states) }

// Reveal opens the secret of a credential. Call it only to make a client, and
// do not keep the result elsewhere. It returns ErrNoKeyPair for a kind without a key.
func (r *Registry) Reveal(c *Credential) (KeyPair, error) {
	id := c.AccessKeyID()
	if id == "" || c.Sealed == nil {
		return KeyPair{}, fmt.Errorf("credential %s of kind %s: %w", c.Name, c.Provider.Kind(), ErrNoKeyPair)
	}
	return r.RevealSealed(c, SealedKey{AccessKeyID: id, Sealed: c.Sealed, Version: c.Version})
}

// SealedKey is a sealed key pair of a credential: the current, a pending or a previous
// one.
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
// use it to write an alias or credential together with their own progress. It
// returns an error of fn unchanged.
func (r *Registry) Apply(ctx context.Context, names []Name, fn func(Tx) ([]Change, error)) error {
	return r.write(ctx, names, fn)
}

// History reads operations, the audit and verifications from the store. It is
// read-only: a write that bypasses the registry would not change its memory.
func (r *Registry) History() History { return r.store } //nolint:ireturn // it has several implementations

// AddAudit adds an entry to the audit, in a transaction of its own.
func (r *Registry) AddAudit(ctx context.Context, e *AuditEntry) error {
	return r.store.Update(ctx, func(tx Tx) error { return tx.AddAudit(e) })
}

// Routes calls fn with every alias and its credential, of one snapshot and in no
// particular order, until fn returns false. It reads memory only.
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

// CredentialsInMemory calls fn with every credential, in no particular order,
// until fn returns false. It reads memory only.
func (r *Registry) CredentialsInMemory(fn func(*Credential) bool) {
	for e := range r.snap.Load().names.all() {
		if e.credential != nil && !fn(e.credential) {
			return
		}
	}
}

// CredentialInMemory finds a credential by name. It reads memory only.
func (r *Registry) CredentialInMemory(name Name) (*Credential, bool) {
	c := r.snap.Load().names.get(name).credential
	return c, c != nil
}

// Observe registers fn, which is called with each change after each write, in the order
// of the writes and one call at a time. The write waits for fn, so fn must be quick. fn
// must not write to the registry: it would deadlock.
func (r *Registry) Observe(fn func(Change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observers = append(r.observers, fn)
}

// FollowTokens makes Sync read the admin tokens again when another node has changed them. Sync
// fails if they cannot be read: the node must not report a change that it does not have.
func (r *Registry) FollowTokens(t *Tokens) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens = t
}

// reloadTokens is called before the position of a change of tokens is reported.
func (r *Registry) reloadTokens(ctx context.Context) error {
	r.mu.Lock()
	tokens := r.tokens
	r.mu.Unlock()
	if tokens == nil {
		return nil
	}
	return tokens.Reload(ctx)
}

// write runs fn in a transaction and then publishes its changes, first to Lookup,
// then to the observers. fn may change only the aliases and credentials called
// names, and may make a credential for such an alias.
func (r *Registry) write(ctx context.Context, names []Name, fn func(Tx) ([]Change, error)) error {
	select {
	case r.writing <- struct{}{}:
		defer func() { <-r.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var changes []Change
	var at TxPosition
	committing := false // until fn has succeeded nothing can be committed
	err := r.store.Update(ctx, func(tx Tx) error {
		var err error
		changes, err = r.try(ctx, tx, fn)
		at, committing = tx.Position(), committing || err == nil
		return err
	})
	switch {
	case errors.Is(err, errDryRun):
		return nil
	case err == nil && at.Logged:
		r.publish(ctx, changes, at.After)
	case err == nil:
		r.publish(ctx, changes, r.Position())
	case committing:
		r.recover(ctx, names)
	}
	return err
}

// try runs fn with a memory that has all earlier changes.
func (r *Registry) try(ctx context.Context, tx Tx, fn func(Tx) ([]Change, error)) ([]Change, error) {
	if err := r.ready(ctx, tx); err != nil {
		return nil, err
	}
	changes, err := fn(tx)
	if err == nil {
		err = endDryRun(ctx)
	}
	return changes, err
}

// resyncTimeout bounds the reads that follow a failed commit.
const resyncTimeout = 5 * time.Second

// recover reads names again after a commit that failed. A database on a network
// may have committed although its answer was lost; memory must then show the stored
// state. If this read fails too, memory keeps the state before the write until the next
// Sync, or without a log until the next write of the name or a restart.
func (r *Registry) recover(ctx context.Context, names []Name) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resyncTimeout)
	defer cancel()
	if r.shared() {
		_ = r.catchUp(ctx)
		return
	}
	for _, name := range names {
		r.resync(ctx, name)
	}
}

func (r *Registry) resync(ctx context.Context, name Name) {
	snap := r.snap.Load()
	c, err := r.store.Credential(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return
	}
	a, err := r.store.Alias(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return
	}
	changes := differences([]change{{snap.names.get(name), entry{a, c}}})
	if a != nil && a.Credential != name {
		used, err := r.store.Credential(ctx, a.Credential)
		if err != nil {
			return
		}
		changes = append([]Change{{CredentialPut: used}}, changes...)
	}
	r.publish(ctx, changes, r.Position())
}

// publish makes changes visible and tells the observers, except of changes that
// memory already has, and moves memory to a position. The caller holds writing, so that no
// other write runs.
func (r *Registry) publish(ctx context.Context, changes []Change, at Position) {
	snap := r.snap.Load()
	changes = slices.DeleteFunc(changes, snap.has)
	r.show(ctx, changes, snap.with(changes), at)
}

// show is publish with the snapshot that has the changes. The replica is written after the
// observers have returned, and the position is reported after that: then a node that reports
// the position of a purge has purged, and does not serve what it had if it is restarted.
func (r *Registry) show(ctx context.Context, changes []Change, next *snapshot, at Position) {
	if len(changes) > 0 {
		r.tell(changes, next)
	}
	if was := r.Position(); at == was {
		return
	}
	if r.replica != nil {
		r.replica.Apply(context.WithoutCancel(ctx), changes, at)
	}
	r.position.Store(&at)
}

func (r *Registry) tell(changes []Change, next *snapshot) {
	was := r.snap.Load()
	for i, c := range changes {
		if c.AliasPut != nil {
			changes[i].AliasWas = was.names.get(c.AliasPut.Name).alias
		}
	}
	r.snap.Store(next)
	r.ids.update(changes)
	r.mu.Lock()
	observers := r.observers
	r.mu.Unlock()
	for _, c := range changes {
		if c.local != nil {
			c.local()
			continue
		}
		for _, fn := range observers {
			fn(c)
		}
	}
}
