package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias/policy"
	"ixmage/internal/awserr"
)

// rights examines what the server's own credentials may do in IAM, if provisioning is on. One call
// that only reads shows whether IAM can be reached; the rest is simulated by IAM.
func (e *examination) rights(ctx context.Context) {
	if !e.cfg.Provision || e.own.arn == "" && !e.own.have {
		return
	}
	call, cancel := context.WithTimeout(ctx, e.cfg.limits.call)
	defer cancel()
	_, err := e.iamClient().ListUsers(call, &iam.ListUsersInput{
		PathPrefix: aws.String(policy.UserPath(e.cfg.InstallID)), MaxItems: aws.Int32(1),
	})
	if e.outOfTime(ctx, Endpoint, e.iamName()) {
		return
	}
	e.endpoint(e.iamName(), "--iam-endpoint", err, true)
	reply := awserr.ReplyOf(err)
	if reply.Denied() {
		e.add(Finding{RightsMissing, Bad, e.own.subject(), "iam:ListUsers is denied" + reasonOf(reply), rightsRemedy})
	}
	if reply.Silent() || reply.Denied() || e.own.arn == "" {
		e.notTried(RightsTooBroad, e.own.subject(), "the rights of these credentials could not be simulated", "")
		return
	}
	if e.own.root() {
		e.good(RightsMissing, e.own.arn, "the root user may do everything")
		e.add(Finding{RightsTooBroad, broadAt(e.cfg.IAM), e.own.arn, "the root user may do everything", rightsRemedy})
		return
	}
	e.simulate(ctx)
}

// broadAt is the state of rights over everything: on a server that is not AWS there may be no
// smaller ones.
func broadAt(endpoint string) FindingState {
	if endpoint == "" {
		return Bad
	}
	return Warning
}

const rightsRemedy = "give these credentials the rights of docs/provisioner-policy.json and no others"

func reasonOf(reply awserr.Reply) string {
	if reply.Reason == "" {
		return ""
	}
	return " (" + string(reply.Reason) + ")"
}

// simulate lets IAM evaluate the policies of the server's user or role.
func (e *examination) simulate(ctx context.Context) {
	s := &simulation{examination: e, source: sourceOf(e.own.arn)}
	missing, err := s.missing(ctx)
	if awserr.ReplyOf(err).Code == "NoSuchEntity" && s.findRole(ctx) {
		missing, err = s.missing(ctx)
	}
	if err == nil {
		e.missingRights(missing)
		var broad []decision
		if broad, err = s.broad(ctx); err == nil {
			e.broadRights(broad)
			return
		}
	} else {
		s.unsimulated(ctx, RightsMissing, err)
	}
	s.unsimulated(ctx, RightsTooBroad, err)
}

func (s *simulation) unsimulated(ctx context.Context, name FindingName, err error) {
	reply := awserr.ReplyOf(err)
	switch {
	case s.outOfTime(ctx, name, s.own.arn):
	case reply.Unimplemented():
		s.notTried(name, s.own.arn, "this IAM server has no call SimulatePrincipalPolicy", "")
	case reply.Denied():
		s.notTried(name, s.own.arn, "these credentials may not call iam:SimulatePrincipalPolicy on themselves",
			"allow them iam:SimulatePrincipalPolicy on "+s.source+" (docs/operations.md, Doctor)")
	default:
		s.notTried(name, s.own.arn, "IAM did not simulate the rights ("+reply.Code+")", "")
	}
}

// sourceOf is the user or role whose policies decide about a session.
func sourceOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[2] != "sts" {
		return arn
	}
	resource := strings.Split(parts[5], "/")
	if len(resource) != 3 || resource[0] != "assumed-role" {
		return arn
	}
	return "arn:" + parts[1] + ":iam::" + parts[4] + ":role/" + resource[1]
}

// simulation asks IAM about one user or role.
type simulation struct {
	*examination

	source string // its ARN
}

