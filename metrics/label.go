package metrics

import (
	"slices"
	"strconv"
	"unicode/utf8"
)

// Aliases that no operator can choose, for an alias holds no underscore.
const (
	labelUnknown = "_unknown"
	labelOther   = "_other"
)

// The labels with a fixed set of values. A value's place in its list is its
// slot in the arrays of cells; finding it takes no hashing and no lock. The
// frequent values stand first.
var (
	methodLabels = [...]string{"GET", "HEAD", "other"}

	// cacheLabels begins with what stands for answers given before the cache.
	cacheLabels = [...]string{
		"none", "hit", "miss", "collapsed", "stale", "revalidated", "negative", "bypass",
	}

	outcomeLabels = [...]string{
		"ok", "not_modified", "not_found", "denied", "bad_credential",
		"throttled", "timeout", "network", "error", "aborted",
	}

	savedLabels = [...]string{"hit", "collapsed", "not_modified"}

	// statusCodes are those that this server and the HTTP library below it
	// give. The slot after the last is for any other.
	statusCodes = [...]int{
		200, 304, 206, 404, 502, 503, 504, 500,
		400, 405, 408, 411, 412, 413, 414, 415, 416, 417, 429, 431, 501, 505,
	}
)

const (
	methodSlots  = len(methodLabels)
	cacheSlots   = len(cacheLabels)
	outcomeSlots = len(outcomeLabels)
	savedSlots   = len(savedLabels)
	codeSlots    = len(statusCodes) + 1

	cacheNone = 0
)

// ownName reports whether a name can have series of its own: Prometheus panics
// on text that is none.
func ownName(name string) bool {
	return name != "" && name != labelUnknown && name != labelOther && utf8.ValidString(name)
}

func methodSlot(method string) int { return slotOf(methodLabels[:], method, "other") }
func cacheSlot(cache string) int   { return slotOf(cacheLabels[:], cache, "none") }

// outcomeSlot counts a word that is no outcome as "error": a call that nobody
// can name did not go well.
func outcomeSlot(outcome string) int { return slotOf(outcomeLabels[:], outcome, "error") }

// savedSlot is -1 for a word that is no way to save: it would count as something
// that it is not.
func savedSlot(by string) int { return slices.Index(savedLabels[:], by) }

func slotOf(labels []string, value, fallback string) int {
	if i := slices.Index(labels, value); i >= 0 {
		return i
	}
	return slices.Index(labels, fallback)
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
