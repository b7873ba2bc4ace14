package picture

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"slices"
)

// Hostile are pictures that are made to cost time or memory, or to be taken for another
// type. Each is well below 8 MiB. Every call returns the same bytes. Refused tells that no
// picture may come of it.
type Hostile struct {
	Name        string
	ContentType string
	Body        []byte
	Refused     bool
}

// Bombs draws them.
func Bombs() []Hostile {
	small := quarters(Corners)
	jpg, plain := encode(small, encodeJPEG), encode(small, png.Encode)
	end := len(signature) + 12 + 13 // of the header of a PNG
	inPNG := func(chunks ...[]byte) []byte {
		return bytes.Join([][]byte{plain[:end], bytes.Join(chunks, nil), plain[end:]}, nil)
	}
	zeros := deflated(make([]byte, 32<<20))
	all := []Hostile{
		{"pixels.png", "", PixelBomb(30000, 30000), true},
		{"side.png", "", Blank(1, 16385), true},
		{"interlaced.png", "", interlacedBomb(6900), false},
		{"header-only.png", "", rawPNG(pngHeader{width: 7000, height: 7000, depth: 16, colour: 6}, nil), true},
		{"profile.png", "", inPNG(chunk("iCCP", append([]byte("icc\x00\x00"), zeros...))), false},
		{"text.png", "", inPNG(chunk("zTXt", append([]byte("Comment\x00\x00"), zeros...))), false},
		{"texts.png", "", inPNG(bytes.Repeat(chunk("tEXt", []byte("Comment\x00text")), 50000)), false},
		{"exif.jpg", "", withSegments(jpg, bytes.Repeat(segment(0xe1, loopedEXIF()), 60)), false},
		{"profile.jpg", "", withSegments(jpg, iccSegments(Bytes(4<<20, "icc"))...), false},
		{"comments.jpg", "", withSegments(jpg, bytes.Repeat(segment(0xfe, []byte("comment")), 100000)), false},
		{"scans.jpg", "", scansJPEG(6900, 6900, 3), true},
		{"scans-grey.jpg", "", scansJPEG(7000, 7000, 1), true},
		{"frames.gif", "", frameBombGIF(100, 100, 10000), false},
		{"frames-150.gif", "", frameBombGIF(100, 100, 150), false},
		{"canvas.gif", "", frameBombGIF(2000, 2000, 90), false},
		{"screen.gif", "", frameBombGIF(65535, 65535, 1), false},
		{"frames.webp", "", frameBombWebP(16, 16, 10000), false},
		{"canvas.webp", "", frameBombWebP(16384, 16384, 90), true},
		{"boxes.avif", "", nestedBoxes(4000), true},
	}
	for i := range all {
		c := Case{Body: all[i].Body}
		c.fill()
		all[i].ContentType = c.ContentType
		if c.ContentType == "" {
			all[i].ContentType = "image/avif"
		}
	}
	return slices.Concat(all, disguised())
}

// disguised are files that are not of the type that they are declared to be.
func disguised() []Hostile {
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	w, _ := z.Create("a.jpg")
	_, _ = w.Write(bytes.Repeat([]byte("a"), 1<<20))
	_ = z.Close()
	const jpg = "image/jpeg"
	return []Hostile{
		{"svg.jpg", jpg, drawSVG(), true},
		{"html.jpg", jpg, []byte("<!doctype html><script>alert(1)</script>"), true},
		{"zip.jpg", jpg, archive.Bytes(), true},
		{"pdf.jpg", jpg, []byte("%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"), true},
		{"vips.png", "image/png", append([]byte{0xb6, 0xa6, 0xf2, 0x08}, make([]byte, 500)...), true},
		{"csv.jpg", jpg, bytes.Repeat([]byte("1,2,3\n"), 100), true},
		{"ppm.jpg", jpg, append([]byte("P6 100 100 255\n"), make([]byte, 30000)...), true},
		{"empty.jpg", jpg, nil, true},
		{"begin.jpg", jpg, []byte("\xff\xd8\xff"), true},
	}
}

// PixelBomb is a PNG of one bit a pixel. A deflated row of zeros costs nearly nothing.
func PixelBomb(width, height int) []byte {
	// The rows are written in pieces: all of them at once take a hundred megabytes.
	return rawPNG(pngHeader{width: width, height: height, depth: 1, colour: pngGrey}, make([]byte, (1+(width+7)/8)*height))
}

