package alias

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestTransforms has a row that is refused for each rule, and one at its edge.
func TestTransforms(t *testing.T) {
	t.Parallel()
	ladder := func(n int) []int {
		list := make([]int, n)
		for i := range list {
			list[i] = i + 1
		}
		return list
	}
	templates := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("t", i)] = "w=1"
		}
		return m
	}
	for _, row := range []struct {
		name string
		edit func(*Alias)
		want string // the start of the problem; "" for none
	}{
		{"new", func(*Alias) {}, ""},
		{"off", func(a *Alias) { a.Transforms = TransformsOff }, ""},
		{"signed", func(a *Alias) { a.Transforms, a.Access = TransformsSigned, AccessSigned }, ""},
		{"open", func(a *Alias) { a.Transforms = TransformsOpen }, ""},
		{"none given", func(a *Alias) { a.Transforms, a.Access, a.Widths = "", "", nil }, ""},
		{"mode in upper case", func(a *Alias) { a.Transforms = "Off" }, "transforms: must be off, templates, signed or open"},
		{"mode of access", func(a *Alias) { a.Transforms = "on" }, "transforms: must be"},
		{"access of transforms", func(a *Alias) { a.Access = "off" }, "access: must be open or signed"},
		{"no width", func(a *Alias) { a.Widths = []int{} }, ""},
		{"widths at the ends", func(a *Alias) { a.Widths = []int{1, 8192} }, ""},
		{"most widths", func(a *Alias) { a.Widths = ladder(32) }, ""},
		{"too many widths", func(a *Alias) { a.Widths = ladder(33) }, "widths: must have at most 32 widths"},
		{"width 0", func(a *Alias) { a.Widths = []int{0} }, "widths: entry 1 must be from 1 to 8192"},
		{"width below 0", func(a *Alias) { a.Widths = []int{-1} }, "widths: entry 1 must be from 1 to 8192"},
		{"width too large", func(a *Alias) { a.Widths = []int{1, 8193} }, "widths: entry 2 must be from 1 to 8192"},
		{"width twice", func(a *Alias) { a.Widths = []int{1, 2, 2} }, "widths: entry 3 must be above the one before it"},
		{"widths descend", func(a *Alias) { a.Widths = []int{3, 1} }, "widths: entry 2 must be above the one before it"},
		{"most templates", func(a *Alias) { a.Templates = templates(100) }, ""},
		{"too many templates", func(a *Alias) { a.Templates = templates(101) }, "templates: must have at most 100 templates"},
		{"name of a template", func(a *Alias) { a.Templates = map[string]string{"Thumb": "w=1"} }, "templates: the name of a template must be 1 to 63 of a-z"},
		{"template without a name", func(a *Alias) { a.Templates = map[string]string{"": "w=1"} }, "templates: the name of a template"},
		{"empty template", func(a *Alias) { a.Templates = map[string]string{"t": ""} }, "templates.t: must be options"},
		{"longest template", func(a *Alias) { a.Templates = map[string]string{"t": strings.Repeat("a", 512)} }, ""},
		{"template too long", func(a *Alias) { a.Templates = map[string]string{"t": strings.Repeat("a", 513)} }, "templates.t: must be options as in the query of a URL"},
		{"template with a space", func(a *Alias) { a.Templates = map[string]string{"t": "w=1 "} }, "templates.t: must be options"},
		{"template with a question mark", func(a *Alias) { a.Templates = map[string]string{"t": "?w=1"} }, "templates.t: must be options"},
		{"template with a fragment", func(a *Alias) { a.Templates = map[string]string{"t": "w=1#"} }, "templates.t: must be options"},
		{"template with a line break", func(a *Alias) { a.Templates = map[string]string{"t": "w=1\n"} }, "templates.t: must be options"},
		{"template not ASCII", func(a *Alias) { a.Templates = map[string]string{"t": "wm=ü.png"} }, "templates.t: must be options"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := good()
			row.edit(a)
			a.Normalize()
			err := a.Validate(Policy{})
			if (err == nil) != (row.want == "") || err != nil && !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

// TestCheckTemplate: the policy decides what a template means, and how it is stored.
func TestCheckTemplate(t *testing.T) {
	t.Parallel()
	p := Policy{CheckTemplate: func(query string) (string, error) {
		switch query {
		case "bad":
			return "", errors.New("w must be 1 to 8192")
		case "long":
			return strings.Repeat("x", 513), nil
		}
		return strings.ToLower(query), nil
	}}
	a := good()
	a.Templates = map[string]string{"thumb": "W=1", "bad": "bad", "long": "long"}
	given := maps.Clone(a.Templates)
	before := a.Templates
	a.Normalize()
	a.Templates = p.CanonicalTemplates(a.Templates)
	if a.Templates["thumb"] != "w=1" || a.Templates["bad"] != "bad" || !maps.Equal(before, given) {
		t.Errorf("got %q, and %q was changed", a.Templates, before)
	}
	want := `templates.bad: must be options as in the query of a URL, like "w=240&h=240&fit=cover": w must be 1 to 8192; ` +
		`templates.long: must be options as in the query of a URL, like "w=240&h=240&fit=cover": at most 512 bytes in its canonical form`
	if err := a.Validate(p); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	// A template that an older ixmage accepted does not prevent a change of another field.
	next := *a
	next.Enabled = false
	wantField(t, next.ValidateChange(a, p), "")
	next.Templates = map[string]string{"bad": "bad", "worse": "bad"}
	wantField(t, next.ValidateChange(a, p), "templates.worse")
}

// TestNormalizeSharesNoTransforms: a normalised alias shares no list or map with its source.
func TestNormalizeSharesNoTransforms(t *testing.T) {
	t.Parallel()
	widths, templates := []int{1}, map[string]string{"t": "w=1"}
	a := good()
	a.Widths, a.Templates = widths, templates
	a.Normalize()
	widths[0], templates["t"] = 2, "spoiled"
	if a.Widths[0] != 1 || a.Templates["t"] != "w=1" {
		t.Errorf("got %v, %q", a.Widths, a.Templates)
	}
	a.Widths, a.Templates, a.Transforms, a.Access = []int{}, map[string]string{}, "", ""
	if a.Normalize(); a.Widths != nil || a.Templates != nil || a.Transforms != TransformsOff || a.Access != AccessOpen {
		t.Errorf("got %#v, %#v, %q, %q", a.Widths, a.Templates, a.Transforms, a.Access)
	}
}

// TestDefaultWidths: nobody can change the ladder of another alias.
func TestDefaultWidths(t *testing.T) {
	t.Parallel()
	New().Widths[0] = 1
	if got := New().Widths; got[0] != 20 || !slices.Equal(got, DefaultWidths()) || New().Transforms != TransformsTemplates || New().Access != AccessOpen {
		t.Errorf("got %v", got)
	}
}

func TestKID(t *testing.T) {
	t.Parallel()
	for kid, want := range map[string]bool{
		"abcd": true, "0123": true, strings.Repeat("a", 32): true,
		"abc": false, strings.Repeat("a", 33): false, "": false, "abcD": false, "ab-d": false, "abc/": false, "abcü": false,
	} {
		if IsKID(kid) != want {
			t.Errorf("%q: want %v", kid, want)
		}
	}
	for range 100 {
		if kid := newKID(); !IsKID(kid) || len(kid) != 8 {
			t.Errorf("got %q", kid)
		}
	}
}
