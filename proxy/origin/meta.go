package origin

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go/middleware"
)

// meta is what the SDK's output lacks of a reply's headers.
type meta struct {
	encoding     string
	cacheControl string
	born         time.Time
}

// metaOf reads a reply that has just come.
func metaOf(m middleware.Metadata) meta {
	raw, ok := rawReply(m)
	if !ok {
		return meta{born: time.Now()}
	}
	return meta{
		encoding:     lines(raw.Header, "Content-Encoding"),
		cacheControl: lines(raw.Header, "Cache-Control"),
		born:         time.Now().Add(-age(raw.Header)),
	}
}

// lines joins the lines of a header (RFC 9110, section 5.3). The SDK's output has
// the first alone, and what forbids to store may stand in another.
func lines(h http.Header, name string) string { return strings.Join(h.Values(name), ", ") }

// age reads Age. Of several the first counts, one that is no number not at all,
// and one too large for 31 bits as the largest (RFC 9111, sections 1.2.2 and 5.1).
func age(h http.Header) time.Duration {
	first, _, _ := strings.Cut(h.Get("Age"), ",")
	n, err := strconv.ParseUint(strings.Trim(first, " \t"), 10, 31)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return time.Duration(n) * time.Second
}
