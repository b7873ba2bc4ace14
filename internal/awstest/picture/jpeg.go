package picture

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
)

// flat is a JPEG whose blocks of 8 by 8 pixels have one colour each: what the encoder of
// the standard library cannot write.
type flat struct {
	image       planes
	progressive bool
	adobe       bool   // a segment of Adobe, by which inks are stored inverted
	profile     []byte // ICC
}

// planes has one value of each component for a block, in rows of blocks.
type planes struct {
	width, height int // in pixels
	blocks        [][]byte
}

// inYCbCr takes the upper left pixel of each block.
func inYCbCr(img *image.NRGBA) planes {
	p := planes{width: img.Rect.Dx(), height: img.Rect.Dy(), blocks: make([][]byte, 3)}
	for y := 0; y < p.height; y += 8 {
		for x := 0; x < p.width; x += 8 {
			c := img.NRGBAAt(x, y)
			l, cb, cr := color.RGBToYCbCr(c.R, c.G, c.B)
			for i, v := range []byte{l, cb, cr} {
				p.blocks[i] = append(p.blocks[i], v)
			}
		}
	}
	return p
}

// inInks has the quarters in pure inks: magenta with yellow, cyan with yellow, cyan with
// magenta, yellow. Swapped exchanges cyan and magenta, as inkProfile does.
func inInks(swapped bool) planes {
	inks := [4][4]byte{{0, 1, 1, 0}, {1, 0, 1, 0}, {1, 1, 0, 0}, {0, 0, 1, 0}}
	p := planes{width: Width, height: Height, blocks: make([][]byte, 4)}
	for y := 0; y < Height; y += 8 {
		for x := 0; x < Width; x += 8 {
			ink := inks[2*(2*y/Height)+2*x/Width]
			if swapped {
				ink[0], ink[1] = ink[1], ink[0]
			}
			for i, v := range ink {
				p.blocks[i] = append(p.blocks[i], 255-255*v) // inverted, as Adobe does
			}
		}
	}
	return p
}

// flatJPEG encodes. All components have the tables of the first and no subsampling.
func flatJPEG(f flat) []byte {
	var b bytes.Buffer
	b.WriteString("\xff\xd8")
	if f.adobe {
		b.Write(segment(0xee, []byte("Adobe\x00\x64\x00\x00\x00\x00\x00"))) // transform 0: no conversion
	}
	if f.profile != nil {
		for _, s := range iccSegments(f.profile) {
			b.Write(s)
		}
	}
	components := len(f.image.blocks)
	b.Write(segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{8}, 64)...))) // a DC value is a level
	b.Write(frameHeader(f.progressive, components, f.image.width, f.image.height))
	b.Write(dcTable)
	b.Write(acTable)
	b.Write(firstScan(f.progressive, components))
	b.Write(entropy(f))
	if f.progressive { // the other values are zero
		for i := range components {
			b.Write(segment(0xda, []byte{1, byte(i + 1), 0, 1, 63, 0}))
			b.Write(emptyScan(len(f.image.blocks[0])))
		}
	}
	b.WriteString("\xff\xd9")
	return b.Bytes()
}

// frameHeader is SOF0 or SOF2.
func frameHeader(progressive bool, components, width, height int) []byte {
	marker := byte(0xc0)
	if progressive {
		marker = 0xc2
	}
	h := make([]byte, 0, 6+3*4)
	h = append(h, 8, byte(height>>8), byte(height), byte(width>>8), byte(width), byte(components))
	for i := range components {
		h = append(h, byte(i+1), 0x11, 0)
	}
	return segment(marker, h)
}

