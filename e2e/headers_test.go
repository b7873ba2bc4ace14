package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// These are the sorted header names of answers. The server itself adds Date and
// Connection.
const (
	onAll     = "Connection Content-Security-Policy Date X-Content-Type-Options X-Request-Id"
	onObject  = onAll + " Age Cache-Control Cache-Status ETag Last-Modified"
	onPicture = onObject + " Accept-Ranges Content-Length Content-Type"
	onProblem = onAll + " Cache-Control Content-Length Content-Type"
)

// TestHeaderNames compares the names on the wire with a list. S3's answers have many
// more.
func TestHeaderNames(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	rich := s3.Object{
		Body: png(5000, ""), ContentEncoding: "aws-chunked", ContentDisposition: `attachment; filename="x.html"`,
		Metadata: map[string]string{"owner": "me", "set-cookie": "x=y"},
	}
	for _, key := range []string{"a.png", "b.png", "c.png", "d.png", "e.png", "f.png"} {
		s.put(key, rich)
	}
	s.put("x.html", s3.Object{Body: []byte("<html>"), ContentType: "text/html"})
	s.s3.Hook(func(*s3.Request) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) {
			for _, name := range []string{
				"Set-Cookie", "Location", "Refresh", "Link", "Server", "Via", "Expires", "Pragma", "Vary", "Alt-Svc", "Age",
				"Access-Control-Allow-Origin", "Strict-Transport-Security", "WWW-Authenticate", "X-Frame-Options", "Trailer",
				"Content-Language", "Content-Location", "x-amz-website-redirect-location", "x-amz-version-id", "x-amz-expiration",
				"X-Accel-Redirect", "Content-Security-Policy", "X-Content-Type-Options", "X-Request-Id", "Cache-Status",
			} {
				h.Set(name, "from-s3")
			}
		}}
	})
	for _, tc := range []struct {
		name, method, target string
		lines                string
		status               int
		want                 string
	}{
		{"miss", "GET", "/shop/a.png", "", 200, onPicture},
		{"hit", "GET", "/shop/a.png", "", 200, onPicture},
		{"HEAD of a hit", "HEAD", "/shop/a.png", "", 200, onPicture},
		{"cold HEAD", "HEAD", "/shop/b.png", "", 200, onPicture},
		{"range of a hit", "GET", "/shop/a.png", "Range: bytes=0-4\r\n", 206, onPicture + " Content-Range"},
		{"cold range", "GET", "/shop/c.png", "Range: bytes=0-4\r\n", 206, onPicture + " Content-Range"},
		{"several ranges", "GET", "/shop/a.png", "Range: bytes=0-1,3-4\r\n", 200, onPicture},
		{"304 of a hit", "GET", "/shop/a.png", "If-None-Match: *\r\n", 304, onObject},
		{"304 of a miss", "GET", "/shop/d.png", "If-None-Match: *\r\n", 304, onObject},
		{"304 of a HEAD", "HEAD", "/shop/a.png", "If-None-Match: *\r\n", 304, onObject},
		{"304 of a cold HEAD", "HEAD", "/shop/e.png", "If-None-Match: *\r\n", 304, onObject},
		{"412", "GET", "/shop/a.png", "If-Match: \"x\"\r\n", 412, onProblem},
		{"412 of a HEAD", "HEAD", "/shop/a.png", "If-Match: \"x\"\r\n", 412, onProblem},
		{"416", "GET", "/shop/a.png", "Range: bytes=5000-\r\n", 416, onProblem + " Content-Range"},
		{"cold 416", "GET", "/shop/f.png", "Range: bytes=5000-\r\n", 416, onProblem + " Content-Range"},
		{"404", "GET", "/shop/none.png", "", 404, onProblem},
		{"404 of a HEAD", "HEAD", "/shop/none.png", "", 404, onProblem},
		{"400", "GET", "/shop/..", "", 400, onProblem},
		{"415", "GET", "/shop/x.html", "", 415, onProblem},
		{"415 of a HEAD", "HEAD", "/shop/x.html", "", 415, onProblem},
		{"405", "PUT", "/shop/a.png", "", 405, onProblem + " Allow"},
		{"health", "GET", "/-/healthz", "", 200, onProblem},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := s.dial().send(tc.method + " " + tc.target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + tc.lines + "\r\n").all()
			if !strings.HasPrefix(text, fmt.Sprintf("HTTP/1.1 %d ", tc.status)) {
				t.Fatalf("got %.200q, want %d", text, tc.status)
			}
			want := strings.Fields(tc.want)
			slices.Sort(want)
			if got := headerNames(text); !slices.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			wantFixedHeaders(t, text)
			if strings.Contains(text, "from-s3") || strings.Contains(strings.ToLower(text), "amz") {
				t.Errorf("a header of S3 is there: %q", text)
			}
		})
	}
}

