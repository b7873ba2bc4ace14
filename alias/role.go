package alias

import (
	"fmt"
	"regexp"
	"time"
)

// Kinds of credential whose keys are temporary: the registry holds none of them.
const (
	KindRole    Kind = "role"    // sessions of a role, which STS gives
	KindDefault Kind = "default" // the credentials of the server itself
)

// SessionPolicy says what the sessions of a role may do.
type SessionPolicy string

// Session policies.
const (
	SessionPolicyAlias SessionPolicy = "alias" // a session for each alias, which can read its location and nothing else
	SessionPolicyNone  SessionPolicy = "none"  // one session for all aliases, which can do all that the role can
)

// SourceDefault is the Source of a role that the server's own credentials assume.
const SourceDefault Name = "default"

// Role is a role of AWS. Requests are signed with sessions of it
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
type Role struct {
	ARN           string        `json:"role_arn"`
	ExternalID    string        `json:"external_id,omitempty"`
	Duration      time.Duration `json:"duration"` // of a session
	SessionPolicy SessionPolicy `json:"session_policy"`
	// Source names the credential that assumes the role: SourceDefault, or a static one.
	Source Name `json:"source"`
	// Region is that of the STS endpoint; empty for the region of the server, or the default
	// one of the role's partition.
	Region string `json:"region,omitempty"`
	// KMSKeyARN is the key of objects that are encrypted by SSE-KMS; a session policy allows
	// its use. Empty for none.
	KMSKeyARN string `json:"kms_key_arn,omitempty"`
	// SourceIdentity sets the source identity of sessions, which the trust policy must
	// allow (sts:SetSourceIdentity).
	SourceIdentity bool `json:"source_identity,omitempty"`
	// Account is the entry of --accounts whose external id and region apply where the role
	// has none of its own; empty for none.
	Account string `json:"account,omitempty"`
}

// NewRole returns a role with the defaults of the other fields.
func NewRole(arn string) Role {
	return Role{ARN: arn, Duration: time.Hour, SessionPolicy: SessionPolicyAlias, Source: SourceDefault}
}

// Kind is KindRole.
func (Role) Kind() Kind { return KindRole }

// Default stands for the credentials of the server itself: those of the AWS default chain.
type Default struct{}

// Kind is KindDefault.
func (Default) Kind() Kind { return KindDefault }

// Role returns the role of a credential; ok is false for every other kind.
func (c *Credential) Role() (r Role, ok bool) {
	r, ok = c.Provider.(Role)
	return r, ok
}

// Temporary reports whether a credential signs with temporary keys, which the registry does not
// hold: those of a role, and those of the server itself.
func (c *Credential) Temporary() bool {
	switch c.Provider.(type) {
	case Role, Default:
		return true
	}
	return false
}

// Bounds of STS (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
const (
	minSession = 15 * time.Minute
	maxSession = 12 * time.Hour

	maxExternalID = 1224
	maxRolePath   = 511 // with the / after it
)

// Long parts have no bound in these forms: hundreds of repetitions in an expression cost
// milliseconds at each start of the program.
var (
	roleForm = regexp.MustCompile(
		`^arn:(aws(?:-[a-z]+)*):iam::([0-9]{12}):role/((?:[[:graph:]]+/)?)[\w+=,.@-]{1,64}$`)
	externalIDForm = regexp.MustCompile(`^[\w+=,.@:/-]{2,}$`)
	kmsKeyForm     = regexp.MustCompile(`^arn:(aws(?:-[a-z]+)*):kms:[a-z0-9-]{1,32}:[0-9]{12}:key/[A-Za-z0-9-]{1,64}$`)
)

// Details of problems with ARNs of roles and with external ids.
const (
	RoleARNProblem    = "must be the ARN of a role, like arn:aws:iam::123456789012:role/pictures"
	ExternalIDProblem = "must be 2 to 1,224 of A-Z, a-z, 0-9 and _+=,.@:/-"
)

// IsRoleARN reports whether s has the form of the ARN of a role
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html).
func IsRoleARN(s string) bool {
	return roleForm.MatchString(s) && len(match(roleForm, s, 3)) <= maxRolePath
}

// IsExternalID reports whether s has the form of an external id
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
func IsExternalID(s string) bool { return len(s) <= maxExternalID && externalIDForm.MatchString(s) }

// Partition is the partition in the ARN of a valid role.
func (r Role) Partition() string { return match(roleForm, r.ARN, 1) }

// AccountID is the account in the ARN of a valid role.
func (r Role) AccountID() string { return match(roleForm, r.ARN, 2) }

func match(form *regexp.Regexp, s string, group int) string {
	if found := form.FindStringSubmatch(s); found != nil {
		return found[group]
	}
	return ""
}

// problems validates the form of a role. The transaction checks whether its source exists.
func (r Role) problems() []Problem {
	var problems []Problem
	add := func(wrong bool, field, detail string) {
		if wrong {
			problems = append(problems, Problem{field, detail})
		}
	}
	add(!IsRoleARN(r.ARN), "role_arn", RoleARNProblem)
	add(r.ExternalID != "" && !IsExternalID(r.ExternalID), "external_id", ExternalIDProblem)
	add(r.Duration < minSession || r.Duration > maxSession || r.Duration%time.Second != 0, "duration",
		fmt.Sprintf("must be whole seconds from %s to %s, and no more than the maximum session duration of the role",
			minSession, maxSession))
	add(r.SessionPolicy != SessionPolicyAlias && r.SessionPolicy != SessionPolicyNone, "session_policy",
		"must be alias, for sessions that can read their alias's location and nothing else, or none, which needs "+
			"--allow-wide-scope")
	add(!isLabel(string(r.Source)), "source", "must be default, or the name of a static credential")
	add(r.Region != "" && !isLabel(r.Region), "region", "must be empty or a region of STS, such as eu-west-1")
	add(r.KMSKeyARN != "" && !kmsKeyForm.MatchString(r.KMSKeyARN), "kms_key_arn",
		"must be empty or the ARN of a KMS key, like arn:aws:kms:eu-west-1:123456789012:key/ID")
	add(r.KMSKeyARN != "" && r.SessionPolicy == SessionPolicyNone, "kms_key_arn",
		"must be empty with the session policy none, which restricts nothing")
	return problems
}
