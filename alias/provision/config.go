package provision

import (
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
)

// Config is what a Provisioner works with.
type Config struct {
	Registry *alias.Registry
	// AWS makes the clients of IAM and STS that act for the operator; nil while
	// provisioning is off.
	AWS *AWS
	// Probes makes those that probe with a key of an alias, provisioned or
	// pasted in.
	Probes *AWS
	// S3 makes the client that serves a location with a key pair.
	S3 func(alias.Location, alias.KeyPair) *s3.Client

	InstallID string
	Boundary  string // ARN put on every user; empty for none
	// Buckets are the patterns of bucket names that may be provisioned.
	Buckets        []string
	AllowWideScope bool
	IAMEndpoint    string // for plans

	Timing   Timing
	Clock    Clock // nil: the machine's
	Recorder Recorder
	Log      *slog.Logger // nil discards
}

// Timing are the waits and intervals. All must be positive.
type Timing struct {
	// Visible bounds the wait for what IAM has done to be seen.
	Visible time.Duration
	// VerifyBudget bounds the wait for a new key to work, VerifyEvery lies
	// between the five times in a row that it must.
	VerifyBudget time.Duration
	VerifyEvery  time.Duration
	// PreviousKey is how long requests may use the previous key after a
	// rotation has swapped it. Soak is how long it stays active, Quiet how long
	// before its end nothing may have fallen back.
	PreviousKey time.Duration
	Soak        time.Duration
	Quiet       time.Duration
	// SoakInactive is how long an inactive key can still be brought back.
	SoakInactive time.Duration
	// Refused bounds the wait until a dead key is refused, RefusedEvery lies
	// between the three times in a row that it must be.
	Refused      time.Duration
	RefusedEvery time.Duration
	// ConfirmGap lies between the two looks that make sure a user is gone.
	ConfirmGap time.Duration
	// Reconcile is the interval of looking for what a crash or somebody else
	// left behind. OrphanAge is how long a user may be unknown before it is
	// taken for an orphan.
	Reconcile time.Duration
	OrphanAge time.Duration
	// RotateGap is the least time between the beginnings of two scheduled
	// rotations: IAM is a control plane with low quotas.
	RotateGap time.Duration
}

// Recorder counts. Calls come from many goroutines.
type Recorder interface {
	Operation(kind, outcome string)
	Step(name string, d time.Duration)
	Propagation(d time.Duration)
	Orphans(n int)
}
