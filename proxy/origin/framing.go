package origin

// lengthScan looks for a Content-Length among the headers of a reply as they arrive, because
// net/http removes one that stands beside a Transfer-Encoding. Such a reply may be read
// differently by a server on the way (request smuggling), and RFC 9112, section 6.3, has it
// handled as an error.
type lengthScan struct {
	line  [len(lengthName)]byte // the beginning of the line, in lower case; a status line without its spaces
	n     int                   // its length, or more
	begun bool                  // the status line is complete
	ended bool
	found bool
	// interim says that the headers are those of a 1xx, which another reply follows.
	interim bool
}

const lengthName = "content-length:"

var errTwoLengths = &protocolError{text: "reply has a Content-Length and a Transfer-Encoding"}

// write takes the next bytes of the reply. Those after its headers do not count.
func (s *lengthScan) write(p []byte) {
	for _, c := range p {
		switch {
		case s.ended:
			return
		case c == '\r', c == ' ' && !s.begun: // net/http takes any number of spaces before a status
		case c == '\n':
			s.endLine()
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

// endLine takes the end of a line. An empty one ends the headers.
func (s *lengthScan) endLine() {
	switch {
	case s.n == 0 && s.interim:
		*s = lengthScan{}
	case s.n == 0:
		s.ended = true
	case !s.begun:
		s.begun, s.interim = true, s.line[len("http/1.1")] == '1'
	}
	s.n = 0
}
