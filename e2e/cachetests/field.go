package cachetests

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// Field is a header of a request or an answer: ["Age", "30"], or ["Date", -5] for
// a date five seconds ago. A third member false means that clients may get
// another value.
type Field struct {
	Name    string
	Value   string // as on the wire: one byte per character
	Seconds *int   // not nil: a date that is computed when the test runs
	Checked bool
}

var errField = errors.New("a header of an unknown form")

// UnmarshalJSON reads the forms above.
func (f *Field) UnmarshalJSON(text []byte) error {
	var list []any
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	if len(list) < 2 {
		return errField
	}
	name, ok := list[0].(string)
	f.Name, f.Checked = name, len(list) < 3 || list[2] == true
	switch v := list[1].(type) {
	case string:
		f.Value = latin1(v)
	case float64:
		n := int(v)
		f.Seconds = &n
	default:
		ok = false
	}
	if !ok {
		return errField
	}
	return nil
}

// fix turns a number of seconds into a date.
func (f *Field) fix(now time.Time, rfc850 []string) {
	if f.Seconds == nil {
		return
	}
	format := "Mon, 02 Jan 2006 15:04:05 GMT"
	if slices.Contains(rfc850, strings.ToLower(f.Name)) {
		format = "Monday, 02-Jan-06 15:04:05 GMT"
	}
	f.Value = now.Add(time.Duration(*f.Seconds) * time.Second).UTC().Format(format)
	f.Seconds = nil
}

// valueOf is the last value of a header.
func valueOf(list []Field, name string) string {
	value := ""
	for _, f := range list {
		if strings.EqualFold(f.Name, name) {
			value = f.Value
		}
	}
	return value
}

// Expect is an expectation about a header: its name alone, if it must be present; a
// name and a value; or ["Age", ">", 2].
type Expect struct {
	Field

	Present bool // the name alone
	Above   *int
}

// UnmarshalJSON reads the forms above.
func (e *Expect) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &e.Name) == nil {
		e.Present = true
		return nil
	}
	if err := e.Field.UnmarshalJSON(text); err != nil {
		return err
	}
	if e.Value != ">" {
		return nil
	}
	var list []any
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	n, ok := list[len(list)-1].(float64)
	if !ok {
		return errField
	}
	above := int(n)
	e.Above = &above
	return nil
}

// Status is [503, "Service Unavailable"].
type Status int

// UnmarshalJSON reads the form above.
func (s *Status) UnmarshalJSON(text []byte) error {
	var list []any
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	if len(list) == 0 {
		return errField
	}
	n, ok := list[0].(float64)
	if !ok {
		return errField
	}
	*s = Status(n)
	return nil
}

// latin1 encodes a string as the engine of the suite does.
func latin1(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}
