package iam

import "strconv"

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

// simulatePrincipalPolicy evaluates the policies and boundary of a user. The
// context entries are its only condition keys.
func simulatePrincipalPolicy(s *Server, r *request) (any, error) {
	u := s.userByARN(r.params.Get("PolicySourceArn"), r)
	if u == nil {
		return nil, refusal("NoSuchEntity", "The user with name %s cannot be found.", r.params.Get("PolicySourceArn"))
	}
	resources := r.members("ResourceArns")
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	type result struct{ EvalActionName, EvalResourceName, EvalDecision string }
	var results []result
	for _, action := range r.members("ActionNames") {
		for _, resource := range resources {
			q := query{action: action, resource: resource, context: r.contextEntries(), unknown: s.problemLocked}
			identity, boundary := s.identityRuling(u, q, r).is, s.boundaryRuling(u, q, r).is
			decided := min(identity, boundary)
			if identity == explicitDeny || boundary == explicitDeny {
				decided = explicitDeny
			}
			results = append(results, result{action, resource, [...]string{"implicitDeny", "allowed", "explicitDeny"}[decided]})
		}
	}
	return namedList[result]{"EvaluationResults", results}, nil
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
