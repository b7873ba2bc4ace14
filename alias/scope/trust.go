package scope

import (
	"regexp"
	"slices"
	"strings"
)

// assumes are the actions with which somebody gets a session of a role.
var assumes = []string{"sts:assumerole", "sts:assumerolewithwebidentity", "sts:assumerolewithsaml"}

var accountForm = regexp.MustCompile(`^[0-9]{12}$`)

// trustOf lists who may assume a role of an account by its trust policy. open are those that anybody
// can be, or that another account decides about alone
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html).
// Denials are not counted.
func trustOf(text []byte, account string) (named, open []string, err error) {
	statements, err := decodeTrust(text)
	if err != nil {
		return nil, nil, err
	}
	for _, st := range statements {
		for _, p := range st.principals {
			if why := p.open(account, st.conditional); why != "" {
				open = append(open, why)
			} else {
				named = append(named, p.String())
			}
		}
	}
	slices.Sort(named)
	return slices.Compact(named), slices.Compact(open), nil
}

// principal is one element of a Principal: its type and its name.
type principal struct{ kind, name string }

func (p principal) String() string { return plainText(p.name) }

// open says who is let in, if that is not a named identity; else it is empty.
func (p principal) open(account string, conditional bool) string {
	parts := strings.Split(p.name, ":")
	of := p.name // the account, or not one of a user or role
	if len(parts) == arnParts && parts[0] == "arn" {
		of = parts[4]
	}
	under := ", under conditions"
	if !conditional {
		under = ""
	}
	switch {
	case p.name == "*":
		return "anybody" + under
	case p.kind == "Federated" && !conditional:
		return "every identity of " + p.String()
	case p.kind == "AWS" && accountForm.MatchString(of) && of != account && !conditional:
		return p.String() + " of another account, without an external id or another condition"
	}
	return ""
}

// trust is a statement of a trust policy that allows to assume the role.
type trust struct {
	principals  []principal
	conditional bool
}

func decodeTrust(text []byte) ([]trust, error) {
	_, list, err := decodeElements(text)
	if err != nil {
		return nil, err
	}
	var out []trust
	for _, value := range list {
		e, err := elementsOf(value, "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Condition")
		if err != nil {
			return nil, err
		}
		actions, notActions, err := eitherOf(e, "Action")
		if err != nil {
			return nil, err
		}
		covers := func(list []string) bool {
			return slices.ContainsFunc(list, func(pattern string) bool {
				return slices.ContainsFunc(assumes, func(action string) bool { return overlap(strings.ToLower(pattern), action) })
			})
		}
		if e["Effect"] != "Allow" || notActions == nil && !covers(actions) {
			continue
		}
		principals, err := principalsOf(e)
		if err != nil {
			return nil, err
		}
		_, conditional := e["Condition"]
		out = append(out, trust{principals, conditional})
	}
	return out, nil
}

// principalsOf decodes the principals of a statement. All but some are anybody.
func principalsOf(e map[string]any) ([]principal, error) {
	if _, ok := e["NotPrincipal"]; ok || e["Principal"] == "*" {
		return []principal{{"AWS", "*"}}, nil
	}
	kinds, ok := e["Principal"].(map[string]any)
	if !ok {
		return nil, errDocument
	}
	var out []principal
	for _, kind := range []string{"AWS", "Service", "Federated", "CanonicalUser"} {
		value, ok := kinds[kind]
		if !ok {
			continue
		}
		names, err := stringsOf(value)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			out = append(out, principal{kind, name})
		}
	}
	if len(out) == 0 {
		return nil, errDocument
	}
	return out, nil
}
