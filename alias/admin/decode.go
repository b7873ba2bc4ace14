package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ixmage/alias"
)

// field is an allowed member of a JSON object. Either read decodes its value, or
// readOnly is the reason why a client cannot set it.
type field struct {
	name     string
	read     reader
	readOnly string
	// doc says what the member means, for the document of the API. Without it the member
	// means the same as the one of its name in the answer, an alias or a credential.
	doc string
	// required means that an object without the member is refused.
	required bool
}

// reader decodes the value of a member, and knows for the document of the API which values
// it accepts.
type reader struct {
	// decode returns the problems of the value of the member at path. A problem never repeats
	// the value, which may be a misplaced secret.
	decode decoder
	forms  []form
	preset any // what an object without the member means, in JSON; nil: not known
}

type decoder func(path string, raw json.RawMessage) []alias.Problem

// form is one of the forms that a value may have. The zero form is null.
type form struct {
	is     reflect.Type // the Go type of the value
	only   []string     // nil: every string of the type
	fields []field      // of an object
	name   string       // of an object, in the document of the API
}

func formOf[T any](only ...string) form { return form{is: reflect.TypeFor[T](), only: only} }

// decodeBody reads a whole request body as one object. The error is a
// *failure if the body is not an object; otherwise it returns the problems of all
// fields.
//
// encoding/json alone is too lenient: it accepts "BUCKET" for bucket, uses the last of
// two equal members, replaces invalid UTF-8 silently, and stops at the first unknown
// field.
func decodeBody(data []byte, fields []field) ([]alias.Problem, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, failf(errBadRequest, "this call needs a JSON object in the request body")
	}
	if !utf8.Valid(data) {
		return nil, failf(errBadRequest, "the body is not valid UTF-8 (byte %d)", invalidUTF8(data))
	}
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, failf(errBadRequest, "the body is not valid JSON: %s", syntax(err))
	}
	if at := loneSurrogate(raw); at >= 0 {
		return nil, failf(errBadRequest, "the body holds half of a surrogate pair (\\u escape at byte %d)", at)
	}
	if is := typeOf(raw); is != "an object" {
		return nil, failf(errBadRequest, "the body must be a JSON object, not %s", is)
	}
	return decodeObject("", raw, fields), nil
}

// syntax describes a syntax error in JSON, with its position.
func syntax(err error) string {
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("%s (byte %d)", s.Error(), s.Offset)
	}
	return err.Error()
}

// decodeObject decodes raw, a valid object at path in the body.
func decodeObject(path string, raw json.RawMessage, fields []field) []alias.Problem {
	return eachMember(path, raw, func(name, at string, value json.RawMessage) []alias.Problem {
		return decodeMember(at, name, value, fields)
	})
}

// eachMember calls read with the name, the path and the value of every member of
// raw, which is a valid object.
func eachMember(
	path string, raw json.RawMessage, read func(name, at string, value json.RawMessage) []alias.Problem,
) []alias.Problem {
	var problems []alias.Problem
	seen := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	_, err := dec.Token() // the opening brace
	for err == nil && dec.More() {
		var name string
		var value json.RawMessage
		if name, value, err = nextMember(dec); err != nil {
			break
		}
		at := fieldPath(path, name)
		if seen[name] {
			problems = append(problems, alias.Problem{Field: at, Detail: "appears more than once"})
			continue
		}
		seen[name] = true
		problems = append(problems, read(name, at, value)...)
	}
	if err != nil { // unreachable: decodeBody has validated it
		problems = append(problems, alias.Problem{Field: path, Detail: "is not valid JSON"})
	}
	return problems
}

func nextMember(dec *json.Decoder) (string, json.RawMessage, error) {
	token, err := dec.Token()
	if err != nil {
		return "", nil, err
	}
	name, _ := token.(string)
	var value json.RawMessage
	err = dec.Decode(&value)
	return name, value, err
}

func decodeMember(at, name string, value json.RawMessage, fields []field) []alias.Problem {
	for _, f := range fields {
		switch {
		case f.name != name:
		case f.read.decode == nil:
			return problemAt(at, f.readOnly)
		default:
			return f.read.decode(at, value)
		}
	}
	if near := nearest(name, fields); near != "" {
		return problemAt(at, "unknown field; did you mean "+strconv.Quote(near)+"?")
	}
	return problemAt(at, "unknown field")
}

// nearest finds the field whose name differs in case, hyphens or underscores only.
func nearest(name string, fields []field) string {
	fold := func(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }
	for _, f := range fields {
		if f.read.decode != nil && fold(f.name) == fold(name) {
			return f.name
		}
	}
	return ""
}

func problemAt(field, detail string) []alias.Problem {
	return []alias.Problem{{Field: field, Detail: detail}}
}

