package alias

import (
	"errors"
	"strings"
)

// Errors of the registry and of every Store. They come wrapped with what was
// attempted; test with errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	// ErrStale means that the revision the caller holds is not the current one.
	ErrStale = errors.New("revision is not the current one")
	// ErrInUse means that aliases still use the credential; it comes inside an
	// InUseError that names them.
	ErrInUse = errors.New("in use")
	// ErrNotStatic means that no operator gave the key pair, so that none can
	// replace it.
	ErrNotStatic = errors.New("not a static credential")
	// ErrBusy means that an operation runs for the alias or credential, or that
	// the credential is not in a state in which it may be used so.
	ErrBusy = errors.New("an operation runs")
	// ErrProvisioned means that the credential's IAM user is ours, so that the
	// credential is removed and its key replaced by operations only.
	ErrProvisioned = errors.New("a provisioned credential")
	// ErrNotProvisioned means that the credential's key is not ours to rotate or
	// its user ours to remove.
	ErrNotProvisioned = errors.New("not a provisioned credential")
	// ErrIAM means that IAM refused, failed or could not be reached.
	ErrIAM = errors.New("IAM")
	// ErrForbidden means that the configuration does not allow it.
	ErrForbidden = errors.New("not allowed")
	// ErrNoKeyPair means that the credential signs nothing.
	ErrNoKeyPair = errors.New("no key pair")
	// ErrUnavailable means that the database cannot do what it was asked now: it
	// is locked by another process, full, or cannot be opened, read or written. The
	// same call may succeed later.
	ErrUnavailable = errors.New("the database is unavailable")
	// ErrWrongKey means that the stored secrets were sealed with another key
	// set than the one at hand.
	ErrWrongKey = errors.New("the key set is not the one that the secrets in the registry were sealed with")
)

// InUseError names the aliases that keep a credential from being deleted.
type InUseError struct {
	Credential Name
	Aliases    []Name
}

func (e *InUseError) Error() string {
	names := make([]string, len(e.Aliases))
	for i, n := range e.Aliases {
		names[i] = string(n)
	}
	return "credential " + string(e.Credential) + " is used by the aliases " + strings.Join(names, ", ")
}

// Unwrap makes errors.Is(err, ErrInUse) true.
func (*InUseError) Unwrap() error { return ErrInUse }

// Problem is one thing wrong with one field, said so that the reader knows
// what would be right.
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

// invalid is nil when there are no problems.
func invalid(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &ValidationError{Problems: problems}
}
