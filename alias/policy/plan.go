package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ixmage/alias"
)

// Plan is what a provision request would do.
type Plan struct {
	Policy   alias.PolicyMode
	User     alias.IAMUser // ARN and ID are empty, because IAM assigns them
	Tags     map[string]string
	Document []byte // the policy document, JSON; nil for read-only-access
	// PolicyName is the inline or managed policy's name, or the ARN of the AWS
	// managed one.
	PolicyName string
	Steps      []PlanStep
	// Commands do the same by hand. Each is one line for a shell.
	Commands []string
}

// PlanStep is a step of the operation.
type PlanStep struct {
	Name   string
	Detail string
}

// Env holds what a plan depends on besides the request. Zero fields get defaults, so that
// a plan can be made while provisioning is off.
type Env struct {
	InstallID   string
	Boundary    string // ARN, empty for none
	Partition   string // empty: that of the boundary or the KMS key, else by the region
	IAMEndpoint string // empty for AWS
	// Suffix is the random end of the user's name; empty: chosen.
	Suffix         string
	AllowWideScope bool

	// The fields below describe the credential that a request reuses: its user, the
	// mode of its policy, and the locations that it can read already.
	User     alias.IAMUser
	Mode     alias.PolicyMode
	Existing []alias.Grant
}

// MakePlan returns the steps of a request and the commands that do the same by hand. It
// calls no server. The request must be prepared. Errors: a *alias.ValidationError if the
// policy document exceeds IAM's quota, the policy is not that of the credential, or the
// region is not in the partition of the user or boundary,
// alias.ErrForbidden if the installation does not allow read-only-access.
func MakePlan(req Request, env Env) (*Plan, error) {
	if err := CheckPartition(req.Location, env.User.ARN, env.Boundary); err != nil {
		return nil, err
	}
	env.Partition = cmp.Or(env.Partition, partitionOf(req, env))
	mode := cmp.Or(req.Policy, env.Mode, alias.PolicyInline)
	if env.Mode != "" && mode != env.Mode {
		return nil, Invalid("policy", fmt.Sprintf("must be %s, as the credential %s has it", env.Mode, req.Credential))
	}
	if mode == alias.PolicyReadOnly && !env.AllowWideScope {
		return nil, ErrWideScope
	}
	if err := CheckAttached(mode, append(slices.Clone(env.Existing), GrantOf(&req))); err != nil {
		return nil, err
	}
	plan := &Plan{Policy: mode, User: planUser(req, env)}
	if req.Credential == "" {
		plan.Tags = UserTags(env.InstallID, "", req)
	}
	if err := planPolicy(plan, req, env); err != nil {
		return nil, err
	}
	b := &planner{req: req, env: env, plan: plan}
	plan.Steps, plan.Commands = b.steps(), b.commands()
	return plan, nil
}

func planUser(req Request, env Env) alias.IAMUser {
	switch {
	case req.Credential != "":
		return env.User
	case req.Adopt != "":
		return alias.IAMUser{Name: req.Adopt, Boundary: env.Boundary} // only IAM knows its path
	}
	return alias.IAMUser{
		Name: cmp.Or(req.UserName, UserName(req.Alias, cmp.Or(env.Suffix, NewSuffix()))),
		Path: UserPath(env.InstallID), Boundary: env.Boundary,
	}
}

// partitionOf derives the partition from an ARN, or else from the name of the region,
// because a plan cannot ask AWS.
func partitionOf(req Request, env Env) string {
	for _, arn := range []string{env.User.ARN, env.Boundary, req.KMSKeyARN} {
		if parts := strings.SplitN(arn, ":", 3); len(parts) == 3 && isPartition(parts[1]) {
			return parts[1]
		}
	}
	if !req.AtAWS() {
		return "aws"
	}
	return lookUpRegion(req.Region).partition
}

