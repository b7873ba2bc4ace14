package iam

import "strconv"

// onSource is the user whose policies a simulation asks.
func onSource(f *Server, r *iamRequest) iamTarget {
	if u := f.userByARN(r.params.Get("PolicySourceArn"), r); u != nil {
		return iamTarget{arn: u.ARN, tags: u.Tags, boundary: u.Boundary}
	}
	return iamTarget{arn: r.params.Get("PolicySourceArn")}
}

func (f *Server) userByARN(arn string, r *iamRequest) *User {
	for _, u := range f.users.allAt(r.now) {
		if u.ARN == arn {
			return u
		}
	}
	return nil
}

// simulatePrincipalPolicy asks a user's policies and boundary. It knows of the
// request only what the context entries say.
func simulatePrincipalPolicy(f *Server, r *iamRequest) (any, error) {
	u := f.userByARN(r.params.Get("PolicySourceArn"), r)
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
			q := policyQuery{action: action, resource: resource, context: r.contextEntries(), unknown: f.problemLocked}
			identity, boundary := f.identityDecision(u, q, r), f.boundaryDecision(u, q, r)
			decided := min(identity, boundary)
			if identity == explicitDeny || boundary == explicitDeny {
				decided = explicitDeny
			}
			results = append(results, result{action, resource, [...]string{"implicitDeny", "allowed", "explicitDeny"}[decided]})
		}
	}
	return hangingList[result]{"EvaluationResults", results}, nil
}

func (r *iamRequest) contextEntries() policyContext {
	c := policyContext{}
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
