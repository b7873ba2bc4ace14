package origin

import "testing"

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
		"HTTP/1.1 200 OK\r\nHTTP/1.1 103: y\r\n\r\nContent-Length: 1\r\n\r\n":                                    false,
		"\r\n\r\nContent-Length: 1\r\n\r\n":                                                                      false,
		"":                                                                                                       false,
	} {
		for _, step := range []int{1, 7, 1 << 10} {
			var s lengthScan
			for rest := []byte(text); len(rest) > 0; rest = rest[min(step, len(rest)):] {
				s.write(rest[:min(step, len(rest))])
			}
			if s.found != found {
				t.Errorf("%q in pieces of %d: found %t, want %t", text, step, s.found, found)
			}
		}
	}
}
