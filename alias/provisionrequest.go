package alias

import "time"

// ProvisionRequest asks for an alias together with the IAM user, policy and key
// that it is read with.
type ProvisionRequest struct {
	Alias Name `json:"alias"`
	Location
	Policy PolicyMode `json:"policy"`
	// Credential names an existing provisioned credential to be reused; empty
	// for one of the alias's own.
	Credential Name              `json:"credential"`
	UserName   string            `json:"user_name"` // empty: chosen
	Tags       map[string]string `json:"tags"`
	KMSKeyARN  string            `json:"kms_key_arn"`
	// Inside and Outside are whole object keys in the bucket, to prove what the
	// new key can and cannot read; empty where the operator gives none.
	Inside      string        `json:"inside"`
	Outside     string        `json:"outside"`
	RotateEvery time.Duration `json:"rotate_every"` // 0: never by itself
}

// Plan is what a provision request would do.
type Plan struct {
	Policy   PolicyMode
	User     IAMUser // ARN and ID are empty: they are IAM's to give
	Tags     map[string]string
	Document []byte // the policy document, JSON; nil for read-only-access
	// PolicyName is the inline or managed policy's name, or the ARN of the AWS
	// managed one.
	PolicyName string
	Steps      []PlanStep
	// Commands do the same by hand, one line for a shell each.
	Commands []string
}

// PlanStep is a step as an operation would show it.
type PlanStep struct {
	Name   string
	Detail string
}

// Orphan is something in IAM under our path that belongs to no credential, or
// that is not as we left it.
type Orphan struct {
	Kind        string // user, key, policy, boundary, missing-user
	User        string
	AccessKeyID string
	Credential  Name // where it is about a credential of ours
	FoundAt     time.Time
	// State is reported, quarantined, partly-quarantined (a key is still
	// active) or deleted.
	State  string
	Detail string // what it is and what to do
}

// OrphanReport is what the last look at IAM found.
type OrphanReport struct {
	ScannedAt time.Time // zero before the first look
	Orphans   []Orphan
	// Skipped says why nothing, or less than there is, was looked at; empty
	// when all was.
	Skipped string
}
