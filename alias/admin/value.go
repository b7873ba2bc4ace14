package admin

import (
	"encoding/json"
	"fmt"
	"time"

	"ixmage/alias"
)

// asString, asBool, asStrings and asDuration read one JSON value; the string is what is
// wrong with it, or empty.

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
	// json takes null for every type and leaves the value as it was.
	if typeOf(raw) == "null" || json.Unmarshal(raw, &v) != nil {
		return v, fmt.Sprintf("must be %s, not %s", form, typeOf(raw))
	}
	return v, ""
}

// into makes a reader that puts the value of a type at dst.
func into[T any](dst *T, parse func(json.RawMessage) (T, string)) reader {
	return func(path string, raw json.RawMessage) []alias.Problem {
		v, wrong := parse(raw)
		if wrong != "" {
			return one(path, wrong)
		}
		*dst = v
		return nil
	}
}

// stamp prints a time as the API does: RFC 3339 in UTC, with what there is
// below a second.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// stampOrNull is stamp, and nil for what never happened.
func stampOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}
