package picture

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
)

// riffChunk is a chunk of a WebP, filled up to an even length.
func riffChunk(name string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(name), uint32(len(data)))
	b = append(b, data...)
	if len(data)%2 == 1 {
		b = append(b, 0)
	}
	return b
}

// webp puts a WebP with extended features together. Flags: 2 animation, 4 XMP, 8 EXIF,
// 16 alpha, 32 profile.
func webp(flags byte, size image.Point, chunks ...[]byte) []byte {
	h := append([]byte{flags, 0, 0, 0}, three(size.X-1)...)
	body := bytes.Join(append([][]byte{[]byte("WEBP"), riffChunk("VP8X", append(h, three(size.Y-1)...))}, chunks...), nil)
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

// three is a number of 24 bits.
func three(n int) []byte { return []byte{byte(n), byte(n >> 8), byte(n >> 16)} }

// stream is the VP8L chunk of an image.
func stream(img *image.NRGBA) []byte { return encodeWebP(img)[12:] }

// webpFrame is a frame of an animation at an even offset. It replaces what it covers; dispose
// paints the background over it before the next one.
func webpFrame(img *image.NRGBA, milliseconds int, dispose bool) []byte {
	r := img.Rect
	flags := byte(2)
	if dispose {
		flags |= 1
	}
	var h []byte
	for _, n := range []int{r.Min.X / 2, r.Min.Y / 2, r.Dx() - 1, r.Dy() - 1, milliseconds} {
		h = append(h, three(n)...)
	}
	return riffChunk("ANMF", append(append(h, flags), stream(img)...))
}

// animatedWebP shows what animatedGIF does.
func animatedWebP() []byte {
	return webp(2, image.Pt(Width, Height), riffChunk("ANIM", []byte{255, 255, 255, 255, 0, 0}),
		webpFrame(quarters(Corners), 100, false), webpFrame(white(16, 8), 200, true), webpFrame(white(80, 56), 300, false))
}

// white is a white square at x, y.
func white(x, y int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(x, y, x+patchSize, y+patchSize))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	return img
}

// orientedWebP is a WebP that EXIF turns.
func orientedWebP(orientation int) []byte {
	stored := unturned(quarters(Corners), orientation)
	return webp(8|4, stored.Rect.Size(), stream(stored), riffChunk("EXIF", exif(orientation)), riffChunk("XMP ", xmp()))
}

// frameBombGIF has many frames of one pixel on a canvas.
func frameBombGIF(width, height, frames int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(le.AppendUint16([]byte("GIF89a"), uint16(width)), uint16(height))
	b = append(b, 0x80, 0, 0, 0, 0, 0, 255, 255, 255) // a palette of two colours
	b = append(b, "\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"...)
	frame := []byte("\x21\xf9\x04\x00\x0a\x00\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00")
	return append(append(b, bytes.Repeat(frame, frames)...), ';')
}

// frameBombWebP has many frames of one pixel on a canvas.
func frameBombWebP(width, height, frames int) []byte {
	one := image.NewNRGBA(image.Rect(0, 0, 1, 1))
	one.SetNRGBA(0, 0, color.NRGBA{255, 0, 0, 255})
	all := bytes.Repeat(webpFrame(one, 10, false), frames)
	return webp(2, image.Pt(width, height), riffChunk("ANIM", make([]byte, 6)), all)
}
