package e2e

import (
	"net/http"
	"slices"
	"strconv"
	"testing"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// TestOldTypeNames: old and sloppy names of the served types mean them, and the answer has
// the name that browsers know.
func TestOldTypeNames(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	n := 0
	for want, names := range map[string][]string{
		"image/jpeg": {
			"image/pjpeg", "image/x-jpeg", "image/x-jpg", "image/jfif", "image/pjpg", "image/jpe", "image/pipeg", "application/jpg",
			"image/x-citrix-jpeg", "image/.jpg", "images/jpeg", "IMAGE/PJPEG; q=1", `"image/jpeg"`, "image/jpeg ",
		},
		"image/png":     {"image/x-png", "application/png", "application/x-png", "image/x-citrix-png", "'image/png'"},
		"image/apng":    {"image/vnd.mozilla.apng", "image/x-apng"},
		"image/gif":     {"image/x-gif"},
		"image/webp":    {"image/x-webp"},
		"image/avif":    {"image/avif-sequence", "image/x-avif"},
		"image/heic":    {"image/heic-sequence", "image/x-heic"},
		"image/heif":    {"image/heif-sequence"},
		"image/bmp":     {"image/x-ms-bmp", "image/x-bmp", "image/x-windows-bmp", "image/ms-bmp", "application/x-bmp"},
		"image/x-icon":  {"image/ico", "image/x-ico", "image/icon"},
		"image/tiff":    {"image/tif", "image/x-tiff", "image/x-tif"},
		"image/svg+xml": {"image/svg", "application/svg+xml", "image/svg-xml", "application/svg", "image/x-svg+xml", "image/svg xml"},
	} {
		body := bodyOfType(want)
		for _, name := range names {
			n++
			key := strconv.Itoa(n)
			s.put(key, s3.Object{Body: body, ContentType: name})
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s.head("/shop/" + key)
				if got := s.askedFor(key); !slices.Equal(got, []string{"HEAD "}) {
					t.Errorf("S3 was asked %q: the name means a type, the bytes need not be asked for", got)
				}
				wantType(t, s, "/shop/"+key, body, want)
			})
		}
	}
}

// bodyOfType is a sample of a type, or bytes that begin as any picture does not.
func bodyOfType(contentType string) []byte {
	for _, p := range picture.Samples() {
		if p.ContentType == contentType {
			return p.Body
		}
	}
	return []byte("bytes of a picture")
}

// useless are declarations that name no type.
var useless = []string{
	"text/plain", "text/plain; charset=utf-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
	"application/force-download", "application/x-download", "application/download", "application/unknown", "unknown/unknown", "content/unknown",
	"image/unknown", "image/*", "*/*", "image/", "/", "binary", "file", "undefined", "null", "image", "jpg", "jpeg", "png",
	"gif", ".jpg", "octet-stream", "text/xml", "application/xml", "application/xml; charset=utf-8", "none", `""`, "application/x-octet-stream",
	"image;base64", "image/undefined", "octet/stream",
}

// TestUselessTypes: the first bytes decide the type of an object whose declaration names
// none, and a page is never served.
func TestUselessTypes(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	samples := picture.Samples()
	for i, declared := range useless {
		t.Run(declared, func(t *testing.T) {
			t.Parallel()
			p := samples[i%len(samples)]
			for j, tc := range []struct {
				body []byte
				want string
			}{
				{p.Body, p.ContentType},
				{[]byte(svgDrawing), "image/svg+xml"},
				{[]byte("<!-- x -->\n<html><script>alert(1)</script></html>"), ""},
				{[]byte("just text"), ""},
				{nil, ""},
			} {
				key := strconv.Itoa(i) + "-" + strconv.Itoa(j)
				s.put(key, s3.Object{Body: tc.body, ContentType: declared})
				wantType(t, s, "/shop/"+key, tc.body, tc.want)
			}
		})
	}
}

// TestOtherTypes: a declaration of another type is believed, and the bytes are not looked at.
func TestOtherTypes(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := sampleOf(t, "image/png")
	for i, declared := range []string{
		"text/html", "application/xhtml+xml", "application/json", "application/javascript", "text/javascript", "text/css",
		"video/mp4", "audio/mpeg", "application/pdf", "application/zip", "image/x-xbitmap", "image/jp2", "image/vnd.adobe.photoshop",
		"image/x-unknown", "image/png, text/html", "text/html, image/png", "application/x-directory", "image/svg+xml-compressed",
		"message/rfc822", "image/x-tga", "text/png", "multipart/related",
	} {
		key := strconv.Itoa(i)
		s.put(key, s3.Object{Body: body, ContentType: declared})
		wantType(t, s, "/shop/"+key, nil, "")
		if got := s.calls(key); got > 3 {
			t.Errorf("%s: S3 was asked %d times", declared, got)
		}
	}
}

// TestTwoTypes: two lines of Content-Type count if they are equal; otherwise it is not
// known which one is right.
func TestTwoTypes(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := sampleOf(t, "image/png")
	for key, want := range map[string]string{
		"image/png": "image/png", "image/jpeg": "", "text/html": "", "binary/octet-stream": "",
	} {
		s.put(key, s3.Object{Body: body, ContentType: "image/png"})
		fault := s3.RawHeader("Content-Type: " + key)
		s.s3.Next("media", "web/"+key, fault, fault, fault, fault, fault)
		if want != "" {
			for _, r := range []*response{s.head("/shop/" + key), s.get("/shop/" + key)} {
				if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != want {
					t.Errorf("%s: got %s", key, summary(r))
				}
			}
			continue
		}
		wantType(t, s, "/shop/"+key, nil, "")
	}
}
