package alias

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxCacheControl is the most bytes of the Cache-Control of an alias.
const maxCacheControl = 256

// maxSeconds is the longest delta-seconds that every cache understands
// (RFC 9111, 1.2.2).
const maxSeconds = 1<<31 - 1

// plainDirectives and timedDirectives are the allowed directives; the latter take a
// number of seconds.
var (
	plainDirectives = []string{
		"public", "private", "no-cache", "no-store", "no-transform", "must-revalidate", "proxy-revalidate", "immutable",
	}
	timedDirectives = []string{"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"}
)

// normalCacheControl returns a Cache-Control in lower case, with one space after each
// comma and no other space. It returns an invalid s unchanged; Validate refuses it.
func normalCacheControl(s string) string {
	list, problem := parseCacheControl(s)
	if problem != "" {
		return s
	}
	return strings.Join(list, ", ")
}

func cacheControlProblem(s string) string {
	if len(s) > maxCacheControl {
		return fmt.Sprintf("must have at most %d bytes", maxCacheControl)
	}
	list, problem := parseCacheControl(s)
	if problem == "" && strings.Join(list, ", ") != s {
		return `must be in lower case, its directives separated by ", "`
	}
	return problem
}

// parseCacheControl reads the list of directives; the second result describes
// the first problem, or is empty. It is stricter than the RFC on purpose: caches
// disagree about the meaning of the refused forms, such as a quoted number.
func parseCacheControl(s string) (list []string, problem string) {
	switch {
	case s == "":
		return nil, ""
	case strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return nil, "must not have a control character or a line break"
	}
	var seen []string
	for part := range strings.SplitSeq(s, ",") {
		name, value, valued := strings.Cut(strings.ToLower(strings.Trim(part, " ")), "=")
		text, problem := directive(name, value, valued)
		if problem == "" && slices.Contains(seen, name) {
			problem = fmt.Sprintf("must have %s once only", name)
		}
		if problem != "" {
			return nil, problem
		}
		seen, list = append(seen, name), append(list, text)
	}
	if slices.Contains(seen, "public") && slices.Contains(seen, "private") {
		return nil, "must not have both public and private: they contradict each other"
	}
	return list, ""
}

// directive checks one member of the list and brings it into its usual form.
func directive(name, value string, valued bool) (text, problem string) {
	switch {
	case slices.Contains(plainDirectives, name) && valued:
		return "", fmt.Sprintf("must have %s without a value", name)
	case slices.Contains(plainDirectives, name):
		return name, ""
	case !slices.Contains(timedDirectives, name):
		return "", fmt.Sprintf("must be a list of known directives, and %s is none: use %s, and with a number of seconds %s",
			shown(name), strings.Join(plainDirectives, ", "), strings.Join(timedDirectives, ", "))
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n > maxSeconds {
		return "", fmt.Sprintf("must have %s with a whole number of seconds, from 0 to %d, as in %s=3600",
			name, maxSeconds, name)
	}
	return name + "=" + strconv.FormatUint(n, 10), ""
}

// shown quotes an unknown directive if it has the form of one. Other text may be a
// secret pasted into the wrong field, and is not repeated.
func shown(name string) string {
	const most = 30 // below a secret access key
	switch {
	case name == "":
		return "an empty one"
	case len(name) > most || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-_") != "":
		return "one of these"
	}
	return strconv.Quote(name)
}
