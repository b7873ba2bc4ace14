package proxy

import (
	"strconv"
	"strings"
	"time"
)

// directive is one member of a Cache-Control header.
type directive struct {
	name   string // lower case
	value  string // without quotes
	quoted bool
	has    bool // there was a "="
}

// parseCacheControl reads the members that follow the grammar of RFC 9111,
// section 5.2, and skips the others: everyone with write access to the bucket can set the
// header.
func parseCacheControl(header string) []directive {
	var list []directive
	for header != "" {
		var d directive
		var ok bool
		d, header, ok = scanDirective(header)
		if ok {
			list = append(list, d)
		}
	}
	return list
}

// restrictive are the directives that count even if their argument is malformed: in doubt
// an object is not stored, or not served stale.
var restrictive = map[string]bool{
	"no-store": true, "private": true, "no-cache": true, "must-revalidate": true, "proxy-revalidate": true,
}

// timed are the directives that count as zero if they are malformed (RFC 9111, section
// 4.2.1).
var timed = map[string]bool{
	"max-age": true, "s-maxage": true, "stale-while-revalidate": true, "stale-if-error": true,
}

// scanDirective reads up to the next comma that is not quoted.
func scanDirective(s string) (d directive, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t,")
	i := tokenEnd(s)
	d.name = strings.ToLower(s[:i])
	s, ok = s[i:], i > 0
	if strings.HasPrefix(s, "=") {
		var valid bool
		s, valid = d.scanValue(s[1:])
		ok = ok && valid
	}
	tail, rest, _ := strings.Cut(s, ",")
	switch ok = ok && strings.Trim(tail, " \t") == ""; {
	case !ok && restrictive[d.name]:
		return directive{name: d.name}, rest, true
	case !ok && timed[d.name]:
		return directive{name: d.name, has: true, value: "0"}, rest, true
	}
	return d, rest, ok
}

// scanValue reads a token or a quoted-string and returns the rest. An invalid
// quoted-string is left in the rest.
func (d *directive) scanValue(s string) (rest string, ok bool) {
	d.has = true
	if strings.HasPrefix(s, `"`) {
		d.quoted = true
		if value, after, closed := scanQuoted(s); closed {
			d.value = value
			return after, true
		}
		return s, false
	}
	i := tokenEnd(s)
	d.value = s[:i]
	return s[i:], i > 0
}

// scanQuoted reads a quoted-string whose characters need no escape when it is written
// again.
func scanQuoted(s string) (value, rest string, ok bool) {
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[1:i], s[i+1:], true
		case c == '\\' || (c < ' ' && c != '\t') || c >= 0x7f:
			return "", "", false
		}
	}
	return "", "", false
}

// tokenEnd is the length of the token at the front of s (RFC 9110, section 5.6.2).
func tokenEnd(s string) int {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return i
		}
	}
	return len(s)
}

// formatCacheControl writes the directives of an object's Cache-Control, or the alias's
// ttl if it has none.
func formatCacheControl(list []directive, ttl time.Duration) string {
	if len(list) == 0 {
		return "public, max-age=" + strconv.FormatInt(int64(ttl/time.Second), 10)
	}
	var b strings.Builder
	for i, d := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(d.name)
		switch {
		case d.quoted:
			b.WriteString(`="` + d.value + `"`)
		case d.has:
			b.WriteString("=" + d.value)
		}
	}
	return b.String()
}