// headerNames returns the header names of a raw answer, sorted, with repetitions.
func headerNames(text string) []string {
	header, _, _ := strings.Cut(text, "\r\n\r\n")
	var names []string
	for _, line := range strings.Split(header, "\r\n")[1:] {
		name, _, ok := strings.Cut(line, ": ")
		if !ok {
			name = "NO HEADER: " + line
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// wantFixedHeaders checks the values that never change.
func wantFixedHeaders(t *testing.T, text string) {
	t.Helper()
	for _, line := range []string{
		"X-Content-Type-Options: nosniff",
		"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
	} {
		if !strings.Contains(text, "\r\n"+line+"\r\n") {
			t.Errorf("no line %q in %.500q", line, text)
		}
	}
	if !regexp.MustCompile(`\r\nX-Request-Id: [0-9a-f]{16}\r\n`).MatchString(text) {
		t.Errorf("no request id in %.500q", text)
	}
}

// TestHostileHeaders has S3 send headers that could split an answer or add a header.
// With every status, only our names are on the wire.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	values := map[string]string{
		"CR LF":      "x\r\nX-Evil: 1",
		"CR LF fold": "x\r\n X-Evil: 1",
		"LF":         "x\nX-Evil: 1",
		"CR":         "x\rX-Evil: 1",
		"NUL":        "x\x00X-Evil: 1",
		"8 bit":      "x\xe9\xff",
		"long":       strings.Repeat("x", 64<<10),
		"not so":     strings.Repeat("x", 20<<10),
		"an answer":  "x\r\n\r\nHTTP/1.1 200 OK\r\nX-Evil: 1\r\n\r\n",
	}
	for _, name := range []string{
		"Content-Type", "ETag", "Last-Modified", "Cache-Control", "Content-Encoding", "Content-Disposition", "x-amz-meta-x",
		"x-amz-request-id", "X-Any",
	} {
		for kind, value := range values {
			t.Run(name+" with "+kind, func(t *testing.T) {
				t.Parallel()
				for i, shape := range []string{"%s", "image/png; %s", `"%s"`, "public, max-age=60, x=\"%s\""} {
					key := fmt.Sprintf("%s-%s-%d.png", strings.ReplaceAll(kind, " ", ""), name, i)
					s.put(key, s3.Object{Body: png(100, "")})
					fault := s3.RawHeader(name + ": " + fmt.Sprintf(shape, value))
					fault.Header = func(h http.Header) { h.Del(name) }
					s.s3.Next("media", "web/"+key, fault, fault, fault, fault)
					text := s.dial().send("GET /shop/" + key + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").all()
					wantOwnHeaders(t, text)
				}
			})
		}
	}
}

// wantOwnHeaders checks that the answer has only our headers, each on its line.
func wantOwnHeaders(t *testing.T, text string) {
	t.Helper()
	for _, got := range headerNames(text) {
		if !slices.Contains(strings.Fields(onPicture), got) {
			t.Errorf("%q is on the wire: %.700q", got, text)
		}
	}
	// The text after S3's header is the body, whatever it contains.
	header, _, _ := strings.Cut(text, "\r\n\r\n")
	if strings.ContainsAny(strings.ReplaceAll(header, "\r\n", ""), "\r\n\x00") {
		t.Errorf("a line is no line: %.700q", header)
	}
}

// TestUnkeyedHeaders sends headers that have poisoned other caches, on a miss. They do
// not reach S3, and the next client gets the usual answer.
func TestUnkeyedHeaders(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(3000, "")
	s.put("clean.png", s3.Object{Body: body})
	clean := stableHeader(s.ask("/shop/clean.png"))
	asked := s.s3.Requests()[0].Header
	for i, line := range []string{
		"X-Forwarded-Host: evil", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /evil",
		"X-Forwarded-Server: evil", "Forwarded: host=evil;proto=http", "X-Host: evil", "X-Original-URL: /shop/evil.png",
		"X-Rewrite-URL: /shop/evil.png", "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: PUT", "X-Method-Override: POST",
		"X-Real-IP: 127.0.0.1", "True-Client-IP: ::1", "CF-Connecting-IP: ::1", "Via: 1.1 evil", "Cache-Control: no-cache",
		"Cache-Control: no-store", "Cache-Control: max-age=0", "Cache-Control: only-if-cached", "Pragma: no-cache",
		"Accept: text/html", "Accept: application/xml", "Accept-Encoding: gzip, br", "Accept-Language: xx", "Accept-Charset: x",
		"Cookie: session=evil", "Authorization: Bearer evil", "Authorization: AWS4-HMAC-SHA256 Credential=x", "Proxy-Authorization: x",
		"Origin: https://evil", "Referer: https://evil", "User-Agent: <script>", "Range: lines=1-2", "Content-Type: text/html",
		"x-amz-security-token: evil", "x-amz-checksum-mode: DISABLED", "x-amz-server-side-encryption-customer-key: evil",
		"x-amz-expected-bucket-owner: 000000000000", "x-amz-website-redirect-location: /evil", "X-Request-Id: evil-evil-evil",
		"Connection: X-Request-Id, keep-alive", "TE: trailers", "Upgrade: h2c", "Max-Forwards: 0", "X-Timer: S1", "DNT: 1",
		"If-None-Match: \"no-such-tag\"", "If-Range: \"no-such-tag\"", "Host-Override: evil", "Max-Age: 1",
	} {
		t.Run(line, func(t *testing.T) {
			key := fmt.Sprintf("%d.png", i)
			s.put(key, s3.Object{Body: body})
			for _, r := range []*response{s.ask("/shop/"+key, line), s.ask("/shop/" + key)} {
				wantPicture(t, r, body)
				if got := stableHeader(r); got != clean {
					t.Errorf("got the header\n%s\nwant\n%s", got, clean)
				}
			}
			if n := s.calls(key); n != 1 {
				t.Errorf("S3 was asked %d times", n)
			}
			all := s.s3.Requests()
			for name, value := range all[len(all)-1].Header {
				if _, ok := asked[name]; !ok || strings.Contains(strings.Join(value, " "), "evil") {
					t.Errorf("S3 was sent %s: %q", name, value)
				}
			}
		})
	}
	// Host is no part of the key either.
	for _, host := range []string{"evil.example", "[::1]:99", "x:0"} {
		r := s.dial().send("GET /shop/clean.png HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n").answer(http.MethodGet)
		wantPicture(t, r, body)
	}
	if n := s.calls("clean.png"); n != 1 {
		t.Errorf("with other hosts S3 was asked %d times", n)
	}
}

// stableHeader is a header without the fields that differ in each answer.
func stableHeader(r *response) string {
	h := r.Header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Age", "Cache-Status", "Last-Modified"} {
		if len(h.Values(name)) != 1 {
			return "not one " + name
		}
		h.Del(name)
	}
	var b strings.Builder
	h.Write(&b)
	return b.String()
}

// TestOwnCacheControl: a change of an alias's Cache-Control for clients holds at once,
// also for stored objects, and does not change how long they are fresh here.
func TestOwnCacheControl(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(100, ""), CacheControl: "max-age=600"})
	s.put("never.png", s3.Object{Body: png(100, ""), CacheControl: "no-store"})
	for _, step := range []struct{ patch, a, never string }{
		{`{}`, "max-age=600", "no-store"},
		{`{"cache_control":"Public, max-age=31536000, immutable"}`, "public, max-age=31536000, immutable", "public, max-age=31536000, immutable"},
		{`{"cache_control":null}`, "max-age=600", "no-store"},
	} {
		s.patch("shop", step.patch)
		for range 2 {
			for target, want := range map[string]string{"/shop/a.png": step.a, "/shop/never.png": step.never} {
				r := s.get(target)
				wantPicture(t, r, png(100, ""))
				if age := r.Header.Get("Age"); age != "0" && strings.Contains(step.patch, "31536000") {
					t.Errorf("Age is %s, though the policy begins here", age)
				}
				if got := r.Header.Get("Cache-Control"); got != want {
					t.Errorf("after %s: %s has %q, want %q", step.patch, target, got, want)
				}
			}
		}
	}
	if a, never := s.calls("a.png"), s.calls("never.png"); a != 1 || never != 6 {
		t.Errorf("S3 was asked %d and %d times, want 1 and 6", a, never)
	}
}

