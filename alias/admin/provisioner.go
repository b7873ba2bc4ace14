package admin

import (
	"context"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/provision"
)

// Provisioner does what the calls on IAM need. Its errors under a sentinel of
// the alias package are shown to the operator as they stand, so they must hold
// no secret and no text from AWS; a *alias.ValidationError names fields as the
// request body does. An operation that it returns goes on by itself, whatever
// becomes of the context it was asked for with.
type Provisioner interface {
	// Provision starts an operation, or gives back the one that the same
	// request started: alias.ErrExists where another request has the alias. An
	// empty Policy is inline, or that of the credential to be reused. A request
	// that is not valid is a *alias.ValidationError.
	Provision(ctx context.Context, actor string, req policy.Request) (*alias.Operation, error)
	// Plan says what Provision would do. It calls nothing, and works while
	// provisioning is off.
	Plan(ctx context.Context, req policy.Request) (*policy.Plan, error)
	// Rotate gives a credential a new key. emergency is for one that has
	// leaked: the old key is not kept for as long.
	Rotate(ctx context.Context, actor string, name alias.Name, emergency bool) (*alias.Operation, error)
	// Remove takes a credential, its user, policy and keys out of IAM:
	// *alias.InUseError while aliases use it, alias.ErrStale unless ifRevision
	// is the current one or 0.
	Remove(ctx context.Context, actor string, name alias.Name, ifRevision int64) (*alias.Operation, error)
	// Verify runs the scope checks of an alias now, whatever the kind of its
	// credential.
	Verify(ctx context.Context, actor string, name alias.Name) (*alias.Verification, error)
	// Wait returns an operation when it has ended or ctx has, as it then
	// stands.
	Wait(ctx context.Context, id string) (*alias.Operation, error)
	// Orphans is what the last look at IAM found.
	Orphans(ctx context.Context) (provision.OrphanReport, error)
	// RemoveOrphan deletes a user that is ours and belongs to no credential:
	// alias.ErrNotFound for any other. When ctx ends before it has, the error
	// says so, and the same call again goes on.
	RemoveOrphan(ctx context.Context, actor, user string) error
	// HandRotation is the shell commands that rotate a static key.
	HandRotation(c *alias.Credential) []string
}

// off is the answer where there is no Provisioner.
func off() error {
	return fail(alias.ErrForbidden, "provisioning is switched off on this server: start it with --provision")
}
