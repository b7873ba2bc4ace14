package admin

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"ixmage/alias"
)

// ifMatch is the If-Match of a request. The zero value means that none was sent.
type ifMatch struct {
	sent bool
	any  bool // "*"
	// revisions are those of the entity-tags that etag could have made. A weak tag, or
	// any other one, never matches (RFC 9110, 13.1.1: strong comparison) and is left
	// out.
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
				return m, failf(errBadRequest, `If-Match must be an ETag in double quotes, like "3", several of them, or *`)
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

// cutTag splits a list at the comma after its first entity-tag.
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

// revision is the revision that the registry must find; 0 means any. It calls
// current only if the header has several revisions.
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

// maxWait is the longest time for which an answer is held.
const maxWait = 300 * time.Second

// wait is the preference of that name (RFC 7240, 4.3): how long the answer may be
// held until an operation has ended. The zero value means that none was sent.
type wait struct {
	sent  bool
	limit time.Duration
}

// applied is the value of Preference-Applied.
func (w wait) applied() string { return "wait=" + seconds(w.limit) }

// seconds is a number of whole seconds.
func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// parsePrefer finds the preference wait in the Prefer headers of a request.
// It ignores unknown and invalid preferences, as RFC 7240 requires; of several with one
// name the first applies (section 2).
func parsePrefer(lines []string) wait {
	for _, line := range lines {
		for rest := line; rest != ""; {
			var preference string
			preference, rest = cutUnquoted(rest, ',')
			preference, _ = cutUnquoted(preference, ';') // its parameters have no meaning here
			name, value, _ := strings.Cut(preference, "=")
			if strings.EqualFold(trimOWS(name), "wait") {
				return waitOf(unquote(trimOWS(value)))
			}
		}
	}
	return wait{}
}

// waitOf reads a number of seconds.
func waitOf(seconds string) wait {
	n, err := strconv.ParseUint(seconds, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return wait{}
	}
	return wait{sent: true, limit: time.Duration(min(n, uint64(maxWait/time.Second))) * time.Second}
}

// cutUnquoted cuts s at the first sep that is not in a quoted string.
func cutUnquoted(s string, sep byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == sep && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unquote returns the text of a quoted string, and any other string unchanged.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func trimOWS(s string) string { return strings.Trim(s, " \t") }
