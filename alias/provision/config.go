package provision

import (
	"context"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/alias/accounts"
	"ixmage/alias/session"
)

// Config configures a Provisioner.
type Config struct {
	Registry *alias.Registry
	// AWS makes the clients of IAM and STS that act for the operator; nil while
	// provisioning is off.
	AWS *AWS
	// Probes makes the clients of IAM and STS that sign with the key of an alias,
	// provisioned or entered by an operator.
	Probes *AWS
	// S3 makes the client that reads a location with a key pair.
	S3 func(alias.Location, alias.KeyPair) *s3.Client
	// Sessions has the keys of credentials that have none of their own; nil: such a credential
	// cannot be verified. S3With is S3 with such keys.
	Sessions Sessions
	S3With   func(alias.Location, aws.CredentialsProvider) *s3.Client
	// S3Hint says what an operator can do about an error of such a client without an answer
	// of S3. Nil: nothing special.
	S3Hint func(alias.Location, error) string

	InstallID string
	Boundary  string // ARN of the permissions boundary of every user; empty for none
	// NoBoundary allows users without a boundary in an AWS account.
	NoBoundary bool
	// Buckets are the patterns of bucket names that may be provisioned, Adopt those of the
	// names of IAM users that may be adopted, and TagKeys the keys of tags that a request
	// may set. None by default.
	Buckets []string
	Adopt   []string
	TagKeys []string
	// Accounts are those in which users may be made beside the account of AWS's credentials;
	// nil for none. Boundary, NoBoundary, Buckets and Adopt do not apply to them.
	Accounts       *accounts.List
	AllowWideScope bool
	IAMEndpoint    string // empty: AWS

	// Fleet are the nodes that share the registry; nil if this process is the only one.
	Fleet Fleet

	Timing   Timing
	Clock    Clock // nil: SystemClock. In a fleet it is corrected by the clock of the database
	Recorder Recorder
	Log      *slog.Logger // nil discards
}

// Sessions holds the keys of credentials of the kinds role and default.
type Sessions interface {
	// Keys returns the keys that sign for a route now. The error is of alias.ErrForbidden or
	// alias.ErrSTS, or ctx's.
	Keys(ctx context.Context, r alias.Route) (session.Keys, error)
}

// Timing are the waits and intervals. All must be positive.
type Timing struct {
	// Visible bounds the wait until IAM shows a change.
	Visible time.Duration
	// VerifyBudget bounds the wait until a new key works. VerifyEvery is the pause
	// between two of the five times in a row that it must work.
	VerifyBudget time.Duration
	VerifyEvery  time.Duration
	// PreviousKey is how long after the swap requests may use the previous key. Soak
	// is how long that key stays active. Quiet is the time without a request that
	// used it, which must precede the end of the soak.
	PreviousKey time.Duration
	Soak        time.Duration
	Quiet       time.Duration
	// SoakInactive is how long the retiring key stays inactive before it is deleted.
	SoakInactive time.Duration
	// Refused bounds the wait until an inactive key is refused. RefusedEvery is the
	// pause between two of the three times in a row that it must be refused.
	Refused      time.Duration
	RefusedEvery time.Duration
	// ConfirmGap is the pause between the two checks that a user does not exist.
	ConfirmGap time.Duration
	// Reconcile is the interval between two reconciles of IAM with the registry.
	// OrphanAge is the age from which an unknown user or key is handled as an orphan.
	Reconcile time.Duration
	OrphanAge time.Duration
	// KeyAge is how long a key that is probably ours stays inactive and named before it is
	// deleted. IAM shows a use of it hours later.
	KeyAge time.Duration
	// RotateGap is the least time between the starts of two scheduled rotations,
	// because IAM throttles frequent calls.
	RotateGap time.Duration
	// Look is the interval in which a node of a fleet looks for what another one does not do any
	// more, and how long an operation is left to the node that was asked for it.
	Look time.Duration
}

// Recorder counts events for the metrics. Its methods must be safe for concurrent use.
type Recorder interface {
	Operation(kind, outcome string)
	Step(name string, d time.Duration)
	Propagation(d time.Duration)
	Orphans(n int)
}
