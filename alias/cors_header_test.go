package alias

import (
	"fmt"
	"strings"
	"testing"
)

func TestCORSHeaders(t *testing.T) {
	t.Parallel()
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf("X-%d", i)
	}
	for _, row := range []struct {
		name string
		in   []string
		says string // what the refusal says; "" for none
	}{
		{"none", nil, ""},
		{"empty", []string{}, ""},
		{"any", []string{"*"}, ""},
		{"names", []string{"X-Requested-With", "authorization", "Range", "x_y", "!#$%&'*+-.^_`|~"}, ""},
		{"as many as may be", many[:32], ""},
		{"as long as may be", []string{strings.Repeat("a", 64)}, ""},

		{"too many", many, "at most 32"},
		{"too long", []string{strings.Repeat("a", 65)}, "entry 1 must be the name"},
		{"any and more", []string{"X-A", "*"}, "entry 2 must be the only one"},
		{"any twice", []string{"*", "*"}, "entry 1 must be the only one"},
		{"empty entry", []string{"X-A", ""}, "entry 2 must be the name"},
		{"space", []string{"X A"}, "entry 1 must be the name"},
		{"list in a string", []string{"X-A,X-B"}, "entry 1 must be the name"},
		{"with a value", []string{"X-A: 1"}, "entry 1 must be the name"},
		{"line break", []string{"X-A\r\nSet-Cookie: a=b"}, "entry 1 must be the name"},
		{"not ASCII", []string{"X-Ä"}, "entry 1 must be the name"},
		{"control byte", []string{"X-\x00"}, "entry 1 must be the name"},
		{"separators", []string{"(x)"}, "entry 1 must be the name"},
		{"twice", []string{"X-A", "X-A"}, "entry 2 is there already"},
		{"twice, in another case", []string{"X-A", "x-a"}, "entry 2 is there already"},
	} {
		a := *good()
		a.CORSHeaders = row.in
		a.Normalize()
		err := a.Validate(Policy{})
		if (err == nil) != (row.says == "") || err != nil && (!strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), "cors_headers")) {
			t.Errorf("%s: got %v, want it to say %q", row.name, err, row.says)
		}
	}
}

// TestNormalizeSharesNoHeaders: a normalised alias shares no list with its source.
func TestNormalizeSharesNoHeaders(t *testing.T) {
	t.Parallel()
	list := []string{"X-A"}
	a := *good()
	a.CORSHeaders = list
	a.Normalize()
	list[0] = "spoiled"
	if a.CORSHeaders[0] != "X-A" {
		t.Errorf("got %q", a.CORSHeaders)
	}
	a.CORSHeaders = []string{}
	if a.Normalize(); a.CORSHeaders != nil {
		t.Errorf("got %#v, want nil", a.CORSHeaders)
	}
}
