package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// said is a case of what an object's headers say, not yet written down. A time is
// -1 where its directive is absent and -2 where its value cannot be read.
type said struct {
	restriction         string // of storing and reuse, one of restrictions
	revalidate          string
	maxAge, sMaxAge     int
	while, ifError      int
	expires             int // less Date; -2: no date at all
	dated               bool
	ttl, swr, sie       int // the alias's
	private, noCache    bool
	noStore, understood bool
}

const (
	absent = -1
	broken = -2
)

// restrictions, each with what it says.
var restrictions = map[string]said{
	"":                               {},
	"public, immutable":              {},
	"no-store":                       {noStore: true},
	"must-understand":                {understood: true},
	"no-store, must-understand":      {noStore: true, understood: true},
	"private":                        {private: true},
	`private="X-A, X-B"`:             {private: true},
	"private, no-store":              {private: true, noStore: true},
	"no-cache":                       {noCache: true},
	`no-cache="Set-Cookie"`:          {noCache: true},
	"must-understand, private":       {private: true, understood: true},
	"no-cache, no-store":             {noCache: true, noStore: true},
	`x="no-store, private", no-stor`: {},
}

// want is what the RFCs let a shared cache do with a stored response of an age, in
// the order in which they say it and without a thought for how we compute it.
func (c said) want(age int, originFails bool) string {
	// RFC 9111, 3: "a cache MUST NOT store a response to a request unless … if the
	// response status code … or the must-understand cache directive is present, the
	// cache understands the response status code; the no-store cache directive is
	// not present in the response (5.2.2.5), or, by 5.2.2.3, with must-understand is
	// to be ignored; if the cache is shared: the private response directive is
	// either not present …".
	if c.private {
		return "not stored"
	}
	if c.noStore && !c.understood {
		return "not stored"
	}
	// 4: "MUST NOT reuse a stored response unless … the stored response does not
	// contain the no-cache directive (5.2.2.4), unless it is successfully
	// validated; the stored response is one of: fresh (4.2), allowed to be served
	// stale (4.2.4), successfully validated (4.3)".
	if c.noCache {
		return c.asked(originFails)
	}
	lifetime := c.lifetime()
	// 4.2: "response_is_fresh = (freshness_lifetime > current_age)".
	if lifetime > age {
		return "fresh"
	}
	// 4.2.4: "MUST NOT generate a stale response if it is prohibited by an explicit
	// in-protocol directive (e.g., by a no-cache response directive, a
	// must-revalidate response directive, or an applicable s-maxage or
	// proxy-revalidate response directive)". One that cannot be read is there.
	if c.revalidate != "" || c.sMaxAge != absent {
		return c.asked(originFails)
	}
	// RFC 5861, 3: "caches MAY serve the response in which it appears after it
	// becomes stale, up to the indicated number of seconds".
	if age-lifetime < c.staleWhile(lifetime) {
		return "stale, fetched anew"
	}
	// RFC 5861, 4: "when an error is encountered, a cached stale response MAY be used
	// to satisfy the request, regardless of other freshness information".
	if originFails && age-lifetime < or(c.ifError, c.sie) {
		return "stale for the error"
	}
	return c.asked(originFails)
}

func (said) asked(originFails bool) string {
	if originFails {
		return "error"
	}
	return "validated"
}

// lifetime is RFC 9111, 4.2.1: "if the cache is shared and the s-maxage response
// directive is present, use its value, or if the max-age response directive is
// present, use its value, or if the Expires response header field is present, use
// its value minus the value of the Date response header field, or otherwise … a
// heuristic freshness lifetime". The test's clock shows 5 s past Date on reception.
func (c said) lifetime() int {
	switch {
	case c.sMaxAge != absent:
		return max(0, c.sMaxAge) // "considered stale" where it cannot be read
	case c.maxAge != absent:
		return max(0, c.maxAge)
	case c.expires == broken:
		return 0 // 5.3: "as representing a time in the past"
	case c.expires != absent && c.dated:
		return c.expires
	case c.expires != absent:
		return c.expires - 5
	}
	return c.ttl
}

