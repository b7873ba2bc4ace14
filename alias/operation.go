package alias

import (
	"encoding/json"
	"time"
)

// OperationKind says what an operation does.
type OperationKind string

// Kinds of operation.
const (
	OperationProvision OperationKind = "provision"
	OperationRotate    OperationKind = "rotate"
	OperationRemove    OperationKind = "remove"
)

// OperationState says how far an operation is. Done and failed are final.
type OperationState string

// States of an operation.
const (
	OperationRunning OperationState = "running"
	OperationDone    OperationState = "done"
	OperationFailed  OperationState = "failed"
)

// StepState says how far a step is.
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
	// Detail says in plain words what was found or went wrong. It never holds
	// a secret.
	Detail string `json:"detail,omitempty"`
}

// OperationError is why an operation failed.
type OperationError struct {
	// Code is one of a small set that programs may rely on.
	Code string `json:"code"`
	Step string `json:"step"`
	// Detail names what was refused and on what, and what was left behind.
	Detail string `json:"detail"`
}

// Operation is a provisioning, a rotation or a removal: durable steps that a
// crash cannot lose. Values read from the registry are the caller's own.
type Operation struct {
	ID           string
	Kind         OperationKind
	Alias        Name // empty where the operation is about a credential alone
	Credential   Name
	CredentialID int64
	State        OperationState
	Error        *OperationError // set when failed
	Steps        []Step
	// Request is the request in its canonical form: the same request again is
	// the same operation.
	Request []byte
	// Data is what provisioning must remember to go on after a crash. Secrets
	// in it are sealed.
	Data       json.RawMessage
	Actor      string
	Revision   int64 // counts writes, from 1
	CreatedAt  time.Time
	UpdatedAt  time.Time
	FinishedAt time.Time // zero while running
}

// Finished reports whether the operation has ended, well or not.
func (o *Operation) Finished() bool { return o.State != OperationRunning }

// OperationFilter picks operations; zero fields pick all.
type OperationFilter struct {
	Alias      Name
	Credential Name
	State      OperationState
	// Before picks those that are older than the operation with this id.
	Before string
	Limit  int // 0: no operation
}

// AuditEntry is one line of the audit: who did what to which user, policy and
// key. Lines are added and never changed.
type AuditEntry struct {
	ID          int64 // set by the store, rising
	At          time.Time
	Actor       string // who asked: an operator's address, "schedule" or "reconcile"
	Action      string // such as iam:CreateUser
	User        string
	Policy      string
	AccessKeyID string
	Alias       Name
	Credential  Name
	Outcome     string // ok, or the code of what went wrong
	Operation   string // id
	Detail      string
}

// AuditFilter picks the entries of one actor, action and outcome that are not
// older than Since.
type AuditFilter struct {
	Actor   string
	Action  string
	Outcome string
	Since   time.Time
}
