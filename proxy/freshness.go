package proxy

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/proxy/origin"
)

// freshHeaders are the headers of an object that tell how long it may be served,
// as S3 sent them.
type freshHeaders struct {
	cacheControl string
	expires      string    // empty: there is none
	date         time.Time // zero: there is none
	received     time.Time
	varies       bool // with what no request tells: Vary has an asterisk
}

func freshHeadersOf(o *origin.Object) freshHeaders {
	return freshHeaders{
		cacheControl: o.CacheControl, expires: o.Expires, date: o.Date, received: o.Received, varies: hasAsterisk(o.Vary),
	}
}

// updated are the headers after a 304: those that it sends replace the stored ones,
// and the others stand (RFC 9111, section 3.2). The Date is always the 304's, for
// one that is not sent is the time of reception (RFC 9110, section 6.6.1).
func (h freshHeaders) updated(by *origin.Object) freshHeaders {
	u := freshHeaders{
		cacheControl: cmp.Or(by.CacheControl, h.cacheControl), expires: cmp.Or(by.Expires, h.expires),
		date: by.Date, received: by.Received, varies: h.varies,
	}
	if by.Vary != "" {
		u.varies = hasAsterisk(by.Vary)
	}
	return u
}

// hasAsterisk looks for the member of Vary that no request matches (RFC 9111, section
// 4.1). All others match: nothing of a client's request reaches S3.
func hasAsterisk(vary string) bool {
	for member := range strings.SplitSeq(vary, ",") {
		if strings.Trim(member, " \t") == "*" {
			return true
		}
	}
	return false
}

// lifetimes is what an object's headers, and its alias where they say nothing, let
// a shared cache do with it.
type lifetimes struct {
	store      bool          // may be kept at all
	fresh      time.Duration // how long it may be served without asking, from an Age of 0
	staleWhile time.Duration // how long past fresh it may be served while it is fetched anew
	staleError time.Duration // how long past fresh it may be served while the origin fails
	byDefault  bool          // staleWhile is the alias's
}

// lifetimesOf reads headers as RFC 9111 asks of a shared cache:
//
//   - private and no-store: not kept. With must-understand, no-store is for caches
//     that do not know the status code, and is to be ignored by those that do
//     (5.2.2.3): we keep 200 alone, and know it.
//   - no-cache: kept, and asked for each time (5.2.2.4). Vary: * says the same (4.1).
//   - s-maxage over max-age over Expires less Date over the alias's ttl (4.2.1).
//   - must-revalidate, proxy-revalidate and s-maxage, as no-cache, forbid to serve
//     it stale (4.2.4, 5.2.2.10), whatever else is there.
//   - stale-while-revalidate and stale-if-error (RFC 5861) over the alias's.
//
// The forms of private and no-cache with names of fields count as those without,
// which 5.2.2.4 and 5.2.2.7 allow: of an object's fields we serve but few.
//
// An alias's stale_while_revalidate prolongs a lifetime and makes none: what is
// never fresh, by max-age=0, Expires in the past or a ttl of 0, was meant to be
// asked for each time. If the origin fails then, stale_if_error counts all the same.
func lifetimesOf(h freshHeaders, a *alias.Alias) lifetimes {
	list := parseCacheControl(h.cacheControl)
	if has(list, "private") || has(list, "no-store") && !has(list, "must-understand") {
		return lifetimes{}
	}
	l := lifetimes{store: true}
	if has(list, "no-cache") || h.varies {
		return l
	}
	l.fresh = h.freshFor(list, a.TTL)
	if has(list, "must-revalidate") || has(list, "proxy-revalidate") || has(list, "s-maxage") {
		return l
	}
	l.staleError = a.StaleIfError
	if l.fresh > 0 {
		l.staleWhile, l.byDefault = a.StaleWhileRevalidate, true
	}
	if d, ok := shortest(list, "stale-while-revalidate"); ok {
		l.staleWhile, l.byDefault = d, false
	}
	if d, ok := shortest(list, "stale-if-error"); ok {
		l.staleError = d
	}
	return l
}

// freshFor is freshness_lifetime of RFC 9111, section 4.2.1. The alias's ttl stands
// where a heuristic could (4.2.2).
func (h freshHeaders) freshFor(list []directive, ttl time.Duration) time.Duration {
	for _, name := range []string{"s-maxage", "max-age"} {
		if d, ok := shortest(list, name); ok {
			return d
		}
	}
	if d, ok := h.expiresAfter(); ok {
		return d
	}
	return ttl
}

// expiresAfter is Expires less Date, if there is an Expires. One that is no date,
// as "0" or two of them, lies in the past (RFC 9111, section 5.3).
func (h freshHeaders) expiresAfter() (time.Duration, bool) {
	if h.expires == "" {
		return 0, false
	}
	at, ok := parseExpires(h.expires)
	if !ok {
		return 0, true
	}
	from := h.date
	if from.IsZero() {
		from = h.received
	}
	return min(max(0, at.Sub(from)), maxDelta), true
}

// parseExpires takes the zones that a date of HTTP may have: Go reads the name of
// any, as if it were GMT.
func parseExpires(s string) (time.Time, bool) {
	t, err := http.ParseTime(s)
	zone, _ := t.Zone()
	return t, err == nil && (zone == "UTC" || zone == "GMT")
}

// cacheControlFor is the Cache-Control that clients get: what the alias overrides it
// with, or what the object says, its Expires said as max-age, or the alias's ttl.
func cacheControlFor(h freshHeaders, ttl time.Duration, override string) string {
	if override != "" {
		return override
	}
	list := parseCacheControl(h.cacheControl)
	d, expires := h.expiresAfter()
	switch {
	case !expires || has(list, "max-age"):
		return formatCacheControl(list, ttl)
	case len(list) == 0:
		return formatCacheControl(nil, d)
	}
	age := directive{name: "max-age", has: true, value: strconv.FormatInt(int64(d/time.Second), 10)}
	return formatCacheControl(append(list, age), ttl)
}

func has(list []directive, name string) bool {
	for _, d := range list {
		if d.name == name {
			return true
		}
	}
	return false
}

// shortest is the shortest time that the directives of this name give: with two,
// the section lets a cache take the first or count it as stale (RFC 9111, 4.2.1).
func shortest(list []directive, name string) (least time.Duration, ok bool) {
	for _, d := range list {
		if d.name == name {
			t := deltaSeconds(d.value)
			if !ok || t < least {
				least, ok = t, true
			}
		}
	}
	return least, ok
}

// maxDelta is as good as any longer time (RFC 9111, section 1.2.2).
const maxDelta = (1 << 31) * time.Second

// deltaSeconds reads 1*DIGIT seconds (RFC 9111, section 1.2.2). What cannot be read
// is zero.
func deltaSeconds(s string) time.Duration {
	n, ok := parsePos(s)
	if !ok {
		return 0
	}
	return time.Duration(min(n, int64(maxDelta/time.Second))) * time.Second
}
