package alias

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// MaxKey is the longest object key that S3 knows, in bytes of UTF-8, prefix included
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html).
const MaxKey = 1024

// IsName reports whether s may be the name of an alias or credential. A URL with
// any other first segment names no alias.
func IsName[T string | []byte](s T) bool { return isLabel(s) }

// isLabel reports whether s is one lower-case label of a host name.
func isLabel[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLowerAlnum(c) && c != '-' {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || isDigit(c) }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// pathFaults are the rules that a path breaks.
type pathFaults uint8

const (
	faultLength pathFaults = 1 << iota
	faultUTF8
	faultByte
	faultSegment
)

// IsPath reports whether path, percent-decoded, may follow an alias in a URL: it
// cannot leave the prefix to which it is appended, and no server or proxy in between
// changes it into another path. It has no empty, "." or ".." segment, no backslash and
// no control byte, and is valid UTF-8 of at most MaxKey bytes.
func IsPath(path []byte) bool { return faultsOf(path) == 0 }

// faultsOf checks the rules of a path, for requests and for the paths that an alias names.
func faultsOf(path []byte) (faults pathFaults) {
	if len(path) > MaxKey {
		faults |= faultLength
	}
	start, ascii := 0, true
	for i, c := range path {
		switch {
		case c < 0x20 || c == 0x7f || c == '\\':
			faults |= faultByte
		case c == '/':
			if isOddSegment(path[start:i]) {
				faults |= faultSegment
			}
			start = i + 1
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if isOddSegment(path[start:]) {
		faults |= faultSegment
	}
	if !ascii && !utf8.Valid(path) {
		faults |= faultUTF8
	}
	return faults
}

// isOddSegment reports whether some servers or clients remove or resolve a segment of a
// path.
func isOddSegment(s []byte) bool {
	switch len(s) {
	case 0:
		return true
	case 1:
		return s[0] == '.'
	case 2:
		return s[0] == '.' && s[1] == '.'
	}
	return false
}

// PathProblems checks a path after the alias by the rules of IsPath, and the length of
// the key that it forms with the alias's prefix. field is the field of the problems.
func (a *Alias) PathProblems(field, path string) []Problem {
	faults := faultsOf([]byte(path))
	if len(a.Prefix)+len(path) > MaxKey {
		faults |= faultLength
	}
	var problems []Problem
	for _, rule := range []struct {
		fault  pathFaults
		detail string
	}{
		{faultLength, fmt.Sprintf("must fit in %d bytes together with the prefix", MaxKey)},
		{faultUTF8, "must be valid UTF-8"},
		{faultByte, "must not have a control character or a backslash"},
		{faultSegment, "must be the path of an object after the prefix, without a slash at either end " +
			`and without empty, "." or ".." segments`},
	} {
		if faults&rule.fault != 0 {
			problems = append(problems, Problem{field, rule.detail})
		}
	}
	return problems
}

// optionalPathProblems is PathProblems for a field in which "" means no path.
func (a *Alias) optionalPathProblems(field, path string) []Problem {
	if path == "" {
		return nil
	}
	return a.PathProblems(field, path)
}

// Unescape decodes the percent-encoding of a part of a URL, once (RFC 3986, section 2.1). A plus is a
// plus. It returns its argument if nothing is encoded, and reports false for an invalid escape.
func Unescape(raw []byte) ([]byte, bool) {
	i := bytes.IndexByte(raw, '%')
	if i < 0 {
		return raw, true
	}
	out := append(make([]byte, 0, len(raw)), raw[:i]...)
	for ; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if i+2 >= len(raw) {
				return nil, false
			}
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi > 15 || lo > 15 {
				return nil, false
			}
			c = hi<<4 | lo
			i += 2
		}
		out = append(out, c)
	}
	return out, true
}

// unhex returns the value of a hexadecimal digit, above 15 for anything else.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
