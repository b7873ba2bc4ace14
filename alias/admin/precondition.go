package admin

import (
	"slices"
	"strconv"
	"strings"

	"ixmage/alias"
)

// ifMatch is the If-Match of a request. The zero value is: none was sent.
type ifMatch struct {
	sent bool
	any  bool // "*"
	// revisions of the entity-tags that can be ours. A weak tag, or one that
	// is no revision, never matches (RFC 9110, 13.1.1: strong comparison) and
	// is left out.
	revisions []int64
}

func parseIfMatch(lines []string) (ifMatch, error) {
	m := ifMatch{sent: len(lines) > 0}
	for _, line := range lines {
		rest := strings.TrimSpace(line)
		if rest == "*" && len(lines) == 1 {
			m.any = true
			return m, nil
		}
		for {
			tag, after, ok := cutTag(rest)
			if !ok {
				return m, fail(errBadRequest, `If-Match must be an ETag in double quotes, like "3", several of them, or *`)
			}
			if n, ok := revisionOf(tag); ok {
				m.revisions = append(m.revisions, n)
			}
			if after == "" {
				break
			}
			rest = after
		}
	}
	return m, nil
}

// cutTag takes the first entity-tag off a list; after is what follows its comma.
func cutTag(list string) (tag, after string, ok bool) {
	open := strings.TrimPrefix(list, "W/")
	if !strings.HasPrefix(open, `"`) {
		return "", "", false
	}
	end := strings.IndexByte(open[1:], '"')
	if end < 0 {
		return "", "", false
	}
	end += 2 + len(list) - len(open)
	tag, after = list[:end], strings.TrimLeft(list[end:], " \t")
	if after == "" {
		return tag, "", true
	}
	if after[0] != ',' {
		return "", "", false
	}
	after = strings.TrimLeft(after[1:], " \t")
	return tag, after, after != ""
}

// revisionOf reads a tag that etag could have made.
func revisionOf(tag string) (int64, bool) {
	n, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
	return n, err == nil && n > 0 && etag(n) == tag
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// revision is what the registry must find: 0 for whatever there is. current
// is asked only when the header alone does not tell.
func (m ifMatch) revision(current func() (int64, error)) (int64, error) {
	if !m.sent || m.any {
		return 0, nil
	}
	if len(m.revisions) == 1 {
		return m.revisions[0], nil
	}
	now, err := current()
	if err != nil {
		return 0, err
	}
	if !slices.Contains(m.revisions, now) {
		return 0, alias.ErrStale
	}
	return now, nil
}