// findRole reads the ARN of a role with a path, which the ARN of a session does not have.
func (s *simulation) findRole(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.limits.call)
	defer cancel()
	_, name, ok := strings.Cut(s.source, ":role/")
	if !ok {
		return false
	}
	out, err := s.iamClient().GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil || out.Role == nil || aws.ToString(out.Role.Arn) == s.source {
		return false
	}
	s.source = aws.ToString(out.Role.Arn)
	return true
}

// decision is what IAM decides about one action.
type decision struct {
	action, on string
	allowed    bool
	byOrg      bool // a policy of the organization denies it
	// unsure are condition keys whose values only a real call has.
	unsure []string
}

// question is about actions on one resource.
type question struct {
	actions   []string
	resource  string
	on        string // the resource in messages
	unbounded bool   // the call has no permissions boundary
}

func (s *simulation) ask(ctx context.Context, q question) ([]decision, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.limits.call)
	defer cancel()
	client := s.iamClient()
	in := &iam.SimulatePrincipalPolicyInput{
		PolicySourceArn: &s.source, ActionNames: q.actions, ResourceArns: []string{q.resource},
		ContextEntries: s.context(q.unbounded),
	}
	var decisions []decision
	for range len(q.actions) + 1 { // a page has one decision at least
		out, err := client.SimulatePrincipalPolicy(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, r := range out.EvaluationResults {
			one := decision{
				action: aws.ToString(r.EvalActionName), on: q.on,
				allowed: r.EvalDecision == types.PolicyEvaluationDecisionTypeAllowed, unsure: r.MissingContextValues,
			}
			one.byOrg = r.OrganizationsDecisionDetail != nil && !r.OrganizationsDecisionDetail.AllowedByOrganizations
			decisions = append(decisions, one)
		}
		if !out.IsTruncated || aws.ToString(out.Marker) == "" {
			break
		}
		in.Marker = out.Marker
	}
	return decisions, nil
}

// context is what a call of ours has: tags, and the boundary.
func (s *simulation) context(unbounded bool) []types.ContextEntry {
	entry := func(key string, values ...string) types.ContextEntry {
		kind := types.ContextKeyTypeEnumString
		if key == "aws:TagKeys" {
			kind = types.ContextKeyTypeEnumStringList
		}
		return types.ContextEntry{ContextKeyName: aws.String(key), ContextKeyType: kind, ContextKeyValues: values}
	}
	list := []types.ContextEntry{
		entry("aws:TagKeys",
			policy.TagManagedBy, policy.TagInstall, policy.TagOperation, policy.TagAlias, policy.TagGeneration),
		entry("aws:RequestTag/"+policy.TagManagedBy, policy.ManagedBy),
		entry("aws:RequestTag/"+policy.TagInstall, s.cfg.InstallID),
		entry("aws:ResourceTag/"+policy.TagManagedBy, policy.ManagedBy),
		entry("aws:ResourceTag/"+policy.TagInstall, s.cfg.InstallID),
	}
	list = append(list, entry("iam:PolicyARN",
		"arn:"+s.own.partition+":iam::"+s.own.account+":policy"+policy.UserPath(s.cfg.InstallID)+"bucket-specific-doctor"))
	if s.cfg.Boundary != "" && !unbounded {
		list = append(list, entry("iam:PermissionsBoundary", s.cfg.Boundary))
	}
	return list
}

func (s *simulation) user(pathAndName string) string {
	return "arn:" + s.own.partition + ":iam::" + s.own.account + ":user" + pathAndName
}

