package alias

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of the registry and of every Store. They are wrapped with the operation that
// failed; test with errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	// ErrStale means that the caller's revision is not the current one.
	ErrStale = errors.New("revision is not the current one")
	// ErrInUse means that aliases still use the credential; an InUseError that wraps it
	// names them.
	ErrInUse = errors.New("in use")
	// ErrNotStatic means that the credential is not a key pair given by an operator, so
	// an operator cannot replace it.
	ErrNotStatic = errors.New("not a static credential")
	// ErrNotRole means that the credential is not a role, so no role can take its place.
	ErrNotRole = errors.New("not a role")
	// ErrBusy means that an operation runs for the alias or credential, or that
	// the state of the credential does not allow this use.
	ErrBusy = errors.New("an operation runs")
	// ErrProvisioned means that ixmage made the credential's IAM user, so only operations
	// remove the credential and replace its key.
	ErrProvisioned = errors.New("a provisioned credential")
	// ErrNotProvisioned means that ixmage did not make the credential's IAM user, so it
	// may not rotate the key or remove the user.
	ErrNotProvisioned = errors.New("not a provisioned credential")
	// ErrOtherUser means that the IAM user of a credential does not exist, or is not the one
	// that ixmage made or adopted for it.
	ErrOtherUser = errors.New("not the user of the credential")
	// ErrIAM means that IAM refused, failed or could not be reached.
	ErrIAM = errors.New("IAM")
	// ErrSTS means that STS could not be reached, or could not answer.
	ErrSTS = errors.New("no session")
	// ErrForbidden means that the configuration does not allow the call.
	ErrForbidden = errors.New("not allowed")
	// ErrNoBoundary means that the server has no permissions boundary for the IAM users of
	// an AWS account, and no leave to do without one.
	ErrNoBoundary = errors.New("no permissions boundary")
	// ErrNoKeyPair means that the credential is anonymous.
	ErrNoKeyPair = errors.New("no key pair")
	// ErrUnavailable means that the database cannot serve the call now: it is locked by
	// another process, full, or cannot be opened, read or written. The same call may
	// succeed later.
	ErrUnavailable = errors.New("the database is unavailable")
	// ErrHistory means that the log of the registry does not have a position: it begins
	// later, or the database has another history, such as that of a restored backup.
	ErrHistory = errors.New("the log of the registry does not have this position")
	// ErrLeased means that another process has the lease.
	ErrLeased = errors.New("another node has the lease")
	// ErrLeaseLost means that a process does not have a lease any more on which its work
	// depends.
	ErrLeaseLost = errors.New("the lease was lost")
	// ErrDamaged means that the database holds bytes that ixmage did not write. A
	// DamagedError that wraps it names a row.
	ErrDamaged = errors.New("the database is damaged")
	// ErrWrongKey means that the stored secrets were sealed with another key set than the
	// configured one.
	ErrWrongKey = errors.New("the key set is not the one that the secrets in the registry were sealed with")
)

// InUseError names the aliases, and the roles, that use a credential and so prevent its deletion.
type InUseError struct {
	Credential Name
	Aliases    []Name
	Roles      []Name // that it is the source of
}

func (e *InUseError) Error() string {
	var users []string
	if len(e.Aliases) > 0 {
		users = append(users, "the aliases "+joinNames(e.Aliases))
	}
	if len(e.Roles) > 0 {
		users = append(users, "as the source of the roles "+joinNames(e.Roles))
	}
	return "credential " + string(e.Credential) + " is used by " + strings.Join(users, ", and ")
}

func joinNames(names []Name) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = string(n)
	}
	return strings.Join(texts, ", ")
}

// Unwrap makes errors.Is(err, ErrInUse) true.
func (*InUseError) Unwrap() error { return ErrInUse }

// DamagedError names a row of the registry that cannot be read, or a credential whose
// secret cannot be opened. The rest of the registry is served.
type DamagedError struct {
	Kind  string // "alias" or "credential"
	Name  Name   // empty if the name cannot be read
	ID    int64
	Cause error
}

func (e *DamagedError) Error() string { return e.Row() + " is damaged: " + e.Cause.Error() }

// Row names the row.
func (e *DamagedError) Row() string {
	if !IsName(string(e.Name)) {
		return fmt.Sprintf("the %s with the id %d", e.Kind, e.ID)
	}
	return "the " + e.Kind + " " + string(e.Name)
}

// Unwrap makes errors.Is(err, ErrDamaged) true.
func (e *DamagedError) Unwrap() []error { return []error{ErrDamaged, e.Cause} }

// DamagedRowsError has all damaged rows that Store.Load has found.
type DamagedRowsError struct{ Rows []*DamagedError }

func (e *DamagedRowsError) Error() string { return fmt.Sprintf("%d rows are damaged", len(e.Rows)) }

// Unwrap makes errors.Is(err, ErrDamaged) true.
func (*DamagedRowsError) Unwrap() error { return ErrDamaged }

// Problem is an invalid value of a field. Detail states the rule, so that the reader
// can correct the value.
type Problem struct {
	Field  string
	Detail string
}

// ValidationError lists every problem of a value at once.
type ValidationError struct{ Problems []Problem }

func (e *ValidationError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.Field + ": " + p.Detail
	}
	return strings.Join(parts, "; ")
}

// invalid returns nil if there are no problems.
func invalid(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &ValidationError{Problems: problems}
}
