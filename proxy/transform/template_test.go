package transform

import (
	"errors"
	"strings"
	"testing"

	"ixmage/alias"
)

func TestSnap(t *testing.T) {
	t.Parallel()
	ladder := alias.DefaultWidths()
	for _, c := range []struct {
		query, want string
		widths      []int
	}{
		{"w=1", "w=20", ladder}, {"w=20", "w=20", ladder}, {"w=21", "w=40", ladder}, {"w=400", "w=500", ladder}, {"w=3840", "w=3840", ladder},
		{"", "", ladder}, {"", "", nil}, {"w=1", "w=10", []int{10}}, {"w=11", "w=20", []int{30, 20, 10}},
	} {
		o, err := mustParse(t, c.query).Snap(c.widths)
		if got := string(o.Append(nil, 0)); err != nil || got != c.want {
			t.Errorf("%q, %v: %q, %v", c.query, c.widths, got, err)
		}
	}
	for _, c := range []struct {
		query, detail string
		widths        []int
	}{
		{"w=3841", "w is at most 3840 without a signature", ladder},
		{"w=8192", "w is at most 3840 without a signature", ladder},
		{"w=11", "w is at most 10 without a signature", []int{10}},
		{"w=1", "w needs a signature: the alias offers no widths", nil},
	} {
		_, err := mustParse(t, c.query).Snap(c.widths)
		var bad *OptionError
		if !errors.As(err, &bad) || bad.Option != "w" || bad.Detail != c.detail {
			t.Errorf("%q, %v: %v", c.query, c.widths, err)
		}
	}
}

func TestCheckTemplate(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"w=240&h=240&fit=cover":         "fit=cover&h=240&w=240",
		"&width=240&":                   "w=240",
		"fit=contain&f=auto&r=0&dpr=1":  "dpr=1&f=auto&fit=contain&r=0", // defaults win over a URL's options
		"strip=1&anim=1&bgc=Teal":       "anim=1&bg=008080ff&strip=all",
		"wm=a%20b.png,o50,south&lqip=1": "lqip=image&wm=a%20b.png,south,o50",
	} {
		got, err := CheckTemplate(query)
		if err != nil || got != want {
			t.Errorf("%q: %q, %v", query, got, err)
		}
		if again, err := CheckTemplate(got); err != nil || again != got {
			t.Errorf("%q again: %q, %v", got, again, err)
		}
	}
	for query, detail := range map[string]string{
		"":                       "a template sets at least one option",
		"&":                      "a template sets at least one option",
		"w=0":                    "w is a whole number",
		"w=4&width=5":            "w is given twice",
		"w=4&t=big":              "a template cannot set t",
		"w=4&template=big":       "a template cannot set template",
		"info=1":                 "a template cannot set info",
		"w=4&exp=1":              "a template cannot set exp",
		"w=4&kid=a":              "a template cannot set kid",
		"w=4&sig=a":              "a template cannot set sig",
		"w=4&fti=cover":          `"fti" is no option; the options are anim, bg, blur, `,
		"w=4&v=2":                `"v" is no option`,
		"?w=4":                   `"?w" is no option`,
		"w=4;h=3":                "w is a whole number",
		"=4":                     `"" is no option`,
		"w=4&W=4":                `"W" is no option`,
		"a\n\x00b=1&w=4":         `"a\n\x00b" is no option`,
		strings.Repeat("x", 500): `"` + strings.Repeat("x", 64)[:63],
	} {
		got, err := CheckTemplate(query)
		var bad *OptionError
		if !errors.As(err, &bad) || !strings.HasPrefix(bad.Detail, detail) || got != "" {
			t.Errorf("%q: %q, %v", query, got, err)
		}
	}
}

// FuzzCheckTemplate: a template that is taken means the same as its canonical spelling, and sets
// neither a template nor a signature.
func FuzzCheckTemplate(f *testing.F) {
	f.Add("w=240&h=240&fit=cover")
	f.Add("wm=a%20b.png,tile&bgc=teal&q=7")
	f.Add("t=a&w=4")
	f.Fuzz(func(t *testing.T, query string) {
		canonical, err := CheckTemplate(query)
		if err != nil {
			if len(err.Error()) > 500 {
				t.Errorf("a long text: %v", err)
			}
			return
		}
		o, _, _ := Parse([]byte(query))
		again, info, err := Parse([]byte(canonical))
		if err != nil || again != o || info.Template != "" || info.Unknown != 0 || o.IsZero() || o.Info() {
			t.Errorf("%q is %q: %+v, %+v, %v", query, canonical, o, again, err)
		}
	})
}
