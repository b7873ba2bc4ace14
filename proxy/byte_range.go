package proxy

import "strings"

// byteRange is a range of an object's bytes, both ends inclusive.
type byteRange struct{ first, last int64 }

func (r byteRange) length() int64 { return r.last - r.first + 1 }

// rangeKind is the result of parsing a Range header.
type rangeKind uint8

const (
	rangeNone          rangeKind = iota // absent, malformed, several ranges or another unit: send the whole object
	rangeSatisfiable                    // one range that the object has
	rangeUnsatisfiable                  // one range after the object's end
)

// parseRange reads a Range header against an object of size bytes (RFC 9110,
// section 14.2). A header that is malformed or has several ranges is ignored, as the RFC
// allows: a list of ranges would let a short request cost much work.
func parseRange(header string, size int64) (byteRange, rangeKind) {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return byteRange{}, rangeNone
	}
	first, last, ok := strings.Cut(strings.Trim(set, " \t"), "-")
	if !ok {
		return byteRange{}, rangeNone
	}
	if first == "" {
		return suffixRange(last, size)
	}
	from, ok := parsePos(first)
	if !ok {
		return byteRange{}, rangeNone
	}
	to := size - 1
	if last != "" {
		end, ok := parsePos(last)
		if !ok || end < from {
			return byteRange{}, rangeNone
		}
		to = min(to, end)
	}
	if from >= size {
		return byteRange{}, rangeUnsatisfiable
	}
	return byteRange{from, to}, rangeSatisfiable
}

// suffixRange is the last n bytes.
func suffixRange(digits string, size int64) (byteRange, rangeKind) {
	n, ok := parsePos(digits)
	switch {
	case !ok:
		return byteRange{}, rangeNone
	case n == 0 || size == 0:
		return byteRange{}, rangeUnsatisfiable
	}
	return byteRange{max(0, size-n), size - 1}, rangeSatisfiable
}

// parsePos reads 1*DIGIT. A number above 1<<62 becomes 1<<62, which is still larger than
// any object.
func parsePos(digits string) (int64, bool) {
	const limit = 1 << 62
	if digits == "" {
		return 0, false
	}
	var n int64
	for i := range len(digits) {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n < limit/10 {
			n = n*10 + int64(c-'0')
		} else {
			n = limit
		}
	}
	return n, true
}
