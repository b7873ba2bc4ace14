package alias

import (
	"context"
	"errors"
)

type dryRunKey struct{}

// DryRun returns a context for calls of a Registry that write. Such a call checks all that it
// always checks, in a transaction that is rolled back, and returns what it would have
// stored. Nothing is stored, published or told to observers.
func DryRun(ctx context.Context) context.Context { return context.WithValue(ctx, dryRunKey{}, true) }

// errDryRun rolls back the transaction of a dry run.
var errDryRun = errors.New("dry run")

// endDryRun returns errDryRun if ctx is one of DryRun.
func endDryRun(ctx context.Context) error {
	if ctx.Value(dryRunKey{}) != nil {
		return errDryRun
	}
	return nil
}
