package transform

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color/palette"
	"image/gif"
	_ "image/jpeg" // decoders for DecodeConfig
	_ "image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "golang.org/x/image/webp"

	"ixmage/internal/awstest/picture"
)

// front is how many first bytes of an object are sniffed, at least.
const front = 64 << 10

func firstOf(body []byte) []byte { return body[:min(len(body), front)] }

// realPictures returns the files beside the repository, or of the folder in IXMAGE_IMAGES, by name.
func realPictures(tb testing.TB) map[string][]byte {
	tb.Helper()
	dir := os.Getenv("IXMAGE_IMAGES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "images")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.*"))
	all := map[string][]byte{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all[filepath.Base(file)] = body
	}
	return all
}

func avif(tb testing.TB, name string) []byte {
	tb.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

// sameAsDecoder compares a header with what the decoders of the standard library read.
func sameAsDecoder(t *testing.T, name string, body, sniffed []byte) {
	t.Helper()
	want, kind, err := image.DecodeConfig(bytes.NewReader(body))
	got := Sniff(sniffed)
	if err != nil || kind == "bmp" || kind == "tiff" {
		if got.Width != 0 {
			t.Errorf("%s: %+v; the decoder: %v", name, got, err)
		}
		return
	}
	if got.Type.String() != kind || got.Width != want.Width || got.Height != want.Height {
		t.Errorf("%s: %+v; the decoder: %s of %d x %d", name, got, kind, want.Width, want.Height)
	}
}

// TestSniffReal: the pictures that others have made.
func TestSniffReal(t *testing.T) {
	t.Parallel()
	all := realPictures(t)
	if len(all) == 0 {
		t.Skip("SKIPPED: no folder of real pictures; name one in IXMAGE_IMAGES")
	}
	for name, body := range all {
		switch got := Sniff(firstOf(body)); filepath.Ext(name) {
		case ".jpg", ".png", ".gif", ".webp":
			sameAsDecoder(t, name, body, firstOf(body))
		case ".avif":
			if want := (Header{AVIF, 3024, 4032, 1, false, Colours{}}); name == "orientation-6.avif" && got != want {
				t.Errorf("%s: %+v", name, got)
			}
		default: // never decoded
			if got != (Header{}) {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}

// TestSniffDrawn: pictures with every trap of the formats.
func TestSniffDrawn(t *testing.T) {
	t.Parallel()
	for _, c := range picture.Corpus() {
		sameAsDecoder(t, c.Name, c.Body, firstOf(c.Body))
		if got := Sniff(c.Body); got.Frames != c.Frames {
			t.Errorf("%s: %d frames, want %d", c.Name, got.Frames, c.Frames)
		}
	}
	for _, c := range picture.Samples() {
		sameAsDecoder(t, c.Name, c.Body, firstOf(c.Body))
	}
}

// TestSniffHostile: metadata before the size, and frames without an end.
func TestSniffHostile(t *testing.T) {
	t.Parallel()
	for _, c := range picture.Corpus() {
		if c.Name != "progressive.jpg" {
			continue
		}
		comments := strings.Repeat("\xff\xfe\x00\x09comment", 10_000)
		body := []byte(string(c.Body[:2]) + comments + string(c.Body[2:]))
		sameAsDecoder(t, "comments", body, body)
		if got := Sniff(firstOf(body)); got != (Header{JPEG, 0, 0, 1, false, Colours{}}) {
			t.Errorf("%+v", got)
		}
	}
	const n = 10_000
	frame := ",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00"
	moving := "GIF89a\xff\xff\xff\xff\x00\x00\x00" + strings.Repeat(frame, n)
	for body, want := range map[string]Header{
		moving + ";":                     {GIF, 65535, 65535, n, false, Colours{}},
		moving:                           {GIF, 65535, 65535, n, false, Colours{}}, // its end is missing
		moving[:13+len(frame)]:           {GIF, 65535, 65535, 0, false, Colours{}},
		moving[:13+len(frame)] + ";":     {GIF, 65535, 65535, 1, false, Colours{}},
		moving[:13+len(frame)] + ";more": {GIF, 65535, 65535, 1, false, Colours{}},
		"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x12\x00\x00\x00\xff\x3f\x00\xff\x3f\x00" + strings.Repeat("ANMF\x01\x00\x00\x00..", n): {WebP, 16384, 16384, n, true, Colours{}},
		"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00ANMF\x01\x00\x00\x00..":                         {WebP, 1, 1, 1, false, Colours{}},
		"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00ANMF\xff\xff\xff\xff..":                         {WebP, 1, 1, 2, false, Colours{}},
	} {
		if got := Sniff([]byte(body)); got != want {
			t.Errorf("%.60q: %+v, want %+v", body, got, want)
		}
	}
}

func TestSniffAVIF(t *testing.T) {
	t.Parallel()
	opaque, alpha := avif(t, "opaque.avif"), avif(t, "alpha.avif")
	swap := func(b []byte, old, replacement string) []byte {
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("no %q", old)
		}
		return bytes.ReplaceAll(bytes.Clone(b), []byte(old), []byte(replacement))
	}
	for name, c := range map[string]struct {
		body []byte
		want Header
	}{
		"opaque":                  {opaque, Header{AVIF, 100, 20, 1, false, Colours{}}},
		"alpha":                   {alpha, Header{AVIF, 40, 30, 1, true, Colours{}}},
		"sequence":                {swap(opaque, "ftypavif\x00\x00\x00\x00avif", "ftypavis\x00\x00\x00\x00avis"), Header{AVIF, 100, 20, 1, false, Colours{}}},
		"AV1 without its brand":   {swap(opaque, "ftypavif\x00\x00\x00\x00avif", "ftypmif1\x00\x00\x00\x00miaf"), Header{AVIF, 100, 20, 1, false, Colours{}}},
		"HEVC with brand mif1":    {swap(swap(opaque, "ftypavif\x00\x00\x00\x00avif", "ftypmif1\x00\x00\x00\x00heic"), "av01", "hvc1"), Header{}},
		"HEIC":                    {swap(swap(opaque, "ftypavif\x00\x00\x00\x00avif", "ftypheic\x00\x00\x00\x00heic"), "mif1", "msf1"), Header{}},
		"minor version":           {[]byte("\x00\x00\x00\x14ftypheicavifmsf1"), Header{}},
		"no primary item":         {swap(opaque, "pitm", "free"), Header{AVIF, 100, 20, 1, false, Colours{}}},
		"no meta":                 {opaque[:28], Header{AVIF, 0, 0, 1, false, Colours{}}},
		"cut in meta":             {opaque[:60], Header{AVIF, 0, 0, 1, false, Colours{}}},
		"MP4":                     {swap(opaque, "ftypavif\x00\x00\x00\x00avifmif1", "ftypisom\x00\x00\x00\x00isomiso2"), Header{}},
		"box smaller than itself": {[]byte("\x00\x00\x00\x07ftypavif\x00\x00\x00\x00avif"), Header{}},
	} {
		if got := Sniff(c.body); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	for numbers, want := range map[string]Colours{
		"nclx\x00\x01\x00\x0d": {}, "nclx\x00\x0c\x00\x0d": {12, 13}, "nclx\x00\x09\x00\x10": {9, 16}, "nclx\x00\x06\x00\x06": {},
		"nclx\x00\x09\x00\x02": {9, 13}, "nclx\x01\x0c\x01\x10": {}, "prof\x00\x0c\x00\x0d": {},
	} {
		if got := Sniff(swap(opaque, "nclx\x00\x02\x00\x02", numbers)); got != (Header{AVIF, 100, 20, 1, false, want}) {
			t.Errorf("%q: %+v, want colours %v", numbers, got, want)
		}
	}
	// A thumbnail before the picture: the primary item's size counts, not the first and not the greatest.
	bigger := swap(alpha, "ispe\x00\x00\x00\x00\x00\x00\x00\x28\x00\x00\x00\x1e\x00\x00\x00\x0e", "ispe\x00\x00\x00\x00\x00\x00\x01\x28\x00\x00\x01\x1e\x00\x00\x00\x0e")
	if got := Sniff(bigger); got.Width != 40 {
		t.Errorf("%+v", got)
	}
	if got := Sniff(swap(bigger, "ipma", "free")); got.Width != 0x128 {
		t.Errorf("%+v", got)
	}
}

// TestSniffOthers: alpha and frames, which the decoders do not tell, and types that are never decoded.
func TestSniffOthers(t *testing.T) {
	t.Parallel()
	bodies := map[string][]byte{}
	for _, c := range picture.Corpus() {
		bodies[c.Name] = c.Body
	}
	for name, alpha := range map[string]bool{
		"grey-alpha.png": true, "deep.png": false, "palette.png": true, "interlaced.png": false, "cmyk.jpg": false,
	} {
		if got := Sniff(bodies[name]); got.Alpha != alpha {
			t.Errorf("%s: %+v", name, got)
		}
	}
	moving := bodies["animated.gif"]
	all := Sniff(moving).Frames
	for n, frames := range map[int]int{len(moving) - 1: all, bytes.Index(moving, []byte("NETSCAPE")) + 20: 2} {
		if got := Sniff(moving[:n]).Frames; got != frames || frames < 2 {
			t.Errorf("%d bytes of a GIF: %d frames, want %d", n, got, frames)
		}
	}
	webp := bodies["animated.webp"]
	if got := Sniff(webp[:100]); got.Frames != 2 {
		t.Errorf("the begin of an animation: %+v", got)
	}
	var still bytes.Buffer
	if err := gif.Encode(&still, image.NewPaletted(image.Rect(0, 0, 9, 7), palette.Plan9), nil); err != nil {
		t.Fatal(err)
	}
	if got := Sniff(still.Bytes()); got != (Header{GIF, 9, 7, 1, false, Colours{}}) {
		t.Errorf("a still GIF: %+v", got)
	}
	if got := Sniff(still.Bytes()[:still.Len()-1]); got.Frames != 0 { // a second frame may follow
		t.Errorf("a GIF without its end: %+v", got)
	}
	for _, b := range []string{
		"", "\xff", "\xff\xd8", "\xff\xd8\x00", "\x89PNG", "GIF88a", "RIFF\x00\x00\x00\x00WAVEfmt ", "BM", "II*\x00", "MM\x00*", "\x00\x00\x01\x00",
		"<svg", "\xff\x0a", "\x00\x00\x00\x0cJXL \r\n\x87\n", "%PDF", "P6 1 1 255\n", "\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
	} {
		if got := Sniff([]byte(b)); got != (Header{}) {
			t.Errorf("%q: %+v", b, got)
		}
	}
	for b, want := range map[string]Header{
		"\xff\xd8\xff": {Type: JPEG, Frames: 1}, "\x89PNG\r\n\x1a\n": {Type: PNG, Frames: 1}, "GIF89a": {Type: GIF},
		"RIFF\x00\x00\x00\x00WEBP": {Type: WebP, Frames: 1},
		"\xff\xd8\xff\xff\xff\xd0\xff\x01\xff\xc2\x00\x0b\x08\x01\x02\x03\x04": {JPEG, 0x304, 0x102, 1, false, Colours{}},
		"\xff\xd8\xff\xc4\x00\x04\x00\x00\xff\xc0\x00\x0b\x08\x01\x02\x03\x04": {JPEG, 0x304, 0x102, 1, false, Colours{}},
		"\xff\xd8\xff\xda\x00\x04\x00\x00\xff\xc0\x00\x0b\x08\x01\x02\x03\x04": {JPEG, 0, 0, 1, false, Colours{}}, // in the scan
		"\xff\xd8\xff\xe0\x00\x01\xff\xc0\x00\x0b\x08\x01\x02\x03\x04":         {JPEG, 0, 0, 1, false, Colours{}}, // no segment
	} {
		if got := Sniff([]byte(b)); got != want {
			t.Errorf("%q: %+v, want %+v", b, got, want)
		}
	}
}

// TestSniffColoursPNG: a chunk of numbers counts before the pixels only.
func TestSniffColoursPNG(t *testing.T) {
	t.Parallel()
	head := "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x01\x00\x00\x00\x02\x08\x02\x00\x00\x00crc!"
	chunk := func(name, data string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(len(data)))) + name + data + "crc!"
	}
	for body, want := range map[string]Header{
		chunk("cICP", "\x0c\x0d\x00\x01") + chunk("IDAT", ""):                                         {PNG, 1, 2, 1, false, Colours{12, 13}},
		chunk("tRNS", "\x00") + chunk("cICP", "\x09\x10\x00\x01"):                                     {PNG, 1, 2, 1, true, Colours{9, 16}},
		chunk("cICP", "\x01\x0d\x00\x01"):                                                             {PNG, 1, 2, 1, false, Colours{}},
		chunk("cICP", "\x0c\x0d\x01\x01") + chunk("cICP", "\x0c\x0d\x00\x00") + chunk("cICP", "\x0c"): {PNG, 1, 2, 1, false, Colours{}},
		chunk("IDAT", "") + chunk("cICP", "\x0c\x0d\x00\x01"):                                         {PNG, 1, 2, 1, false, Colours{}},
		chunk("cICP", "\x0c\x0d\x00\x01")[:11]:                                                        {PNG, 1, 2, 1, false, Colours{}},
	} {
		if got := Sniff([]byte(head + body)); got != want {
			t.Errorf("%q: %+v, want %+v", body, got, want)
		}
	}
}

// FuzzSniff: hostile bytes give a header of possible values, in linear time, and a longer beginning of the
// same picture never another type.
func FuzzSniff(f *testing.F) {
	for _, body := range realPictures(f) {
		f.Add(body[:min(len(body), 2048)])
	}
	for _, c := range picture.Corpus() {
		f.Add(c.Body[:min(len(c.Body), 2048)])
	}
	f.Add(avif(f, "alpha.avif"))
	f.Add(avif(f, "opaque.avif"))
	f.Add([]byte(strings.Repeat("\x00\x00\x00\x00meta", 100)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := Sniff(b)
		if h.Type > AVIF || h.Type == 0 && h != (Header{}) || h.Width < 0 || h.Height < 0 || h.Frames < 0 || h.Frames > len(b)+2 {
			t.Errorf("%+v", h)
		}
		for _, n := range []int{len(b) / 2, len(b) - 1} {
			if n >= 0 && h.Type != AVIF && Sniff(b[:n]).Type != 0 && Sniff(b[:n]).Type != h.Type {
				t.Errorf("%d bytes: %+v; all: %+v", n, Sniff(b[:n]), h)
			}
		}
	})
}
