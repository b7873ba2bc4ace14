package origin

import (
	"bufio"
	"bytes"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
)

func TestLengthScan(t *testing.T) {
	t.Parallel()
	for text, found := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n":                                                           true,
		"HTTP/1.1 200 OK\nCONTENT-LENGTH:1\n\n":                                                                  true,
		"HTTP/1.1 200 OK\r\nX: y\r\ncontent-length:\r\n\r\n":                                                     true,
		"HTTP/1.1 200 OK\r\nX: Content-Length: 1\r\n\r\n":                                                        false,
		"HTTP/1.1 200 OK\r\nContent-Lengths: 1\r\n\r\n":                                                          false,
		"HTTP/1.1 200 OK\r\nX-Content-Length: 1\r\n\r\n":                                                         false,
		"HTTP/1.1 200 OK\r\nX: y\r\n\r\nContent-Length: 1\r\n\r\n":                                               false,
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n":                true,
		"HTTP/1.1 100 Continue\n\nHTTP/1.1 102 Processing\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\n":             true,
		"HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n\r\nContent-Length: 1\r\n": false,
		"HTTP/1.1  103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1   200 OK\r\nContent-Length: 1\r\n\r\n":             true,
		"HTTP/1.1 200 OK\r\nHTTP/1.1 103: y\r\n\r\nContent-Length: 1\r\n\r\n":                                    false,
		"\r\n\r\nContent-Length: 1\r\n\r\n":                                                                      false,
		"":                                                                                                       false,
	} {
		for _, step := range []int{1, 7, 1 << 10} {
			if got := scanned([]byte(text), step); got != found {
				t.Errorf("%q in pieces of %d: found %t, want %t", text, step, got, found)
			}
		}
	}
}

// scanned says whether a scan finds a length in a reply that arrives in pieces of step bytes.
func scanned(reply []byte, step int) bool {
	var s lengthScan
	for ; len(reply) > 0; reply = reply[min(step, len(reply)):] {
		s.write(reply[:min(step, len(reply))])
	}
	return s.found
}

// FuzzLengthScan checks that a scan finds every length that net/http could have removed, and
// the same in all pieces.
func FuzzLengthScan(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\nX: y\n\tz\nCONTENT-LENGTH:1\n\n",
		"HTTP/1.1  103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", "HTTP/1.0 200\r\n\r\nContent-Length: 1", "",
	} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, reply []byte, step int) {
		found := scanned(reply, len(reply))
		if scanned(reply, max(step, 1)) != found {
			t.Errorf("%q in pieces of %d: found %t, want %t", reply, step, !found, found)
		}
		if hasLength(reply) && !found {
			t.Errorf("the length in %q is not found", reply)
		}
	})
}

// hasLength reads the headers of a reply as net/http does.
func hasLength(reply []byte) bool {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(reply)))
	for {
		line, err := r.ReadLine()
		if err != nil {
			return false
		}
		proto, status, _ := strings.Cut(line, " ")
		if _, _, ok := http.ParseHTTPVersion(proto); !ok {
			return false
		}
		header, err := r.ReadMIMEHeader()
		if err != nil {
			return false
		}
		if !strings.HasPrefix(strings.TrimLeft(status, " "), "1") {
			return header.Get("Content-Length") != ""
		}
	}
}
