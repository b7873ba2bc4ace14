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

// ruling is the decision of all policies of one kind about a query.
type ruling struct {
	kind string // in the words of AWS
	is   decision
	arn  string // of the policy that denies, empty for an inline one
}

// reason tells why a ruling denies an action, in the words of AWS:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
func (x ruling) reason(action string, withARN bool) string {
	if x.is != explicitDeny {
		return "because no " + x.kind + " allows the " + action + " action"
	}
	article := "a "
	if strings.HasPrefix(x.kind, "identity") {
		article = "an "
	}
	out := "with an explicit deny in " + article + x.kind
	if withARN && x.arn != "" {
		out += ": " + x.arn
	}
	return out
}

// rulings are the decisions about a query, in the order in which a denial names
// them. Identity policies count within the boundary, grants of a bucket policy
// directly; an explicit deny wins:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
type rulings struct{ scp, rcp, endpoint, identity, boundary, direct ruling }

func (s *Server) rulingsLocked(r *request, q query, bucket string) rulings {
	q.unknown = s.problemLocked
	out := rulings{
		scp: ruling{is: allowed}, rcp: s.resourceControlRuling(q), endpoint: s.endpointRuling(q, r.caller),
		identity: ruling{kind: "identity-based policy"}, boundary: ruling{is: allowed},
		direct: ruling{kind: "resource-based policy"},
	}
	switch u := r.caller.user; {
	case r.caller.root:
		out.scp, out.identity.is = s.serviceControlRuling(q), allowed
		return out
	case u != nil:
		out.scp, out.identity, out.boundary = s.serviceControlRuling(q), s.identityRuling(u, q, r), s.boundaryRuling(u, q, r)
	}
	out.direct.is = s.bucketDecision(bucket, q, r.caller)
	return out
}

// denies is the ruling that denies the query; ok is false if it is allowed.
func (x rulings) denies() (which ruling, ok bool) {
	for _, one := range []ruling{x.scp, x.rcp, x.endpoint, x.identity, x.boundary, x.direct} {
		if one.is == explicitDeny {
			return one, true
		}
	}
	limits := []ruling{x.scp, x.endpoint}
	if x.direct.is != allowed { // a boundary does not limit what a bucket grants to the user
		limits = append(limits, x.identity, x.boundary)
	}
	for _, one := range limits {
		if one.is != allowed {
			return one, true
		}
	}
	return ruling{}, false
}

// deniesAcross is denies for a bucket of another account, which must be allowed on
// both sides:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html
func (x rulings) deniesAcross() (which ruling, ok bool) {
	if which, ok = x.denies(); ok {
		return which, ok
	}
	for _, one := range []ruling{x.identity, x.boundary, x.direct} {
		if one.is != allowed {
			return one, true
		}
	}
	return ruling{}, false
}

// denialReasonLocked is empty if the caller is allowed, else the reason in the
// words of AWS.
func (s *Server) denialReasonLocked(r *request, q query, bucket string) string {
	which, denied := s.rulingsLocked(r, q, bucket).denies()
	if !denied {
		return ""
	}
	return which.reason(q.action, s.cfg.PolicyARNs)
}

func everyStatement(*statement) bool { return true }

// identityRuling combines the inline and attached policies of a user, and those of
// its groups, that are visible at the time of the request.
func (s *Server) identityRuling(u *User, q query, r *request) ruling {
	out := ruling{kind: "identity-based policy"}
	add := func(text, arn string) {
		if is := s.parsedLocked(text, identityPolicy).decide(q, everyStatement); is > out.is {
			out.is, out.arn = is, arn
		}
	}
	for _, text := range u.Inline {
		add(text, "")
	}
	attached := slices.Clone(u.Attached)
	for _, group := range u.Groups {
		if text := s.groups[group]; text != "" {
			add(text, "")
		}
		attached = append(attached, s.groupPolicies[group]...)
	}
	for _, arn := range attached {
		if p, ok := s.policies.visibleAt(arn, r.now); ok {
			add(p.Document(), arn)
		}
	}
	return out
}

// boundaryRuling allows everything if there is no boundary, and nothing if its
// policy was deleted.
func (s *Server) boundaryRuling(u *User, q query, r *request) ruling {
	out := ruling{kind: "permissions boundary", arn: u.Boundary}
	if u.Boundary == "" {
		out.is = allowed
	} else if p, ok := s.policies.visibleAt(u.Boundary, r.now); ok {
		out.is = s.parsedLocked(p.Document(), identityPolicy).decide(q, everyStatement)
	}
	return out
}

// bucketDecision is the decision of a bucket policy about a caller. A grant to the
// account of the bucket does not extend to its users, but lets their policies decide.
func (s *Server) bucketDecision(text string, q query, caller caller) decision {
	if text == "" {
		return implicitDeny
	}
	return s.parsedLocked(text, bucketPolicy).decide(q, func(st *statement) bool {
		foreign := !slices.Contains(q.context["aws:resourceaccount"], s.cfg.Account)
		ofAccount := caller.user != nil && (!st.allow || foreign)
		return st.names(caller) || (ofAccount && st.names(caller, s.arn("root"), s.cfg.Account))
	})
}

// names reports whether a statement is about a caller: by its ARN, by one of these
// other names, or as everyone.
func (st *statement) names(caller caller, others ...string) bool {
	return slices.ContainsFunc(st.principals, func(p string) bool {
		return p == "*" || p == caller.arn || slices.Contains(others, p)
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
