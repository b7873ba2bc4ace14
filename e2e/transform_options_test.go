package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/image/webp"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// newOptionsEnv starts the program with workers, and with pictures in the aliases shop, a new one with a
// template, and free, of which everybody may ask for everything.
func newOptionsEnv(t *testing.T) *env {
	t.Helper()
	s := newEnv(t, transforming(t)...)
	s.open("free", "media", "web/", map[string]any{"transforms": "open"})
	s.patch("shop", `{"transforms":"templates","templates":{"thumb":"w=60&h=60&fit=cover","wide":"h=50"}}`)
	for _, p := range picture.Samples() {
		s.put(p.Name, s3.Object{Body: p.Body, ContentType: p.ContentType})
	}
	for _, c := range picture.Corpus() {
		s.put(c.Name, s3.Object{Body: c.Body, ContentType: c.ContentType})
	}
	s.put("marks/logo.png", s3.Object{Body: picture.Solid(40, 20, color.NRGBA{255, 0, 0, 255}), ContentType: "image/png"})
	s.put("note.jpg", s3.Object{Body: []byte("\xff\xd8\xff and no picture"), ContentType: "image/jpeg"})
	return s
}

// shape is the type and the size of a picture, as the decoders of the standard library read them: "jpeg 64x40".
func shape(body []byte) string {
	cfg, kind, err := image.DecodeConfig(bytes.NewReader(body))
	if http.DetectContentType(body) == "image/webp" {
		kind = "webp"
		if cfg, err = webp.DecodeConfig(bytes.NewReader(body)); err == nil && len(body) > 21 && string(body[12:16]) == "VP8X" && body[20]&2 != 0 {
			kind = "animated webp"
		}
	}
	if at := bytes.Index(body, []byte("ispe")); len(body) > 12 && string(body[4:12]) == "ftypavif" && at > 0 { // no decoder here
		return fmt.Sprintf("avif %dx%d", int(body[at+10])<<8|int(body[at+11]), int(body[at+14])<<8|int(body[at+15]))
	}
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %dx%d", kind, cfg.Width, cfg.Height)
}

