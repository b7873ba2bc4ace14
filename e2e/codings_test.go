package e2e

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// sampleOf returns a valid picture of a type.
func sampleOf(t *testing.T, contentType string) []byte {
	t.Helper()
	for _, p := range picture.Samples() {
		if p.ContentType == contentType {
			return p.Body
		}
	}
	t.Fatalf("no sample of %s", contentType)
	return nil
}

// notCodings are values of Content-Encoding that name no content coding.
var notCodings = []string{
	"base64", "BASE64", "binary", "none", "utf-8", "UTF-8", "utf8", "null", "undefined", "image/jpeg", "8bit", "7bit",
	"quoted-printable", "identity", "identity, base64", ",", "aws-chunked", "aws-chunked,base64", `""`, "''", "*", "en",
	"garbage \xc3\xbc", "false", "0", "gzipped", "unheard-of", "x=gz",
}

// TestNoCoding: a token in Content-Encoding that names no content coding is ignored where
// the first bytes fit the type, and the object is refused where they do not. HEAD, ranges
// and revalidations agree with GET.
func TestNoCoding(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	jpeg, svg := sampleOf(t, "image/jpeg"), sampleOf(t, "image/svg+xml")
	text := []byte(base64.StdEncoding.EncodeToString(jpeg))
	for i, coding := range notCodings {
		for j, tc := range []struct {
			declared string
			body     []byte
			want     string // empty: 415
		}{
			{"image/jpeg", jpeg, "image/jpeg"},
			{"image/jpg", jpeg, "image/jpg"},
			{"image/svg+xml", svg, "image/svg+xml"},
			{"binary/octet-stream", jpeg, "image/jpeg"},
			{"image/jpeg", text, ""},
			{"image/png", jpeg, ""},
			{"image/svg+xml", text, ""},
			{"binary/octet-stream", text, ""},
		} {
			if tc.want == "" && (tc.declared != "binary/octet-stream") && (strings.HasPrefix(coding, "identity") && !strings.Contains(coding, "base64") || coding == ",") {
				continue // these say that the bytes are as they are: the declared type is believed
			}
			t.Run(coding+" "+tc.declared+" "+strconv.Itoa(j), func(t *testing.T) {
				t.Parallel()
				key := strconv.Itoa(i) + "-" + strconv.Itoa(j)
				s.put(key, s3.Object{Body: tc.body, ContentType: tc.declared, ContentEncoding: coding})
				wantType(t, s, "/shop/"+key, tc.body, tc.want)
			})
		}
	}
}

// wantType checks that HEAD, GET, a range and a second GET agree on the type of an object;
// want is empty for 415.
func wantType(t *testing.T, s *env, path string, body []byte, want string) {
	t.Helper()
	if want == "" {
		if r := s.head(path); r.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("HEAD: got %s", r.Status)
		}
		wantProblem(t, s.get(path), http.StatusUnsupportedMediaType, "not-an-image")
		wantProblem(t, s.get(path, "Range", "bytes=0-0"), http.StatusUnsupportedMediaType, "not-an-image")
		return
	}
	for _, r := range []*response{s.head(path), s.get(path, "Range", "bytes=1-5"), s.get(path), s.head(path), s.get(path)} {
		if got := r.Header.Values("Content-Type"); len(got) != 1 || got[0] != want || r.Header.Values("Content-Encoding") != nil {
			t.Errorf("%s: got %s, %q, want %s", r.Request.Method, r.Status, r.Header, want)
			continue
		}
		switch {
		case r.Request.Method == http.MethodHead && r.StatusCode == http.StatusOK:
		case r.Request.Header.Get("Range") != "":
			if r.StatusCode != http.StatusPartialContent || !bytes.Equal(r.body, body[1:6]) {
				t.Errorf("range: got %s, %q", r.Status, r.body)
			}
		default:
			wantPicture(t, r, body)
		}
	}
}

// TestRealCoding: an object whose Content-Encoding names a registered content coding is
// refused, whatever its bytes are: the log names the Content-Encoding.
func TestRealCoding(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	jpeg := sampleOf(t, "image/jpeg")
	for i, coding := range []string{
		"gzip", "GZIP", "x-gzip", "br", "zstd", "deflate", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip",
		"aes128gcm", "aws-chunked,gzip", "gzip, identity", "base64, gzip", "gzip;q=1.0", `"gzip"`, "utf-8 gzip", "gzip,",
	} {
		t.Run(coding, func(t *testing.T) {
			t.Parallel()
			key := strconv.Itoa(i)
			s.put(key, s3.Object{Body: jpeg, ContentType: "image/jpeg", ContentEncoding: coding})
			wantType(t, s, "/shop/"+key, nil, "")
		})
	}
}