// TestCORS: pages of the origins that an alias names may read its pictures, with every
// status of a picture. A missing object tells them nothing more.
func TestCORS(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a.png", s3.Object{Body: png(100, "")})
	const shop, evil = "https://shop.example.com", "https://evil.example.com"
	for _, tc := range []struct {
		patch, origin string
		allow, vary   string
	}{
		{`{}`, shop, "", ""},
		{`{"cors_origins":["https://shop.example.com","http://localhost:3000"]}`, shop, shop, "Origin"},
		{`{}`, "http://localhost:3000", "http://localhost:3000", "Origin"},
		{`{}`, evil, "", "Origin"},
		{`{}`, "HTTPS://shop.example.com", "", "Origin"},
		{`{}`, "https://shop.example.com.evil.com", "", "Origin"},
		{`{}`, "null", "", "Origin"},
		{`{}`, "", "", "Origin"},
		{`{"cors_origins":["*"]}`, evil, "*", ""},
		{`{"cors_origins":null}`, shop, "", ""},
	} {
		s.patch("shop", tc.patch)
		lines := []string{}
		if tc.origin != "" {
			lines = append(lines, "Origin: "+tc.origin)
		}
		for _, more := range []struct {
			line   string
			status int
		}{{"X-None: 1", 200}, {"Range: bytes=0-9", 206}, {"If-None-Match: *", 304}, {"Range: bytes=1000-", 416}} {
			r := s.ask("/shop/a.png", append(lines, more.line)...)
			if r.StatusCode != more.status {
				t.Errorf("%s: got %s", more.line, summary(r))
			}
			allow, vary := r.Header.Get("Access-Control-Allow-Origin"), r.Header.Get("Vary")
			if allow != tc.allow || vary != tc.vary || (r.Header.Get("Access-Control-Expose-Headers") != "") != (allow != "") {
				t.Errorf("%s from %q: allowed %q, Vary %q; want %q, %q", more.line, tc.origin, allow, vary, tc.allow, tc.vary)
			}
		}
		if r := s.ask("/shop/none.png", lines...); r.Header.Get("Access-Control-Allow-Origin") != "" || r.Header.Get("Vary") != "" {
			t.Errorf("a 404 has CORS headers: %v", r.Header)
		}
	}
}

