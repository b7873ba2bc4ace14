package scope

import (
	"fmt"
	"slices"
	"strings"
)

// PolicyText is one identity policy of a user, as IAM shows it.
type PolicyText struct {
	Name string // "the inline policy admin of its group staff", for messages
	Text []byte // the JSON document; nil if it could not be read
}

// Policies are all identity policies of a user.
type Policies struct {
	User  string       // its name, for ${aws:username}
	Texts []PolicyText // inline and attached ones, and those of its groups
	// Boundary is its permissions boundary, which grants nothing and limits what the others
	// grant; nil for none.
	Boundary *PolicyText
}

// Rights is what the policies of a user allow beyond what a key needs.
type Rights struct {
	// Beyond are the rights that a key does not need. A condition never makes one disappear,
	// and only an unconditional Deny does.
	Beyond []Right
	// Bounded are rights that the policies grant beyond what a key needs and that the boundary
	// takes away again.
	Bounded []Right
	// Unlimited are rights beyond what a key needs of which the boundary, which could not be
	// read, may take away something.
	Unlimited []Right
	// Unread names the policies that could not be read or understood. They may allow more, and
	// deny something.
	Unread []string
}

// Right is a statement that allows more than a key needs.
type Right struct {
	Policy    string // as PolicyText.Name
	Statement string // its Sid, or its number from 1
	// Action and Resource are what the statement allows, for messages. The action is in lower
	// case, which is the same to IAM.
	Action, Resource string
	Conditional      bool // only under conditions, which are not evaluated

	// The right is on what matches every pattern of actions and resources, and none of
	// notActions and notResources.
	actions, notActions     []string
	resources, notResources []string
	conditions              []condition
	// parts are what other statements and the boundary leave of it; nil for all of it.
	parts []Right
}

// String describes a right for an operator.
func (r Right) String() string {
	text := fmt.Sprintf("%s on %s (statement %s of %s", r.Action, r.Resource, r.Statement, r.Policy)
	if r.Conditional {
		text += ", under conditions"
	}
	return text + ")"
}

// plainText removes what no action and no resource has, and all beyond 200 characters, so that a
// document cannot put other text into messages for operators.
func plainText(s string) string {
	s = plainARN(s)
	return s[:min(len(s), 200)]
}

// may reports whether the right allows an action on some resource that the pattern matches.
func (r Right) may(action, resource string) bool {
	if r.parts != nil {
		return slices.ContainsFunc(r.parts, func(part Right) bool { return part.may(action, resource) })
	}
	both := r.and(Right{actions: []string{strings.ToLower(action)}, resources: []string{resource}})
	return !both.empty()
}

// and is what two rights have in common.
func (r Right) and(other Right) Right {
	r.actions, r.notActions = slices.Concat(r.actions, other.actions), slices.Concat(r.notActions, other.notActions)
	r.resources = slices.Concat(r.resources, other.resources)
	r.notResources = slices.Concat(r.notResources, other.notResources)
	r.conditions = slices.Concat(r.conditions, other.conditions)
	return r
}

// empty reports that nothing is left of a right. It may miss that.
func (r Right) empty() bool {
	return contradict(r.actions) || contradict(r.resources) ||
		contained(r.actions, r.notActions, within) || contained(r.resources, r.notResources, resourceWithin)
}

// contradict reports that no text matches all of patterns.
func contradict(patterns []string) bool {
	for i, p := range patterns {
		if disjoint(patterns[:i], p) {
			return true
		}
	}
	return false
}

// need is what a key needs: an action on the resources of a pattern, under conditions.
type need struct {
	action, resource string
	conditions       []condition
	// accept reports whether a right is no more than this need, beside what the fields say.
	accept func(Right) bool
}

func (n need) covers(r Right) bool {
	if n.accept != nil {
		return n.accept(r)
	}
	for _, c := range n.conditions {
		if !slices.ContainsFunc(r.conditions, c.equals) {
			return false
		}
	}
	return slices.ContainsFunc(r.actions, func(a string) bool { return within(a, n.action) }) &&
		slices.ContainsFunc(r.resources, func(p string) bool { return resourceWithin(p, n.resource) })
}

