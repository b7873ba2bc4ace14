package picture_test

import (
	"bytes"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gabriel-vasile/mimetype"

	"ixmage/internal/awstest/picture"
)

func TestCorpus(t *testing.T) {
	t.Parallel()
	all, again := picture.Corpus(), picture.Corpus()
	for i, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if !bytes.Equal(c.Body, again[i].Body) {
				t.Error("two calls give different bytes")
			}
			if found := mimetype.Detect(c.Body); !found.Is(c.ContentType) && c.Name != "animated.webp" {
				t.Errorf("looks like %s, want %s", found, c.ContentType)
			}
			if bytes.Contains(c.Body, []byte(picture.Private)) != c.Private || bytes.Contains(c.Body, []byte(picture.Copyright)) != c.Copyright {
				t.Errorf("a private text %t and a copyright %t are promised, and it is not so", c.Private, c.Copyright)
			}
			if c.Name == "animated.webp" {
				return // no decoder here knows it
			}
			img, _, err := image.Decode(bytes.NewReader(c.Body))
			must(t, err)
			if got := img.Bounds().Dx() * img.Bounds().Dy(); got != picture.Width*picture.Height {
				t.Errorf("it has %v", img.Bounds())
			}
			upright := c.ContentType != "image/gif" && c.Tolerance < 50 && !strings.Contains(c.Name, "p3") &&
				!strings.Contains(c.Name, "cmyk") && (!strings.Contains(c.Name, "orientation") || strings.Contains(c.Name, "-1."))
			for i, want := range c.Corners {
				got := color.NRGBAModel.Convert(img.At(32+i%2*64, 24+i/2*48)).(color.NRGBA)
				if upright && (far(got.R, want.R) || far(got.G, want.G) || far(got.B, want.B) || got.A != want.A) {
					t.Errorf("quarter %d is %v, want %v", i, got, want)
				}
			}
		})
	}
}

func far(a, b uint8) bool { return max(a, b)-min(a, b) > 12 }

func TestBombs(t *testing.T) {
	t.Parallel()
	for _, h := range picture.Bombs() {
		most := 8 << 20
		if h.Name == "pixels.png" {
			most = 120 << 10
		}
		if len(h.Body) > most || h.ContentType == "" {
			t.Errorf("%s: %d bytes of %q, want at most %d", h.Name, len(h.Body), h.ContentType, most)
		}
	}
}

func TestMutate(t *testing.T) {
	t.Parallel()
	body := picture.Corpus()[1].Body
	seeded := func(seed uint64) []byte { return picture.Mutate(rand.New(rand.NewPCG(seed, 0)), body) }
	original := bytes.Clone(body)
	valid := 0
	for seed := range uint64(400) {
		b := seeded(seed)
		if !bytes.Equal(b, seeded(seed)) {
			t.Fatalf("seed %d gives different bytes", seed)
		}
		if c, _, err := image.DecodeConfig(bytes.NewReader(b)); err != nil || c.Width*c.Height > 1<<24 {
			continue // the standard library would allocate all of it
		}
		if _, _, err := image.Decode(bytes.NewReader(b)); err == nil {
			valid++
		}
	}
	if !bytes.Equal(body, original) {
		t.Error("the original is changed")
	}
	if valid == 0 || valid > 300 {
		t.Errorf("%d of 400 are still valid, want some and not most", valid)
	}
}

func TestSSIM(t *testing.T) {
	t.Parallel()
	decode := func(b []byte) *image.NRGBA {
		img, _, err := image.Decode(bytes.NewReader(b))
		must(t, err)
		out := image.NewNRGBA(img.Bounds())
		for y := range img.Bounds().Dy() {
			for x := range img.Bounds().Dx() {
				out.Set(x, y, img.At(x, y))
			}
		}
		return out
	}
	a := decode(picture.Samples()[0].Body)
	if got := picture.SSIM(a, a); math.Abs(got-1) > 1e-9 {
		t.Errorf("SSIM with itself is %v, want 1", got)
	}
	last := 1.0
	for _, noise := range []int{2, 8, 32} {
		b := decode(picture.Samples()[0].Body)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range b.Pix {
			if i%4 < 3 {
				b.Pix[i] = uint8(min(255, max(0, int(b.Pix[i])+r.IntN(2*noise+1)-noise)))
			}
		}
		got := picture.SSIM(a, b)
		if got >= last || got < 0 {
			t.Errorf("noise of %d: SSIM is %v, want less than %v", noise, got, last)
		}
		last = got
	}
	if got := picture.SSIM(a, image.NewNRGBA(image.Rect(0, 0, 20, 20))); !math.IsNaN(got) {
		t.Errorf("SSIM of two sizes is %v, want NaN", got)
	}
}
