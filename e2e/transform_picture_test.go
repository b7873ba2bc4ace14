package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	_ "image/jpeg"
	_ "image/png"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/image/webp"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// transformWorker is the path of bin/ixmage-worker, or of the program in
// IXMAGE_TRANSFORM_WORKER. The test is skipped if there is none.
func transformWorker(t testing.TB) string {
	t.Helper()
	path := os.Getenv("IXMAGE_TRANSFORM_WORKER")
	if path == "" {
		path = filepath.Join("..", "bin", "ixmage-worker")
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Skipf("SKIPPED: !!!!! NO TRANSFORM WORKER !!!!! (%v); run make worker", err)
	}
	return path
}

// studio is an ixmage with workers and the alias free, of which everyone may ask for any
// variant.
type studio struct{ *env }

func newStudio(t testing.TB, args ...string) *studio {
	t.Helper()
	s := &studio{newEnv(t, append(transforming(t), args...)...)}
	s.open("free", "media", "web/", map[string]any{"transforms": "open"})
	return s
}

// transforming are the arguments of a server with workers. They have as long for a picture as they may
// have: a deadline that a busy machine decides would say nothing of the picture.
func transforming(t testing.TB) []string {
	t.Helper()
	return []string{"--transform-worker", transformWorker(t), "--transform-timeout", "10s"}
}

// variantPatience is how long tests ask for a variant again that no worker has made.
const variantPatience = 5 * time.Minute

// patiently requests a path as a client does that heeds 503 and 429: it asks again while the machine is too
// busy to make the variant.
func (s *env) patiently(path string, headers ...string) *response {
	s.t.Helper()
	for began := time.Now(); ; <-time.After(time.Second) {
		r := s.get(path, headers...)
		busy := r.StatusCode == http.StatusServiceUnavailable || r.StatusCode == http.StatusTooManyRequests
		if !busy || time.Since(began) > variantPatience {
			return r
		}
	}
}

