package iam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// document is a parsed policy.
type document struct {
	statements []statement
	variables  bool // version 2012-10-17: ${…} is replaced
}

// statement allows or denies. Of actions and notActions one is nil, and so for
// resources.
type statement struct {
	allow                   bool
	actions, notActions     []string
	resources, notResources []string
	principals              []string // of a bucket or trust policy; * is everyone
	providers               []string // ARNs of identity providers in a trust policy
	conditions              []condition
}

// condition compares a key of the request with values.
type condition struct {
	operator, key string
	values        []string
}

// policyKind says to what a policy is attached.
type policyKind int

const (
	identityPolicy policyKind = iota
	bucketPolicy
	trustPolicy // of a role: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-user.html
)

var sidForm = regexp.MustCompile(`^[A-Za-z0-9]*$`)

// parsePolicy reads a policy document as strictly as IAM does: an unknown
// element is an error.
func parsePolicy(text string, kind policyKind) (*document, error) {
	var raw struct {
		Version   string
		ID        string
		Statement json.RawMessage
	}
	if err := strictJSON([]byte(text), &raw); err != nil {
		return nil, fmt.Errorf("syntax errors in policy: %w", err)
	}
	switch raw.Version {
	case "", "2008-10-17", "2012-10-17":
	default:
		return nil, errors.New("the policy must contain a valid version string")
	}
	var list []json.RawMessage
	if json.Unmarshal(raw.Statement, &list) != nil {
		list = []json.RawMessage{raw.Statement}
	}
	if len(list) == 0 {
		return nil, errors.New("syntax errors in policy: no statement")
	}
	doc := &document{variables: raw.Version == "2012-10-17"}
	sids := map[string]bool{}
	for _, one := range list {
		sid, st, err := parseStatement(one, kind)
		if err != nil {
			return nil, err
		}
		if sid != "" && sids[sid] {
			return nil, errors.New("statement IDs (SID) in a single policy must be unique")
		}
		sids[sid] = true
		doc.statements = append(doc.statements, st)
	}
	return doc, nil
}

// strictJSON decodes one JSON object and refuses fields that are not in v.
// Unlike encoding/json, IAM distinguishes upper and lower case.
func strictJSON(text []byte, v any) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	for name := range fields {
		if _, ok := reflect.TypeOf(v).Elem().FieldByName(name); !ok {
			return fmt.Errorf("unknown field %s", name)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("more than one document")
	}
	return nil
}

type rawStatement struct {
	Sid                                      string
	Effect                                   string
	Action, NotAction, Resource, NotResource *stringList
	Principal                                *rawPrincipal
	Condition                                map[string]map[string]stringList
}

func parseStatement(text json.RawMessage, kind policyKind) (sid string, st statement, err error) {
	var raw rawStatement
	if err := strictJSON(text, &raw); err != nil {
		return "", st, fmt.Errorf("syntax errors in policy: %w", err)
	}
	if !sidForm.MatchString(raw.Sid) && kind != bucketPolicy {
		return "", st, errors.New("statement IDs (SID) must be alpha-numeric")
	}
	if raw.Effect != "Allow" && raw.Effect != "Deny" {
		return "", st, errors.New("syntax errors in policy: the effect is neither Allow nor Deny")
	}
	if (raw.Principal == nil) != (kind == identityPolicy) {
		return "", st, errors.New("policy document should not specify a principal, a bucket policy must")
	}
	if (raw.Action == nil) == (raw.NotAction == nil) {
		return "", st, errors.New("policy statement must contain either actions or not actions")
	}
	if err := raw.checkKind(kind); err != nil {
		return "", st, err
	}
	st = statement{
		allow: raw.Effect == "Allow", actions: raw.Action.list(), notActions: raw.NotAction.list(),
		resources: raw.Resource.list(), notResources: raw.NotResource.list(),
	}
	st.addPrincipals(raw.Principal, kind)
	for operator, keys := range raw.Condition {
		for key, values := range keys {
			st.conditions = append(st.conditions, condition{operator, key, values})
		}
	}
	err = st.check()
	return raw.Sid, st, err
}

func (st *statement) addPrincipals(p *rawPrincipal, kind policyKind) {
	if p != nil {
		st.principals, st.providers = p.AWS, p.Federated
	}
	if kind == trustPolicy {
		st.resources = []string{"*"}
	}
}

// checkKind refuses what only another kind of policy may have.
func (raw *rawStatement) checkKind(kind policyKind) error {
	p := raw.Principal
	switch {
	case kind == trustPolicy && (raw.Resource != nil || raw.NotResource != nil):
		return errors.New("has prohibited field Resource")
	case kind == trustPolicy:
		return nil
	case (raw.Resource == nil) == (raw.NotResource == nil):
		return errors.New("policy statement must contain resources")
	case p != nil && (p.Service != nil || p.Federated != nil):
		return errors.New("principals of services and identity providers are for trust policies here")
	}
	return nil
}

// check validates the forms of actions and resources.
func (st *statement) check() error {
	for _, action := range append(slices.Clip(st.actions), st.notActions...) {
		if vendor, name, ok := strings.Cut(action, ":"); action != "*" && (!ok || vendor == "" || name == "") {
			return errors.New("actions/conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc")
		}
	}
	for _, resource := range append(slices.Clip(st.resources), st.notResources...) {
		if resource != "*" && !strings.HasPrefix(resource, "arn:") {
			return fmt.Errorf("resource %s must be in ARN format or \"*\"", resource)
		}
	}
	return nil
}

// stringList is a value or a list of values; booleans and numbers count as text.
type stringList []string

// UnmarshalJSON reads either form.
func (o *stringList) UnmarshalJSON(text []byte) error {
	var many []any
	if json.Unmarshal(text, &many) != nil {
		many = make([]any, 1)
		if err := json.Unmarshal(text, &many[0]); err != nil {
			return err
		}
	}
	*o = stringList{}
	for _, one := range many {
		switch v := one.(type) {
		case string:
			*o = append(*o, v)
		case bool:
			*o = append(*o, strconv.FormatBool(v))
		case float64:
			*o = append(*o, strconv.FormatFloat(v, 'f', -1, 64))
		default:
			return errors.New("neither a string nor a list of them")
		}
	}
	return nil
}

func (o *stringList) list() []string {
	if o == nil {
		return nil
	}
	return *o
}

// rawPrincipal is "*" or {"AWS": …}, in a trust policy also {"Service": …} and
// {"Federated": …}.
type rawPrincipal struct{ AWS, Service, Federated stringList }

// UnmarshalJSON reads either form.
func (p *rawPrincipal) UnmarshalJSON(text []byte) error {
	if string(text) == `"*"` {
		p.AWS = stringList{"*"}
		return nil
	}
	type plain rawPrincipal
	return strictJSON(text, (*plain)(p))
}