// TestNoCodingLarge: a range of an object past the size limit, and a revalidation, ignore
// the token too.
func TestNoCodingLarge(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--cache-object-max=64KiB")
	body := sampleOf(t, "image/png")
	large := append(bytes.Clone(body), make([]byte, 200_000)...)
	s.put("large", s3.Object{Body: large, ContentType: "image/png", ContentEncoding: "none"})
	s.put("small", s3.Object{Body: body[:1000], ContentType: "image/png", ContentEncoding: "none"})
	s.patch("shop", `{"ttl":"0s","stale_while_revalidate":"0s"}`)
	for range 2 {
		r := s.get("/shop/large", "Range", "bytes=100000-100009")
		if r.StatusCode != http.StatusPartialContent || !bytes.Equal(r.body, large[100_000:100_010]) || r.Header.Get("Content-Type") != "image/png" {
			t.Errorf("got %s", summary(r))
		}
		wantPicture(t, s.get("/shop/small"), body[:1000])
	}
}

// TestTypeRemedy: explain names the header or the bytes because of which an object is
// refused, with a probe and from the last request.
func TestTypeRemedy(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	jpeg := sampleOf(t, "image/jpeg")
	text := []byte(base64.StdEncoding.EncodeToString(jpeg))
	page := []byte("<!DOCTYPE html><html>")
	for name, tc := range map[string]struct {
		declared, coding string
		body             []byte
		says, saysNot    string
	}{
		"gzip":      {"image/jpeg", "gzip", jpeg, "--metadata-directive REPLACE", "store it with an image/"},
		"base64":    {"image/jpeg", "base64", text, "base64", "store it with an image/"},
		"binary":    {"image/jpeg", "binary", []byte("no picture"), "first bytes are not a picture", "store it with an image/"},
		"coded":     {"text/plain", "br", jpeg, "does not decode", "store it with an image/"},
		"html":      {"text/html", "", page, `its Content-Type is "text/html"`, "Content-Encoding"},
		"generic":   {"text/plain", "", text, `its first bytes are text/plain; its Content-Type "text/plain" names no type`, "Content-Encoding"},
		"sniffed":   {"binary/octet-stream", "", page, `its first element is "html"`, "Content-Encoding"},
		"no-bitmap": {"image/jpeg", "", page, "a page or an error document", "store it with"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.put(name, s3.Object{Body: tc.body, ContentType: tc.declared, ContentEncoding: tc.coding})
			wantProblem(t, s.get("/shop/"+name), http.StatusUnsupportedMediaType, "not-an-image")
			said := []string{tc.says}
			if tc.coding != "" {
				said = append(said, `Content-Encoding "`+tc.coding+`"`)
			}
			for _, more := range []string{"", "&probe=true"} {
				e := s.explain("/shop/"+name, more)
				text := strings.ReplaceAll(e.Remedy, "the Content-Encoding", "Content-Encoding")
				wantAll(t, "the remedy with "+more, text, said...)
				if strings.Contains(text, tc.saysNot) {
					t.Errorf("the remedy says %q: %s", tc.saysNot, text)
				}
			}
			if tc.coding != "" {
				eventually(t, "the log names it", func() bool {
					return strings.Contains(lineWith(s.output(), `Content-Encoding \"`+tc.coding+`\"`), "code=not-an-image")
				})
			}
		})
	}
}

// TestOddMetadata has objects with odd metadata on the real server.
func TestOddMetadata(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := unique("odd-metadata")
	if err := g.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	s := &env{server: start(t)}
	s.create(map[string]any{
		"name": "shop", "bucket": bucket, "endpoint": g.S3URL, "path_style": true, "region": g.Region,
		"credential": map[string]string{"access_key_id": g.Root.AccessKeyID, "secret_access_key": g.Root.SecretAccessKey.Reveal()},
	})
	jpeg := sampleOf(t, "image/jpeg")
	text := []byte(base64.StdEncoding.EncodeToString(jpeg))
	licensed := svgFronts()["long licence"]
	for name, tc := range map[string]struct {
		obj  s3.Object
		want string
	}{
		"base64":           {s3.Object{Body: jpeg, ContentType: "image/jpeg", ContentEncoding: "base64"}, "image/jpeg"},
		"base64 text":      {s3.Object{Body: text, ContentType: "image/jpeg", ContentEncoding: "base64"}, ""},
		"gzip":             {s3.Object{Body: jpeg, ContentType: "image/jpeg", ContentEncoding: "gzip"}, ""},
		"pjpeg":            {s3.Object{Body: jpeg, ContentType: "image/pjpeg"}, "image/jpeg"},
		"text":             {s3.Object{Body: jpeg, ContentType: "text/plain"}, "image/jpeg"},
		"jpg":              {s3.Object{Body: jpeg, ContentType: "jpg"}, "image/jpeg"},
		"SVG without type": {s3.Object{Body: licensed}, "image/svg+xml"},
		"SVG, utf-8":       {s3.Object{Body: licensed, ContentType: "image/svg+xml", ContentEncoding: "utf-8"}, "image/svg+xml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := g.PutObject(t.Context(), bucket, name, tc.obj); err != nil {
				t.Fatal(err)
			}
			wantType(t, s, "/shop/"+pathURL(name), tc.obj.Body, tc.want)
		})
	}
}