// planPolicy sets the document and the name of the policy.
func planPolicy(plan *Plan, req Request, env Env) error {
	wanted := GrantOf(&req)
	var err error
	switch plan.Policy {
	case alias.PolicyReadOnly:
		plan.PolicyName = ReadOnlyARN(env.Partition)
	case alias.PolicyManaged:
		plan.PolicyName = ManagedName(req.Bucket, req.Prefix)
		plan.Document, err = Managed(env.Partition, wanted)
	default:
		plan.PolicyName = InlineName
		plan.Document, err = Inline(env.Partition, append(slices.Clone(env.Existing), wanted))
	}
	return err
}

// planner writes the steps and commands of one plan.
type planner struct {
	req  Request
	env  Env
	plan *Plan
}

func (b *planner) steps() []PlanStep {
	steps := []PlanStep{
		{Name: "put-policy", Detail: b.policyDetail()},
		{Name: "check-policy", Detail: "read it back and compare"},
	}
	if b.req.Credential == "" {
		steps = append(b.userSteps(), steps...)
		steps = append(steps, PlanStep{
			Name: "create-key", Detail: "one access key; its secret is sealed and stored before it is used",
		})
	}
	return append(steps,
		PlanStep{Name: "verify", Detail: b.verifyDetail()},
		PlanStep{Name: "open", Detail: b.openDetail()})
}

func (b *planner) userSteps() []PlanStep {
	if b.req.Adopt != "" {
		return []PlanStep{{Name: "adopt-user", Detail: b.adoptDetail()}}
	}
	return []PlanStep{
		{Name: "create-user", Detail: "IAM user " + b.plan.User.Name + " in " + b.plan.User.Path + b.userDetail()},
		{Name: "wait-user", Detail: "wait until IAM shows the user, with its tags and its boundary"},
	}
}

func (b *planner) adoptDetail() string {
	text := "read the IAM user " + b.plan.User.Name + ", refuse one with a password, a group, a second key or wider " +
		"rights than the policy " + string(b.plan.Policy) + ", and take it over" + b.userDetail()
	if b.req.Retire {
		return text + "; the key that it has is made inactive after the alias is open and nothing uses it any more"
	}
	return text + "; the key that it has stays active"
}

func (b *planner) userDetail() string {
	text := ", tagged " + strings.Join(slices.Sorted(maps.Keys(b.plan.Tags)), ", ") + ", ixmage-operation"
	if b.plan.User.Boundary != "" {
		return text + ", bounded by " + b.plan.User.Boundary
	}
	return text + ", without a permissions boundary"
}

func (b *planner) policyDetail() string {
	switch b.plan.Policy {
	case alias.PolicyReadOnly:
		if b.req.Credential != "" {
			return "nothing to do: " + b.plan.PolicyName + " is attached and covers every bucket"
		}
		return "attach " + b.plan.PolicyName + ", which covers every bucket of the account"
	case alias.PolicyManaged:
		return "managed policy " + b.plan.PolicyName + ", which is made unless one with the same document is there, " +
			"and attached"
	default:
		return "inline policy " + b.plan.PolicyName + " for " + plural(len(b.env.Existing)+1, "location")
	}
}

func (b *planner) verifyDetail() string {
	text := "with the new key: that it can do what it must, then that it cannot do what it must not"
	if b.req.Inside == "" {
		text += "; without probe.inside it stays unproven that it can read (weak)"
	}
	if b.req.Credential == "" {
		text += ". By hand: a new key takes some seconds to work; repeat the first check until it does"
	}
	return text
}

// openDetail ends with what no command can do: to enter the key pair.
func (b *planner) openDetail() string {
	text := "alias " + string(b.req.Alias) + " is served"
	if b.req.Credential != "" {
		return text + " with the key of credential " + string(b.req.Credential)
	}
	return text + ". By hand: POST /api/v1/aliases with the location and \"credential\": {\"access_key_id\", " +
		"\"secret_access_key\"}, which $" + keyVariable + " holds in this order, separated by a tab; then " +
		"POST /api/v1/aliases/" + string(b.req.Alias) + "/verify; then unset " + keyVariable
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
