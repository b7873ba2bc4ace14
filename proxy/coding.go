package proxy

import (
	"fmt"
	"strings"
)

// codings are the content codings of HTTP
// (https://www.iana.org/assignments/http-parameters). An object that has one is refused:
// Content-Encoding is not passed on, and a client that does not accept the coding could get
// no other.
var codings = map[string]bool{
	"aes128gcm": true, "br": true, "compress": true, "dcb": true, "dcz": true, "deflate": true, "exi": true,
	"gzip": true, "pack200-gzip": true, "x-compress": true, "x-gzip": true, "zstd": true,
}

// codingError refuses an object because of its Content-Encoding.
type codingError struct {
	value       string // of the Content-Encoding
	contentType string
	real        bool // it names a content coding
}

func (e *codingError) Error() string {
	if e.real {
		return fmt.Sprintf("%v: it has the Content-Encoding %s, which ixmage does not decode", errNotImage, quote(e.value))
	}
	return fmt.Sprintf("%v: its Content-Encoding %s is no content coding, and its first bytes do not fit its "+
		"Content-Type %s", errNotImage, quote(e.value), quote(e.contentType))
}

func (*codingError) Unwrap() error { return errNotImage }

// contentCoding reads all lines of a Content-Encoding. It is an error if one of the words is
// a content coding, even if the value is malformed. Other words, such as base64 or utf-8,
// come from uploads that took the field for another one; then noCoding is the value. S3
// itself writes aws-chunked for uploads that were signed chunk by chunk, and removes that
// coding; some other servers do not.
func contentCoding(value string) (noCoding string, err error) {
	for part := range strings.SplitSeq(strings.ToLower(value), ",") {
		if part = strings.Trim(part, " \t"); part == "" || part == "identity" {
			continue
		}
		for word := range strings.FieldsFuncSeq(part, isNoToken) {
			if codings[word] {
				return "", &codingError{value: value, real: true}
			}
		}
		noCoding = value
	}
	return noCoding, nil
}

// isNoToken reports whether a character separates words: it cannot be in the name of a
// coding.
func isNoToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' && r != '+'
}
