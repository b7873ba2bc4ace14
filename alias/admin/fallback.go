package admin

import (
	"encoding/json"

	"ixmage/alias"
)

// fallbackJSON is a fallback as the API shows it: one path where it is the same
// for both classes of error, else an object.
type fallbackJSON alias.Fallback

// fallbackPair is the form of it with a path for each.
type fallbackPair struct {
	Missing string `json:"missing"`
	Broken  string `json:"broken"`
}

// MarshalJSON writes either form.
func (f fallbackJSON) MarshalJSON() ([]byte, error) {
	if f.Missing == f.Broken {
		return encode(f.Missing)
	}
	return encode(fallbackPair(f))
}

// fallback reads either form. In an object what is left out stays as it is, as in
// every merge patch, and null is none.
func (in *aliasInput) fallback(path string, raw json.RawMessage) []alias.Problem {
	var both string
	var edit fallbackEdit
	switch is := typeOf(raw); is {
	case "null":
		edit = fallbackEdit{&both, &both}
	case "a string":
		var wrong string
		if both, wrong = asString(raw); wrong != "" {
			return one(path, wrong)
		}
		edit = fallbackEdit{&both, &both}
	case "an object":
		problems := decodeObject(path, raw, []field{
			{name: "missing", read: pathOrNull(&edit.missing)}, {name: "broken", read: pathOrNull(&edit.broken)},
		})
		if len(problems) > 0 {
			return problems
		}
	default:
		return one(path, `must be the path of an object, like "none.png", an object with one for each class of error, `+
			`like {"missing":"none.png","broken":"down.png"}, or null, not `+is)
	}
	in.edits = append(in.edits, edit.apply)
	return nil
}

// fallbackEdit holds what was said of each class of error.
type fallbackEdit struct{ missing, broken *string }

func (e fallbackEdit) apply(a *alias.Alias) {
	if e.missing != nil {
		a.Fallback.Missing = *e.missing
	}
	if e.broken != nil {
		a.Fallback.Broken = *e.broken
	}
}

func pathOrNull(dst **string) reader {
	return func(path string, raw json.RawMessage) []alias.Problem {
		*dst = new(string)
		if typeOf(raw) == "null" {
			return nil
		}
		return into(*dst, asString)(path, raw)
	}
}
