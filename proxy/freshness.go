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

// freshHeaders are the headers of an object that decide how long it may be served, as S3
// sent them.
type freshHeaders struct {
	cacheControl string
	expires      string    // empty: there is none
	date         time.Time // zero: there is none
	received     time.Time
	varies       bool // Vary has an asterisk
}

func freshHeadersOf(o *origin.Object) freshHeaders {
	return freshHeaders{
		cacheControl: o.CacheControl, expires: o.Expires, date: o.Date, received: o.Received, varies: hasAsterisk(o.Vary),
	}
}

// updated returns the headers after a 304: its headers replace the stored ones, and the
// others stay (RFC 9111, section 3.2). The Date is always the 304's: without one, the time
// of reception counts (RFC 9110, section 6.6.1).
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

// hasAsterisk reports whether Vary has the member that no request matches (RFC 9111,
// section 4.1). All other members match, because no header of a client reaches S3.
func hasAsterisk(vary string) bool {
	for member := range strings.SplitSeq(vary, ",") {
		if strings.Trim(member, " \t") == "*" {
			return true
		}
	}
	return false
}

// lifetimes say how long a shared cache may serve an object, by its headers or else by its
// alias.
type lifetimes struct {
	store      bool          // may be stored at all
	fresh      time.Duration // may be served without a request to S3, from an Age of 0
	staleWhile time.Duration // after fresh: may be served while it is revalidated
	staleError time.Duration // after fresh: may be served while S3 fails
	byDefault  bool          // staleWhile is the alias's
}

// lifetimesOf reads headers as RFC 9111 asks of a shared cache:
//
//   - private and no-store: not stored. With must-understand, a cache that knows the
//     status code ignores no-store (5.2.2.3); only 200 is stored, and it is known.
//   - no-cache: stored, and revalidated for each request (5.2.2.4). Vary: * means the
//     same (4.1).
//   - s-maxage before max-age before Expires minus Date before the alias's ttl (4.2.1).
//   - must-revalidate, proxy-revalidate, s-maxage and no-cache forbid to serve it stale
//     (4.2.4, 5.2.2.10), whatever the other directives say.
//   - stale-while-revalidate and stale-if-error (RFC 5861) before the alias's.
//
// private and no-cache with field names count as without them, which 5.2.2.4 and 5.2.2.7
// allow.
//
// An alias's stale_while_revalidate extends a lifetime and does not create one: an object
// that is never fresh, by max-age=0, an Expires in the past or a ttl of 0, is meant to be
// revalidated for each request. stale_if_error applies to it all the same.
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

// freshFor is freshness_lifetime of RFC 9111, section 4.2.1, with the alias's ttl in place
// of a heuristic (4.2.2).
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

// expiresAfter is Expires minus Date, if there is an Expires. An invalid one, such as "0"
// or two dates, lies in the past (RFC 9111, section 5.3).
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

// parseExpires refuses zones that an HTTP date may not have: Go accepts the name of any
// zone and reads the time as GMT.
func parseExpires(s string) (time.Time, bool) {
	t, err := http.ParseTime(s)
	zone, _ := t.Zone()
	return t, err == nil && (zone == "UTC" || zone == "GMT")
}

// cacheControlFor is the Cache-Control that clients get: the alias's override, or the
// object's own with its Expires as max-age, or the alias's ttl.
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

// shortest is the shortest time of the directives of a name. Of two, RFC 9111, section
// 4.2.1, lets a cache use the first or treat the response as stale.
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

// maxDelta stands for every longer time (RFC 9111, section 1.2.2).
const maxDelta = (1 << 31) * time.Second

// deltaSeconds reads 1*DIGIT seconds (RFC 9111, section 1.2.2). An invalid text is zero.
func deltaSeconds(s string) time.Duration {
	n, ok := parsePos(s)
	if !ok {
		return 0
	}
	return time.Duration(min(n, int64(maxDelta/time.Second))) * time.Second
}
