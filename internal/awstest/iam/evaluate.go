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
	switch {
	case strings.HasPrefix(x.kind, "identity"):
		article = "an "
	case x.kind == trustKind:
		article = "the "
	}
	out := "with an explicit deny in " + article + x.kind
	if withARN && x.arn != "" {
		out += ": " + x.arn
	}
	return out
}

// rulings are the decisions about a query, in the order in which a denial names
// them. Identity policies count within the boundary and the session policies, grants of
// a bucket policy directly; an explicit deny wins:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
type rulings struct {
	scp, rcp, endpoint, identity, boundary, session, direct ruling
	// toSession: what direct allows, it allows to this session and not to its role.
	toSession bool
}

func (s *Server) rulingsLocked(r *request, q query, bucket string) rulings {
	q.unknown = s.problemLocked
	out := rulings{
		scp: ruling{is: allowed}, rcp: s.resourceControlRuling(q), endpoint: s.endpointRuling(q, r.caller),
		identity: ruling{kind: "identity-based policy"}, boundary: ruling{is: allowed},
		session: s.sessionRuling(r.caller.session, q), direct: ruling{kind: "resource-based policy"},
	}
	switch e, ok := r.caller.entity(); {
	case r.caller.root:
		out.scp, out.identity.is = s.serviceControlRuling(q), allowed
		return out
	case ok:
		out.scp, out.identity, out.boundary = s.serviceControlRuling(q), s.identityRuling(e, q, r), s.boundaryRuling(e, q, r)
	}
	if x := r.caller.session; x != nil && x.refused == "AccessDenied" {
		out.identity.is = explicitDeny
	}
	out.direct.is, out.toSession = s.bucketDecision(bucket, q, r.caller)
	return out
}

// denies is the ruling that denies the query; ok is false if it is allowed.
func (x rulings) denies() (which ruling, ok bool) {
	for _, one := range []ruling{x.scp, x.rcp, x.endpoint, x.identity, x.boundary, x.session, x.direct} {
		if one.is == explicitDeny {
			return one, true
		}
	}
	limits := []ruling{x.scp, x.endpoint}
	if x.direct.is != allowed {
		limits = append(limits, x.identity)
	}
	// Neither limits what a bucket grants to the user or to the session.
	if x.direct.is != allowed || !x.toSession {
		limits = append(limits, x.boundary, x.session)
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
	for _, one := range []ruling{x.identity, x.boundary, x.session, x.direct} {
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

// entity is a user or a role, as policies see it.
type entity struct {
	inline           map[string]string
	attached, groups []string
	boundary         string
}

// identityRuling combines the inline and attached policies of a user or role, and those
// of its groups, that are visible at the time of the request.
func (s *Server) identityRuling(e entity, q query, r *request) ruling {
	out := ruling{kind: "identity-based policy"}
	add := func(text, arn string) {
		if is := s.parsedLocked(text, identityPolicy).decide(q, everyStatement); is > out.is {
			out.is, out.arn = is, arn
		}
	}
	for _, text := range e.inline {
		add(text, "")
	}
	attached := slices.Clone(e.attached)
	for _, group := range e.groups {
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
func (s *Server) boundaryRuling(e entity, q query, r *request) ruling {
	out := ruling{kind: "permissions boundary", arn: e.boundary}
	if e.boundary == "" {
		out.is = allowed
	} else if p, ok := s.policies.visibleAt(e.boundary, r.now); ok {
		out.is = s.parsedLocked(p.Document(), identityPolicy).decide(q, everyStatement)
	}
	return out
}

// bucketDecision is the decision of a bucket policy about a caller. A grant to the
// account of the bucket does not extend to its users and roles, but lets their policies
// decide. toSession is whether the policy names who asks, and not only the role of the
// session that asks: boundary and session policies limit a grant to the role.
func (s *Server) bucketDecision(text string, q query, caller caller) (is decision, toSession bool) {
	if text == "" {
		return implicitDeny, false
	}
	doc := s.parsedLocked(text, bucketPolicy)
	_, known := caller.entity()
	is = doc.decide(q, func(st *statement) bool {
		foreign := !slices.Contains(q.context["aws:resourceaccount"], s.cfg.Account)
		ofAccount := known && (!st.allow || foreign)
		return st.names(caller) || (ofAccount && st.names(caller, s.arn("root"), s.cfg.Account))
	})
	return is, caller.role == nil || doc.allowsSession(q, caller)
}

// allowsSession reports whether a policy that has a grant for a caller has one that names
// the caller's session.
func (d *document) allowsSession(q query, caller caller) bool {
	return d.decide(q, func(st *statement) bool { return slices.Contains(st.principals, caller.arn) }) == allowed
}

// names reports whether a statement is about a caller: by an ARN of it, by one of these
// other names, or as everyone.
func (st *statement) names(caller caller, others ...string) bool {
	return slices.ContainsFunc(st.principals, func(p string) bool {
		return p == "*" || slices.Contains(caller.names(), p) || slices.Contains(others, p)
	})
}

// sessionRuling combines the session policies; a session without one is not limited.
func (s *Server) sessionRuling(x *Session, q query) ruling {
	out := ruling{kind: "session policy", is: allowed}
	if x == nil || len(x.Policies) == 0 {
		return out
	}
	out.is = implicitDeny
	for _, text := range x.Policies {
		out.is = max(out.is, s.parsedLocked(text, identityPolicy).decide(q, everyStatement))
	}
	return out
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
