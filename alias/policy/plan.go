package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

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
	Role     *PlannedRole // nil for a user
	Files    []File       // in the format of the request
}

// PlannedRole is the role of a plan.
type PlannedRole struct {
	Name, Path, Boundary string
	Trust
	MaxSession time.Duration
	Document   []byte // the trust policy, JSON; nil without a principal
	Session    string // the session policy that ixmage sends, JSON
}

// File is a file of a plan. Its name may have a folder.
type File struct{ Name, Content string }

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
	Account     string // of the user or role; empty: that of the boundary, or unknown
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
func MakePlan(req PlanRequest, env Env) (*Plan, error) {
	if err := checkPartitions(&req, &env); err != nil {
		return nil, err
	}
	req.Kind = cmp.Or(req.Kind, KindUser)
	mode := cmp.Or(req.Policy, env.Mode, alias.PolicyInline)
	if env.Mode != "" && mode != env.Mode {
		return nil, Invalid("policy", fmt.Sprintf("must be %s, as the credential %s has it", env.Mode, req.Credential))
	}
	if mode == alias.PolicyReadOnly && !env.AllowWideScope {
		return nil, ErrWideScope
	}
	if err := CheckAttached(mode, append(slices.Clone(env.Existing), GrantOf(&req.Request))); err != nil {
		return nil, err
	}
	b := &planner{req: req, env: env, plan: &Plan{Policy: mode}}
	if err := b.holder(); err != nil {
		return nil, err
	}
	if err := b.policy(); err != nil {
		return nil, err
	}
	b.plan.Steps, b.plan.Commands = b.steps(), b.commands()
	var err error
	b.plan.Files, err = b.files()
	return b.plan, err
}

// checkPartitions sets the partition. All that the request names must be in it.
func checkPartitions(req *PlanRequest, env *Env) error {
	if err := CheckPartition(req.Location, env.User.ARN, env.Boundary); err != nil {
		return err
	}
	env.Partition = cmp.Or(env.Partition, partitionOf(req.Request, *env))
	if partition, _ := ARNParts(req.Role.Principal); req.Role.Principal != "" && partition != env.Partition {
		return Invalid("role.principal", "must be in the partition "+env.Partition+", as the role is")
	}
	return nil
}

// holder sets the user or role that gets the policy.
func (b *planner) holder() error {
	if b.req.Kind != KindRole {
		b.plan.User = planUser(b.req.Request, b.env)
		if b.req.Credential == "" {
			b.plan.Tags = UserTags(b.env.InstallID, "", b.req.Request)
		}
		return nil
	}
	role := &PlannedRole{
		Name: cmp.Or(b.req.Role.Name, RoleName(b.req.Alias)), Path: handPath, Boundary: b.env.Boundary,
		Trust: b.req.Role.Trust, MaxSession: b.req.Role.MaxSession,
	}
	var err error
	if role.Principal != "" {
		if role.Document, err = TrustDocument(role.Trust); err != nil {
			return err
		}
	}
	role.Session, err = SessionDocument(b.env.Partition, GrantOf(&b.req.Request))
	b.plan.Role, b.plan.Tags = role, b.handTags()
	return err
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
		if parts := strings.SplitN(arn, ":", 3); len(parts) == 3 && IsPartition(parts[1]) {
			return parts[1]
		}
	}
	if !req.AtAWS() {
		return "aws"
	}
	return lookUpRegion(req.Region).partition
}

// policy sets the document and the name of the policy.
func (b *planner) policy() error {
	wanted := GrantOf(&b.req.Request)
	var err error
	switch plan := b.plan; plan.Policy {
	case alias.PolicyReadOnly:
		plan.PolicyName = ReadOnlyARN(b.env.Partition)
	case alias.PolicyManaged:
		plan.PolicyName = ManagedName(wanted.Bucket, wanted.Prefix)
		plan.Document, err = Managed(b.env.Partition, wanted)
	default:
		plan.PolicyName = InlineName
		plan.Document, err = Inline(b.env.Partition, append(slices.Clone(b.env.Existing), wanted))
	}
	return err
}

// planner writes the steps and commands of one plan.
type planner struct {
	req  PlanRequest
	env  Env
	plan *Plan
}

func (b *planner) steps() []PlanStep {
	if b.plan.Role != nil {
		return b.roleSteps()
	}
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

// roleSteps are for a person: ixmage makes no role.
func (b *planner) roleSteps() []PlanStep {
	role := b.plan.Role
	trust := "the user or role of the server may assume"
	if role.Principal != "" {
		trust = role.Principal + " may assume"
	}
	if role.ExternalID != "" {
		trust += " with the external id " + role.ExternalID
	}
	return []PlanStep{
		{Name: "create-role", Detail: "IAM role " + role.Name + " in " + role.Path + ", which " + trust +
			" for at most " + role.MaxSession.String() + b.boundaryDetail(role.Boundary)},
		{Name: "put-policy", Detail: b.policyDetail()},
		{Name: "open", Detail: "POST /api/v1/aliases with the location and \"credential\": {\"kind\": \"role\", " +
			"\"role_arn\"}; each session of the alias gets a session policy for its location"},
		{Name: "verify", Detail: "POST /api/v1/aliases/" + string(b.req.Alias) + "/verify"},
	}
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
	return text + b.boundaryDetail(b.plan.User.Boundary)
}

func (b *planner) boundaryDetail(boundary string) string {
	switch {
	case boundary != "":
		return ", bounded by " + boundary
	case b.ownBoundary():
		return ", bounded by " + b.boundaryName() + ", which the files make"
	}
	return ", without a permissions boundary"
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
