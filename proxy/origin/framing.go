package origin

// lengthScan looks for a Content-Length among the headers of a reply as they arrive, because
// net/http removes one that stands beside a Transfer-Encoding. Such a reply may be read
// differently by a server on the way (request smuggling), and RFC 9112, section 6.3, has it
// handled as an error.
type lengthScan struct {
	line  [len(lengthName)]byte // the beginning of the line, in lower case
	n     int                   // its length, or more
	ended bool
	found bool
}

const lengthName = "content-length:"

var errTwoLengths = &protocolError{text: "reply has a Content-Length and a Transfer-Encoding"}

// write takes the next bytes of the reply. Those after its headers do not count.
func (s *lengthScan) write(p []byte) {
	for _, c := range p {
		switch {
		case s.ended:
			return
		case c == '\r':
		case c == '\n':
			s.ended, s.n = s.n == 0, 0
		case s.n < len(s.line):
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			s.line[s.n] = c
			s.n++
			s.found = s.found || string(s.line[:s.n]) == lengthName
		}
	}
}
