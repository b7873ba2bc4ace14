package picture_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image"
	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/gabriel-vasile/mimetype"
	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/tiff"
	_ "golang.org/x/image/webp"

	"ixmage/internal/awstest/picture"
)

func TestPictures(t *testing.T) {
	t.Parallel()
	pictures, again := picture.Samples(), picture.Samples()
	if len(pictures) < 9 {
		t.Fatalf("%d pictures", len(pictures))
	}
	for i, p := range pictures {
		t.Run(p.Name, func(t *testing.T) {
			if dir := os.Getenv("AWSTEST_PICTURES"); dir != "" { // to look at them
				must(t, os.WriteFile(filepath.Join(dir, p.Name), p.Body, 0o600))
			}
			if !bytes.Equal(p.Body, again[i].Body) {
				t.Error("two calls give different bytes")
			}
			low, high := 2<<10, 128<<10
			if p.Name == "large.png" {
				low, high = 1<<20, 2<<20
			}
			if len(p.Body) < low || len(p.Body) > high {
				t.Errorf("%d bytes, want %d to %d", len(p.Body), low, high)
			}
			if found := mimetype.Detect(p.Body); !found.Is(p.ContentType) {
				t.Errorf("looks like %s, want %s", found, p.ContentType)
			}
			decodes(t, p)
		})
	}
}

// decodes reads the whole picture with a decoder that is not ours.
func decodes(t *testing.T, p picture.Sample) {
	t.Helper()
	body := p.Body
	switch p.ContentType {
	case "image/svg+xml":
		dec := xml.NewDecoder(bytes.NewReader(body))
		var err error
		for err == nil {
			_, err = dec.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		return
	case "image/x-icon":
		body = body[22:] // the PNG behind the headers
	}
	img, _, err := image.Decode(bytes.NewReader(body))
	must(t, err)
	// The sky above is not the hill below: it is a picture, not one colour.
	b := img.Bounds()
	if img.At(b.Min.X+1, b.Min.Y+1) == img.At(b.Min.X+1, b.Max.Y-2) {
		t.Error("top and bottom have the same colour")
	}
}

func TestFake(t *testing.T) {
	t.Parallel()
	body := picture.Fake(5000, "a")
	if found := mimetype.Detect(body); !found.Is("image/png") || len(body) != 5000 {
		t.Errorf("%d bytes that look like %s, want 5000 of a PNG", len(body), found)
	}
	if bytes.Contains(picture.Fake(5000, "b"), body[8:16]) {
		t.Error("two seeds share bytes")
	}
	if got := picture.Fake(3, "a"); string(got) != "\x89PN" {
		t.Errorf("3 bytes are %q", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
