package alias

import (
	"strings"
	"testing"
)

// What a URL may name, an alias's canary and fallback may, and nothing else.
func TestPathRules(t *testing.T) {
	t.Parallel()
	const (
		segment = "segments"
		control = "control character"
		utf     = "UTF-8"
		length  = "1024 bytes"
	)
	long := strings.Repeat("k", MaxKey)
	for path, want := range map[string][]string{
		"a.png": nil, "a/b/c.png": nil, "...": nil, "..a/.b/c.": nil, "ü €.png": nil, "%2e%2e/x": nil, long: nil,
		"": {segment}, "/": {segment}, "/a": {segment}, "a/": {segment}, "a//b": {segment}, ".": {segment}, "..": {segment},
		"./a": {segment}, "../a": {segment}, "a/.": {segment}, "a/..": {segment}, "a/../b": {segment}, "a/./b": {segment},
		"a\\b": {control}, "a\x00": {control}, "\x1fa": {control}, "a\x7f": {control}, "a\nb": {control},
		"\xff": {utf}, "a/\xe2\x82": {utf}, "\xc0\xaf": {utf},
		long + "k": {length}, "\xff\n//": {utf, control, segment},
	} {
		problems := (&Alias{}).PathProblems("canary", path)
		if got := IsPath([]byte(path)); got != (want == nil) || len(problems) != len(want) {
			t.Errorf("%q is a path: %t, problems %v, want %v", path, got, problems, want)
			continue
		}
		for i, p := range problems {
			if p.Field != "canary" || !strings.Contains(p.Detail, want[i]) {
				t.Errorf("%q: problem %v, want one of %s", path, p, want[i])
			}
		}
	}
	prefixed := &Alias{Location: Location{Prefix: "p/"}}
	if got := prefixed.PathProblems("canary", long[2:]); got != nil {
		t.Errorf("as long as may be: %v", got)
	}
	if got := prefixed.PathProblems("canary", long[1:]); len(got) != 1 || !strings.Contains(got[0].Detail, length) {
		t.Errorf("one byte too long: %v", got)
	}
}
