package iam

import (
	"slices"
	"strings"
)

// policyQuery is what a policy is asked.
type query struct {
	action, resource string
	context          conditionKeys
	variables        bool // of the policy that is asked
	unknown          func(string)
}

// decision is what a policy says; a higher one wins.
type decision int

const (
	implicitDeny decision = iota
	allowed
	explicitDeny
)

// decide is what the statements that cover the query say, those aside that
// applies refuses.
func (d *document) decide(q query, applies func(*statement) bool) decision {
	out := implicitDeny
	q.variables = d.variables
	for i := range d.statements {
		st := &d.statements[i]
		if !applies(st) || !st.covers(q) {
			continue
		}
		met, known := st.conditionsHold(q)
		switch {
		case !known: // deny: a test must not pass by what nobody checked
			return explicitDeny
		case met && !st.allow:
			return explicitDeny
		case met:
			out = allowed
		}
	}
	return out
}

func (st *statement) covers(q query) bool {
	action := func(pattern string) bool { return wildcard(strings.ToLower(pattern), strings.ToLower(q.action)) }
	actionCovered := slices.ContainsFunc(st.actions, action)
	if st.notActions != nil {
		actionCovered = !slices.ContainsFunc(st.notActions, action)
	}
	resourceCovered := slices.ContainsFunc(st.resources, q.resourceMatches)
	if st.notResources != nil {
		resourceCovered = !slices.ContainsFunc(st.notResources, q.resourceMatches)
	}
	return actionCovered && resourceCovered
}

func (q query) resourceMatches(pattern string) bool {
	return q.resource != "" && arnMatches(q.expand(pattern), q.resource) || pattern == "*"
}

func (st *statement) conditionsHold(q query) (met, known bool) {
	met = true
	for _, c := range st.conditions {
		one, ok := c.holds(q)
		if !ok {
			q.unknown("condition operator " + c.operator + " is unknown here: denied")
			return false, false
		}
		met = met && one
	}
	return met, true
}

// expand puts in the policy variables that this server knows.
func (q query) expand(pattern string) string {
	if !q.variables || !strings.Contains(pattern, "${") {
		return pattern
	}
	out := pattern
	for _, name := range []string{"aws:username", "aws:userid", "aws:PrincipalAccount"} {
		if values := q.context[strings.ToLower(name)]; len(values) == 1 {
			out = strings.ReplaceAll(out, "${"+name+"}", values[0])
		}
	}
	if strings.Contains(out, "${") {
		q.unknown("policy variable in " + pattern + " is unknown here")
	}
	return out
}

// whyDeniedLocked is empty where the caller may, else the reason as AWS words
// it: identity policies within the boundary, or what a bucket's policy grants
// directly; an explicit deny wins.
func (s *Server) denialReasonLocked(r *request, q query, bucket string) string {
	if r.caller.root {
		return ""
	}
	q.unknown = s.problemLocked
	identity, boundary := implicitDeny, allowed
	if u := r.caller.user; u != nil {
		identity = s.identityDecision(u, q, r)
		boundary = s.boundaryDecision(u, q, r)
	}
	direct := s.bucketDecision(bucket, q, r.caller)
	switch {
	case identity == explicitDeny:
		return "with an explicit deny in an identity-based policy"
	case boundary == explicitDeny:
		return "with an explicit deny in a permissions boundary"
	case direct == explicitDeny:
		return "with an explicit deny in a resource-based policy"
	case direct == allowed:
		return "" // a boundary does not limit what a bucket grants to the user
	case identity != allowed:
		return "because no identity-based policy allows the " + q.action + " action"
	case boundary != allowed:
		return "because no permissions boundary allows the " + q.action + " action"
	}
	return ""
}

func everyStatement(*statement) bool { return true }

// identityDecision is what the policies on and attached to a user say, as they
// are seen at the request's time.
func (s *Server) identityDecision(u *User, q query, r *request) decision {
	out := implicitDeny
	for _, text := range u.Inline {
		out = max(out, s.parsedLocked(text, identityPolicy).decide(q, everyStatement))
	}
	for _, arn := range u.Attached {
		if p, ok := s.policies.visibleAt(arn, r.now); ok {
			out = max(out, s.parsedLocked(p.Document(), identityPolicy).decide(q, everyStatement))
		}
	}
	return out
}

// boundaryDecision allows everything where there is no boundary, and nothing
// where its policy is gone.
func (s *Server) boundaryDecision(u *User, q query, r *request) decision {
	if u.Boundary == "" {
		return allowed
	}
	p, ok := s.policies.visibleAt(u.Boundary, r.now)
	if !ok {
		return implicitDeny
	}
	return s.parsedLocked(p.Document(), identityPolicy).decide(q, everyStatement)
}

// bucketDecision is what a bucket's policy says about a caller. A grant to the
// account is none to its users.
func (s *Server) bucketDecision(text string, q query, caller caller) decision {
	if text == "" {
		return implicitDeny
	}
	return s.parsedLocked(text, bucketPolicy).decide(q, func(st *statement) bool {
		return slices.ContainsFunc(st.principals, func(p string) bool {
			account := p == s.cfg.Account || p == s.arn("root")
			return p == "*" || p == caller.arn || (account && !st.allow && caller.user != nil)
		})
	})
}

// parsedLocked is a document that was accepted once.
func (s *Server) parsedLocked(text string, kind policyKind) *document {
	if doc, ok := s.parsed[text]; ok {
		return doc
	}
	doc, err := parsePolicy(text, kind)
	if err != nil {
		s.problemLocked("a policy that cannot be read: " + err.Error())
		doc = &document{}
	}
	s.parsed[text] = doc
	return doc
}