// variant requests an object of the alias free in another form.
func (s *studio) variant(key, query string, headers ...string) *response {
	s.t.Helper()
	r := s.patiently("/free/"+key+"?"+query, headers...)
	if dir := os.Getenv("IXMAGE_SHEETS"); dir != "" && r.StatusCode == http.StatusOK { // to look at them
		name := strings.NewReplacer("/", "-", "&", ",", "?", ",").Replace(key + "," + query)
		if err := os.WriteFile(filepath.Join(dir, name), r.body, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return r
}

// decoded is a picture with all its frames, each as it is shown.
type decoded struct {
	kind   string
	frames []image.Image
}

func (d decoded) size() image.Point { return d.frames[0].Bounds().Size() }

// decode reads a result with decoders that are not those of the worker; for AVIF there is none
// here, so that the worker itself brings it to PNG.
func (s *studio) decode(body []byte) (decoded, error) {
	switch kind := http.DetectContentType(body); {
	case kind == "image/gif":
		return decodeGIF(body)
	case kind == "image/webp":
		return s.decodeWebP(body)
	case bytes.Contains(body[:min(len(body), 32)], []byte("ftypavif")):
		d, err := s.reencoded(body, "image/avif", "f=png")
		d.kind = "image/avif"
		return d, err
	case kind == "image/jpeg" || kind == "image/png":
		img, _, err := image.Decode(bytes.NewReader(body))
		return decoded{kind, []image.Image{img}}, err
	default:
		return decoded{}, fmt.Errorf("%d bytes are no picture that is known here: %s", len(body), kind)
	}
}

// reencoded brings a result to another format, by way of ixmage.
func (s *studio) reencoded(body []byte, kind, query string) (decoded, error) {
	key := fmt.Sprintf("again/%x", len(body)) + fmt.Sprintf("-%x", body[max(0, len(body)-16):])
	s.put(key, s3.Object{Body: body, ContentType: kind})
	r := s.patiently("/free/" + key + "?" + query)
	if r.StatusCode != http.StatusOK {
		return decoded{}, fmt.Errorf("%s again: %s: %.200s", kind, r.Status, r.body)
	}
	return s.decode(r.body)
}

func decodeGIF(body []byte) (decoded, error) {
	g, err := gif.DecodeAll(bytes.NewReader(body))
	if err != nil {
		return decoded{}, err
	}
	d := decoded{kind: "image/gif"}
	canvas := image.NewNRGBA(image.Rect(0, 0, g.Config.Width, g.Config.Height))
	for i, frame := range g.Image {
		before := image.NewNRGBA(canvas.Rect)
		copy(before.Pix, canvas.Pix)
		draw.Draw(canvas, frame.Rect, frame, frame.Rect.Min, draw.Over)
		shown := image.NewNRGBA(canvas.Rect)
		copy(shown.Pix, canvas.Pix)
		d.frames = append(d.frames, shown)
		switch g.Disposal[i] {
		case gif.DisposalPrevious:
			canvas = before
		case gif.DisposalBackground:
			draw.Draw(canvas, frame.Rect, image.Transparent, image.Point{}, draw.Src)
		}
	}
	return d, nil
}

// decodeWebP reads a still picture. The frames of an animation are counted, and shown as a GIF
// that ixmage makes of them.
func (s *studio) decodeWebP(body []byte) (decoded, error) {
	frames := 0
	for at := 12; at+8 <= len(body); {
		n := int(binary.LittleEndian.Uint32(body[at+4:]))
		if string(body[at:at+4]) == "ANMF" {
			frames++
		}
		at += 8 + n + n%2
	}
	if frames > 0 {
		d, err := s.reencoded(body, "image/webp", "f=gif")
		if err == nil && len(d.frames) != frames {
			err = fmt.Errorf("%d frames, of which a GIF has %d", frames, len(d.frames))
		}
		d.kind = "image/webp"
		return d, err
	}
	img, err := webp.Decode(bytes.NewReader(body))
	return decoded{"image/webp", []image.Image{fullRange(img)}}, err
}

// fullRange converts the luma and chroma of a lossy WebP, which go from 16 to 235 and 240. The
// decoder takes them for those of a JPEG, which go from 0 to 255.
func fullRange(img image.Image) image.Image {
	luma, ok := img.(*image.YCbCr)
	alpha, hasAlpha := img.(*image.NYCbCrA)
	if hasAlpha {
		luma, ok = &alpha.YCbCr, true
	}
	if !ok {
		return img
	}
	out := image.NewNRGBA(img.Bounds())
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			c := luma.YCbCrAt(x, y)
			l, cb, cr := 1.164*(float64(c.Y)-16), float64(c.Cb)-128, float64(c.Cr)-128
			part := func(v float64) uint8 { return uint8(min(255, max(0, v+0.5))) }
			pixel := color.NRGBA{part(l + 1.596*cr), part(l - 0.392*cb - 0.813*cr), part(l + 2.017*cb), 255}
			if hasAlpha {
				pixel.A = alpha.A[alpha.AOffset(x, y)]
			}
			out.SetNRGBA(x, y, pixel)
		}
	}
	return out
}

// shot is a variant and how it must look: its size, the type without and with alpha, and the
// colours of its quarters, as numbers in Corners.
type shot struct {
	query      string
	size       image.Point
	plain      string // type of an opaque picture
	alpha      string // type of a picture with alpha
	quarters   [4]int
	tolerance  int
	grey       bool
	background *color.NRGBA // below transparent pixels
}

var (
	asIs  = [4]int{0, 1, 2, 3}
	white = color.NRGBA{255, 255, 255, 255}
	pink  = color.NRGBA{255, 0, 255, 255}
)

const pngType, jpegType, webpType, avifType = "image/png", "image/jpeg", "image/webp", "image/avif"

