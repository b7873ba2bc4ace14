package picture

import (
	"encoding/binary"
	"image"
	"math/bits"
)

// encodeICO wraps a PNG of 256 by 256 pixels, which an icon may be since 2006.
func encodeICO(png []byte) []byte {
	const headers = 6 + 16
	b := []byte{0, 0, 1, 0, 1, 0} // an icon, one image
	b = append(b, 0, 0, 0, 0)     // 256 wide, 256 high, no palette
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, 32)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(png)))
	b = binary.LittleEndian.AppendUint32(b, headers)
	return append(b, png...)
}

// encodeWebP writes a lossless WebP (VP8L) of the plainest kind: no transforms,
// no references back, and prefix codes in which each colour value takes eight
// bits, so that a pixel takes three bytes. Alpha is taken for opaque.
func encodeWebP(img *image.NRGBA) []byte {
	w := &bitWriter{buf: []byte{0x2f}}
	size := img.Bounds().Size()
	w.put(uint64(size.X-1), 14)
	w.put(uint64(size.Y-1), 14)
	w.put(0, 1+3) // alpha unused, version 0
	w.put(0, 3)   // no transform, no colour cache, one group of prefix codes
	for range 3 { // green, red, blue
		w.eightBitCode()
	}
	w.put(0b101, 3)  // alpha: a simple code of one symbol, given in eight bits,
	w.put(0xff, 8)   // which then takes no bits at all
	w.put(0b0001, 4) // distance: likewise, symbol 0 given in one bit
	for i := 0; i < len(img.Pix); i += 4 {
		for _, v := range []byte{img.Pix[i+1], img.Pix[i], img.Pix[i+2]} {
			w.put(uint64(bits.Reverse8(v)), 8) // prefix codes go highest bit first
		}
	}
	return riff(w.end())
}

// eightBitCode declares that each of the symbols 0 to 255 has a code of eight
// bits, by which the code is the symbol itself.
func (w *bitWriter) eightBitCode() {
	w.put(0, 1) // not a simple code
	// The code lengths are written in a code of their own, with the one
	// symbol 8: twelfth in the order of the format, of length 1.
	w.put(12-4, 4)
	w.put(1<<(11*3), 12*3)
	// No more than 256 lengths follow, as 2 + 254 in 2 + 2*3 bits; each takes
	// no bits, being the one symbol there is. The other symbols have none.
	w.put(1, 1)
	w.put(3, 3)
	w.put(254, 8)
}

// riff wraps a VP8L bit stream into a file.
func riff(stream []byte) []byte {
	if len(stream)%2 == 1 {
		stream = append(stream, 0)
	}
	b := append([]byte("RIFF"), 0, 0, 0, 0)
	b = append(b, "WEBPVP8L"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(stream)))
	b = append(b, stream...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// bitWriter fills bytes from the lowest bit up.
type bitWriter struct {
	buf  []byte
	acc  uint64
	have int
}

// put appends the low n bits of v, 48 at most.
func (w *bitWriter) put(v uint64, n int) {
	w.acc |= v << w.have
	w.have += n
	for ; w.have >= 8; w.have -= 8 {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
	}
}

func (w *bitWriter) end() []byte {
	w.put(0, 7) // what is left of the last byte, filled up
	return w.buf
}
