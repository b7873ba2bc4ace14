package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"

	"ixmage/alias"
)

// transformFields are the members of an alias about transforms and signatures.
func (in *aliasInput) transformFields(null onNull) []field {
	return []field{
		member[alias.Transforms]{"transforms", asMode[alias.Transforms], func(a *alias.Alias) *alias.Transforms {
			return &a.Transforms
		}}.of(in, null),
		member[alias.Access]{"access", asMode[alias.Access], func(a *alias.Alias) *alias.Access {
			return &a.Access
		}}.of(in, null),
		member[[]int]{"widths", asInts, func(a *alias.Alias) *[]int { return &a.Widths }}.of(in, null),
		in.templatesField(null),
	}
}

// asMode reads a text that is not empty. An alias without a mode gets the one that needs no
// signature, so an empty text would open a locked alias.
func asMode[T ~string](raw json.RawMessage) (T, string) {
	mode, wrong := asText[T](raw)
	if wrong == "" && mode == "" {
		wrong = "must not be empty; leave it out to keep it, or to get the default"
	}
	return mode, wrong
}

func asInts(raw json.RawMessage) ([]int, string) {
	list, wrong := as[[]json.RawMessage](raw, "an array of whole numbers")
	if wrong != "" {
		return nil, wrong
	}
	numbers := make([]int, len(list))
	for i, entry := range list {
		if typeOf(entry) == "null" || json.Unmarshal(entry, &numbers[i]) != nil {
			return nil, fmt.Sprintf("must be an array of whole numbers, and entry %d is not one", i+1)
		}
	}
	return numbers, ""
}

// templateEdit is a template in a request; null removes it from an alias.
type templateEdit struct{}

const templateForms = `a query as a string, like "w=240&h=240&fit=cover", ` +
	`or its options as an object, like {"w":240,"h":240,"fit":"cover"}`

func (in *aliasInput) templatesField(null onNull) field {
	r := reader{forms: []form{formOf[map[string]templateEdit]()}}
	if null == nullIsDefault {
		r.forms = append(r.forms, form{})
	} else {
		r.preset = map[string]string{}
	}
	r.decode = func(path string, raw json.RawMessage) []alias.Problem { return in.templates(path, raw, null) }
	return field{name: "templates", read: r}
}

// templates reads an object of templates. As in every merge patch (RFC 7396), a template that it
// does not name keeps its value.
func (in *aliasInput) templates(path string, raw json.RawMessage, null onNull) []alias.Problem {
	switch is := typeOf(raw); {
	case is == "null" && null == nullIsDefault:
		in.edits = append(in.edits, func(a *alias.Alias) { a.Templates = nil })
		return nil
	case is != "an object":
		return problemAt(path, "must be an object of templates by name, not "+is)
	}
	edits := map[string]*string{}
	problems := eachMember(path, raw, func(name, at string, value json.RawMessage) []alias.Problem {
		if typeOf(value) == "null" && null == nullIsDefault {
			edits[name] = nil
			return nil
		}
		query, problems := templateOf(at, value)
		if len(problems) == 0 {
			edits[name] = &query
		}
		return problems
	})
	in.edits = append(in.edits, func(a *alias.Alias) {
		merged := maps.Clone(a.Templates) // the map of the alias is shared
		if merged == nil {
			merged = map[string]string{}
		}
		for name, query := range edits {
			if delete(merged, name); query != nil {
				merged[name] = *query
			}
		}
		a.Templates = merged
	})
	return problems
}

// templatesInto reads the templates of an alias to be made.
func templatesInto(dst *map[string]string) reader {
	in, a := new(aliasInput), new(alias.Alias)
	r := in.templatesField(nullIsWrong).read
	decode := r.decode
	r.decode = func(path string, raw json.RawMessage) []alias.Problem {
		problems := decode(path, raw)
		in.apply(a)
		*dst = a.Templates
		return problems
	}
	return r
}

// templateOf reads one template, in either form.
func templateOf(path string, raw json.RawMessage) (string, []alias.Problem) {
	switch is := typeOf(raw); is {
	case "a string":
		text, _ := asString(raw)
		return text, nil
	case "an object":
		return templateOfOptions(path, raw)
	default:
		return "", problemAt(path, "must be "+templateForms+", not "+is)
	}
}

// templateOfOptions writes the query of an object of options.
func templateOfOptions(path string, raw json.RawMessage) (string, []alias.Problem) {
	var pairs []string
	problems := eachMember(path, raw, func(name, at string, value json.RawMessage) []alias.Problem {
		text := string(value) // a number as it is written
		switch is := typeOf(value); is {
		case "a number":
		case "a string":
			text, _ = asString(value)
		default:
			return problemAt(at, "must be a string or a number, not "+is)
		}
		pairs = append(pairs, escapeQuery(name)+"="+escapeQuery(text))
		return nil
	})
	return strings.Join(pairs, "&"), problems
}

// escapeQuery percent-encodes a part of a query, in which a plus is a plus.
func escapeQuery(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// templatesOf returns the templates of an alias as the API shows them.
func templatesOf(a *alias.Alias) map[string]string {
	if a.Templates == nil {
		return map[string]string{}
	}
	return a.Templates
}
