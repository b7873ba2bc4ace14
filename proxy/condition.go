package proxy

import (
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"ixmage/proxy/origin"
)

// conditions are the request headers that decide whether an object, a range of it or a
// status is sent. They are copied out of the request; the lines of one header are joined
// to a list. An absent header is empty.
type conditions struct {
	any               bool // there is a precondition
	ifMatch           string
	ifNoneMatch       string
	ifModifiedSince   string
	ifUnmodifiedSince string
	ifRange           string
	byteRange         string
	// ranges counts Range lines: more than one is malformed.
	ranges int
	// earned is set if the object is fetched whole for this request, whatever its answer
	// needs: see demand.
	earned bool
}

// validators identify one version of an object.
type validators struct {
	etag     string    // with quotes and W/, empty if there is none
	modified time.Time // whole seconds, zero if not known
}

// scanConditions copies the conditions out of a request in one pass. A request without
// them costs no allocation.
func scanConditions(h *fasthttp.RequestHeader) conditions {
	var c conditions
	for k, v := range h.All() {
		if len(k) < len("Range") || (k[0] != 'I' && k[0] != 'R') {
			continue
		}
		switch string(k) {
		case "If-Match":
			join(&c.ifMatch, v)
		case "If-None-Match":
			join(&c.ifNoneMatch, v)
		case "If-Modified-Since":
			join(&c.ifModifiedSince, v)
		case "If-Unmodified-Since":
			join(&c.ifUnmodifiedSince, v)
		case "If-Range":
			join(&c.ifRange, v)
		case "Range":
			c.byteRange = string(v)
			c.ranges++
		default:
			continue
		}
		c.any = true
	}
	return c
}

// join adds a line of a header (RFC 9110, section 5.3). Two dates joined are no date, so
// a header that may have only one is ignored then.
func join(list *string, line []byte) {
	if *list != "" {
		*list += ", "
	}
	*list += string(line)
}

// preconditionResult says how the preconditions decide a GET or HEAD.
type preconditionResult uint8

const (
	proceed preconditionResult = iota
	notModified
	preconditionFailed
)

// evaluate applies preconditions in the order of RFC 9110, section 13.2.2. A
// header that cannot be parsed is ignored where the RFC says so.
func (c *conditions) evaluate(v validators) preconditionResult {
	if c.ifMatch != "" {
		if !matchList(c.ifMatch, v.etag, strongMatch) {
			return preconditionFailed
		}
	} else if since, ok := parseDate(c.ifUnmodifiedSince); ok && !v.modified.IsZero() {
		if v.modified.After(since) {
			return preconditionFailed
		}
	}
	if c.ifNoneMatch != "" {
		if matchList(c.ifNoneMatch, v.etag, weakMatch) {
			return notModified
		}
	} else if since, ok := parseDate(c.ifModifiedSince); ok && !v.modified.IsZero() {
		if !v.modified.After(since) {
			return notModified
		}
	}
	return proceed
}

// selectRange decides which range of an object of size bytes to send (RFC 9110, sections
// 13.1.5 and 14.2). Call it only if evaluate returned proceed.
func (c *conditions) selectRange(v validators, size int64) (byteRange, rangeKind) {
	if c.ranges != 1 || !c.rangeApplies(v) {
		return byteRange{}, rangeNone
	}
	return parseRange(c.byteRange, size)
}

// hasRange reports whether the request has one range that could be satisfied.
func (c *conditions) hasRange() bool {
	_, kind := parseRange(c.byteRange, math.MaxInt64)
	return c.ranges == 1 && kind != rangeNone
}

// rangeApplies evaluates If-Range: a strong entity tag, or the exact date.
func (c *conditions) rangeApplies(v validators) bool {
	if c.ifRange == "" {
		return true
	}
	if strings.HasPrefix(c.ifRange, `"`) || strings.HasPrefix(c.ifRange, "W/") {
		return strongMatch(c.ifRange, v.etag)
	}
	date, ok := parseDate(c.ifRange)
	return ok && !v.modified.IsZero() && v.modified.Equal(date)
}

// strongMatch and weakMatch compare entity tags (RFC 9110, section 8.8.3.2).
func strongMatch(a, b string) bool {
	return a == b && b != "" && !strings.HasPrefix(b, "W/")
}

func weakMatch(a, b string) bool {
	return b != "" && strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

// matchList reports whether a list of entity tags, or "*", matches tag. "*" matches every
// object that exists. Reading stops at the first invalid entity tag.
func matchList(list, tag string, match func(a, b string) bool) bool {
	list = strings.Trim(list, " \t")
	if list == "*" {
		return true
	}
	for {
		list = strings.TrimLeft(list, " \t,")
		if list == "" {
			return false
		}
		one, rest, ok := scanETag(list)
		if !ok {
			return false
		}
		if match(one, tag) {
			return true
		}
		list = strings.TrimLeft(rest, " \t")
		if list != "" && list[0] != ',' {
			return false
		}
	}
}

// scanETag reads one entity tag from the front of s.
func scanETag(s string) (tag, rest string, ok bool) {
	start := 0
	if strings.HasPrefix(s, "W/") {
		start = 2
	}
	if len(s) <= start || s[start] != '"' {
		return "", "", false
	}
	for i := start + 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], s[i+1:], true
		case c <= ' ' || c == 0x7f:
			return "", "", false
		}
	}
	return "", "", false
}

// parseDate reads an HTTP-date in any of the three forms of RFC 9110, section
// 5.6.7.
func parseDate(s string) (time.Time, bool) {
	if s == "" {
		return time.Time{}, false
	}
	t, err := http.ParseTime(s)
	return t, err == nil
}

// sameVersion reports whether a reply can be of a known version: no known validator
// contradicts it, nor does the size, which a reply to a range need not tell.
func sameVersion(known validators, size int64, reply *origin.Object) bool {
	v := validatorsOf(reply)
	return (known.etag == "" || v.etag == known.etag) &&
		(known.modified.IsZero() || v.modified.Equal(known.modified)) &&
		(size < 0 || reply.Size < 0 || reply.Size == size)
}

// strongTag returns an entity tag for If-Match, and "" for a weak one, which would match
// nothing (RFC 9110, section 13.1.1).
func strongTag(tag string) string {
	if strings.HasPrefix(tag, "W/") {
		return ""
	}
	return tag
}