// maxSteps bounds how many patterns are compared, because the product of the actions and resources
// of a user with those of its boundary can be large. The quotas of IAM stay far below.
const maxSteps = 20_000

// spend counts the steps of comparing a right with a statement, and reports whether some are left.
// Long patterns count more.
func (e *evaluation) spend(r Right, st bound) bool {
	for _, p := range st.patterns {
		e.steps += 1 + len(st.actions) + len(st.notActions) + len(p)*len(r.resources[0])/4096
	}
	return e.steps <= maxSteps
}

// evaluation decides what the policies of one user allow.
type evaluation struct {
	needs    []need
	user     string
	denies   []bound // unconditional, of the policies and of the boundary
	limits   []Right // what the boundary allows
	boundary bool    // it has one
	unread   bool    // and it could not be read
	steps    int
	out      Rights
}

// bound is a statement whose resources have no variables any more.
type bound struct {
	statement

	patterns []string // those of resources or notResources; each matches all that its resource can
	exact    []string // those of them that match nothing else
}

// beyond evaluates policies. What could not be understood in its steps is unread.
func (p *Policies) beyond(needs []need) Rights {
	e := &evaluation{needs: needs, user: p.User}
	if strings.ContainsAny(e.user, "*?$") {
		e.user = "" // no name in IAM
	}
	allows := make([]Right, 0, len(p.Texts))
	for _, text := range p.Texts {
		allows = append(allows, e.read(text)...)
	}
	if p.Boundary != nil {
		e.boundary = true
		before := len(e.out.Unread)
		e.limits = e.read(*p.Boundary)
		e.unread = len(e.out.Unread) > before || e.steps > maxSteps
		e.out.Unread = e.out.Unread[:before]
	}
	for _, r := range allows {
		e.judge(r)
	}
	if e.steps > maxSteps {
		e.out.Unread = append(e.out.Unread, "the rest of the policies, which are too many to compare")
	}
	return e.out
}

// read decodes a policy. It returns what it allows, and stores its unconditional denials.
func (e *evaluation) read(text PolicyText) []Right {
	doc, err := decodeDocument(text.Text)
	if err != nil {
		e.out.Unread = append(e.out.Unread, text.Name)
		return nil
	}
	allows := make([]Right, 0, len(doc.statements))
	for _, st := range doc.statements {
		b := bound{statement: st}
		for _, r := range append(slices.Clip(st.resources), st.notResources...) {
			pattern, exact := e.expand(r, doc.variables)
			b.patterns = append(b.patterns, pattern)
			if exact {
				b.exact = append(b.exact, pattern)
			}
		}
		switch {
		case st.allow:
			allows = append(allows, e.rights(text.Name, b)...)
		case len(st.conditions) == 0:
			e.denies = append(e.denies, b)
		}
	}
	return allows
}

// expand replaces the policy variables of a resource. The pattern matches all that the resource can
// match; exact says that it matches nothing else. The name of the user is the only variable with a
// known value. A document of the old version has no variables.
func (e *evaluation) expand(resource string, variables bool) (pattern string, exact bool) {
	exact = resource == "*" || strings.HasPrefix(resource, "arn:")
	if variables {
		resource = expandVariables(resource, func(name string) string {
			if name == "aws:username" && e.user != "" {
				return e.user
			}
			exact = false
			return "*"
		})
	}
	return resourcePattern(resource), exact
}