// shots are small: what is tried is the way through the program, for each picture.
var shots = []shot{
	{query: "w=64&f=png", size: image.Pt(64, 48), plain: pngType, alpha: pngType, quarters: asIs},
	{query: "w=64", size: image.Pt(64, 48), plain: jpegType, alpha: pngType, quarters: asIs, tolerance: 10},
	{query: "h=48&f=jpeg", size: image.Pt(64, 48), plain: jpegType, alpha: jpegType, quarters: asIs, tolerance: 10, background: &white},
	{query: "w=64&f=webp", size: image.Pt(64, 48), plain: webpType, alpha: webpType, quarters: asIs, tolerance: 12},
	{query: "w=64&h=64&fit=cover&f=png", size: image.Pt(64, 64), plain: pngType, alpha: pngType, quarters: asIs},
	{query: "w=200&h=60&fit=fill&f=png", size: image.Pt(200, 60), plain: pngType, alpha: pngType, quarters: asIs},
	{query: "w=64&h=64&fit=outside&f=png", size: image.Pt(85, 64), plain: pngType, alpha: pngType, quarters: asIs},
	{query: "crop=64,48,64,48&f=png", size: image.Pt(64, 48), plain: pngType, alpha: pngType, quarters: [4]int{3, 3, 3, 3}},
	{query: "r=90&f=png", size: image.Pt(96, 128), plain: pngType, alpha: pngType, quarters: [4]int{2, 0, 3, 1}},
	{query: "r=180&flip=h&f=png", size: image.Pt(128, 96), plain: pngType, alpha: pngType, quarters: [4]int{2, 3, 0, 1}},
	{query: "w=64&bg=f0f&f=png", size: image.Pt(64, 48), plain: pngType, alpha: pngType, quarters: asIs, background: &pink},
	{query: "w=32&dpr=2&gray=1&f=png", size: image.Pt(64, 48), plain: pngType, alpha: pngType, quarters: asIs, grey: true},
	{query: "w=64&sharpen=1&f=png", size: image.Pt(64, 48), plain: pngType, alpha: pngType, quarters: asIs},
}

// TestTransformCorpus makes every picture of the corpus through the program with each of the
// shots: orientations, profiles, inks, depths, palettes, alpha and animations.
func TestTransformCorpus(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	for _, c := range picture.Corpus() {
		s.put(c.Name, s3.Object{Body: c.Body, ContentType: c.ContentType})
		for _, shot := range shots {
			t.Run(c.Name+" "+shot.query, func(t *testing.T) { s.check(t, c, shot, shot.query) })
		}
		t.Run(c.Name+" avif", func(t *testing.T) {
			avif := shot{size: image.Pt(64, 48), plain: avifType, alpha: avifType, quarters: asIs, tolerance: 12}
			s.check(t, c, avif, "w=64&f=avif")
		})
	}
}

// check requests one shot of a picture.
func (s *studio) check(t *testing.T, c picture.Case, want shot, query string) {
	t.Helper()
	if c.Frames > 1 && !strings.Contains(query, "f=") {
		query += "&f=png" // a GIF, of which TestTransformAnimations tells
	}
	r := s.variant(c.Name, query)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %.300s", r.Status, r.body)
	}
	d, err := s.decode(r.body)
	if err != nil {
		t.Fatal(err)
	}
	kind := want.plain
	if hasAlpha(c) || c.Frames > 1 {
		kind = want.alpha
	}
	if d.kind != kind || r.Header.Get("Content-Type") != kind {
		t.Errorf("it is %s and declared as %s, want %s", d.kind, r.Header.Get("Content-Type"), kind)
	}
	if d.size() != want.size {
		t.Errorf("it has %v pixels, want %v", d.size(), want.size)
	}
	for i, from := range want.quarters {
		x, y := (1+2*(i%2))*d.size().X/4, (1+2*(i/2))*d.size().Y/4
		got := color.NRGBAModel.Convert(d.frames[0].At(x, y)).(color.NRGBA)
		if exp := want.colour(c.Corners[from]); !near(got, exp, c.Tolerance+want.tolerance) {
			t.Errorf("quarter %d is %v, want %v", i, got, exp)
		}
	}
	for _, secret := range []string{picture.Private, picture.Copyright, "Exif\x00", "eXIf", "EXIF", "GPS", "ns.adobe.com", "XMP "} {
		if bytes.Contains(r.body, []byte(secret)) {
			t.Errorf("the result contains %q", secret)
		}
	}
}