// missing are the rights that every provisioning needs.
func (s *simulation) missing(ctx context.Context) ([]decision, error) {
	var actions []string
	for _, p := range policy.Permissions() {
		if p.Signer == policy.ByServer && p.Statement != "" && !strings.HasPrefix(p.Statement, "Only") &&
			(s.cfg.Boundary != "" || !slices.Contains(p.Actions, "iam:PutUserPermissionsBoundary")) {
			actions = append(actions, p.Actions...)
		}
	}
	decisions, err := s.ask(ctx, question{
		actions: actions, resource: s.user(policy.UserPath(s.cfg.InstallID) + "ixmage-s3read-doctor"),
	})
	return slices.DeleteFunc(decisions, func(r decision) bool { return r.allowed }), err
}

// Actions that would let a thief of the server's credentials become more than they are.
var (
	onOtherUsers = []string{
		"iam:CreateUser", "iam:PutUserPolicy", "iam:AttachUserPolicy", "iam:CreateAccessKey", "iam:UpdateAccessKey",
		"iam:DeleteUser", "iam:CreateLoginProfile", "iam:UpdateLoginProfile", "iam:DeleteUserPermissionsBoundary",
	}
	withoutBoundary = []string{
		"iam:CreateUser", "iam:PutUserPolicy", "iam:AttachUserPolicy", "iam:DeleteUserPermissionsBoundary",
	}
	onEverything = []string{
		"iam:AddUserToGroup", "iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:PassRole", "iam:CreateRole",
		"iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:PutGroupPolicy", "sts:AssumeRole",
		"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:PutBucketPolicy", "kms:Decrypt",
	}
)

// broad are rights that provisioning does not need.
func (s *simulation) broad(ctx context.Context) ([]decision, error) {
	others := "users outside " + policy.UserPath(s.cfg.InstallID)
	questions := []question{
		{actions: onOtherUsers, resource: s.user("/ixmage-doctor-of-nobody"), on: others},
		{actions: onEverything, resource: "*", on: "everything"},
	}
	if s.cfg.Boundary != "" {
		questions = append(questions, question{
			actions: withoutBoundary, resource: s.user(policy.UserPath(s.cfg.InstallID) + "ixmage-s3read-doctor"),
			on: "users without the boundary", unbounded: true,
		})
	}
	var all []decision
	for _, q := range questions {
		decisions, err := s.ask(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, decisions...)
	}
	return slices.DeleteFunc(all, func(r decision) bool { return !r.allowed }), nil
}

func (e *examination) missingRights(missing []decision) {
	if len(missing) == 0 {
		e.good(RightsMissing, e.own.arn, "they may do all that provisioning needs")
		return
	}
	state, remedy := Warning, rightsRemedy
	var names, keys []string
	for _, r := range missing {
		names = append(names, r.action)
		keys = append(keys, r.unsure...)
		if len(r.unsure) == 0 {
			state = Bad
		}
		if r.byOrg {
			remedy = "a policy of the organization (SCP) denies it: let its administrator allow it, " +
				"or use roles instead of users"
		}
	}
	detail := "provisioning needs " + list(names) + ", which they may not do"
	if state == Warning {
		detail = fmt.Sprintf("whether they may do %s depends on %s, which only a real call has", list(names), list(keys))
	}
	e.add(Finding{RightsMissing, state, e.own.arn, detail, remedy})
}

func (e *examination) broadRights(broad []decision) {
	if len(broad) == 0 {
		e.good(RightsTooBroad, e.own.arn, "none of the rights that were tried is more than provisioning needs")
		return
	}
	state := Warning
	var names []string
	for _, r := range broad {
		names = append(names, r.action+" on "+r.on)
		if strings.HasPrefix(r.action, "iam:") {
			state = Bad
		}
	}
	e.add(Finding{RightsTooBroad, state, e.own.arn,
		"a thief of these credentials could do more than provisioning does: " + list(names), rightsRemedy})
}

// list joins the first of some words, each once.
func list(words []string) string {
	const most = 8
	var once []string
	for _, w := range words {
		if !slices.Contains(once, w) {
			once = append(once, w)
		}
	}
	text := strings.Join(once[:min(len(once), most)], ", ")
	if more := len(once) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
