package e2e

import (
	"net/http"
	"strconv"
	"testing"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// TestTypes: an object declared as a picture is one, an object of a generic type is
// sniffed, and all others are refused, by HEAD and GET.
func TestTypes(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	const svg = `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>`
	type row struct {
		declared, body string
		want           string // empty: 415
	}
	rows := []row{
		{"image/png", string(png(100, "")), "image/png"},
		{"IMAGE/PNG", string(png(100, "")), "image/png"},
		{"image/png; charset=utf-8", string(png(100, "")), "image/png"},
		{"image/jpg", "anything", "image/jpg"},
		{"image/vnd.microsoft.icon", "anything", "image/vnd.microsoft.icon"},
		{"image/svg+xml", svg, "image/svg+xml"},
		{"Image/SVG+XML; charset=utf-8", svg, "image/svg+xml"},
		{"image/png", "no picture, but declared one", "image/png"},
		{"image/png", "", "image/png"},
		{"binary/octet-stream", svg, "image/svg+xml"},
		{"application/octet-stream", string(png(100, "")), "image/png"},
		{"Binary/Octet-Stream; x=y", string(png(10_000, "")), "image/png"},

		{"text/html", "<html>", ""},
		{"text/html", string(png(100, "")), ""},
		{"text/plain", string(png(100, "")), "image/png"},
		{"text/plain", "just text", ""},
		{"application/xml", svg, "image/svg+xml"},
		{"text/xml", svg, "image/svg+xml"},
		{"text/xml", "<?xml version='1.0'?><a/>", ""},
		{"application/pdf", "%PDF-1.7", ""},
		{"application/json", "{}", ""},
		{"video/mp4", "x", ""},
		{"image/x-unknown", string(png(100, "")), ""},
		{"image/*", string(png(100, "")), "image/png"},
		{"image/png, text/html", string(png(100, "")), ""},
		{"application/x-directory", "", ""},
		{"binary/octet-stream", "<html><script>alert(1)</script></html>", ""},
		{"binary/octet-stream", "<?xml version='1.0'?><a/>", ""},
		{"binary/octet-stream", "%PDF-1.7\n", ""},
		{"binary/octet-stream", "PK\x03\x04", ""},
		{"binary/octet-stream", "just text", ""},
		{"binary/octet-stream", "", ""},
		{"binary/octet-stream", "\x89", ""},
	}
	for _, p := range picture.Samples() {
		rows = append(rows, row{p.ContentType, string(p.Body), p.ContentType}, row{"binary/octet-stream", string(p.Body), p.ContentType})
	}
	for i, tc := range rows {
		t.Run(tc.declared, func(t *testing.T) {
			t.Parallel()
			key := strconv.Itoa(i) + ".png" // the name means nothing
			s.put(key, s3.Object{Body: []byte(tc.body), ContentType: tc.declared})
			if tc.want == "" {
				wantProblem(t, s.get("/shop/"+key), http.StatusUnsupportedMediaType, "not-an-image")
				wantProblem(t, s.get("/shop/"+key, "Range", "bytes=0-0"), http.StatusUnsupportedMediaType, "not-an-image")
				if r := s.head("/shop/" + key); r.StatusCode != http.StatusUnsupportedMediaType {
					t.Errorf("HEAD: got %s", r.Status)
				}
				return
			}
			for _, r := range []*response{s.head("/shop/" + key), s.get("/shop/" + key), s.get("/shop/" + key)} {
				if got := r.Header.Values("Content-Type"); r.StatusCode != http.StatusOK || len(got) != 1 || got[0] != tc.want {
					t.Errorf("%s: got %s and %q, want %q", r.Request.Method, r.Status, got, tc.want)
				}
				if r.Request.Method == http.MethodGet {
					wantPicture(t, r, []byte(tc.body))
				}
				if got := r.Header.Get("Content-Security-Policy"); got != "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox" {
					t.Errorf("Content-Security-Policy is %q", got)
				}
			}
		})
	}
}

// TestEncodedObjects: an object stored with a content coding is refused, because the
// client would have to decode it without knowing. codings_test.go has more.
func TestEncodedObjects(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for i, tc := range []struct {
		encoding, declared string
		more               []string // further lines
		ok                 bool
	}{
		{"", "image/png", nil, true},
		{"identity", "image/png", nil, true},
		{"aws-chunked", "image/png", nil, true},
		{"AWS-chunked,", "binary/octet-stream", nil, true},
		{"gzip", "image/png", nil, false},
		{"gzip", "image/svg+xml", nil, false},
		{"br", "binary/octet-stream", nil, false},
		{"aws-chunked,gzip", "image/png", nil, false},
		{"aws-chunked", "image/png", []string{"Content-Encoding: gzip"}, false},
		{"unheard-of", "image/png", nil, true},
		{"unheard-of", "image/jpeg", nil, false},
		{"unheard-of", "image/png", []string{"Content-Encoding: gzip"}, false},
	} {
		t.Run(tc.encoding+" "+tc.declared, func(t *testing.T) {
			t.Parallel()
			key := strconv.Itoa(i) + ".png"
			s.put(key, s3.Object{Body: png(5000, ""), ContentType: tc.declared, ContentEncoding: tc.encoding})
			fault := s3.RawHeader(tc.more...)
			s.s3.Next("media", "web/"+key, fault, fault, fault, fault)
			if !tc.ok {
				if r := s.head("/shop/" + key); r.StatusCode != http.StatusUnsupportedMediaType {
					t.Errorf("HEAD: got %s", r.Status)
				}
				wantProblem(t, s.get("/shop/"+key), http.StatusUnsupportedMediaType, "not-an-image")
				wantProblem(t, s.get("/shop/"+key, "Range", "bytes=0-0"), http.StatusUnsupportedMediaType, "not-an-image")
				return
			}
			for _, r := range []*response{s.head("/shop/" + key), s.get("/shop/" + key)} {
				if r.StatusCode != http.StatusOK || r.Header.Get("Content-Encoding") != "" {
					t.Errorf("%s: got %s, %q", r.Request.Method, r.Status, r.Header.Get("Content-Encoding"))
				}
			}
		})
	}
}

// TestNoType: an object without a type is sniffed, too.
func TestNoType(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("a", s3.Object{Body: png(100, "")})
	s.put("b", s3.Object{Body: []byte("<html>")})
	s.s3.Hook(func(*s3.Request) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Del("Content-Type") }}
	})
	for range 2 {
		r := s.get("/shop/a")
		wantPicture(t, r, png(100, ""))
		if got := r.Header.Get("Content-Type"); got != "image/png" {
			t.Errorf("Content-Type is %q", got)
		}
		wantProblem(t, s.get("/shop/b"), http.StatusUnsupportedMediaType, "not-an-image")
	}
}
