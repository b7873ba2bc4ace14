package iam

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// onSource is the user or role whose policies a simulation evaluates.
func onSource(s *Server, r *request) target {
	switch source := s.source(r); {
	case source.user != nil:
		return target{arn: source.arn, tags: source.user.Tags, boundary: source.user.Boundary}
	case source.role != nil:
		return target{arn: source.arn, tags: source.role.Tags, boundary: source.role.Boundary}
	}
	return target{arn: r.params.Get("PolicySourceArn")}
}

// source is the user or role that a simulation is about, as a caller.
func (s *Server) source(r *request) caller {
	arn := r.params.Get("PolicySourceArn")
	for _, u := range s.users.allVisibleAt(r.now) {
		if u.ARN == arn {
			return caller{user: u, arn: arn}
		}
	}
	if role := s.roleByARN(arn, r.now); role != nil {
		return caller{role: role, arn: arn}
	}
	return caller{}
}

type xmlSimulation struct {
	EvalActionName, EvalResourceName, EvalDecision string
	MissingContextValues                           []string `xml:"MissingContextValues>member"`
	OrganizationsDecisionDetail                    struct{ AllowedByOrganizations bool }
	PermissionsBoundaryDecisionDetail              *xmlBoundaryDetail `xml:",omitempty"`
}

type xmlBoundaryDetail struct{ AllowedByPermissionsBoundary bool }

// simulatePrincipalPolicy decides as about a request of the user or role: by its policies
// and those of its groups, the boundary, the service control policy, and the bucket
// policy that the request has. It knows who the source is, and of the request only what
// the context entries say:
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
func simulatePrincipalPolicy(s *Server, r *request) (any, error) {
	source := s.source(r)
	if _, ok := source.entity(); !ok {
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
			results = append(results, s.simulated(r, source, query{action: action, resource: resource}, bucket))
		}
	}
	return namedList[xmlSimulation]{"EvaluationResults", results, xmlPage{}}, nil
}

func (s *Server) simulated(r *request, source caller, q query, bucket string) xmlSimulation {
	e, _ := source.entity()
	q.unknown, q.context = s.problemLocked, s.principalContext(source)
	q.context.set("aws:ViaAWSService", "false")
	q.context.set("aws:ResourceAccount", s.cfg.Account)
	q.context.set("aws:CurrentTime", date(r.now))
	maps.Copy(q.context, r.contextEntries())
	all := rulings{
		scp: s.serviceControlRuling(q), rcp: ruling{is: allowed}, endpoint: ruling{is: allowed},
		identity: s.identityRuling(e, q, r), boundary: s.boundaryRuling(e, q, r), session: ruling{is: allowed},
	}
	all.direct.is, all.toSession = s.bucketDecision(bucket, q, source)
	out := xmlSimulation{
		EvalActionName: q.action, EvalResourceName: q.resource, EvalDecision: "allowed",
		MissingContextValues: s.missingKeys(e, q, r),
	}
	if which, denied := all.denies(); denied {
		out.EvalDecision = [...]string{"implicitDeny", "implicitDeny", "explicitDeny"}[which.is]
	}
	out.OrganizationsDecisionDetail.AllowedByOrganizations = all.scp.is == allowed
	if e.boundary != "" {
		out.PermissionsBoundaryDecisionDetail = &xmlBoundaryDetail{all.boundary.is == allowed}
	}
	return out
}

// missingKeys are the condition keys of the policies of a user or role that a query has no value
// for.
func (s *Server) missingKeys(e entity, q query, r *request) []string {
	missing := map[string]bool{}
	for _, text := range s.policyTexts(e, r) {
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

// policyTexts are the documents of a user or role: inline, attached, of its groups, and the
// boundary.
func (s *Server) policyTexts(e entity, r *request) []string {
	out := slices.Collect(maps.Values(e.inline))
	for _, group := range e.groups {
		if text := s.groups[group]; text != "" {
			out = append(out, text)
		}
	}
	for _, arn := range append(slices.Clone(e.attached), e.boundary) {
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
