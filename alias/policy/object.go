package policy

import (
	"bytes"
	"maps"
	"slices"
)

// object is an object of a template. Its members keep their order.
type object []member

type member struct {
	name  string
	value any // a string, int, bool, object, list, or an expression of the language of the template
}

type list []any

// MarshalJSON encodes the object for CloudFormation.
func (o object) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			buf.WriteByte(',')
		}
		name, err := encode(m.name)
		if err != nil {
			return nil, err
		}
		value, err := encode(m.value)
		if err != nil {
			return nil, err
		}
		buf.Write(name)
		buf.WriteByte(':')
		buf.Write(value)
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// tree is the document for a template.
func (d policyDocument) tree() object {
	statements := make(list, 0, len(d.Statement))
	for _, st := range d.Statement {
		statements = append(statements, st.tree())
	}
	return object{{"Version", d.Version}, {"Statement", statements}}
}

func (st statement) tree() object {
	var o object
	if st.Sid != "" {
		o = append(o, member{"Sid", st.Sid})
	}
	o = append(o, member{"Effect", st.Effect})
	if st.Principal != nil {
		o = append(o, member{"Principal", sorted(st.Principal)})
	}
	o = append(o, member{"Action", listed(st.Action)})
	if st.Resource != nil {
		o = append(o, member{"Resource", listed(st.Resource)})
	}
	if st.Condition != nil {
		condition := make(object, 0, len(st.Condition))
		for _, operator := range slices.Sorted(maps.Keys(st.Condition)) {
			condition = append(condition, member{operator, sorted(st.Condition[operator])})
		}
		o = append(o, member{"Condition", condition})
	}
	return o
}

func sorted[V any](m map[string]V) object {
	o := make(object, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		o = append(o, member{name, m[name]})
	}
	return o
}

// listed turns the lists of a statement into those of a template.
func listed(v any) any {
	texts, ok := v.([]string)
	if !ok {
		return v
	}
	var l list
	for _, text := range texts {
		l = append(l, text)
	}
	return l
}
