package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"ixmage/alias"
)

// Kind is what a plan makes for an alias.
type Kind string

// Kinds. The zero value is a user.
const (
	KindUser Kind = "user"
	KindRole Kind = "role"
)

// Format is the language of the files of a plan.
type Format string

// Formats. The zero value means no files.
const (
	FormatAWSCLI         Format = "aws-cli"
	FormatCloudFormation Format = "cloudformation"
	FormatTerraform      Format = "terraform"
)

// FormatProblem describes an unknown format.
const FormatProblem = "must be aws-cli, cloudformation or terraform"

// PlanRequest is a request for a plan: a provision request, or one for a role, which ixmage
// does not make itself.
type PlanRequest struct {
	Request
	Kind   Kind
	Role   RoleRequest // of a plan of KindRole
	Format Format
}

// RoleRequest says what role a plan makes.
type RoleRequest struct {
	Name       string // empty: made from the alias
	Trust             // without a principal the files have a parameter for it
	MaxSession time.Duration
}

// IAM's limits of MaxSessionDuration, and its default.
const (
	minMaxSession = time.Hour
	maxMaxSession = 12 * time.Hour
)

// PreparePlan is Prepare for a request for a plan.
func PreparePlan(req *PlanRequest, installation alias.Policy) error {
	var problems []alias.Problem
	err := Prepare(&req.Request, installation)
	if v, ok := errors.AsType[*alias.ValidationError](err); ok {
		problems = v.Problems
	} else if err != nil {
		return err
	}
	add := func(field, detail string) {
		if detail != "" {
			problems = append(problems, alias.Problem{Field: field, Detail: detail})
		}
	}
	switch req.Kind {
	case "":
		req.Kind = KindUser
	case KindUser:
	case KindRole:
	default:
		add("kind", "must be user or role")
	}
	if req.Kind == KindRole {
		problems = append(problems, roleProblems(req)...)
	} else if req.Role != (RoleRequest{}) {
		add("role", "must be absent unless kind is role")
	}
	problems = append(problems, formatProblems(req)...)
	if len(problems) > 0 {
		return &alias.ValidationError{Problems: problems}
	}
	return nil
}

// roleProblems validates the role, and refuses the fields that are about a user.
func roleProblems(req *PlanRequest) []alias.Problem {
	var problems []alias.Problem
	add := func(field string, wrong bool, detail string) {
		if wrong {
			problems = append(problems, alias.Problem{Field: field, Detail: detail})
		}
	}
	const user = "must be empty if kind is role: it belongs to an IAM user"
	add("credential", req.Credential != "", user)
	add("user_name", req.UserName != "", user)
	add("adopt", req.Adopt != "", user)
	add("rotate_every", req.RotateEvery != 0, user)
	r := &req.Role
	add("role.name", userNameProblem(r.Name) != "", userNameProblem(r.Name))
	add("role.principal", r.Principal != "" && !principalForm.MatchString(r.Principal), principalProblem)
	add("role.external_id", r.ExternalID != "" && !alias.IsExternalID(r.ExternalID), alias.ExternalIDProblem)
	if r.MaxSession == 0 {
		r.MaxSession = minMaxSession
	}
	add("role.max_session", r.MaxSession < minMaxSession || r.MaxSession > maxMaxSession || r.MaxSession%time.Second != 0,
		fmt.Sprintf("must be whole seconds from %s to %s", minMaxSession, maxMaxSession))
	return problems
}

// formatProblems are those of requests that a template cannot express.
func formatProblems(req *PlanRequest) []alias.Problem {
	switch req.Format {
	case "", FormatAWSCLI:
		return nil
	case FormatCloudFormation, FormatTerraform:
	default:
		return []alias.Problem{{Field: "format", Detail: FormatProblem}}
	}
	var problems []alias.Problem
	add := func(field string, wrong bool, detail string) {
		if wrong {
			problems = append(problems, alias.Problem{Field: field, Detail: detail + "; use format=aws-cli"})
		}
	}
	const existing = "must be empty in this format: a template cannot change a user that it did not make"
	add("credential", req.Credential != "", existing)
	add("adopt", req.Adopt != "", existing)
	add("endpoint", !req.AtAWS(), "must be at AWS in this format")
	// Both send a document to IAM without its \u escapes, and IAM takes characters up to U+00FF
	// (https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutUserPolicy.html). Up to there
	// HCL, which normalizes strings to NFC, changes none.
	add("prefix", strings.ContainsFunc(req.Prefix, func(r rune) bool { return r > 0xff }),
		"must have no characters beyond U+00FF in this format, because IAM gets them unescaped and refuses them")
	return problems
}

// RoleName is the name of a role that a plan makes for an alias.
func RoleName(a alias.Name) string {
	name := "ixmage-s3read-" + string(a)
	return strings.TrimRight(name[:min(len(name), maxUserName)], "-")
}
