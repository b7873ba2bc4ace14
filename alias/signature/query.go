package signature

import (
	"bytes"
	"io"
	"slices"
	"time"
)

// Names are the parameters that ixmage knows, sorted: options with their synonyms, and
// those of a signature. A signature covers all of them but sig.
var Names = []string{
	"anim", "bg", "bgc", "blur", "crop", "dpr", "exp", "f", "fit", "flip", "flop", "fmt", "gravity", "gray", "grey",
	"h", "hei", "height", "info", "kid", "lqip", "q", "quality", "r", "sharp", "sharpen", "sig", "strip",
	"t", "template", "w", "wid", "width", "wm",
}

// known reports whether a name is in Names. A switch needs no copy of the name.
func known(name []byte) bool {
	switch string(name) {
	case "anim", "bg", "bgc", "blur", "crop", "dpr", "exp", "f", "fit", "flip", "flop", "fmt", "gravity", "gray", "grey",
		"h", "hei", "height", "info", "kid", "lqip", "q", "quality", "r", "sharp", "sharpen", "sig", "strip",
		"t", "template", "w", "wid", "width", "wm":
		return true
	}
	return false
}

// parameters are those of a query that ixmage knows. The slices are views of the
// query; a parameter that is absent is nil, and one without a value is empty.
type parameters struct {
	pairs         [maxPairs]pair // known ones but sig, in the order of the query
	n             int
	exp, kid, sig []byte
}

type pair struct{ name, value []byte }

// parse splits a query at '&' and each pair at its first '='.
func (q *parameters) parse(raw []byte) error {
	if len(raw) > MaxQuery || bytes.Count(raw, []byte{'&'}) >= maxPairs {
		return ErrMalformed
	}
	for rest, more := raw, true; more; {
		var p []byte
		p, rest, more = bytes.Cut(rest, []byte{'&'})
		name, value, _ := bytes.Cut(p, []byte{'='})
		if !known(name) {
			continue
		}
		if value == nil {
			value = p[len(p):]
		}
		if single := q.field(name); single != nil {
			if *single != nil {
				return ErrDuplicate
			}
			*single = value
		}
		if string(name) != "sig" {
			q.pairs[q.n] = pair{name, value}
			q.n++
		}
	}
	return nil
}

// field returns where the value of a parameter of the signature is kept.
func (q *parameters) field(name []byte) *[]byte {
	switch string(name) {
	case "exp":
		return &q.exp
	case "kid":
		return &q.kid
	case "sig":
		return &q.sig
	}
	return nil
}

// expiry returns the time of exp, or the error of one that has come. There is no
// leeway: an URL is good until the second before exp has ended.
func (q *parameters) expiry(now time.Time) (time.Time, error) {
	if q.exp == nil {
		return time.Time{}, nil
	}
	if len(q.exp) == 0 || len(q.exp) > 12 || q.exp[0] == '0' && len(q.exp) > 1 {
		return time.Time{}, ErrMalformed
	}
	var unix int64
	for _, c := range q.exp {
		if c < '0' || c > '9' {
			return time.Time{}, ErrMalformed
		}
		unix = unix*10 + int64(c-'0')
	}
	exp := time.Unix(unix, 0).UTC()
	switch {
	case unix > maxExpiry:
		return time.Time{}, ErrMalformed
	case !now.Before(exp):
		return time.Time{}, ErrExpired
	}
	return exp, nil
}

// write writes the message to w. The pairs are encoded at the end of b, which is
// returned for the next call.
//
// A newline ends the path, although a path may have one: the canonical query has none,
// so that the last newline of a message is the one before it, and no two URLs share one.
func (q *parameters) write(w io.Writer, path, b []byte) ([]byte, error) {
	var encoded [maxPairs][2]int // from, to
	for i, p := range q.pairs[:q.n] {
		from := len(b)
		b = append(append(b, p.name...), '=')
		var ok bool
		if b, ok = appendValue(b, p.value); !ok {
			return b, ErrMalformed
		}
		encoded[i] = [2]int{from, len(b)}
	}
	slices.SortFunc(encoded[:q.n], func(x, y [2]int) int { return bytes.Compare(b[x[0]:x[1]], b[y[0]:y[1]]) })
	end := len(b)
	b = append(append(append(b, version...), path...), '\n')
	for i, e := range encoded[:q.n] {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, b[e[0]:e[1]]...)
	}
	_, err := w.Write(b[end:])
	return b, err
}

// appendValue appends a value that is percent-decoded once and encoded again: an octet
// that is not unreserved in RFC 3986, section 2.3, becomes %XX. A plus is a plus.
func appendValue(b, value []byte) ([]byte, bool) {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '%' {
			if i+2 >= len(value) {
				return b, false
			}
			high, low := unhex(value[i+1]), unhex(value[i+2])
			if high|low > 15 {
				return b, false
			}
			c = high<<4 | low
			i += 2
		}
		if unreserved(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b, true
}

func unreserved(c byte) bool {
	switch {
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		return true
	}
	return c == '-' || c == '.' || c == '_' || c == '~'
}

// unhex returns the value of a hex digit, or 255.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