// rights are the pairs of an action and a resource that a statement allows.
func (e *evaluation) rights(policy string, b bound) []Right {
	actions, resources, patterns := b.actions, b.resources, b.patterns
	if b.notActions != nil {
		actions = []string{"*"}
	}
	if b.notResources != nil {
		resources, patterns = []string{"*"}, []string{"*"}
	}
	e.steps += len(actions) * len(resources)
	if e.steps > maxSteps {
		return nil
	}
	var out []Right
	for _, action := range actions {
		for i, resource := range resources {
			r := Right{
				Policy: policy, Statement: b.label, Conditional: len(b.conditions) > 0,
				Action: plainText(action), Resource: plainText(resource),
				actions: []string{action}, resources: []string{patterns[i]}, conditions: b.conditions,
			}
			if b.notActions != nil {
				r.Action, r.notActions = "everything but "+plainText(strings.Join(b.notActions, ",")), b.notActions
			}
			if b.notResources != nil {
				r.Resource, r.notResources = "everything but "+plainText(strings.Join(b.notResources, ",")), b.exact
			}
			out = append(out, r)
		}
	}
	return out
}

// judge decides about one right.
func (e *evaluation) judge(r Right) {
	if e.needed(r) {
		return
	}
	left := slices.DeleteFunc(e.denied(r), e.needed)
	switch {
	case len(left) == 0:
	case e.unread:
		e.out.Unlimited = append(e.out.Unlimited, r)
	case !e.boundary:
		e.out.Beyond = append(e.out.Beyond, r.of(left))
	default:
		var over []Right
		for _, one := range left {
			over = append(over, e.limit(one)...)
		}
		if len(over) == 0 {
			e.out.Bounded = append(e.out.Bounded, r)
			return
		}
		e.out.Beyond = append(e.out.Beyond, r.of(over))
	}
}

// denied is what the denials leave of a right.
func (e *evaluation) denied(r Right) []Right {
	left := []Right{r}
	for _, d := range e.denies {
		var rest []Right
		for _, part := range left {
			if !e.spend(r, d) {
				return []Right{r}
			}
			rest = append(rest, d.deny(part)...)
		}
		left = rest
	}
	return left
}

// of is the right of a statement of which only parts are left.
func (r Right) of(parts []Right) Right {
	r.parts = parts
	return r
}

func (e *evaluation) needed(r Right) bool {
	e.steps += len(e.needs)
	return slices.ContainsFunc(e.needs, func(n need) bool { return n.covers(r) })
}

// limit is what a boundary leaves of a right, beyond what is needed.
func (e *evaluation) limit(r Right) []Right {
	var over []Right
	for _, l := range e.limits {
		if e.steps += 1 + len(r.resources[0])*len(l.resources[0])/4096; e.steps > maxSteps {
			return []Right{r}
		}
		if both := r.and(l); !both.empty() && !e.needed(both) {
			over = append(over, both)
		}
	}
	return over
}

// deny is what an unconditional Deny leaves of a right.
func (d bound) deny(r Right) []Right {
	action, resource := d.coversActions(r), d.coversResources(r)
	var left []Right
	switch {
	case action && resource:
	case action && d.notResources != nil: // it leaves the resources of NotResource
		for _, p := range d.patterns {
			left = append(left, r.and(Right{resources: []string{p}}))
		}
	case resource && d.notActions != nil: // it leaves the actions of NotAction
		for _, a := range d.notActions {
			left = append(left, r.and(Right{actions: []string{a}}))
		}
	default:
		left = []Right{r}
	}
	return slices.DeleteFunc(left, Right.empty)
}

// coversActions reports that a statement is about every action of a right. It may miss that.
func (d bound) coversActions(r Right) bool {
	if d.notActions != nil {
		return allDisjoint(r.actions, d.notActions)
	}
	return contained(r.actions, d.actions, within)
}

func (d bound) coversResources(r Right) bool {
	if d.notResources != nil {
		return allDisjoint(r.resources, d.patterns)
	}
	return contained(r.resources, d.exact, resourceWithin)
}

// contained reports that everything that matches all of patterns is within one of list.
func contained(patterns, list []string, within func(p, q string) bool) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		return slices.ContainsFunc(list, func(q string) bool { return within(p, q) })
	})
}

// disjoint reports that nothing matches all of patterns and other too. It may miss that.
func disjoint(patterns []string, other string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return !overlap(p, other) })
}

func allDisjoint(patterns, list []string) bool {
	return !slices.ContainsFunc(list, func(q string) bool { return !disjoint(patterns, q) })
}