// fieldPath is the path of a member. It cuts a name that is longer than any field.
func fieldPath(path, name string) string {
	const most = 64
	if len(name) > most {
		cut := most
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut] + "…"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// typeOf names the type of valid JSON.
func typeOf(raw json.RawMessage) string {
	switch bytes.TrimLeft(raw, " \t\r\n")[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// loneSurrogate finds a \u escape in valid JSON that is half of a surrogate pair:
// encoding/json would silently turn it into U+FFFD. It returns -1 if there is none.
func loneSurrogate(raw []byte) int {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // now at the escaped character: a second backslash is skipped by the loop
		if raw[i] != 'u' {
			continue
		}
		switch r := escape(raw[i-1:]); {
		case r < 0xd800 || r > 0xdfff:
			i += 4
		case r < 0xdc00 && isLow(escape(raw[i+5:])):
			i += 10
		default:
			return i - 1
		}
	}
	return -1
}

func isLow(r int64) bool { return r >= 0xdc00 && r <= 0xdfff }

// escape reads \uXXXX at the start of b; it returns -1 if there is none.
func escape(b []byte) int64 {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	r, err := strconv.ParseInt(string(b[2:6]), 16, 32)
	if err != nil {
		return -1
	}
	return r
}

// asString, asBool, asStrings and asDuration read one JSON value. The second result
// describes the problem, and is empty if there is none.

func asString(raw json.RawMessage) (string, string) {
	return as[string](raw, "a string")
}

func asBool(raw json.RawMessage) (bool, string) {
	return as[bool](raw, "true or false")
}

func asStrings(raw json.RawMessage) ([]string, string) {
	list, wrong := as[[]json.RawMessage](raw, "an array of strings")
	if wrong != "" {
		return nil, wrong
	}
	texts := make([]string, len(list))
	for i, entry := range list {
		if texts[i], wrong = asString(entry); wrong != "" {
			return nil, fmt.Sprintf("must be an array of strings, and entry %d is %s", i+1, typeOf(entry))
		}
	}
	return texts, ""
}

func asDuration(raw json.RawMessage) (time.Duration, string) {
	const form = `a duration as a string, like "90s", "1h30m" or "24h"`
	text, wrong := as[string](raw, form)
	if wrong != "" {
		return 0, wrong
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, "must be " + form
	}
	return d, ""
}

// asSize reads a string with a size, "" for none, or a number of bytes.
func asSize(raw json.RawMessage) (alias.Size, string) {
	form := fmt.Sprintf(`a size of at most %s: a string like "64MiB", a number of bytes, or "" for none`, alias.MaxSize)
	text := string(bytes.TrimSpace(raw))
	if is := typeOf(raw); is == "a string" {
		text, _ = asString(raw)
	} else if is != "a number" {
		return 0, "must be " + form + ", not " + is
	}
	if text == "" {
		return 0, ""
	}
	n, err := alias.ParseSize(text)
	if err != nil {
		return 0, "must be " + form
	}
	return n, ""
}

func asName(raw json.RawMessage) (alias.Name, string) {
	text, wrong := as[string](raw, "a string")
	return alias.Name(text), wrong
}

func asSecret(raw json.RawMessage) (alias.Secret, string) {
	text, wrong := as[string](raw, "a string")
	return alias.NewSecret(text), wrong
}

func as[T any](raw json.RawMessage, form string) (T, string) {
	var v T
	// encoding/json accepts null for every type, and changes nothing then.
	if typeOf(raw) == "null" || json.Unmarshal(raw, &v) != nil {
		return v, fmt.Sprintf("must be %s, not %s", form, typeOf(raw))
	}
	return v, ""
}

// into makes a reader that puts the value of a type at dst. The value that dst has is that
// of an object without the member. only lists the accepted strings, if they are few.
func into[T any](dst *T, parse func(json.RawMessage) (T, string), only ...string) reader {
	return reader{func(path string, raw json.RawMessage) []alias.Problem {
		v, wrong := parse(raw)
		if wrong != "" {
			return problemAt(path, wrong)
		}
		*dst = v
		return nil
	}, []form{formOf[T](only...)}, presetOf(*dst)}
}

// orNull makes a reader that changes nothing for null.
func orNull(r reader) reader {
	decode := r.decode
	r.decode = func(path string, raw json.RawMessage) []alias.Problem {
		if typeOf(raw) == "null" {
			return nil
		}
		return decode(path, raw)
	}
	r.forms = append(r.forms, form{})
	return r
}

// presetOf returns a value as the API shows it; nil for one that it does not show.
func presetOf(v any) any {
	switch v := v.(type) {
	case alias.Transforms, alias.Access:
		if reflect.ValueOf(v).IsZero() { // that of an alias
			return nil
		}
		return v
	case string, bool, int, int64, alias.Name, alias.PolicyMode:
		return v
	case time.Duration:
		return v.String()
	case alias.Size:
		return sizeOrNone(v)
	case []int:
		if v == nil { // those of an alias
			return nil
		}
		return append([]int{}, v...)
	case []string:
		return append([]string{}, v...)
	case map[string]string:
		return map[string]string{}
	}
	return nil
}

// timestamp formats a time for the API: RFC 3339 in UTC, with fractions of a second.
func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// timestampOrNull is timestamp, and nil for the zero time.
func timestampOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := timestamp(t)
	return &s
}