// TestTransformOptions asks for every option of a picture of 640 x 400, of an animation and of pictures with
// transparent pixels, both of 128 x 96.
func TestTransformOptions(t *testing.T) {
	t.Parallel()
	s := newOptionsEnv(t)
	for _, c := range []struct{ path, accept, want string }{
		{"noon.jpg?w=64", "", "jpeg 64x40"},
		{"noon.jpg?width=64", "*/*", "jpeg 64x40"},
		{"noon.jpg?w=64", "image/webp", "webp 64x40"},
		{"noon.jpg?w=64", "image/avif,image/webp,image/*,*/*;q=0.8", "avif 64x40"},
		{"noon.jpg?w=64", "image/avif;q=0,image/webp;q=0.1", "webp 64x40"},
		{"noon.jpg?h=40", "", "jpeg 64x40"},
		{"noon.jpg?w=6400", "", "jpeg 640x400"}, // not enlarged
		{"noon.jpg?w=64&h=64", "", "jpeg 64x64"},
		{"noon.jpg?w=64&h=64&fit=contain", "", "jpeg 64x64"},
		{"noon.jpg?w=64&h=64&fit=cover", "", "jpeg 64x64"},
		{"noon.jpg?w=64&h=64&fit=fill", "", "jpeg 64x64"},
		{"noon.jpg?w=64&h=64&fit=inside", "", "jpeg 64x40"},
		{"noon.jpg?w=64&h=64&fit=outside", "", "jpeg 102x64"},
		{"noon.jpg?w=1000&h=1000&fit=cover", "", "jpeg 1000x1000"},
		{"noon.jpg?w=1000&h=1000&fit=fill", "", "jpeg 1000x1000"},
		{"noon.jpg?w=1000&h=1000&fit=inside", "", "jpeg 640x400"},
		{"noon.jpg?w=1000&h=500", "", "jpeg 1000x500"},
		{"noon.jpg?w=64&h=64&fit=cover&gravity=smart", "", "jpeg 64x64"},
		{"noon.jpg?w=64&h=64&fit=cover&gravity=0.1,0.9", "", "jpeg 64x64"},
		{"noon.jpg?w=64&h=64&gravity=northwest", "", "jpeg 64x64"},
		{"noon.jpg?crop=10,20,300,100", "", "jpeg 300x100"},
		{"noon.jpg?crop=600,300,300,300", "", "jpeg 40x100"},
		{"noon.jpg?crop=0,0,400,400&w=100", "", "jpeg 100x100"},
		{"noon.jpg?w=32&dpr=2", "", "jpeg 64x40"},
		{"noon.jpg?r=90&w=40", "", "jpeg 40x64"},
		{"noon.jpg?r=180&w=64", "", "jpeg 64x40"},
		{"noon.jpg?r=270", "", "jpeg 400x640"},
		{"noon.jpg?flip=h&w=64", "", "jpeg 64x40"},
		{"noon.jpg?flop=1&w=64", "", "jpeg 64x40"},
		{"noon.jpg?r=90&flip=v&w=40", "", "jpeg 40x64"},
		{"noon.jpg?bg=teal&w=64&h=64", "", "jpeg 64x64"},
		{"noon.jpg?bg=transparent&w=64&h=64", "", "png 64x64"},
		{"noon.jpg?f=png&w=64", "image/avif", "png 64x40"},
		{"noon.jpg?f=jpg&w=64", "image/avif", "jpeg 64x40"},
		{"noon.jpg?f=gif&w=64", "", "gif 64x40"},
		{"noon.jpg?fmt=webp&w=64", "", "webp 64x40"},
		{"noon.jpg?f=avif&w=64&q=30", "", "avif 64x40"},
		{"noon.jpg?q=10", "", "jpeg 640x400"},
		{"noon.jpg?blur=3&sharpen=1&gray=1&w=64", "", "jpeg 64x40"},
		{"noon.jpg?wm=marks/logo.png,center,o50,s20&w=64", "", "jpeg 64x40"},
		{"noon.jpg?wm=marks%2Flogo.png,tile&w=64", "", "jpeg 64x40"},
		{"noon.jpg?lqip=1&f=png", "", "png 32x20"},
		{"noon.jpg?lqip=image&w=300&h=300&fit=cover&f=png", "", "png 32x32"},
		{"orientation-6.jpg?f=png", "", "png 128x96"},
		{"orientation-6.jpg?w=64&strip=copyright", "", "jpeg 64x48"},
		{"palette.png?w=64", "", "png 64x48"},
		{"palette.png?w=64&bg=fff", "", "jpeg 64x48"},
		{"palette.png?w=64&f=jpeg", "", "jpeg 64x48"},
		{"animated.gif?w=64", "", "gif 64x48"},
		{"animated.gif?w=64", "image/avif,image/webp", "animated webp 64x48"},
		{"animated.gif?w=64&anim=0&f=webp", "", "webp 64x48"},
		{"animated.gif?w=64&f=jpeg", "", "jpeg 64x48"},
		{"noon.jpg?v=2&utm_source=a%zz", "", "jpeg 640x400"}, // the stored one
		{"logo.svg?w=64", "", "image: unknown format"},       // likewise
	} {
		var headers []string
		if c.accept != "" {
			headers = []string{"Accept", c.accept}
		}
		r := s.patiently("/free/"+c.path, headers...)
		kind, _, _ := strings.Cut(strings.TrimPrefix(c.want, "animated "), " ")
		if kind == "image:" {
			kind = "svg+xml"
		}
		if got := shape(r.body); r.StatusCode != http.StatusOK || got != c.want || r.Header.Get("Content-Type") != "image/"+kind {
			t.Errorf("%s for %q: %s, %s, %s, want %s", c.path, c.accept, r.Status, r.Header.Get("Content-Type"), got, c.want)
		}
		negotiated := strings.Contains(c.path, "?") && !strings.Contains(c.path, "v=2") && !strings.Contains(c.path, ".svg") && !strings.Contains(c.path, "f=") && !strings.Contains(c.path, "fmt=")
		if vary := r.Header.Get("Vary"); (vary == "Accept") != negotiated {
			t.Errorf("%s: Vary: %q", c.path, vary)
		}
	}
}

