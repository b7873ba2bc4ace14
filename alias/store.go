package alias

import "context"

// Store keeps aliases and credentials for good. It is a contract with more
// than one implementation; storetest checks it. Methods are safe for
// concurrent use, do I/O and honour ctx. Values returned are the caller's own.
//
//nolint:interfacebloat // what the registry keeps, in one transaction, is one contract
type Store interface {
	History

	// Load reads everything in one consistent view, every credential before
	// the first alias, in no particular order. An error returned by a
	// callback ends it.
	Load(ctx context.Context, credential func(*Credential) error, alias func(*Alias) error) error

	// Alias and Credential read one by name: ErrNotFound when there is none.
	Alias(ctx context.Context, name Name) (*Alias, error)
	Credential(ctx context.Context, name Name) (*Credential, error)

	// Aliases and Credentials page through names above after, sorted by name
	// (bytewise), at most limit of them.
	Aliases(ctx context.Context, after Name, limit int) ([]*Alias, error)
	Credentials(ctx context.Context, after Name, limit int) ([]*Credential, error)

	// AliasesOf names the aliases that use a credential, sorted.
	AliasesOf(ctx context.Context, credentialID int64) ([]Name, error)

	// CountSealed says how many credentials hold a sealed value.
	CountSealed(ctx context.Context) (int, error)

	// AddUsage adds the deltas of a batch, all or none. One of the same writer
	// with the same number, or a lower one, is not added again. Deltas of aliases
	// that are not there are dropped.
	AddUsage(ctx context.Context, b UsageBatch) error
	// Usage is what was added for an alias, and goes with it: zero when nothing
	// was.
	Usage(ctx context.Context, aliasID int64) (Usage, error)

	// Update runs fn in one transaction: all of it is durable when Update
	// returns nil, none of it otherwise. fn must not keep tx. It may run more
	// than once, each time from a clean beginning, since a database may ask for
	// a transaction to be tried again: what it does outside of tx must bear that.
	Update(ctx context.Context, fn func(tx Tx) error) error

	// Meta reads a setting of the registry itself (its key check, its install
	// id): ErrNotFound when it was never set.
	Meta(ctx context.Context, key string) ([]byte, error)

	Close() error
}

// History reads what has happened to aliases and credentials. Methods are safe
// for concurrent use, do I/O and honour ctx.
type History interface {
	// Operation reads one by id: ErrNotFound when there is none.
	Operation(ctx context.Context, id string) (*Operation, error)
	// Operations lists the operations that f picks, the newest first.
	Operations(ctx context.Context, f OperationFilter) ([]*Operation, error)
	// Audit lists at most limit entries with ids below before, the newest
	// first; 0 begins with the last one.
	Audit(ctx context.Context, before int64, limit int) ([]*AuditEntry, error)
	// CountAudit says how many entries f picks.
	CountAudit(ctx context.Context, f AuditFilter) (int, error)
	// Verification reads the last one of an alias: ErrNotFound when there is
	// none.
	Verification(ctx context.Context, aliasID int64) (*Verification, error)
}

// Tx is what may be done inside Store.Update. A write that fails ends it: no
// other write is taken after it, and Update returns the error even if fn does
// not.
//
//nolint:interfacebloat // as above
type Tx interface {
	// These read as Store does, and see what was written before in the same
	// transaction.
	Alias(name Name) (*Alias, error)
	Credential(name Name) (*Credential, error)
	AliasesOf(credentialID int64) ([]Name, error)
	CountSealed() (int, error)
	Meta(key string) ([]byte, error)

	// Insert methods fail with ErrExists when the name is taken. An alias whose
	// credential is not there is refused with ErrNotFound by the database
	// itself, on update too.
	InsertAlias(a *Alias) error
	InsertCredential(c *Credential) error

	// Update methods write the whole value over the one with the same ID and
	// the revision before the value's: ErrStale when there is none, and
	// when the epoch of an alias would go down, which would bring purged objects back.
	UpdateAlias(a *Alias) error
	UpdateCredential(c *Credential) error

	// RaiseEpoch adds one to the epoch of an alias and changes nothing else, not
	// even the revision: ErrNotFound when there is no such alias.
	RaiseEpoch(aliasID int64) error

	// Delete methods remove the value with this ID and revision: ErrStale
	// when there is none. A credential in use is refused with ErrInUse by the
	// database itself, whatever the caller checked before.
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
	// InsertOperation fails with ErrExists when the id is taken, or when an
	// operation runs for the same alias or credential.
	InsertOperation(o *Operation) error
	// UpdateOperation writes the whole value over the one with the same id and
	// the revision before the value's: ErrStale when there is none.
	UpdateOperation(o *Operation) error
	// AddAudit adds an entry; its ID is set by the store.
	AddAudit(e *AuditEntry) error
	// PutVerification keeps the last verification of an alias, which goes with
	// the alias: ErrNotFound when there is no such alias.
	PutVerification(v *Verification) error

	SetMeta(key string, value []byte) error
}
