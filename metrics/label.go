package metrics

import (
	"slices"
	"strconv"
	"unicode/utf8"
)

// Values of the label alias that no alias can have: names contain no underscore.
const (
	labelUnknown = "_unknown"
	labelOther   = "_other"
)

// The labels with a fixed set of values. The index of a value in its list is its
// slot in the arrays of cells; finding it takes no hashing and no lock. Frequent
// values are first.
var (
	methodLabels = [...]string{"GET", "HEAD", "other"}

	// cacheLabels begins with the value for answers given before the cache was asked.
	cacheLabels = [...]string{
		"none", "hit", "miss", "collapsed", "stale", "revalidated", "negative", "bypass",
	}

	outcomeLabels = [...]string{
		"ok", "not_modified", "not_found", "denied", "bad_credential",
		"throttled", "timeout", "network", "error", "aborted",
	}

	savedLabels = [...]string{"hit", "collapsed", "not_modified"}

	evictedLabels = [...]string{"own", "pushed", "lost"}

	// statusCodes are those that this server and its HTTP library send. The slot
	// after the last one is for any other status.
	statusCodes = [...]int{
		200, 304, 206, 204, 404, 502, 503, 504, 500,
		400, 405, 408, 411, 412, 413, 414, 415, 416, 417, 429, 431, 501, 505,
	}
)

const (
	methodSlots  = len(methodLabels)
	cacheSlots   = len(cacheLabels)
	outcomeSlots = len(outcomeLabels)
	savedSlots   = len(savedLabels)
	evictedSlots = len(evictedLabels)
	codeSlots    = len(statusCodes) + 1

	cacheNone = 0
)

// validName reports whether a name can have series of its own. Prometheus panics on
// invalid UTF-8.
func validName(name string) bool {
	return name != "" && name != labelUnknown && name != labelOther && utf8.ValidString(name)
}

func methodSlot(method string) int { return slotOf(methodLabels[:], method, "other") }
func cacheSlot(cache string) int   { return slotOf(cacheLabels[:], cache, "none") }

// outcomeSlot counts an unknown outcome as "error".
func outcomeSlot(outcome string) int { return slotOf(outcomeLabels[:], outcome, "error") }

// savedSlot is -1 for an unknown value, which is not counted.
func savedSlot(by string) int { return slices.Index(savedLabels[:], by) }

func slotOf(labels []string, value, otherwise string) int {
	if i := slices.Index(labels, value); i >= 0 {
		return i
	}
	return slices.Index(labels, otherwise)
}

func codeSlot(code int) int {
	if i := slices.Index(statusCodes[:], code); i >= 0 {
		return i
	}
	return codeSlots - 1
}

func codeLabel(slot int) string {
	if slot == codeSlots-1 {
		return "other"
	}
	return strconv.Itoa(statusCodes[slot])
}