// TestTransformSpellings: all spellings of an option share one variant, which is made once.
func TestTransformSpellings(t *testing.T) {
	t.Parallel()
	s := newOptionsEnv(t)
	first := s.patiently("/free/noon.jpg?w=64&h=40&fit=cover&f=png")
	for _, query := range []string{
		"f=png&h=40&fit=cover&w=64", "width=64&height=40&fmt=png&fit=cover", "&w=%364&&h=40&fit=cover&f=png&v=7", "w=32&h=20&dpr=2&fit=cover&f=png",
		"w=64&h=40&fit=cover&f=png&gravity=center&q=10&anim=1&strip=all&r=0", "w=64&h=40&fit=cover&f=png&gravity=0.5,0.5&flip=hv&r=180",
	} {
		r := s.patiently("/free/noon.jpg?" + query)
		if !strings.Contains(r.Header.Get("Cache-Status"), "; hit") || r.Header.Get("ETag") != first.Header.Get("ETag") || !bytes.Equal(r.body, first.body) {
			t.Errorf("%s: %s, %s", query, r.Status, r.Header.Get("Cache-Status"))
		}
	}
	for _, query := range []string{"w=64&h=40&fit=cover&f=jpeg", "w=64&h=40&fit=fill&f=png", "w=65&h=40&fit=cover&f=png"} {
		if r := s.patiently("/free/noon.jpg?" + query); r.Header.Get("ETag") == first.Header.Get("ETag") || r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s with the ETag of another variant", query, r.Status)
		}
	}
	if n := s.calls("noon.jpg"); n != 1 {
		t.Errorf("%d requests to S3", n)
	}
}

// TestTransformText: the answers that are no pictures.
func TestTransformText(t *testing.T) {
	t.Parallel()
	s := newOptionsEnv(t)
	var info struct {
		Width, Height, Bytes, Orientation, Frames int
		Type, Color                               string
		Alpha                                     bool
	}
	for path, want := range map[string]string{
		"orientation-6.jpg": "128x96 image/jpeg orientation 6, 1 frames, alpha false",
		"palette.png":       "128x96 image/png orientation 1, 1 frames, alpha true",
		"noon.jpg":          "640x400 image/jpeg orientation 1, 1 frames, alpha false",
	} {
		r := s.patiently("/free/" + path + "?info=1&w=3&f=webp")
		if err := json.Unmarshal(r.body, &info); err != nil || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, %s", path, r.Status, r.body)
		}
		got := fmt.Sprintf("%dx%d %s orientation %d, %d frames, alpha %t", info.Width, info.Height, info.Type, info.Orientation, info.Frames, info.Alpha)
		if got != want || len(info.Color) != 7 || info.Bytes != len(s.get("/free/"+path).body) {
			t.Errorf("%s: %s, %s", path, got, r.body)
		}
	}
	if r := s.patiently("/free/noon.jpg?lqip=blurhash"); len(r.body) != 28 || r.body[0] != 'L' || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("BlurHash: %s, %q, %q", r.Status, r.Header.Get("Content-Type"), r.body)
	}
}