// TestFallback: a placeholder is sent instead of a missing or unavailable picture, with
// the status of the error and a short lifetime.
func TestFallback(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	missing, broken := png(100, ""), png(9000, "")
	s.put("missing.png", s3.Object{Body: missing, CacheControl: "max-age=86400"})
	s.put("broken.png", s3.Object{Body: broken})
	s.patch("shop", `{"fallback":{"missing":"missing.png","broken":"broken.png"}}`)
	s.get("/shop/missing.png")
	eventually(t, "what stands in when S3 fails is fetched before that", func() bool {
		return s.calls("broken.png") == 1 && s.metric(`ixmage_cache_entries{tier="memory"}`) == 2
	})
	s.put("text.png", s3.Object{Body: []byte("no picture"), ContentType: "text/plain"})
	check := func(target string, lines []string, status int, body []byte, cacheControl string) {
		t.Helper()
		r := s.ask(target, lines...)
		if r.StatusCode != status || string(r.body) != string(body) || r.Header.Get("Content-Type") != "image/png" ||
			r.Header.Get("Cache-Control") != cacheControl || r.Header.Get("ETag") != "" || r.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: got %s with %d bytes and %v", target, summary(r), len(r.body), r.Header)
		}
	}
	for range 2 {
		check("/shop/none.png", nil, 404, missing, "public, max-age=5")
	}
	check("/shop/none.png", []string{"Range: bytes=0-9", "If-None-Match: *"}, 404, missing, "public, max-age=5")
	if head := s.head("/shop/none.png"); head.StatusCode != 404 || head.ContentLength != int64(len(missing)) {
		t.Errorf("HEAD: %s, length %d", summary(head), head.ContentLength)
	}
	wantProblem(t, s.get("/shop/text.png"), http.StatusUnsupportedMediaType, "not-an-image")
	wantProblem(t, s.get("/shop/a//b.png"), http.StatusBadRequest, "bad-key")
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InvalidAccessKeyId") })
	check("/shop/other.png", nil, 502, broken, "public, max-age=5")
	eventually(t, "it is counted as what it is", func() bool {
		return s.metric(`ixmage_http_requests_total{alias="shop",code="502",method="GET"}`) == 1
	})

	// If the placeholder itself is missing, the answer is a problem.
	s.patch("shop", `{"fallback":"nowhere.png"}`)
	wantProblem(t, s.get("/shop/other-2.png"), http.StatusBadGateway, "origin-credential")
	s.s3.Hook(nil)
	wantProblem(t, s.get("/shop/other-3.png"), http.StatusNotFound, "not-found")
}
