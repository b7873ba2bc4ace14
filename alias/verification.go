package alias

import "time"

// Verdict is the outcome of a scope check.
type Verdict string

// Verdicts, the worst last.
const (
	VerdictProven    Verdict = "proven"
	VerdictWeak      Verdict = "weak"
	VerdictNotProven Verdict = "not-proven"
	VerdictViolated  Verdict = "violated"
)

// severity orders verdicts.
var severity = map[Verdict]int{VerdictProven: 0, VerdictWeak: 1, VerdictNotProven: 2, VerdictViolated: 3}

// Check is one scope check of a credential.
type Check struct {
	Name     string  `json:"name"`
	Expected string  `json:"expected"`
	Got      string  `json:"got"`
	Verdict  Verdict `json:"verdict"`
	// Positive marks a check of a right that the key must have. If such a check failed,
	// the alias is not opened.
	Positive bool `json:"positive"`
	// Failed marks a positive check that S3 refused.
	Failed bool      `json:"failed,omitempty"`
	Detail string    `json:"detail,omitempty"` // a sentence
	At     time.Time `json:"at"`
}

// Verification holds the scope checks of a credential on the location of an alias.
type Verification struct {
	AliasID           int64
	Alias             Name
	CredentialID      int64
	CredentialVersion int64
	CheckedAt         time.Time
	Checks            []Check
}

// Scope returns the worst verdict of all checks; without checks it is not proven.
func (v *Verification) Scope() Verdict {
	if len(v.Checks) == 0 {
		return VerdictNotProven
	}
	worst := VerdictProven
	for _, c := range v.Checks {
		verdict := c.Verdict
		if _, known := severity[verdict]; !known {
			verdict = VerdictNotProven
		}
		if severity[verdict] > severity[worst] {
			worst = verdict
		}
	}
	return worst
}

// Blocks reports whether a new key must not be used: it has a right that it must not
// have, or lacks a right that it must have.
func (v *Verification) Blocks() bool {
	for _, c := range v.Checks {
		if c.Verdict == VerdictViolated || c.Positive && c.Failed {
			return true
		}
	}
	return false
}
