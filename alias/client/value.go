package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Value is a JSON value: nil, bool, json.Number, string, []Value or Object. The zero
// Value is null. The methods of a value of another kind return nothing, so a member that
// a server of another version does not send is empty.
type Value struct{ any }

// Object is a JSON object, in the order in which it was sent.
type Object []Member

// Member is a member of an object.
type Member struct {
	Name  string
	Value Value
}

// Make makes a value of one of the kinds above.
func Make(v any) Value { return Value{v} }

// Decode decodes one JSON value.
func Decode(text []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decode(d)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("data follows the value")
		}
	}
	if err != nil {
		return Value{}, fmt.Errorf("the answer is not JSON: %w", err)
	}
	return v, nil
}

func decode(d *json.Decoder) (Value, error) {
	t, err := d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Value{}, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return Value{t}, nil
	}
	var object Object
	list := []Value{}
	for d.More() {
		var name string
		if delim == '{' {
			t, err := d.Token()
			if err != nil {
				return Value{}, err
			}
			name = t.(string)
		}
		v, err := decode(d)
		if err != nil {
			return Value{}, err
		}
		object, list = append(object, Member{name, v}), append(list, v)
	}
	if _, err := d.Token(); err != nil {
		return Value{}, err
	}
	if delim == '{' {
		return Value{object}, nil
	}
	return Value{list}, nil
}

// MarshalJSON encodes the value with its order.
func (v Value) MarshalJSON() ([]byte, error) {
	object, ok := v.any.(Object)
	if !ok {
		return encode(v.any)
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range object {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{m.Name, m.Value} {
			if j > 0 {
				b.WriteByte(':')
			}
			text, err := encode(part)
			if err != nil {
				return nil, err
			}
			b.Write(bytes.TrimSuffix(text, []byte("\n")))
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Get returns the member of that path, or null.
func (v Value) Get(path ...string) Value {
	for _, name := range path {
		var next Value
		for _, m := range v.Members() {
			if m.Name == name {
				next = m.Value
			}
		}
		v = next
	}
	return v
}

// With is the object with another value of a member that it has.
func (v Value) With(name string, value Value) Value {
	object := slices.Clone(v.Members())
	for i := range object {
		if object[i].Name == name {
			object[i].Value = value
		}
	}
	return Value{object}
}

// Equal reports whether two values are the same, with the same order of members.
func (v Value) Equal(w Value) bool { return reflect.DeepEqual(v, w) }

// Members are those of an object.
func (v Value) Members() Object { o, _ := v.any.(Object); return o }

// List are the elements of an array.
func (v Value) List() []Value { l, _ := v.any.([]Value); return l }

// IsNull reports whether v is null or missing.
func (v Value) IsNull() bool { return v.any == nil }

// Any is the value itself.
func (v Value) Any() any { return v.any }

// IsFalse reports whether v is false, not null and not missing.
func (v Value) IsFalse() bool { b, ok := v.any.(bool); return ok && !b }

// Bool is the value of true.
func (v Value) Bool() bool { b, _ := v.any.(bool); return b }

// Int is the value of an integer.
func (v Value) Int() int64 {
	n, _ := v.any.(json.Number)
	i, _ := n.Int64()
	return i
}

// Text is the value for a reader: null is empty, a list is separated by commas, an object
// is JSON.
func (v Value) Text() string {
	switch x := v.any.(type) {
	case nil:
		return ""
	case string:
		return x
	case []Value:
		parts := make([]string, len(x))
		for i, e := range x {
			parts[i] = e.Text()
		}
		return strings.Join(parts, ",")
	case Object:
		text, _ := v.MarshalJSON()
		return string(text)
	default:
		return fmt.Sprint(x)
	}
}