// staleWhile is the object's own word, or the alias's for what it finds fresh.
func (c said) staleWhile(lifetime int) int {
	if c.while == absent && lifetime == 0 {
		return 0
	}
	return or(c.while, c.swr)
}

// or is the object's own word, none of 0 where it cannot be read, or the alias's.
func or(own, alias int) int {
	if own == absent {
		return alias
	}
	return max(0, own)
}

// headers writes down what is said.
func (c said) headers() freshHeaders {
	var list []string
	for _, d := range []string{
		c.restriction, c.revalidate, delta("max-age", c.maxAge), delta("s-maxage", c.sMaxAge),
		delta("stale-while-revalidate", c.while), delta("stale-if-error", c.ifError),
	} {
		if d != "" {
			list = append(list, d)
		}
	}
	h := freshHeaders{cacheControl: strings.Join(list, ", "), received: atNoon.Add(5 * time.Second)}
	if c.dated {
		h.date = atNoon
	}
	switch c.expires {
	case absent:
	case broken:
		h.expires = "0"
	default:
		h.expires = atNoon.Add(time.Duration(c.expires) * time.Second).Format(http.TimeFormat)
	}
	return h
}

func delta(name string, seconds int) string {
	switch seconds {
	case absent:
		return ""
	case broken:
		return name + "=1.5"
	}
	return name + "=" + strconv.Itoa(seconds)
}

// does is what the lifetimes let be done with it.
func (l lifetimes) does(age time.Duration, originFails bool) string {
	switch {
	case !l.store:
		return "not stored"
	case age < l.fresh:
		return "fresh"
	case age < l.fresh+l.staleWhile:
		return "stale, fetched anew"
	case originFails && age < l.fresh+l.staleError:
		return "stale for the error"
	case originFails:
		return "error"
	}
	return "validated"
}

// Every combination of what an object can say, of aliases and of ages.
func TestFreshnessRules(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for restriction, c := range restrictions {
		c.restriction = restriction
		for _, c.revalidate = range []string{"", "must-revalidate", "proxy-revalidate"} {
			for _, c.maxAge = range []int{absent, broken, 0, 60} {
				for _, c.sMaxAge = range []int{absent, broken, 0, 90} {
					everySaid(&c, func() { checkRules(t, c, seen) })
				}
			}
		}
	}
	for _, outcome := range []string{"not stored", "fresh", "stale, fetched anew", "stale for the error", "error", "validated"} {
		if seen[outcome] < 300 {
			t.Errorf("%q has %d rows: the table does not test it", outcome, seen[outcome])
		}
	}
	t.Logf("rows by outcome: %v", seen)
}

// everySaid crosses the rest.
func everySaid(c *said, do func()) {
	for _, stale := range [][2]int{{absent, absent}, {30, absent}, {absent, 200}, {30, 200}, {0, 0}, {broken, broken}} {
		c.while, c.ifError = stale[0], stale[1]
		for _, expires := range []int{absent, broken, 70} {
			c.expires = expires
			for _, c.dated = range []bool{true, false} {
				for _, a := range [][3]int{{0, 0, 0}, {120, 0, 0}, {120, 20, 300}, {0, 20, 300}} {
					c.ttl, c.swr, c.sie = a[0], a[1], a[2]
					do()
				}
			}
		}
	}
}

func checkRules(t *testing.T, c said, seen map[string]int) {
	t.Helper()
	h := c.headers()
	l := lifetimesOf(h, &alias.Alias{
		TTL: time.Duration(c.ttl) * time.Second, StaleWhileRevalidate: time.Duration(c.swr) * time.Second,
		StaleIfError: time.Duration(c.sie) * time.Second,
	})
	for _, age := range []int{0, 29, 30, 59, 60, 65, 70, 79, 80, 90, 119, 120, 140, 259, 260, 320, 419, 420, 1000} {
		for _, fails := range []bool{false, true} {
			want := c.want(age, fails)
			seen[want]++
			if got := l.does(time.Duration(age)*time.Second, fails); got != want {
				t.Fatalf("%+v with %+v, %d s old, origin fails: %t: got %q, want %q", h, l, age, fails, got, want)
			}
		}
	}
}
