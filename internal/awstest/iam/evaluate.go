package iam

import (
	"regexp"
	"slices"
	"strings"
)

// query is a request to a policy.
type query struct {
	action, resource string
	context          conditionKeys
	variables        bool // whether the policy replaces ${…}
	unknown          func(string)
}

// decision is the result of a policy; a higher one wins.
type decision int

const (
	implicitDeny decision = iota
	allowed
	explicitDeny
)

// decide combines the statements that cover the query and for which applies is
// true.
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
		case !known: // deny: a test must not pass by an unchecked condition
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

// expand replaces the policy variables that are implemented here.
func (q query) expand(pattern string) string {
	if !q.variables || !strings.Contains(pattern, "${") {
		return pattern
	}
	return variableForm.ReplaceAllStringFunc(pattern, func(variable string) string {
		name := variable[2 : len(variable)-1]
		values := q.context[strings.ToLower(name)]
		switch {
		case len(values) == 1:
			return values[0]
		case strings.HasPrefix(name, "aws:PrincipalTag/"):
			return "\x00" // matches nothing, as a variable without a value
		}
		q.unknown("policy variable in " + pattern + " is unknown here")
		return variable
	})
}

var variableForm = regexp.MustCompile(`\$\{[^}]*\}`)

// denialReasonLocked is empty if the caller is allowed, else the reason in the
// words of AWS. Identity policies count within the boundary, grants of a
// bucket policy directly; an explicit deny wins.
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

// identityDecision combines the inline and attached policies of a user that are
// visible at the time of the request.
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

// boundaryDecision allows everything if there is no boundary, and nothing if
// its policy was deleted.
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

// bucketDecision is the decision of a bucket policy about a caller. A grant to
// the account does not extend to its users.
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

// parsedLocked parses a document that was accepted before.
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
