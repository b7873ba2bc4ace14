package alias

import (
	"encoding/json"
	"time"
)

// OperationKind is the kind of an operation.
type OperationKind string

// Kinds of operation.
const (
	OperationProvision OperationKind = "provision"
	OperationRotate    OperationKind = "rotate"
	OperationRemove    OperationKind = "remove"
)

// OperationState is the state of an operation. All but running are final.
type OperationState string

// States of an operation.
const (
	OperationRunning    OperationState = "running"
	OperationDone       OperationState = "done"
	OperationFailed     OperationState = "failed"
	OperationSuperseded OperationState = "superseded" // by a removal or an emergency
)

// StepState is the state of a step.
type StepState string

// States of a step.
const (
	StepPending StepState = "pending"
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
)

// Step is one durable step of an operation. It is written as running before its
// effect, and as done after it.
type Step struct {
	Name       string    `json:"name"`
	State      StepState `json:"state"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// Detail describes the result or the failure in a sentence. It never holds a
	// secret.
	Detail string `json:"detail,omitempty"`
}

// OperationError is the reason for the failure of an operation.
type OperationError struct {
	// Code is one of a small set that programs may rely on.
	Code string `json:"code" description:"A code that programs may rely on."`
	Step string `json:"step" description:"The step that failed; empty if none did."`
	// Detail names the refused call, its resource, and the resources that remain in IAM.
	Detail string `json:"detail" description:"The refused call, its resource, and the resources that remain in IAM, in words."`
	// SupersededBy is the id of the operation that took the place of this one.
	SupersededBy string `json:"superseded_by,omitempty"`
}

// Operation is a provisioning, a rotation or a removal. Its steps are durable: it
// continues after a crash. The caller owns a value that the registry returns.
type Operation struct {
	ID           string
	Kind         OperationKind
	Alias        Name // empty if the operation is about a credential alone
	Credential   Name
	CredentialID int64
	State        OperationState
	Error        *OperationError // set when failed or superseded
	Steps        []Step
	// Request is the request in canonical form: an equal request finds this operation
	// instead of starting another.
	Request []byte
	// Data is the state with which provisioning continues after a crash. Secrets in it
	// are sealed.
	Data       json.RawMessage
	Actor      string
	Revision   int64 // counts writes, from 1
	CreatedAt  time.Time
	UpdatedAt  time.Time
	FinishedAt time.Time // zero while running
}

// Finished reports whether the operation has ended.
func (o *Operation) Finished() bool { return o.State != OperationRunning }

// OperationFilter selects operations; a zero field matches all.
type OperationFilter struct {
	Alias      Name
	Credential Name
	State      OperationState
	// Before selects operations older than the operation with this id.
	Before string
	Limit  int // 0: no operation
}

// AuditEntry is one entry of the audit: an actor, an action, and the user, policy and
// key that it concerns. Entries are added and never changed.
type AuditEntry struct {
	ID          int64 // set by the store, increasing
	At          time.Time
	Actor       string // an operator's address, "schedule" or "reconcile"
	Action      string // such as iam:CreateUser
	User        string
	Policy      string
	AccessKeyID string
	Alias       Name
	Credential  Name
	Outcome     string // ok, or an error code
	Operation   string // id
	Detail      string
}

// AuditFilter selects the entries of one actor, action and outcome that are not
// older than Since.
type AuditFilter struct {
	Actor   string
	Action  string
	Outcome string
	Since   time.Time
}
