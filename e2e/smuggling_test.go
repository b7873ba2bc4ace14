package e2e

import (
	"debug/buildinfo"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestSmuggling sends bytes that two servers could split into requests in different
// ways. Each row ends with a second request, which must not be treated as one: the row
// is refused, or answered and the connection closed, so that no server reads the bytes
// after it.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(100, "")})
	s.put("smuggled.png", s3.Object{Body: png(100, "")})
	const (
		get      = "GET /shop/a.png HTTP/1.1\r\nHost: x\r\n"
		smuggled = "GET /shop/smuggled.png HTTP/1.1\r\nHost: x\r\n\r\n"
	)
	for _, tc := range []struct {
		name    string
		request string
		status  int
	}{
		{"Content-Length and Transfer-Encoding", get + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
		{"Transfer-Encoding and Content-Length", get + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 413},
		{"Content-Length 0 and Transfer-Encoding", get + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
		{"two different Content-Length", get + "Content-Length: 0\r\nContent-Length: 50\r\n\r\n", 400},
		{"the same Content-Length twice", get + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400},
		{"list of Content-Length", get + "Content-Length: 0, 0\r\n\r\n", 400},
		{"Content-Length with a sign", get + "Content-Length: +0\r\n\r\n", 400},
		{"Content-Length below zero", get + "Content-Length: -1\r\n\r\n", 400},
		{"Content-Length in hexadecimal", get + "Content-Length: 0x0\r\n\r\n", 400},
		{"Content-Length of two words", get + "Content-Length: 0 5\r\n\r\n", 400},
		{"Content-Length empty", get + "Content-Length:\r\n\r\n", 400},
		{"Content-Length too large to count", get + "Content-Length: 18446744073709551616\r\n\r\n", 400},
		{"space before the colon of Content-Length", get + "Content-Length : 5\r\n\r\n", 400},
		{"GET with a body", get + "Content-Length: 3\r\n\r\nabc", 413},
		{"GET whose body is a request", get + "Content-Length: 48\r\n\r\n", 413},
		{"GET with a body in chunks", get + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 413},
		{"GET with an empty body in chunks", get + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
		{"HEAD with a body", "HEAD /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413},
		{"newline in a chunk extension", get + "Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n", 413},
		{"chunk size too large to count", get + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 413},
		{"trailers", get + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: y\r\n\r\n", 413},
		{"two Transfer-Encoding", get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
		{"two Transfer-Encoding, one identity", get + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
		{"Transfer-Encoding identity", get + "Transfer-Encoding: identity\r\n\r\n", 413},
		{"transfer-encoding IDENTITY", get + "transfer-encoding: IDENTITY\r\n\r\n", 413},
		{"Transfer-Encoding identity and Content-Length", get + "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n", 413},
		{"Transfer-Encoding xchunked", get + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 413},
		{"Transfer-Encoding gzip", get + "Transfer-Encoding: gzip\r\n\r\n", 413},
		{"Transfer-Encoding gzip of a HEAD", "HEAD /shop/a.png HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 413},
		{"Transfer-Encoding gzip, chunked", get + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 413},
		{"Transfer-Encoding chunked, identity", get + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 413},
		{"Transfer-Encoding quoted", get + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 413},
		{"Transfer-Encoding behind a vertical tab", get + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
		{"Transfer-Encoding empty", get + "Transfer-Encoding:\r\n\r\n", 413},
		{"space before the colon of Transfer-Encoding", get + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
		{"tab before the colon of Transfer-Encoding", get + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400},
		{"Transfer-Encoding in HTTP/1.0", "GET /shop/a.png HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
		{"folded line", get + "X-A: b\r\n c\r\n\r\n", 400},
		{"folded line with a tab", get + "X-A: b\r\n\tc\r\n\r\n", 400},
		{"folded line that reads like a header", get + "X-A: b\r\n Content-Length: 48\r\n\r\n", 400},
		{"folded Transfer-Encoding", get + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 413},
		{"folded Transfer-Encoding identity", get + "Transfer-Encoding:\r\n identity\r\n\r\n", 413},
		{"folded first line", "GET /shop/a.png HTTP/1.1\r\n Host: x\r\n\r\n", 400},
		{"folded line, the last", get + " x\r\n\r\n", 400},
		{"lines end in LF alone", "GET /shop/a.png HTTP/1.1\nHost: x\n\n", 400},
		{"one line ends in LF alone", get + "X-A: b\nX-B: c\r\n\r\n", 400},
		{"the empty line is LF alone", get + "X-A: b\r\n\n", 400},
		{"a line ends in CR alone", get + "X-A: b\rContent-Length: 48\r\n\r\n", 400},
		{"CR before CR LF", get + "X-A: b\r\r\n\r\n", 400},
		{"NUL in a header", get + "X-A: b\x00c\r\n\r\n", 400},
		{"NUL in a name", get + "X-\x00A: b\r\n\r\n", 400},
		{"no colon", get + "nonsense\r\n\r\n", 400},
		{"no name", get + ": b\r\n\r\n", 400},
		{"no Host", "GET /shop/a.png HTTP/1.1\r\n\r\n", 400},
		{"two Hosts", get + "Host: y\r\n\r\n", 400},
		{"the same Host twice", get + "Host: x\r\n\r\n", 400},
		{"absolute-form without a Host", "GET http://x/shop/a.png HTTP/1.1\r\n\r\n", 400},
		{"HTTP/0.9", "GET /shop/a.png\r\n\r\n", 400},
		{"HTTP/0.9 with headers", "GET /shop/a.png\r\nHost: x\r\n\r\n", 400},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		{"no such version", "GET /shop/a.png HTTP/11\r\nHost: x\r\n\r\n", 400},
		{"version in lower case", "GET /shop/a.png http/1.1\r\nHost: x\r\n\r\n", 400},
		{"something behind the version", "GET /shop/a.png HTTP/1.1 x\r\nHost: x\r\n\r\n", 400},
		{"two spaces before the target", "GET  /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"two spaces behind the target", "GET /shop/a.png  HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"tabs for spaces", "GET\t/shop/a.png\tHTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"space before the method", " GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"header too large", get + "X-A: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", 431},
		{"too many headers", get + strings.Repeat("A: b\r\n", 4<<10) + "\r\n", 431},
		{"POST with a body", "POST /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405},
		{"POST whose body is a request", "POST /shop/a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 48\r\n\r\n", 405},
		{"POST in chunks", "POST /shop/a.png HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 405},
		{"POST without a body", "POST /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		{"TRACE", "TRACE /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 405},
		{"Expect without a body", get + "Expect: 100-continue\r\n\r\n", 417},
		{"Expect with a body", get + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", 413},
		{"Expect with a body in chunks", get + "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
		{"Expect in capitals", get + "Expect: 100-CONTINUE\r\n\r\n", 417},
		{"Expect of something else", get + "Expect: 200-ok\r\n\r\n", 417},
		{"Expect of nothing and a body", get + "Expect:\r\nContent-Length: 3\r\n\r\nabc", 413},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			text := s.dial().send(tc.request + smuggled).all() // returns when the connection is closed
			answers := regexp.MustCompile(`HTTP/1\.[01] (\d{3}) [^\r]*\r\n`).FindAllStringSubmatch(text, -1)
			if len(answers) != 1 || !strings.HasPrefix(text, answers[0][0]) {
				t.Fatalf("got %d answers: %.300q", len(answers), text)
			}
			if got := answers[0][1]; got != strconv.Itoa(tc.status) {
				t.Errorf("got %s, want %d", got, tc.status)
			}
			if !strings.Contains(text, "\r\nConnection: close\r\n") {
				t.Errorf("the answer does not say that the connection ends: %.300q", text)
			}
			if strings.Contains(text, "evil.example") || strings.Contains(text, "nonsense") {
				t.Errorf("the answer quotes the request: %q", text)
			}
		})
	}
	t.Cleanup(func() { // after the parallel rows
		if n := s.calls("smuggled.png"); n != 0 {
			t.Errorf("S3 was asked %d times for what was smuggled", n)
		}
	})
}

// TestHarmlessFraming: an accepted request leaves the connection in order, and the next
// request is the client's own.
func TestHarmlessFraming(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(100, "")
	s.put("a.png", s3.Object{Body: body})
	for name, lines := range map[string]string{
		"nothing":                "",
		"Content-Length 0":       "Content-Length: 0\r\n",
		"empty header":           "X-A:\r\n",
		"empty Expect":           "Expect:\r\n",
		"blanks around a value":  "X-A: \t b \t \r\n",
		"a name like an end":     "TE: trailers\r\nT: u\r\n",
		"Transfer-Encodings":     "Transfer-Encodings: chunked\r\n",
		"not quite Content-Len.": "Content_Length: 5\r\nContent-Lengths: 5\r\n",
		"upgrade":                "Connection: Upgrade\r\nUpgrade: websocket\r\n",
		"h2c":                    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
		"8 bit":                  "X-A: \xe9\xff\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := s.dial()
			for range 2 {
				wantPicture(t, w.send("GET /shop/a.png HTTP/1.1\r\nHost: x\r\n"+lines+"\r\n").answer(http.MethodGet), body)
			}
		})
	}
}

// TestFasthttpIsLinked: the refusals above need a newer fasthttp than Fiber requires.
// A test in proxy checks the line in go.mod; this one checks the linked binary.
func TestFasthttpIsLinked(t *testing.T) {
	t.Parallel()
	const module = "github.com/valyala/fasthttp"
	text, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`(?m)^.*` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(text)
	if required == nil {
		t.Fatalf("go.mod does not require %s", module)
	}
	info, err := buildinfo.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if m.Path == module {
			if m.Replace != nil || m.Version != string(required[1]) {
				t.Errorf("the program has %s, replaced by %v; go.mod requires %s", m.Version, m.Replace, required[1])
			}
			return
		}
	}
	t.Fatalf("the program has no %s", module)
}
