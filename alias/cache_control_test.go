package alias

import (
	"regexp"
	"strings"
	"testing"
)

func TestCacheControl(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, in, out, says string }{
		{"none", "", "", ""},
		{"one", "no-store", "no-store", ""},
		{"all plain ones", "public, no-cache, no-store, no-transform, must-revalidate, proxy-revalidate, immutable", "public, no-cache, no-store, no-transform, must-revalidate, proxy-revalidate, immutable", ""},
		{"private", "private", "private", ""},
		{"all timed ones", "max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4", "max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4", ""},
		{"spaces and capitals", " Public ,MAX-AGE=60", "public, max-age=60", ""},
		{"leading zeros", "max-age=0060", "max-age=60", ""},
		{"zero", "max-age=0", "max-age=0", ""},
		{"most", "max-age=2147483647", "max-age=2147483647", ""},

		{"more", "max-age=2147483648", "", "max-age=3600"},
		{"far more", "s-maxage=99999999999999999999", "", "s-maxage=3600"},
		{"negative", "max-age=-1", "", "whole number"},
		{"sign", "max-age=+1", "", "whole number"},
		{"fraction", "max-age=1.5", "", "whole number"},
		{"quoted", `max-age="60"`, "", "whole number"},
		{"no number", "max-age", "", "whole number"},
		{"empty number", "max-age=", "", "whole number"},
		{"space before the number", "max-age= 60", "", "whole number"},
		{"space after the name", "max-age =60", "", "is none"},
		{"value where there is none", "public=1", "", "public without a value"},
		{"fields of no-cache", `no-cache="set-cookie"`, "", "no-cache without a value"},
		{"empty value", "no-store=", "", "no-store without a value"},
		{"unknown", "public, forever", "", `"forever" is none`},
		{"nearly", "max_age=60", "", `"max_age" is none`},
		{"for requests only", "only-if-cached", "", `"only-if-cached" is none`},
		{"semicolon", "public; max-age=60", "", "one of these is none"},
		{"empty member", "public,,max-age=60", "", "an empty one"},
		{"comma at the end", "public,", "", "an empty one"},
		{"space only", " ", "", "an empty one"},
		{"twice", "max-age=1, Max-Age=2", "", "max-age once"},
		{"contradiction", "private, max-age=1, public", "", "both public and private"},
		{"line break", "public\r\nX: y", "", "line break"},
		{"tab", "public,\tmax-age=1", "", "control"},
		{"zero byte", "public\x00", "", "control"},
		{"other letters", "publiç", "", "one of these is none"},
		{"no text", "\xff", "", "one of these is none"},
		{"secret", "wJalrXUtnFEMIxK7MDENGxbPxRfiCYEXAMPLEKEY", "", "one of these is none"},
		{"too long", strings.Repeat("no-store,", 30), "", "256 bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := good()
			a.CacheControl = row.in
			a.Normalize()
			err := a.Validate(Policy{})
			if row.says == "" {
				if err != nil || a.CacheControl != row.out {
					t.Errorf("got %q, %v, want %q", a.CacheControl, err, row.out)
				}
				return
			}
			wantField(t, err, "cache_control")
			if !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v, want %q in it", err, row.says)
			}
			if row.name == "secret" && strings.Contains(strings.ToLower(err.Error()), "wjalr") {
				t.Errorf("%v repeats what may be a secret", err)
			}
		})
	}
}

// Without Normalize the value must be in its one form already.
func TestCacheControlForm(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"Public", "public,max-age=1", "public , max-age=1", " public", "max-age=01"} {
		a := good()
		a.CacheControl = s
		wantField(t, a.Validate(Policy{}), "cache_control")
	}
}

// FuzzCacheControl: an accepted value is a header line of known words and numbers, with
// the meaning of the input.
func FuzzCacheControl(f *testing.F) {
	for _, s := range []string{"", "public, max-age=60", "MAX-AGE=060 ,no-store", "a,b", "max-age=1\r\n", "public,,", `private="x"`, "\xff"} {
		f.Add(s)
	}
	form := regexp.MustCompile(`^([a-z-]+(=(0|[1-9]\d{0,9}))?(, |$))*$`)
	f.Fuzz(func(t *testing.T, s string) {
		once := normalCacheControl(s)
		if twice := normalCacheControl(once); twice != once {
			t.Fatalf("normalCacheControl twice: got %q, want %q", twice, once)
		}
		if cacheControlProblem(once) != "" {
			return
		}
		if !form.MatchString(once) || strings.HasSuffix(once, ", ") || len(once) > maxCacheControl {
			t.Errorf("%q passes as %q", s, once)
		}
		if got, want := strings.Count(once, ","), strings.Count(s, ","); got != want {
			t.Errorf("%q has become %q", s, once)
		}
	})
}
