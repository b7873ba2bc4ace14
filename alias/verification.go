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

// Evidence is where the outcome of a check comes from.
type Evidence string

// Kinds of evidence. A verification that an older ixmage stored has none: all its checks
// are probes.
const (
	EvidenceProbe        Evidence = "probe"         // the key itself was tried
	EvidenceControlPlane Evidence = "control-plane" // IAM was read with the server's own credentials
)

// Check is one scope check of a credential.
type Check struct {
	Name     string  `json:"name"`
	Expected string  `json:"expected"`
	Got      string  `json:"got"`
	Verdict  Verdict `json:"verdict"`
	// Evidence is empty in a verification that an older ixmage stored.
	Evidence Evidence `json:"evidence,omitempty"`
	// Positive marks a check of a right that the key must have. If such a check failed,
	// the alias is not opened.
	Positive bool `json:"positive"`
	// Failed marks a positive check that S3 refused.
	Failed bool      `json:"failed,omitempty"`
	Detail string    `json:"detail,omitempty"` // a sentence
	At     time.Time `json:"at"`
}

// NotTried is something that the checks say nothing about.
type NotTried struct {
	Name string     `json:"name" description:"A check, or what no check covers."`
	Why  WhyUntried `json:"why" description:"Why it was not tried."`
}

// WhyUntried is the reason why something was not tried.
type WhyUntried string

// Reasons why something was not tried.
const (
	WhyNotImplemented WhyUntried = "not-implemented" // the server does not support the call
	WhyNotConfigured  WhyUntried = "not-configured"  // no endpoint of the service is configured
	WhyWouldChange    WhyUntried = "would-change"    // the call would change something if it were allowed
	WhyProvesNothing  WhyUntried = "proves-nothing"  // every key gets the same answer
	WhyNoUser         WhyUntried = "no-user"         // the key is of no IAM user, or the user is unknown
	WhyNoProbe        WhyUntried = "no-probe"        // no probe and no control plane covers it
)

// Verification holds the scope checks of a credential on the location of an alias.
type Verification struct {
	AliasID           int64
	Alias             Name
	CredentialID      int64
	CredentialVersion int64
	CheckedAt         time.Time
	Checks            []Check
	NotTried          []NotTried
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