func hasAlpha(c picture.Case) bool {
	for _, q := range c.Corners {
		if q.A < 255 {
			return true
		}
	}
	return false
}

// colour is what becomes of a colour of the source.
func (s shot) colour(c color.NRGBA) color.NRGBA {
	if s.background != nil && c.A < 255 {
		mix := func(a, b uint8) uint8 { return uint8((int(a)*int(c.A) + int(b)*(255-int(c.A))) / 255) }
		c = color.NRGBA{mix(c.R, s.background.R), mix(c.G, s.background.G), mix(c.B, s.background.B), 255}
	}
	if s.grey {
		c.R, c.G, c.B = 0, 0, 0 // any grey
	}
	return c
}

// near compares two colours. Those of transparent pixels do not count; black stands for any grey.
func near(got, want color.NRGBA, tolerance int) bool {
	far := func(a, b uint8) bool { return max(a, b)-min(a, b) > uint8(min(255, tolerance)) }
	switch {
	case far(got.A, want.A):
		return false
	case want.A < 10:
		return true
	case want.R == 0 && want.G == 0 && want.B == 0:
		return got.R == got.G && got.G == got.B
	}
	return !far(got.R, want.R) && !far(got.G, want.G) && !far(got.B, want.B)
}

// TestTransformCopyright checks that copyright and artist stay when they are asked for, and
// nothing else does.
func TestTransformCopyright(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	for _, c := range picture.Corpus() {
		if !c.Copyright {
			continue
		}
		s.put(c.Name, s3.Object{Body: c.Body, ContentType: c.ContentType})
		for _, format := range []string{"jpeg", "png", "webp", "avif"} {
			r := s.variant(c.Name, "w=64&strip=copyright&f="+format)
			kept := bytes.Contains(r.body, []byte(picture.Copyright)) && bytes.Contains(r.body, []byte(picture.Artist))
			if r.StatusCode != http.StatusOK || !kept {
				t.Errorf("%s to %s: %s, copyright and artist kept: %t", c.Name, format, r.Status, kept)
			}
			for _, secret := range []string{picture.Private, "ns.adobe.com"} {
				if bytes.Contains(r.body, []byte(secret)) {
					t.Errorf("%s to %s: the result contains %q", c.Name, format, secret)
				}
			}
			if d, err := s.decode(r.body); err != nil || d.size() != image.Pt(64, 48) {
				t.Errorf("%s to %s: %v, error %v", c.Name, format, d, err)
			}
		}
	}
}

// TestTransformAnimations checks frames with offsets and disposal.
func TestTransformAnimations(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	for _, c := range picture.Corpus() {
		if c.Frames == 1 {
			continue
		}
		s.put(c.Name, s3.Object{Body: c.Body, ContentType: c.ContentType})
		for query, frames := range map[string]int{"w=64": 3, "w=64&f=gif": 3, "w=64&f=webp": 3, "w=64&f=webp&anim=0": 1, "w=64&f=png": 1} {
			t.Run(c.Name+" "+query, func(t *testing.T) {
				r := s.variant(c.Name, query)
				d, err := s.decode(r.body)
				if err != nil || r.StatusCode != http.StatusOK {
					t.Fatalf("%s, error %v", r.Status, err)
				}
				if len(d.frames) != frames || d.size() != image.Pt(64, 48) {
					t.Fatalf("%d frames of %v, want %d of 64 x 48", len(d.frames), d.size(), frames)
				}
				if query == "w=64" && d.kind != "image/gif" {
					t.Errorf("without Accept it is %s, want image/gif", d.kind)
				}
				// The first patch is in frame 2 only, the second one in frame 3.
				for frame, img := range d.frames {
					for patch, at := range []image.Point{{16, 12}, {48, 36}} {
						got := color.NRGBAModel.Convert(img.At(at.X, at.Y)).(color.NRGBA)
						if near(got, white, 20) != (frame == patch+1) {
							t.Errorf("frame %d has %v at %v", frame+1, got, at)
						}
					}
				}
			})
		}
	}
}
