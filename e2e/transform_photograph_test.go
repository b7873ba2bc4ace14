package e2e

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"net/http"
	"slices"
	"strings"
	"testing"

	xdraw "golang.org/x/image/draw"
	_ "golang.org/x/image/webp"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// TestTransformPhotographs makes real pictures smaller, in each format, and compares them with
// what the standard library makes of the same source.
func TestTransformPhotographs(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	for _, p := range realPictures(t) {
		if p.kind == "" {
			continue
		}
		s.put(p.name, s3.Object{Body: p.body, ContentType: p.kind})
		t.Run(p.name, func(t *testing.T) {
			switch {
			case !slices.Contains([]string{jpegType, pngType, webpType, avifType, "image/gif"}, p.kind):
				s.staysAsStored(t, p)
			case p.name == "truncated.jpg":
				for range 2 { // the second time from the cache
					if r := s.variant(p.name, "w=100"); r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(r.body), "transform-failed") {
						t.Errorf("a truncated picture: %s: %s", r.Status, r.body)
					}
				}
			default:
				s.photograph(t, p)
			}
		})
	}
}

// staysAsStored wants the bytes of the source, because its type is never decoded.
func (s *studio) staysAsStored(t *testing.T, p sample) {
	t.Helper()
	r := s.variant(p.name, "w=40")
	if r.StatusCode != http.StatusOK || !bytes.Equal(r.body, p.body) || r.Header.Get("Content-Type") != p.kind {
		t.Errorf("%s with %d bytes of %s, want the source", r.Status, len(r.body), r.Header.Get("Content-Type"))
	}
	if r := s.variant(p.name, "info=1"); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("info: %s, want 422", r.Status)
	}
}

// photograph checks sizes, and that every format shows the same.
func (s *studio) photograph(t *testing.T, p sample) {
	t.Helper()
	var info struct {
		Width, Height, Orientation, Frames int
		Type, Color                        string
		Bytes                              int
		Alpha                              bool
	}
	r := s.variant(p.name, "info=1")
	if err := json.Unmarshal(r.body, &info); err != nil || info.Bytes != len(p.body) || len(info.Color) != 7 {
		t.Fatalf("info: error %v, %s", err, r.body)
	}
	size := image.Pt(min(160, info.Width), 0)
	size.Y = (2*info.Height*size.X + info.Width) / (2 * info.Width)
	plain, err := s.decode(s.variant(p.name, "w=160&f=png&anim=0").body)
	if err != nil {
		t.Fatal(err)
	}
	if plain.size() != size {
		t.Errorf("PNG has %v pixels, want %v of %d x %d", plain.size(), size, info.Width, info.Height)
	}
	if img, _, err := image.Decode(bytes.NewReader(p.body)); err == nil && info.Orientation == 1 && !info.Alpha {
		small := image.NewNRGBA(image.Rectangle{Max: plain.size()})
		xdraw.CatmullRom.Scale(small, small.Rect, img, img.Bounds(), xdraw.Src, nil)
		if got := picture.SSIM(plain.frames[0], small); got < 0.9 {
			t.Errorf("beside the standard library SSIM is %.3f, want 0.9", got)
		}
	}
	for _, format := range []string{"jpeg", "webp", "avif"} {
		r := s.variant(p.name, "w=160&anim=0&q=90&f="+format)
		d, err := s.decode(r.body)
		if err != nil || d.kind != "image/"+format {
			t.Errorf("%s: %s, error %v", format, d.kind, err)
			continue
		}
		if got := picture.SSIM(onWhite(plain.frames[0]), onWhite(d.frames[0])); got < 0.9 {
			t.Errorf("%s: SSIM is %.3f, want 0.9", format, got)
		}
	}
}

// onWhite paints a picture on white.
func onWhite(img image.Image) image.Image {
	out := image.NewNRGBA(img.Bounds())
	xdraw.Draw(out, out.Rect, image.NewUniform(color.White), image.Point{}, xdraw.Src)
	xdraw.Draw(out, out.Rect, img, img.Bounds().Min, xdraw.Over)
	return out
}

// TestTransformEdges tries the smallest and the longest pictures.
func TestTransformEdges(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	put := func(key string, w, h int) { s.put(key, s3.Object{Body: picture.Blank(w, h)}) }
	put("dot.png", 1, 1)
	put("high.png", 1, 16384)
	put("wide.png", 16384, 1)
	put("higher.png", 1, 16385)
	for _, c := range []struct {
		key, query string
		status     int
		size       image.Point
	}{
		{"dot.png", "w=100&f=webp", 200, image.Pt(1, 1)}, // it is not enlarged
		{"dot.png", "w=100&h=50&fit=fill&f=png", 200, image.Pt(100, 50)},
		{"dot.png", "w=9&h=7&f=png", 200, image.Pt(9, 7)},
		{"high.png", "h=100&f=jpeg", 200, image.Pt(1, 100)},
		{"high.png", "h=8192&f=png", 200, image.Pt(1, 8192)},
		{"wide.png", "w=100&f=avif", 200, image.Pt(100, 1)},
		{"wide.png", "w=20&h=20&fit=fill&f=png", 200, image.Pt(20, 20)},
		{"wide.png", "w=20&h=20&fit=cover&f=png", 422, image.Point{}}, // 327,680 pixels wide before it is cut
		{"high.png", "f=webp", 422, image.Point{}},                    // longer than a result may be
		{"higher.png", "h=100", 422, image.Point{}},
	} {
		t.Run(c.key+" "+c.query, func(t *testing.T) {
			r := s.variant(c.key, c.query)
			if r.StatusCode != c.status {
				t.Fatalf("%s, want %d: %.200s", r.Status, c.status, r.body)
			}
			if c.status != http.StatusOK {
				return
			}
			if d, err := s.decode(r.body); err != nil || d.size() != c.size {
				t.Errorf("%v, error %v, want %v", d, err, c.size)
			}
		})
	}
}