// TestTransformRefusals: what strangers may ask of an alias, and mistakes.
func TestTransformRefusals(t *testing.T) {
	t.Parallel()
	s := newOptionsEnv(t)
	for _, c := range []struct {
		path   string
		status int
		want   string // a shape, or a code with a part of the detail
	}{
		{"/shop/noon.jpg?w=300", 200, "jpeg 330x206"},
		{"/shop/noon.jpg?w=17", 200, "jpeg 20x1"},
		{"/shop/noon.jpg?w=3841", 400, "bad-option w is at most 3840"},
		{"/shop/noon.jpg?t=thumb", 200, "jpeg 60x60"},
		{"/shop/noon.jpg?t=thumb&w=500", 200, "jpeg 60x60"},
		{"/shop/noon.jpg?template=wide", 200, "jpeg 80x50"},
		{"/shop/noon.jpg?t=none", 400, "bad-option t "},
		{"/shop/noon.jpg?w=300&h=300", 403, "signature"},
		{"/shop/noon.jpg?f=png", 403, "signature"},
		{"/shop/noon.jpg?info=1", 403, "signature"},
		{"/shop/noon.jpg?t=thumb&flip=h", 403, "signature"},
		{"/shop/noon.jpg?w=300&kid=a&sig=b", 403, "signature"},
		{"/shop/noon.jpg?v=1", 200, "jpeg 640x400"},
		{"/free/noon.jpg?w=0", 400, "bad-option w is a whole number of pixels from 1 to 8192"},
		{"/free/noon.jpg?w=8193", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=SECRET", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=4&width=4", 400, "bad-option w is given twice"},
		{"/free/noon.jpg?fit=crop", 400, "bad-option fit is contain, cover, fill, inside or outside"},
		{"/free/noon.jpg?bg=SECRET", 400, "bad-option bg is "},
		{"/free/noon.jpg?crop=640,0,10,10", 400, "bad-option crop leaves nothing of the picture"},
		{"/free/noon.jpg?wm=../SECRET.png", 400, "bad-option wm is "},
		{"/free/gone.jpg?w=64", 404, "not-found"},
		{"/free/note.jpg?w=64", 422, "transform-failed the "},
		{"/free/logo.svg?info=1", 422, "transform-failed the type of the picture is not supported"},
		{"/free/noon.jpg?w", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?t=", 400, "bad-option t is the name"},
		{"/free/noon.jpg?w=1e3", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=+64", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=%2B64", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=-1", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=064", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=64.0", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=%D9%A6%D9%A4", 400, "bad-option w is a whole"}, // digits of another script
		{"/free/noon.jpg?w=64%00", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=64%0D%0AX:1", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=%2564", 400, "bad-option w is a whole"}, // decoded once
		{"/free/noon.jpg?w=64;h=10", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=64?h=10", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?w=18446744073709551680", 400, "bad-option w is a whole"},
		{"/free/noon.jpg?;w=64&w%00=64&%77=64&W=64&w[]=64", 200, "jpeg 640x400"},
		{"/free/noon.jpg?&&=9&w=%36%34&&", 200, "jpeg 64x40"},
		{"/free/noon.jpg?" + strings.Repeat("x=%zz&", 1000) + "w=64", 200, "jpeg 64x40"},
		{"/free/noon.jpg?" + strings.Repeat("w=64&", 1000), 400, "bad-option w is given twice"},
		{"/free/noon.jpg?w=64&x=" + strings.Repeat("9", 15<<10), 200, "jpeg 64x40"},
		{"/free/noon.jpg?w=64&x=" + strings.Repeat("9", 17<<10), 431, "headers"},
	} {
		r := s.patiently(c.path)
		got := shape(r.body)
		if r.StatusCode != http.StatusOK {
			var problem struct{ Type, Detail string }
			_ = json.Unmarshal(r.body, &problem)
			got = strings.TrimPrefix(problem.Type, "https://ixmage.dev/problems/") + " " + problem.Detail
		}
		if r.StatusCode != c.status || !strings.HasPrefix(got, c.want) || strings.Contains(string(r.body), "SECRET") {
			t.Errorf("%s: %d %s, want %d %s", c.path, r.StatusCode, got, c.status, c.want)
		}
	}
}
