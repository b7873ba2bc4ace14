package iam

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// onSource is the user whose policies a simulation evaluates.
func onSource(s *Server, r *request) target {
	if u := s.userByARN(r.params.Get("PolicySourceArn"), r); u != nil {
		return target{arn: u.ARN, tags: u.Tags, boundary: u.Boundary}
	}
	return target{arn: r.params.Get("PolicySourceArn")}
}

func (s *Server) userByARN(arn string, r *request) *User {
	for _, u := range s.users.allVisibleAt(r.now) {
		if u.ARN == arn {
			return u
		}
	}
	return nil
}

type xmlSimulation struct {
	EvalActionName, EvalResourceName, EvalDecision string
	MissingContextValues                           []string `xml:"MissingContextValues>member"`
	OrganizationsDecisionDetail                    struct{ AllowedByOrganizations bool }
	PermissionsBoundaryDecisionDetail              *xmlBoundaryDetail `xml:",omitempty"`
}

type xmlBoundaryDetail struct{ AllowedByPermissionsBoundary bool }

// simulatePrincipalPolicy decides as about a request of the user: by the policies of
// the user and of its groups, the boundary, the service control policy, and the bucket
// policy that the request has. It knows what the user is, and of the request only what
// the context entries say:
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
func simulatePrincipalPolicy(s *Server, r *request) (any, error) {
	u := s.userByARN(r.params.Get("PolicySourceArn"), r)
	if u == nil {
		return nil, refusal("NoSuchEntity", "The user with name %s cannot be found.", r.params.Get("PolicySourceArn"))
	}
	bucket := r.params.Get("ResourcePolicy")
	if bucket != "" {
		if _, err := parsePolicy(bucket, bucketPolicy); err != nil {
			return nil, refusal("InvalidInput", "%v", err)
		}
	}
	resources := r.members("ResourceArns")
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	var results []xmlSimulation
	for _, action := range r.members("ActionNames") {
		for _, resource := range resources {
			results = append(results, s.simulated(r, u, query{action: action, resource: resource}, bucket))
		}
	}
	return namedList[xmlSimulation]{"EvaluationResults", results, xmlPage{}}, nil
}

func (s *Server) simulated(r *request, u *User, q query, bucket string) xmlSimulation {
	asUser := caller{user: u, arn: u.ARN}
	q.unknown, q.context = s.problemLocked, s.principalContext(asUser)
	q.context.set("aws:ViaAWSService", "false")
	q.context.set("aws:ResourceAccount", s.cfg.Account)
	q.context.set("aws:CurrentTime", date(r.now))
	maps.Copy(q.context, r.contextEntries())
	all := rulings{
		scp: s.serviceControlRuling(q), rcp: ruling{is: allowed}, endpoint: ruling{is: allowed},
		identity: s.identityRuling(u, q, r), boundary: s.boundaryRuling(u, q, r),
		direct: ruling{is: s.bucketDecision(bucket, q, asUser)},
	}
	out := xmlSimulation{
		EvalActionName: q.action, EvalResourceName: q.resource, EvalDecision: "allowed",
		MissingContextValues: s.missingKeys(u, q, r),
	}
	if which, denied := all.denies(); denied {
		out.EvalDecision = [...]string{"implicitDeny", "implicitDeny", "explicitDeny"}[which.is]
	}
	out.OrganizationsDecisionDetail.AllowedByOrganizations = all.scp.is == allowed
	if u.Boundary != "" {
		out.PermissionsBoundaryDecisionDetail = &xmlBoundaryDetail{all.boundary.is == allowed}
	}
	return out
}

// missingKeys are the condition keys of a user's policies that a query has no value
// for.
func (s *Server) missingKeys(u *User, q query, r *request) []string {
	missing := map[string]bool{}
	for _, text := range s.policyTexts(u, r) {
		for _, st := range s.parsedLocked(text, identityPolicy).statements {
			for _, c := range st.conditions {
				if _, ok := q.context[strings.ToLower(c.key)]; !ok {
					missing[c.key] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(missing))
}

// policyTexts are the documents of a user: inline, attached, of its groups, and the
// boundary.
func (s *Server) policyTexts(u *User, r *request) []string {
	out := slices.Collect(maps.Values(u.Inline))
	for _, group := range u.Groups {
		if text := s.groups[group]; text != "" {
			out = append(out, text)
		}
	}
	for _, arn := range append(slices.Clone(u.Attached), u.Boundary) {
		if p, ok := s.policies.visibleAt(arn, r.now); ok {
			out = append(out, p.Document())
		}
	}
	return out
}

func (r *request) contextEntries() conditionKeys {
	c := conditionKeys{}
	for i := 1; ; i++ {
		at := "ContextEntries.member." + strconv.Itoa(i) + "."
		key := r.params.Get(at + "ContextKeyName")
		if key == "" {
			return c
		}
		for _, value := range r.members(at + "ContextKeyValues") {
			c.add(key, value)
		}
	}
}
