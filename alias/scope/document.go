package scope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// policyDocument is a decoded identity policy
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html).
type policyDocument struct {
	variables  bool // version 2012-10-17: ${…} in a resource is a variable
	statements []statement
}

// statement allows or denies. Of actions and notActions one is nil, and so for resources.
type statement struct {
	label                   string // its Sid, or its number from 1
	allow                   bool
	actions, notActions     []string // in lower case: IAM ignores the case of actions
	resources, notResources []string
	conditions              []condition
}

// condition is one key of the Condition element. The statement applies only if all hold.
type condition struct {
	operator, key string // the key in lower case: IAM ignores its case
	values        []string
}

const (
	// maxDocument is more than any policy in IAM has: 10,240 characters for the inline
	// policies of a role.
	maxDocument = 64 << 10
	// maxDepth is the depth of a policy document: document, statements, statement,
	// condition, operator, values.
	maxDepth = 6
)

var errDocument = errors.New("not a policy document")

// decodeDocument decodes the JSON text of an identity policy. Whatever IAM and this function
// could understand in two ways is an error: an element with another name or case, an element
// that stands twice, an empty list.
func decodeDocument(text []byte) (*policyDocument, error) {
	variables, list, err := decodeElements(text)
	if err != nil {
		return nil, err
	}
	doc := &policyDocument{variables: variables}
	for i, one := range list {
		st, err := decodeStatement(one, i+1)
		if err != nil {
			return nil, err
		}
		doc.statements = append(doc.statements, *st)
	}
	return doc, nil
}

// decodeElements decodes a document up to its statements. variables says that it has the version
// that has some.
func decodeElements(text []byte) (variables bool, statements []any, err error) {
	if len(text) > maxDocument || !utf8.Valid(text) {
		return false, nil, errDocument
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	value, err := decodeValue(dec, maxDepth)
	if err != nil {
		return false, nil, errDocument
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return false, nil, errDocument
	}
	elements, err := elementsOf(value, "Version", "Id", "Statement")
	if err != nil {
		return false, nil, err
	}
	switch elements["Version"] {
	case "2012-10-17":
		variables = true
	case nil, "2008-10-17":
	default:
		return false, nil, errDocument
	}
	list, ok := elements["Statement"].([]any)
	if !ok {
		list = []any{elements["Statement"]} // a statement without a list around it
	}
	return variables, list, nil
}

// decodeValue decodes a JSON value, in which no object has a name twice.
func decodeValue(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	switch {
	case !ok:
		// The decoder uses the replacement character for every escape of an incomplete
		// surrogate pair, so that different texts look equal.
		if text, ok := token.(string); ok && strings.ContainsRune(text, utf8.RuneError) {
			return nil, errDocument
		}
		return token, nil
	case depth == 0:
		return nil, errDocument
	case delim == '[':
		return decodeList(dec, depth-1)
	}
	return decodeObject(dec, depth-1)
}

func decodeList(dec *json.Decoder, depth int) (any, error) {
	list := []any{}
	for dec.More() {
		one, err := decodeValue(dec, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	_, err := dec.Token()
	return list, err
}

func decodeObject(dec *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := name.(string)
		if _, twice := object[key]; twice {
			return nil, errDocument
		}
		if object[key], err = decodeValue(dec, depth); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return object, err
}

// elementsOf is an object that has no other elements than these. IAM distinguishes their case.
func elementsOf(value any, names ...string) (map[string]any, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errDocument
	}
	for name := range object {
		if !slices.Contains(names, name) {
			return nil, errDocument
		}
	}
	return object, nil
}

var sidForm = regexp.MustCompile(`^[A-Za-z0-9]{1,100}$`)

func decodeStatement(value any, number int) (*statement, error) {
	e, err := elementsOf(value, "Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition")
	if err != nil {
		return nil, err
	}
	st := &statement{label: strconv.Itoa(number), allow: e["Effect"] == "Allow"}
	if sid, _ := e["Sid"].(string); sidForm.MatchString(sid) {
		st.label = sid
	}
	if !st.allow && e["Effect"] != "Deny" {
		return nil, errDocument
	}
	if st.actions, st.notActions, err = eitherOf(e, "Action"); err != nil {
		return nil, err
	}
	if st.resources, st.notResources, err = eitherOf(e, "Resource"); err != nil {
		return nil, err
	}
	for _, list := range [][]string{st.actions, st.notActions} {
		for i, action := range list {
			list[i] = strings.ToLower(action)
		}
	}
	if v, ok := e["Condition"]; ok {
		st.conditions, err = decodeConditions(v)
	}
	return st, err
}

// eitherOf is the list of an element or of its Not form. Exactly one of them must be there.
func eitherOf(e map[string]any, name string) (list, not []string, err error) {
	v, ok := e[name]
	n, other := e["Not"+name]
	switch {
	case ok == other:
		return nil, nil, errDocument
	case ok:
		list, err = stringsOf(v)
	default:
		not, err = stringsOf(n)
	}
	return list, not, err
}

func decodeConditions(value any) ([]condition, error) {
	operators, ok := value.(map[string]any)
	if !ok {
		return nil, errDocument
	}
	var list []condition
	for operator, value := range operators {
		keys, ok := value.(map[string]any)
		if !ok {
			return nil, errDocument
		}
		for key, value := range keys {
			values, err := stringsOf(value)
			if err != nil {
				return nil, err
			}
			slices.Sort(values)
			list = append(list, condition{operator, strings.ToLower(key), values})
		}
	}
	return list, nil
}

// stringsOf is a text, or a list of at least one. Numbers and booleans, which conditions may
// have, count as text.
func stringsOf(value any) ([]string, error) {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	out := make([]string, 0, len(list))
	for _, one := range list {
		switch v := one.(type) {
		case string:
			out = append(out, v)
		case bool, json.Number:
			out = append(out, fmt.Sprint(v))
		default:
			return nil, errDocument
		}
	}
	if len(out) == 0 {
		return nil, errDocument
	}
	return out, nil
}

// equals reports whether two conditions are the same.
func (c condition) equals(other condition) bool {
	return c.operator == other.operator && c.key == other.key && slices.Equal(c.values, other.values)
}
