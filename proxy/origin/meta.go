package origin

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/middleware"
)

// meta holds the headers of a reply that the SDK's output lacks or changes.
type meta struct {
	status       int
	requestID    string
	encoding     string
	types        string // all lines of Content-Type if they differ
	cacheControl string
	expires      string
	vary         string
	date         time.Time
	received     time.Time
	born         time.Time
}

// metaOf reads a reply that has just arrived, delay after its request.
func metaOf(m middleware.Metadata, delay time.Duration) meta {
	raw, ok := rawReply(m)
	if !ok {
		return metaOfHeader(nil, delay)
	}
	of := metaOfHeader(raw.Header, delay)
	of.status = raw.StatusCode
	return of
}

func metaOfHeader(h http.Header, delay time.Duration) meta {
	now := time.Now()
	m := meta{
		requestID:    h.Get("X-Amz-Request-Id"),
		encoding:     joinLines(h, "Content-Encoding"),
		types:        differingLines(h, "Content-Type"),
		cacheControl: joinLines(h, "Cache-Control"),
		expires:      joinLines(h, "Expires"),
		vary:         joinLines(h, "Vary"),
		date:         parseDate(h, "Date"),
		received:     now,
	}
	if m.expires == "" && h.Values("Expires") != nil {
		m.expires = "0"
	}
	m.born = now.Add(-initialAge(h, m.date, now, delay))
	return m
}

func (m meta) object(etag, contentType *string, modified *time.Time) *Object {
	return &Object{
		Size: -1, ETag: aws.ToString(etag), LastModified: aws.ToTime(modified),
		ContentType: cmp.Or(m.types, aws.ToString(contentType)),
		Encoding:    m.encoding, CacheControl: m.cacheControl, Expires: m.expires, Vary: m.vary,
		Date: m.date, Received: m.received, Born: m.born,
	}
}

// initialAge is corrected_initial_age of RFC 9111, section 4.2.3:
//
//	apparent_age          = max(0, response_time - date_value)
//	corrected_age_value   = age_value + response_delay
//	corrected_initial_age = max(apparent_age, corrected_age_value)
//
// Without Age and Via there is no cache on the way, and only corrected_age_value counts: S3
// writes Date while it answers, so apparent_age is the difference of two clocks, and on a
// host whose clock is ahead every object would be old. apparent_age is meant for caches that
// send no Age, and a Via may be that of such a cache.
func initialAge(h http.Header, date, now time.Time, delay time.Duration) time.Duration {
	corrected := parseAge(h) + delay
	if date.IsZero() || h.Get("Age") == "" && h.Get("Via") == "" {
		return corrected
	}
	return max(corrected, now.Sub(date))
}

// joinLines joins the lines of a header (RFC 9110, section 5.3). The SDK's output has
// only the first line, and another one may forbid to store.
func joinLines(h http.Header, name string) string { return strings.Join(h.Values(name), ", ") }

// differingLines is joinLines if the lines of a header, of which there should be one, differ.
func differingLines(h http.Header, name string) string {
	lines := h.Values(name)
	if !slices.ContainsFunc(lines, func(line string) bool { return line != lines[0] }) {
		return ""
	}
	return joinLines(h, name)
}

// parseDate returns the zero time if there is no valid date.
func parseDate(h http.Header, name string) time.Time {
	t, err := http.ParseTime(h.Get(name))
	if err != nil {
		return time.Time{}
	}
	return t
}

// parseAge reads the first value of Age. An invalid one is ignored, and one that exceeds
// 31 bits counts as the largest (RFC 9111, sections 1.2.2 and 5.1).
func parseAge(h http.Header) time.Duration {
	first, _, _ := strings.Cut(h.Get("Age"), ",")
	n, err := strconv.ParseUint(strings.Trim(first, " \t"), 10, 31)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return time.Duration(n) * time.Second
}