// interlacedBomb is an interlaced PNG of one bit a pixel.
func interlacedBomb(side int) []byte {
	n := 0
	for _, p := range adam7 {
		columns, rows := (side-p[0]+p[2]-1)/p[2], (side-p[1]+p[3]-1)/p[3]
		n += rows * (1 + (columns+7)/8)
	}
	return rawPNG(pngHeader{width: side, height: side, depth: 1, colour: pngGrey, interlaced: true}, make([]byte, n))
}

// loopedEXIF is a TIFF structure of 60 KiB whose directories name one another as their
// successors and as their subdirectories.
func loopedEXIF() []byte {
	const count = 1000
	le := binary.LittleEndian
	b := append([]byte("Exif\x00\x00II*\x00"), 8, 0, 0, 0)
	for i := range count {
		next := uint32(8 + (i+1)%count*30)
		b = le.AppendUint16(b, 2)
		for _, tag := range []uint16{0x8769, 0x8825} {
			b = le.AppendUint16(le.AppendUint16(b, tag), 4)
			b = le.AppendUint32(le.AppendUint32(b, 1), next)
		}
		b = le.AppendUint32(b, next)
	}
	return b
}

// nestedBoxes is an AVIF whose boxes contain one another.
func nestedBoxes(depth int) []byte {
	be := binary.BigEndian
	b := append(be.AppendUint32(nil, 24), "ftypavif\x00\x00\x00\x00avifmif1"...)
	meta := append(be.AppendUint32(nil, uint32(12+8*depth)), "meta\x00\x00\x00\x00"...)
	for i := range depth {
		meta = append(be.AppendUint32(meta, uint32(8*(depth-i))), "iprp"...)
	}
	return append(b, meta...)
}

// Mutate returns a broken copy of a file: bits are flipped, bytes overwritten, taken out or
// doubled, or the end is missing. More of it happens near the beginning, where headers are.
// In a PNG every other time the checksums are made right again, so that more than the
// checksum is tried.
func Mutate(r *rand.Rand, body []byte) []byte {
	b := bytes.Clone(body)
	for range 1 + r.IntN(6) {
		if len(b) < 16 {
			break
		}
		at := r.IntN(len(b))
		if r.IntN(2) == 0 {
			at = r.IntN(min(len(b), 512))
		}
		b = mutation(r, b, at, at+1+r.IntN(min(64, len(b)-at)))
	}
	if r.IntN(2) == 0 {
		repair(b)
	}
	return b
}

// mutation breaks the bytes from at to end.
func mutation(r *rand.Rand, b []byte, at, end int) []byte {
	switch r.IntN(9) {
	case 0, 1, 2:
		b[at] ^= 1 << r.IntN(8)
	case 3:
		b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
	case 4:
		for i := at; i < end; i++ {
			b[i] = byte(r.Uint32())
		}
	case 5:
		return append(b[:at:at], b[end:]...)
	case 6:
		return append(b[:end:end], b[at:]...)
	case 7:
		copy(b[at:end], "\xff\xff\xff\xff\x7f\xff\xff\xff")
	case 8:
		if r.IntN(3) == 0 {
			return b[:at]
		}
	}
	return b
}

// repair makes the checksums of a PNG right, as far as its chunks can be followed.
func repair(b []byte) {
	if !bytes.HasPrefix(b, []byte(signature)) {
		return
	}
	for at := len(signature); at+12 <= len(b); {
		n := int(binary.BigEndian.Uint32(b[at:]))
		if n > len(b)-at-12 {
			return
		}
		copy(b[at:], chunk(string(b[at+4:at+8]), b[at+8:at+8+n]))
		at += 12 + n
	}
}

// Seeds are small pictures of each format to break, by type.
func Seeds() []Sample {
	seeds := []Sample{}
	for _, c := range Corpus() {
		if len(c.Body) < 64<<10 {
			seeds = append(seeds, Sample{c.Name, c.ContentType, c.Body})
		}
	}
	return append(seeds, Sample{"noon.jpg", "image/jpeg", encode(scene(160, 100, 0.5, 8), encodeJPEG)})
}

// Solid is a PNG of one colour, such as a watermark.
func Solid(width, height int, c color.NRGBA) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := 0; i < len(img.Pix); i += 4 {
		img.Pix[i], img.Pix[i+1], img.Pix[i+2], img.Pix[i+3] = c.R, c.G, c.B, c.A
	}
	return encode(img, png.Encode)
}
