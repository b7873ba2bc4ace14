package alias

import (
	"context"
	"time"
)

// Store keeps aliases and credentials permanently. Package storetest checks every
// implementation. Methods are safe for concurrent use, do I/O and honour ctx. The
// caller owns the returned values.
//
//nolint:interfacebloat // one transaction covers all of it
type Store interface {
	History

	// Load reads everything in one consistent view, every credential before
	// the first alias, in no particular order. Load stops at
	// the first error of a callback and returns it. It passes over rows that cannot be
	// read, and then returns *DamagedRowsError after all callbacks. It returns the position
	// of the view.
	Load(ctx context.Context, credential func(*Credential) error, alias func(*Alias) error) (Position, error)

	// Named reads the aliases with some names, and the credentials with these names or that
	// these aliases use, in one consistent view, without those that cannot be read.
	Named(ctx context.Context, names []Name) ([]*Alias, []*Credential, error)

	// Log reads the changes after a position, the oldest first, of at most limit revisions,
	// and returns the position of the last of them, or after if there are none. It returns
	// ErrHistory if the log does not have that position: the log begins later, or is of
	// another history. A store that only one process uses has no log.
	Log(ctx context.Context, after Position, limit int) ([]LogEntry, Position, error)

	// Alias and Credential read one by name: ErrNotFound if there is none.
	Alias(ctx context.Context, name Name) (*Alias, error)
	Credential(ctx context.Context, name Name) (*Credential, error)

	// Aliases and Credentials page through names above after, sorted by name
	// (bytewise), at most limit of them, without those that cannot be read.
	Aliases(ctx context.Context, after Name, limit int) ([]*Alias, error)
	Credentials(ctx context.Context, after Name, limit int) ([]*Credential, error)

	// AliasesOf names the aliases that use a credential, sorted.
	AliasesOf(ctx context.Context, credentialID int64) ([]Name, error)

	// CountSealed counts the credentials and aliases that hold a sealed value.
	CountSealed(ctx context.Context) (int, error)

	// Tokens reads all admin tokens, by name, without those that cannot be read.
	Tokens(ctx context.Context) ([]*Token, error)

	// AddUsage adds the deltas of a batch, all or none, to the sums of aliases and to the
	// periods that contain the time of the batch. It ignores a batch whose number is not
	// above that of the last batch of its writer, and deltas of unknown aliases. It deletes
	// the periods that are older than Period.Kept says.
	AddUsage(ctx context.Context, b UsageBatch) error
	// Usage returns what was added for aliases, by their ids; an alias without usage is
	// absent. Usage is deleted with the alias.
	Usage(ctx context.Context, q UsageQuery) (map[int64]UsageHistory, error)

	// Update runs fn in one transaction: all of it is durable when Update
	// returns nil, none of it otherwise. fn must not keep tx. A database may require
	// the transaction to be repeated, so fn may run more than once, each time in a new
	// transaction: its effects outside of tx must be idempotent.
	Update(ctx context.Context, fn func(tx Tx) error) error

	Close() error
}

// History reads operations, the audit and verifications. Methods are safe
// for concurrent use, do I/O and honour ctx.
type History interface {
	// Operation reads one by id: ErrNotFound when there is none.
	Operation(ctx context.Context, id string) (*Operation, error)
	// Operations lists the operations that f selects, the newest first.
	Operations(ctx context.Context, f OperationFilter) ([]*Operation, error)
	// Audit lists at most limit entries with ids below before, the newest
	// first; 0 begins with the last one.
	Audit(ctx context.Context, before int64, limit int) ([]*AuditEntry, error)
	// CountAudit counts the entries that f selects.
	CountAudit(ctx context.Context, f AuditFilter) (int, error)
	// Verification reads the last one of an alias: ErrNotFound if there is none.
	Verification(ctx context.Context, aliasID int64) (*Verification, error)
	// Meta reads a setting of the registry itself, such as its key check, its install id and
	// the report of orphans: ErrNotFound if it was never set.
	Meta(ctx context.Context, key string) ([]byte, error)
}

// Tx has the reads and writes of a transaction of Store.Update. After a write that
// failed, every further write fails, and Update returns the error of the first even if
// fn does not.
//
//nolint:interfacebloat // as above
type Tx interface {
	// These read like the methods of Store, and see earlier writes of the same
	// transaction.
	Alias(name Name) (*Alias, error)
	Credential(name Name) (*Credential, error)
	AliasesOf(credentialID int64) ([]Name, error)
	CountSealed() (int, error)
	Meta(key string) ([]byte, error)

	// Insert methods fail with ErrExists when the name is taken. The
	// database itself refuses an alias whose credential does not exist, with
	// ErrNotFound; on update too.
	InsertAlias(a *Alias) error
	InsertCredential(c *Credential) error

	// Update methods replace the value with the same ID and the previous revision. They
	// return ErrStale if there is none, and if the epoch of an alias would decrease,
	// because purged objects would be served again.
	UpdateAlias(a *Alias) error
	UpdateCredential(c *Credential) error

	// RaiseEpoch adds one to the epoch of an alias and changes nothing else, not
	// even the revision: ErrNotFound when there is no such alias.
	RaiseEpoch(aliasID int64) error

	// Delete methods remove the value with this ID and revision: ErrStale if there is
	// none. The database itself refuses to delete a credential in use, with ErrInUse,
	// regardless of earlier checks by the caller.
	DeleteAlias(id, revision int64) error
	DeleteCredential(id, revision int64) error

	// Operation reads one by id: ErrNotFound when there is none.
	Operation(id string) (*Operation, error)
	// RunningOperation reads the operation that runs for an alias or for a
	// credential of this name: ErrNotFound when there is none.
	RunningOperation(aliasName, credential Name) (*Operation, error)
	// LastOperation reads the newest operation of a kind for an alias:
	// ErrNotFound when there is none.
	LastOperation(kind OperationKind, aliasName Name) (*Operation, error)
	// InsertOperation fails with ErrExists if the id is taken, or if an operation runs
	// for the same alias or credential.
	InsertOperation(o *Operation) error
	// UpdateOperation replaces the value with the same id and the previous revision:
	// ErrStale if there is none.
	UpdateOperation(o *Operation) error
	// AddAudit adds an entry; its ID is set by the store.
	AddAudit(e *AuditEntry) error
	// PutVerification replaces the last verification of an alias, which is deleted with
	// the alias: ErrNotFound if there is no such alias.
	PutVerification(v *Verification) error
	// DeleteVerification deletes that of an alias, if there is one.
	DeleteVerification(aliasID int64) error

	// InsertToken fails with ErrExists if the name or the digest is taken.
	InsertToken(t *Token) error
	// TouchToken sets the time of the last use, unless it is later already. It ignores a
	// token that does not exist.
	TouchToken(id int64, at time.Time) error
	// DeleteToken deletes the token with this id: ErrStale if there is none.
	DeleteToken(id int64) error

	SetMeta(key string, value []byte) error

	// Position returns the place of the transaction in the history of the registry. It is
	// zero in a store without a log.
	Position() TxPosition
	// LogPurge adds a purge to the log. A store without a log ignores it.
	LogPurge(p Purge) error
	// CheckLease returns ErrLeaseLost if the process does not have the lease any more.
	CheckLease(l Lease) error
}
