package proxy

import (
	"net/http"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/proxy/origin"
)

// Rules of RFC 9111 and RFC 5861, one by one, each beside the row that it does
// not hold for. The alias is fresh for 1000 s, and stale for 100 and 10,000 s.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	const (
		s    = time.Second
		ttl  = 1000 * s
		swr  = 100 * s
		sie  = 10_000 * s
		past = "0"
	)
	in := func(d time.Duration) string { return atNoon.Add(d).Format(http.TimeFormat) }
	var kept, never = lifetimes{store: true}, lifetimes{}
	for _, tc := range []struct {
		name          string
		header        string
		expires       string
		want          lifetimes
		noDate, noTTL bool
		vary          string
	}{
		{name: "silent", want: lifetimes{true, ttl, swr, sie, true}},
		{name: "garbage is silent", header: "a b, ;", want: lifetimes{true, ttl, swr, sie, true}},
		{name: "unknown directives are ignored (5.2.3)", header: "max-agee=5, community=\"UCI\"", want: lifetimes{true, ttl, swr, sie, true}},

		{name: "max-age (5.2.2.1)", header: "max-age=60", want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "names without regard to case (5.2)", header: "MAX-age=60", want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "quoted form (5.2)", header: `max-age="60"`, want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "in a quoted string it is none", header: `x="max-age=60"`, want: lifetimes{true, ttl, swr, sie, true}},
		{name: "twice: the shorter (4.2.1)", header: "max-age=60, max-age=30", want: lifetimes{true, 30 * s, swr, sie, true}},
		{name: "unreadable: stale (4.2.1)", header: "max-age=soon", want: lifetimes{true, 0, 0, sie, false}},
		{name: "without a value: stale (4.2.1)", header: "max-age", want: lifetimes{true, 0, 0, sie, false}},
		{name: "below zero: stale", header: "max-age=-60", want: lifetimes{true, 0, 0, sie, false}},
		{name: "a fraction: stale", header: "max-age=60.5", want: lifetimes{true, 0, 0, sie, false}},
		{name: "more than 31 bits (1.2.2)", header: "max-age=99999999999", want: lifetimes{true, maxDelta, swr, sie, true}},

		{name: "s-maxage over max-age (5.2.2.10)", header: "max-age=60, s-maxage=120", want: lifetimes{true, 120 * s, 0, 0, false}},
		{name: "s-maxage forbids stale (5.2.2.10)", header: "s-maxage=120", want: lifetimes{true, 120 * s, 0, 0, false}},
		{name: "s-maxage unreadable: stale", header: "s-maxage=x, max-age=60", want: kept},
		{name: "another name is none", header: "s-max-age=120, max-age=60", want: lifetimes{true, 60 * s, swr, sie, true}},

		{name: "Vary: * is asked for each time (4.1)", header: "max-age=60", vary: "*", want: kept},
		{name: "Vary: * among others", header: "max-age=60", vary: "Origin,\t* ", want: kept},
		{name: "Vary with names matches: they are never sent", header: "max-age=60", vary: "Origin, X-*", want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "Vary: * is not kept where private is", header: "private", vary: "*", want: never},

		{name: "Expires less Date (4.2.1)", expires: in(90 * s), want: lifetimes{true, 90 * s, swr, sie, true}},
		{name: "Expires beside public", header: "public", expires: in(90 * s), want: lifetimes{true, 90 * s, swr, sie, true}},
		{name: "max-age over Expires (5.3)", header: "max-age=60", expires: in(90 * s), want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "max-age over Expires in the past", header: "max-age=60", expires: past, want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "s-maxage over Expires", header: "s-maxage=60", expires: in(90 * s), want: lifetimes{true, 60 * s, 0, 0, false}},
		{name: "Expires is Date", expires: in(0), want: lifetimes{true, 0, 0, sie, false}},
		{name: "Expires before Date", expires: in(-s), want: lifetimes{true, 0, 0, sie, false}},
		{name: "0 is the past (5.3)", expires: past, want: lifetimes{true, 0, 0, sie, false}},
		{name: "no date is the past (5.3)", expires: "tomorrow", want: lifetimes{true, 0, 0, sie, false}},
		{name: "two are stale (4.2.1)", expires: in(90*s) + ", " + in(90*s), want: lifetimes{true, 0, 0, sie, false}},
		{name: "a zone of elsewhere is no date", expires: "Thu, 18 Aug 2050 02:01:18 AEST", want: lifetimes{true, 0, 0, sie, false}},
		{name: "nor in the older form", expires: "Thursday, 18-Aug-50 02:01:18 EST", want: lifetimes{true, 0, 0, sie, false}},
		{name: "the older forms are read", expires: atNoon.Add(90 * s).Format(time.ANSIC), want: lifetimes{true, 90 * s, swr, sie, true}},
		{name: "far ahead", expires: "Fri, 31 Dec 9999 23:59:59 GMT", want: lifetimes{true, maxDelta, swr, sie, true}},
		{name: "no Date: from reception (RFC 9110, 6.6.1)", expires: in(90 * s), noDate: true, want: lifetimes{true, 80 * s, swr, sie, true}},

		{name: "no-store (5.2.2.5)", header: "no-store", want: never},
		{name: "no-store over max-age", header: "max-age=60, no-store", want: never},
		{name: "no-store over Expires", header: "no-store", expires: in(90 * s), want: never},
		{name: "no-store over stale-if-error", header: "no-store, stale-if-error=60", want: never},
		{name: "no-store that is malformed", header: "no-store please", want: never},
		{name: "must-understand makes no-store void (5.2.2.3)", header: "must-understand, no-store, max-age=60", want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "must-understand alone (5.2.2.3)", header: "must-understand", want: lifetimes{true, ttl, swr, sie, true}},
		{name: "must-understand and private", header: "must-understand, private", want: never},
		{name: "must-understand and no-cache", header: "must-understand, no-store, no-cache", want: kept},

		{name: "private (5.2.2.7)", header: "private", want: never},
		{name: "private over public", header: "public, private, max-age=60", want: never},
		{name: "private over s-maxage", header: "private, s-maxage=60", want: never},
		{name: "private with fields, read as without", header: `private="X-A", max-age=60`, want: never},

		{name: "no-cache (5.2.2.4)", header: "no-cache", want: kept},
		{name: "no-cache over max-age", header: "no-cache, max-age=60", want: kept},
		{name: "no-cache forbids stale (4.2.4)", header: "no-cache, stale-if-error=60, stale-while-revalidate=60", want: kept},
		{name: "no-cache with fields, read as without", header: `no-cache="Set-Cookie", max-age=60`, want: kept},

		{name: "must-revalidate forbids stale (5.2.2.2)", header: "must-revalidate, max-age=60", want: lifetimes{true, 60 * s, 0, 0, false}},
		{name: "and gives no lifetime", header: "must-revalidate", want: lifetimes{true, ttl, 0, 0, false}},
		{name: "over what permits it", header: "must-revalidate, stale-if-error=60, stale-while-revalidate=60", want: lifetimes{true, ttl, 0, 0, false}},
		{name: "malformed", header: "must-revalidate, proxy-revalidate x", want: lifetimes{true, ttl, 0, 0, false}},
		{name: "proxy-revalidate (5.2.2.8)", header: "proxy-revalidate", want: lifetimes{true, ttl, 0, 0, false}},
		{name: "another word does not", header: "revalidate", want: lifetimes{true, ttl, swr, sie, true}},

		{name: "stale-while-revalidate (RFC 5861, 3)", header: "max-age=60, stale-while-revalidate=30", want: lifetimes{true, 60 * s, 30 * s, sie, false}},
		{name: "of 0", header: "stale-while-revalidate=0", want: lifetimes{true, ttl, 0, sie, false}},
		{name: "unreadable", header: "stale-while-revalidate=x", want: lifetimes{true, ttl, 0, sie, false}},
		{name: "twice: the shorter", header: "stale-while-revalidate=60, stale-while-revalidate=30", want: lifetimes{true, ttl, 30 * s, sie, false}},
		{name: "its own counts though it is never fresh", header: "max-age=0, stale-while-revalidate=30", want: lifetimes{true, 0, 30 * s, sie, false}},
		{name: "the alias's does not", header: "max-age=0", want: lifetimes{true, 0, 0, sie, false}},
		{name: "nor for a ttl of 0", noTTL: true, want: lifetimes{true, 0, 0, sie, false}},
		{name: "a ttl of 0 and an object that says more", header: "max-age=60", noTTL: true, want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "stale-if-error (RFC 5861, 4)", header: "max-age=60, stale-if-error=30", want: lifetimes{true, 60 * s, swr, 30 * s, true}},
		{name: "stale-if-error of 0", header: "stale-if-error=0", want: lifetimes{true, ttl, swr, 0, true}},
		{name: "stale-if-error malformed", header: "stale-if-error=", want: lifetimes{true, ttl, swr, 0, true}},

		{name: "immutable changes nothing (RFC 8246)", header: "max-age=60, immutable", want: lifetimes{true, 60 * s, swr, sie, true}},
		{name: "no-transform changes nothing", header: "no-transform", want: lifetimes{true, ttl, swr, sie, true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := &alias.Alias{TTL: ttl, StaleWhileRevalidate: swr, StaleIfError: sie}
			if tc.noTTL {
				a.TTL = 0
			}
			h := freshHeaders{
				cacheControl: tc.header, expires: tc.expires, date: atNoon, received: atNoon.Add(10 * s), varies: hasAsterisk(tc.vary),
			}
			if tc.noDate {
				h.date = time.Time{}
			}
			if got := lifetimesOf(h, a); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestCacheControlFor(t *testing.T) {
	t.Parallel()
	at := atNoon.Add(90 * time.Second).Format(http.TimeFormat)
	for _, tc := range []struct{ header, expires, override, want string }{
		{"", "", "", "public, max-age=60"},
		{"", at, "", "public, max-age=90"},
		{"", "0", "", "public, max-age=0"},
		{"garbage in", at, "", "public, max-age=90"},
		{"max-age=5", at, "", "max-age=5"},
		{"MAX-AGE=5 , public", "", "", "max-age=5, public"},
		{"public", "", "", "public"},
		{"public", at, "", "public, max-age=90"},
		{"s-maxage=5", at, "", "s-maxage=5, max-age=90"},
		{"private", at, "", "private, max-age=90"},
		{"no-store", at, "", "no-store, max-age=90"},
		{"no-cache", "0", "", "no-cache, max-age=0"},
		{"no-store", at, "public, max-age=7", "public, max-age=7"},
		{"", "", "no-store", "no-store"},
	} {
		h := freshHeaders{cacheControl: tc.header, expires: tc.expires, date: atNoon, received: atNoon}
		if got := cacheControlFor(h, time.Minute, tc.override); got != tc.want {
			t.Errorf("%q, %q, %q: got %q, want %q", tc.header, tc.expires, tc.override, got, tc.want)
		}
	}
}

// What a 304 sends takes the place of what is stored, header by header (RFC 9111,
// sections 3.2 and 4.3.4).
func TestFreshHeadersUpdated(t *testing.T) {
	t.Parallel()
	later := atNoon.Add(time.Hour)
	stored := freshHeaders{cacheControl: "max-age=60", expires: noon, date: atNoon, received: atNoon}
	for name, tc := range map[string]struct {
		by   origin.Object
		want freshHeaders
	}{
		"nothing":       {origin.Object{Received: later}, freshHeaders{"max-age=60", noon, time.Time{}, later, false}},
		"a date":        {origin.Object{Date: later, Received: later}, freshHeaders{"max-age=60", noon, later, later, false}},
		"Cache-Control": {origin.Object{CacheControl: "no-store", Date: later, Received: later}, freshHeaders{"no-store", noon, later, later, false}},
		"Expires":       {origin.Object{Expires: "0", Date: later, Received: later}, freshHeaders{"max-age=60", "0", later, later, false}},
		"Vary":          {origin.Object{Vary: "Origin, *", Date: later, Received: later}, freshHeaders{"max-age=60", noon, later, later, true}},
	} {
		if got := stored.updated(&tc.by); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
	}
	stored.varies = true
	if got := stored.updated(&origin.Object{}); !got.varies {
		t.Error("a 304 without Vary takes the stored one away")
	}
	if got := stored.updated(&origin.Object{Vary: "Origin"}); got.varies {
		t.Error("the Vary of a 304 does not replace the stored one")
	}
	stored.varies = false
	if got := freshHeadersOf(&origin.Object{CacheControl: "max-age=60", Expires: noon, Date: atNoon, Received: atNoon}); got != stored {
		t.Errorf("got %+v, want %+v", got, stored)
	}
}
