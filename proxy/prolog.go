package proxy

import (
	"bytes"
	"strings"
)

// prologMax is the most bytes that are read to find the first element of an XML document.
// Before it may stand a licence text, or a document type with the entities of a drawing
// program.
const prologMax = 64 << 10

// elementMax is the longest name of an element; the bytes of a longer one are no XML.
const elementMax = 256

const (
	byteOrderMark = "\xef\xbb\xbf"
	xmlSpace      = " \t\r\n"
)

// isMarkup reports whether a document begins with a tag, as XML and HTML do and no bitmap
// does.
func isMarkup(front []byte) bool {
	front = skipSpace(front)
	return len(front) > 0 && front[0] == '<'
}

// isBlank reports whether a document begins with white space, as no bitmap does, and has
// nothing else so far.
func isBlank(front []byte) bool { return len(front) > 0 && len(skipSpace(front)) == 0 }

func skipSpace(front []byte) []byte {
	return bytes.TrimLeft(bytes.TrimPrefix(narrow(front), []byte(byteOrderMark)), xmlSpace)
}

// firstElement returns the name of the first element of an XML document (XML 1.0, section
// 2.8) that begins with front. It skips white space, the XML declaration, comments,
// processing instructions and the document type; the document type of HTML counts as an
// element html. The name is empty if front is no XML. decided is false if more bytes are
// needed. The time is linear in the length of front.
func firstElement(front []byte) (name string, decided bool) {
	if len(front) < len(byteOrderMark) { // or an element
		return "", false
	}
	front = bytes.TrimPrefix(narrow(front), []byte(byteOrderMark))
	for ok := true; ok; {
		front = bytes.TrimLeft(front, xmlSpace)
		switch {
		case mayBegin(front, commentOpen), mayBegin(front, doctypeOpen):
			return "", false
		case front[0] != '<':
			return "", true
		case begins(front, "<?"), begins(front, commentOpen):
			front, ok = skipComment(front)
		case begins(front, doctypeOpen):
			front = front[len(doctypeOpen):]
			if isHTML(front) {
				return "html", true
			}
			front, ok = skipDeclaration(front)
		default:
			return elementName(front[1:])
		}
	}
	return "", false
}

const (
	commentOpen = "<!--"
	doctypeOpen = "<!DOCTYPE" // in any case: HTML has <!doctype
)

func begins(front []byte, token string) bool {
	return len(front) >= len(token) && strings.EqualFold(string(front[:len(token)]), token)
}

// mayBegin reports whether front is too short to tell if it begins with token.
func mayBegin(front []byte, token string) bool {
	return len(front) < len(token) && strings.EqualFold(string(front), token[:len(front)])
}

// skipComment returns the bytes after a comment or a processing instruction, with which
// front begins.
func skipComment(front []byte) (rest []byte, ok bool) {
	if begins(front, commentOpen) {
		_, rest, ok = bytes.Cut(front[len(commentOpen):], []byte("-->"))
	} else {
		_, rest, ok = bytes.Cut(front[len("<?"):], []byte("?>"))
	}
	return rest, ok
}

// isHTML reports whether the document type that begins with front, after its <!DOCTYPE, is
// that of HTML.
func isHTML(front []byte) bool {
	front = bytes.TrimLeft(front, xmlSpace)
	end := bytes.IndexAny(front, xmlSpace+">[")
	return end >= 0 && strings.EqualFold(string(front[:end]), "html")
}

// skipDeclaration returns the bytes after a declaration, of which front begins after its
// <!NAME. Declarations within it, literals, comments and processing instructions may have a
// ">" of their own.
func skipDeclaration(front []byte) (rest []byte, ok bool) {
	depth := 1
	for ok = true; ok && depth > 0; {
		next := bytes.IndexAny(front, `<>"'`)
		if next < 0 {
			return nil, false
		}
		c := front[next]
		front = front[next:]
		switch {
		case c == '>':
			depth, front = depth-1, front[1:]
		case c != '<':
			_, front, ok = bytes.Cut(front[1:], []byte{c})
		case begins(front, "<?"), begins(front, commentOpen):
			front, ok = skipComment(front)
		default:
			depth, front = depth+1, front[1:]
		}
	}
	return front, ok
}

// elementName returns the name of the element whose tag begins with front, after its "<".
func elementName(front []byte) (name string, decided bool) {
	end := bytes.IndexAny(front[:min(len(front), elementMax)], xmlSpace+"/>")
	if end < 0 {
		return "", len(front) >= elementMax
	}
	return string(front[:end]), true
}

// isSVG reports whether an element of a name is the root of an SVG, which may have the
// prefix of a namespace.
func isSVG(name string) bool {
	prefix, local, found := strings.Cut(name, ":")
	return name == "svg" || found && prefix != "" && local == "svg"
}

// narrow returns UTF-16 as one byte for each of its characters, and any other text as it is.
// UTF-16 begins with a byte order mark, or with a tag (XML 1.0, appendix F). A character that
// is not ASCII becomes one that is no part of markup.
func narrow(b []byte) []byte {
	high, low := 1, 0
	mark := bytes.HasPrefix(b, []byte("\xff\xfe"))
	switch {
	case mark, bytes.HasPrefix(b, []byte("<\x00")):
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		high, low, mark = 0, 1, true
	case bytes.HasPrefix(b, []byte("\x00<")):
		high, low = 0, 1
	default:
		return b
	}
	if mark {
		b = b[2:]
	}
	text := make([]byte, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		c := b[i+low]
		if b[i+high] != 0 {
			c = 0x80
		}
		text = append(text, c)
	}
	return text
}
