package alias

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestCORSOrigins(t *testing.T) {
	t.Parallel()
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf("https://a%d.example", i)
	}
	for _, row := range []struct {
		name string
		in   []string
		out  string // joined by spaces
		says string // what the refusal says; "" for none
	}{
		{"none", nil, "", ""},
		{"empty", []string{}, "", ""},
		{"everyone", []string{"*"}, "*", ""},
		{"names", []string{"https://shop.example.com", "http://localhost:3000"}, "https://shop.example.com http://localhost:3000", ""},
		{"capitals", []string{"HTTPS://Shop.Example.COM"}, "https://shop.example.com", ""},
		{"default ports", []string{"https://a.example:443", "http://a.example:80"}, "https://a.example http://a.example", ""},
		{"the other scheme's port", []string{"https://a.example:80", "http://a.example:443"}, "https://a.example:80 http://a.example:443", ""},
		{"addresses", []string{"http://192.0.2.1:8080", "http://[2001:db8::1]", "http://[::1]:3000"}, "http://192.0.2.1:8080 http://[2001:db8::1] http://[::1]:3000", ""},
		{"punycode", []string{"https://xn--bcher-kva.example"}, "https://xn--bcher-kva.example", ""},
		{"underscore", []string{"https://a_b.example"}, "https://a_b.example", ""},
		{"as many as may be", many[:32], strings.Join(many[:32], " "), ""},

		{"too many", many, "", "at most 32"},
		{"everyone and more", []string{"https://a.example", "*"}, "", "entry 2 must be the only one"},
		{"everyone twice", []string{"*", "*"}, "", "entry 1 must be the only one"},
		{"null", []string{"null"}, "", "sandboxed"},
		{"empty entry", []string{""}, "", "entry 1 must be an origin"},
		{"host only", []string{"shop.example.com"}, "", "scheme://host"},
		{"host and port only", []string{"shop.example.com:443"}, "", "scheme://host"},
		{"no host", []string{"https://"}, "", "scheme://host"},
		{"other scheme", []string{"ftp://a.example"}, "", "scheme://host"},
		{"extension", []string{"chrome-extension://abcdef"}, "", "scheme://host"},
		{"trailing slash", []string{"https://a.example/"}, "", "no slash or path"},
		{"path", []string{"https://a.example/x"}, "", "no slash or path"},
		{"query", []string{"https://a.example?x"}, "", "no slash or path"},
		{"empty query", []string{"https://a.example?"}, "", "no slash or path"},
		{"fragment", []string{"https://a.example#x"}, "", "no slash or path"},
		{"user", []string{"https://u@a.example"}, "", "no slash or path"},
		{"password", []string{"https://u:p@a.example"}, "", "no slash or path"},
		{"wildcard", []string{"https://*.example.com"}, "", "scheme://host"},
		{"empty port", []string{"https://a.example:"}, "", "scheme://host"},
		{"port 0", []string{"https://a.example:0"}, "", "scheme://host"},
		{"port with zeros", []string{"https://a.example:0443"}, "", "scheme://host"},
		{"port too high", []string{"https://a.example:65536"}, "", "scheme://host"},
		{"dot at the end", []string{"https://a.example."}, "", "scheme://host"},
		{"two dots", []string{"https://a..example"}, "", "scheme://host"},
		{"space", []string{"https://a.example https://b.example"}, "", "scheme://host"},
		{"list in a string", []string{"https://a.example,https://b.example"}, "", "no slash or path"},
		{"line break", []string{"https://a.example\r\nX: y"}, "", "scheme://host"},
		{"other letters", []string{"https://bücher.example"}, "", "scheme://host"},
		{"Kelvin", []string{"https://\u212a.example"}, "", "scheme://host"},
		{"odd IPv4", []string{"http://127.1"}, "", "scheme://host"},
		{"long IPv6", []string{"http://[2001:db8:0:0:0:0:0:1]"}, "", "scheme://host"},
		{"mapped IPv6", []string{"http://[::ffff:192.0.2.1]"}, "", "scheme://host"},
		{"zone", []string{"http://[fe80::1%25eth0]"}, "", "scheme://host"},
		{"name in brackets", []string{"http://[a.example]"}, "", "scheme://host"},
		{"twice", []string{"https://a.example", "https://A.example:443"}, "", "entry 2 is there already"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := good()
			a.CORSOrigins = slices.Clone(row.in)
			a.Normalize()
			err := a.Validate(Policy{})
			if row.says == "" {
				if got := strings.Join(a.CORSOrigins, " "); err != nil || got != row.out {
					t.Errorf("got %q, %v, want %q", got, err, row.out)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), row.says) {
				t.Fatalf("got %v, want %q in it", err, row.says)
			}
			if got := slices.Compact(fields(t, err)); !slices.Equal(got, []string{"cors_origins"}) {
				t.Errorf("got problems with %v", got)
			}
		})
	}
}

// TestCORSOriginsAreOwn: after Normalize, an alias shares its list with no other value.
func TestCORSOriginsAreOwn(t *testing.T) {
	t.Parallel()
	list := []string{"https://a.example"}
	a := good()
	a.CORSOrigins = list
	a.Normalize()
	list[0] = "https://evil.example"
	if a.CORSOrigins[0] != "https://a.example" {
		t.Error("the list is the caller's")
	}
}

// FuzzCORSOrigin: an accepted value is the origin that a browser would send.
func FuzzCORSOrigin(f *testing.F) {
	for _, s := range []string{
		"", "*", "null", "https://a.example", "HTTPS://A.example:443", "http://[::1]:80", "https://a.example/", "https://u@a", "http://[::ffff:1.2.3.4]",
		"https://a\r\nb", "https://\u212a", "//a", "https:a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := normalOrigin(s)
		if twice := normalOrigin(once); twice != once {
			t.Fatalf("normalOrigin twice: got %q, want %q", twice, once)
		}
		if once == AnyOrigin || originProblem(once, 1) != "" {
			return
		}
		u, err := url.Parse(once)
		if err != nil || u.Scheme+"://"+u.Host != once || strings.Trim(u.Host, "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]") != "" ||
			strings.ToLower(once) != once {
			t.Errorf("%q passes as %q", s, once)
		}
	})
}