// dcTable gives each of the sizes 0 to 8 a code of four bits. acTable gives each of the
// symbols EOB0 to EOB14 one; EOB0 ends a block.
var (
	dcTable = fourBitCodes(0x00, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	acTable = fourBitCodes(0x10, 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0)
)

// firstScan is the SOS of a scan of all components: of all values, or of DC values only.
func firstScan(progressive bool, components int) []byte {
	h := make([]byte, 0, 1+2*4+3)
	h = append(h, byte(components))
	for i := range components {
		h = append(h, byte(i+1), 0)
	}
	last := byte(63)
	if progressive {
		last = 0
	}
	return segment(0xda, append(h, 0, last, 0))
}

// fourBitCodes is a DHT of one table, which has symbols of four bits only.
func fourBitCodes(table byte, symbols ...byte) []byte {
	counts := make([]byte, 16)
	counts[3] = byte(len(symbols))
	return segment(0xc4, bytes.Join([][]byte{{table}, counts, symbols}, nil))
}

// entropy has for each block the difference to the DC value before and, in a baseline
// picture, the end of the block.
func entropy(f flat) []byte {
	w := &huffman{}
	before := make([]int, len(f.image.blocks))
	for i := range f.image.blocks[0] {
		for c, values := range f.image.blocks {
			level := int(values[i]) - 128
			w.difference(level - before[c])
			before[c] = level
			if !f.progressive {
				w.put(0, 4)
			}
		}
	}
	return w.end()
}

// huffman writes bits, the highest first, and a zero byte behind each 0xff.
type huffman struct {
	buf  []byte
	acc  uint32
	have int
}

func (w *huffman) put(v uint32, n int) {
	w.acc = w.acc<<n | v&(1<<n-1)
	for w.have += n; w.have >= 8; w.have -= 8 {
		b := byte(w.acc >> (w.have - 8))
		w.buf = append(w.buf, b)
		if b == 0xff {
			w.buf = append(w.buf, 0)
		}
	}
}

// difference writes a size and the value in so many bits; those of a negative value are
// those of the value less one.
func (w *huffman) difference(d int) {
	size := 0
	for abs := max(d, -d); abs>>size > 0; size++ { //nolint:revive // it counts bits
	}
	w.put(uint32(size), 4)
	if d < 0 {
		d--
	}
	if size > 0 {
		w.put(uint32(d), size)
	}
}

func (w *huffman) end() []byte {
	w.put(0x7f, 7)
	return w.buf
}

// segment is a marker with its length and data.
func segment(marker byte, data []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(data)+2))
	return append(b, data...)
}

// withSegments puts segments behind the first marker of a JPEG.
func withSegments(body []byte, segments ...[]byte) []byte {
	return bytes.Join([][]byte{body[:2], bytes.Join(segments, nil), body[2:]}, nil)
}

// scansJPEG is a progressive JPEG of one grey level with as many scans as the format
// allows for each component: a decoder passes over all blocks in each of them.
func scansJPEG(width, height, components int) []byte {
	var b bytes.Buffer
	b.WriteString("\xff\xd8")
	b.Write(segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{8}, 64)...)))
	b.Write(frameHeader(true, components, width, height))
	b.Write(dcTable)
	b.Write(acTable)
	blocks := ((width + 7) / 8) * ((height + 7) / 8)
	b.Write(firstScan(true, components))
	w := &huffman{}
	for range blocks * components {
		w.put(0, 4)
	}
	b.Write(w.end())
	empty := emptyScan(blocks)
	for c := range components {
		for i := range 63 * 14 {
			k, low := byte(1+i/14), byte(13-i%14)
			high := low + 1
			if low == 13 {
				high = 0
			}
			b.Write(segment(0xda, []byte{1, byte(c + 1), 0, k, k, high<<4 | low}))
			b.Write(empty)
		}
	}
	b.WriteString("\xff\xd9")
	return b.Bytes()
}

// emptyScan has nothing but runs of blocks without a value.
func emptyScan(blocks int) []byte {
	w := &huffman{}
	for blocks > 0 {
		size := 14
		for 1<<size > blocks {
			size--
		}
		run := min(blocks, 1<<(size+1)-1)
		w.put(uint32(size), 4)
		w.put(uint32(run-1<<size), size)
		blocks -= run
	}
	return w.end()
}
