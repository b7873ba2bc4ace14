package admin

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxWait is the longest that an answer is held back.
const maxWait = 300 * time.Second

// wait is the preference of that name (RFC 7240, 4.3): how long the answer may
// be held back until an operation has ended. The zero value is: none was sent.
type wait struct {
	sent bool
	most time.Duration
}

// applied is the value of Preference-Applied.
func (w wait) applied() string { return "wait=" + strconv.Itoa(int(w.most/time.Second)) }

// parsePrefer finds the preference wait in the Prefer headers of a request.
// Whatever it does not understand it ignores, as RFC 7240 wants it; of several
// of one name the first counts (section 2).
func parsePrefer(lines []string) wait {
	for _, line := range lines {
		for rest := line; rest != ""; {
			var preference string
			preference, rest = cutUnquoted(rest, ',')
			preference, _ = cutUnquoted(preference, ';') // its parameters mean nothing here
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
	return wait{sent: true, most: time.Duration(min(n, uint64(maxWait/time.Second))) * time.Second}
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

// unquote takes a quoted string apart; anything else it leaves as it is.
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
