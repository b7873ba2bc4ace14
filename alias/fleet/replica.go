package fleet

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
)

// replica is the copy of the registry on this node. One that cannot be written is deleted, since
// a start from it would bring back what was purged or revoked.
type replica struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex
	store *sqlstore.Replica // nil: there is none
	state sqlstore.ReplicaState
	// restDue means that admin tokens or settings must be copied.
	restDue bool
	// filling means that the replica gets everything; what changes meanwhile is pending.
	filling bool
	pending []batch
	node    *Node // set by Open; its clock dates the state
	tried   time.Time
}

// openReplica opens the replica at path. One that cannot be read is replaced by an empty one.
func openReplica(ctx context.Context, path string, log *slog.Logger) *replica {
	r := &replica{path: path, log: log, restDue: true}
	store, err := sqlstore.OpenReplica(ctx, path)
	if err == nil {
		if r.state, err = store.State(ctx); err == nil && r.state.Position != (alias.Position{}) {
			r.store = store
			return r
		}
		store.Close()
	}
	if err != nil {
		log.Warn("the replica of the registry cannot be read; it is made anew", "error", err)
	}
	r.renew(ctx) // settings of one that was never filled do not hold
	return r
}

// renew is anew at a start. Without a replica the node works, and keep tries again.
func (r *replica) renew(ctx context.Context) {
	if err := r.anew(ctx); err != nil {
		r.log.Warn("the replica of the registry cannot be made", "error", err)
	}
}

// anew makes an empty replica.
func (r *replica) anew(ctx context.Context) error {
	if err := r.remove(); err != nil {
		return err
	}
	store, err := sqlstore.OpenReplica(ctx, r.path)
	if err == nil {
		r.store = store
	}
	return err
}

func (r *replica) remove() error {
	if r.store != nil {
		r.store.Close()
		r.store = nil
	}
	r.state = sqlstore.ReplicaState{}
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(r.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Load is that of alias.Replica.
func (r *replica) Load(
	ctx context.Context, credential func(*alias.Credential) error, use func(*alias.Alias) error,
) (alias.Position, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store == nil {
		return alias.Position{}, nil
	}
	at, err := r.store.Load(ctx, credential, use)
	if _, rows := errors.AsType[*alias.DamagedRowsError](err); err != nil && !rows && ctx.Err() == nil {
		r.log.Warn("the replica of the registry cannot be read; it is made anew", "error", err)
		r.renew(ctx)
	}
	return at, err
}

// Apply is that of alias.Replica.
func (r *replica) Apply(ctx context.Context, changes []alias.Change, at alias.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.filling:
		r.pending = append(r.pending, batch{changes, at})
	case r.store != nil && r.state.Position != (alias.Position{}):
		r.write(ctx, changes, at)
	}
}

// batch is an argument of Apply.
type batch struct {
	changes []alias.Change
	at      alias.Position
}

func (r *replica) write(ctx context.Context, changes []alias.Change, at alias.Position) {
	r.restDue = r.restDue || slices.ContainsFunc(changes, func(c alias.Change) bool { return c.Tokens })
	state := r.node.stateAt(at)
	// The end of the process says nothing about the replica.
	if err := r.store.Apply(context.WithoutCancel(ctx), changes, state); err != nil {
		r.log.Error("the replica of the registry cannot be written and is deleted: without it this node cannot start "+
			"while the database is away", "error", err)
		if err := r.remove(); err != nil {
			r.log.Error("delete the replica of the registry by hand", "file", r.path, "error", err)
		}
		return
	}
	r.state = state
	r.copyRest(ctx)
}

// copyRest copies what changes of aliases and credentials do not carry: admin tokens, and the
// settings that a start needs. What fails is repeated with the next beat.
func (r *replica) copyRest(ctx context.Context) {
	if !r.restDue || r.store == nil {
		return
	}
	list, err := r.node.db.Tokens(ctx)
	if err == nil {
		err = r.store.PutTokens(ctx, list)
	}
	for _, key := range []string{alias.MetaKeyCheck, alias.MetaKeyset, alias.MetaInstallID} {
		if err == nil {
			err = r.copySetting(ctx, key)
		}
	}
	r.restDue = err != nil
	if err != nil {
		r.log.Warn("tokens and settings are not copied to the replica of the registry yet", "error", err)
	}
}

func (r *replica) copyRestSoon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restDue = true
}

func (r *replica) copySetting(ctx context.Context, key string) error {
	value, err := r.node.db.Meta(ctx, key)
	if errors.Is(err, alias.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.store.Update(ctx, func(tx alias.Tx) error { return tx.SetMeta(key, value) })
}

// stateAt is the state of a replica that has a position now.
func (n *Node) stateAt(at alias.Position) sqlstore.ReplicaState {
	return sqlstore.ReplicaState{Position: at, At: n.Now(), ClockOffset: n.clockOffset()}
}

// dateEvery is the interval at which the state is dated, and a replica that was lost is made again.
const dateEvery = time.Minute

// keep dates the replica, or fills an empty one. It may take seconds, for which changes wait in
// memory.
func (r *replica) keep(ctx context.Context, registry *alias.Registry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copyRest(ctx)
	if time.Since(r.tried) < dateEvery {
		return
	}
	r.tried = time.Now()
	if r.store == nil {
		if err := r.anew(ctx); err != nil {
			r.log.Warn("the replica of the registry cannot be made", "error", err)
			return
		}
	}
	if r.state.Position != (alias.Position{}) {
		r.write(ctx, nil, r.state.Position)
		return
	}
	r.mu.Unlock()
	changes, at := registry.Snapshot(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.filling = true
	})
	// It has no position yet: one that is older than what this node reports must not remain
	// after a kill.
	err := r.store.Apply(ctx, changes, sqlstore.ReplicaState{})
	r.mu.Lock()
	pending := r.pending
	r.filling, r.pending = false, nil
	if err != nil && ctx.Err() == nil {
		r.log.Warn("the replica of the registry cannot be filled", "error", err)
	}
	if err != nil {
		return
	}
	var meanwhile []alias.Change
	for _, b := range pending {
		meanwhile, at = append(meanwhile, b.changes...), b.at
	}
	r.restDue = true
	r.write(ctx, meanwhile, at)
}

// database is that of the replica, nil if there is none.
func (r *replica) database() alias.Store { //nolint:ireturn // nil is no database
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store == nil {
		return nil
	}
	return r.store.Store
}

func (r *replica) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store != nil {
		r.store.Close()
		r.store = nil
	}
}
