package transform

import (
	"bytes"
	"encoding/binary"
)

// Sniff reads the header of a picture from its first bytes: 64 KiB are enough but for a JPEG with more
// metadata before its size, and to count the frames of an animation. It decodes nothing, allocates next
// to nothing, and its work is linear in the length of b. The zero Header is a type that is never decoded.
//
// Width and Height are those of one frame as stored, before its orientation. Of an animation whose end is
// not in b, Frames is the number of frames seen, at least 2; it is 0 if b does not show whether there is
// more than one. An animated PNG and an AVIF sequence have one frame, as they are decoded.
func Sniff(b []byte) Header {
	switch {
	case bytes.HasPrefix(b, []byte("\xff\xd8\xff")):
		return sniffJPEG(b)
	case bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")):
		return sniffPNG(b)
	case bytes.HasPrefix(b, []byte("GIF87a")), bytes.HasPrefix(b, []byte("GIF89a")):
		return sniffGIF(b)
	case len(b) >= 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP":
		return sniffWebP(b[12:])
	}
	return sniffAVIF(b)
}

// sniffJPEG looks for the first frame header among the marker segments (ITU-T T.81, annex B).
func sniffJPEG(b []byte) Header {
	h := Header{Type: JPEG, Frames: 1}
	for b = b[2:]; len(b) >= 4 && b[0] == 0xff; {
		marker := b[1]
		size := 2 + int(binary.BigEndian.Uint16(b[2:]))
		switch {
		case marker == 0xff: // fill byte
			size = 1
		case marker == 0x01 || marker >= 0xd0 && marker <= 0xd7: // without a segment
			size = 2
		case isFrameHeader(marker) && len(b) >= 9:
			h.Height, h.Width = int(binary.BigEndian.Uint16(b[5:])), int(binary.BigEndian.Uint16(b[7:]))
			return h
		case marker == 0xda || marker == 0xd9 || size < 4: // the scan, the end, no segment
			return h
		}
		b = skip(b, size)
	}
	return h
}

// isFrameHeader reports whether a marker is SOF0 to SOF15, among which DHT, JPG and DAC have their places.
func isFrameHeader(marker byte) bool {
	return marker&0xf0 == 0xc0 && marker != 0xc4 && marker != 0xc8 && marker != 0xcc
}

// sniffPNG reads IHDR, and looks for a transparent colour and for colours by numbers in the chunks before
// the pixels.
func sniffPNG(b []byte) Header {
	h := Header{Type: PNG, Frames: 1}
	if len(b) < 33 || string(b[12:16]) != "IHDR" {
		return h
	}
	h.Width, h.Height = int(binary.BigEndian.Uint32(b[16:])), int(binary.BigEndian.Uint32(b[20:]))
	h.Alpha = b[25]&4 != 0 // the colour types 4 and 6
	for b = b[33:]; len(b) >= 12; {
		size := uint64(binary.BigEndian.Uint32(b)) + 12
		switch name := string(b[4:8]); {
		case name == "IDAT":
			return h
		case name == "tRNS":
			h.Alpha = true
		case name == "cICP" && b[10] == 0 && b[11] == 1: // RGB, full range; goes before a profile
			h.Colours = coloursOf(int(b[8]), int(b[9]))
		}
		if size > uint64(len(b)) {
			break
		}
		b = b[size:]
	}
	return h
}

// sniffGIF walks through the blocks of a GIF and counts its images.
func sniffGIF(b []byte) Header {
	h := Header{Type: GIF}
	if len(b) < 13 {
		return h
	}
	h.Width, h.Height = int(binary.LittleEndian.Uint16(b[6:])), int(binary.LittleEndian.Uint16(b[8:]))
	loops := false
	for b = skip(b, 13+colourTable(b[10])); len(b) >= 10; {
		switch b[0] {
		case 0x2c:
			h.Frames++
			b = skipBlocks(skip(b, 11+colourTable(b[9])))
		case 0x21:
			alpha, loop := gifExtension(b[1], b[3:])
			h.Alpha, loops = h.Alpha || alpha, loops || loop
			b = skipBlocks(b[2:])
		default:
			return h
		}
	}
	switch {
	case len(b) > 0 && b[0] == 0x3b: // the end
	case loops:
		h.Frames = max(h.Frames, 2)
	case h.Frames < 2:
		h.Frames = 0
	}
	return h
}

// gifExtension reports whether an extension makes a colour transparent, or repeats an animation.
func gifExtension(label byte, data []byte) (alpha, loop bool) {
	switch label {
	case 0xf9:
		return data[0]&1 == 1, false
	case 0xff:
		return false, bytes.HasPrefix(data, []byte("NETSCAPE2.0")) || bytes.HasPrefix(data, []byte("ANIMEXTS1.0"))
	}
	return false, false
}

// colourTable returns the size in bytes of the table that the flags of a GIF announce.
func colourTable(flags byte) int {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
}

// skip returns b without its first n bytes.
func skip(b []byte, n int) []byte { return b[min(n, len(b)):] }

// skipBlocks returns what follows the data blocks of a GIF and their terminator.
func skipBlocks(b []byte) []byte {
	for len(b) > 0 && b[0] != 0 {
		b = skip(b, 1+int(b[0]))
	}
	return skip(b, 1)
}

// sniffWebP reads the chunks behind the header of a RIFF file.
func sniffWebP(b []byte) Header {
	h := Header{Type: WebP, Frames: 1}
	size, name, data := riffChunk(b)
	switch {
	case name == "VP8 " && len(data) >= 10 && string(data[3:6]) == "\x9d\x01\x2a":
		h.Width = int(binary.LittleEndian.Uint16(data[6:])) & 0x3fff
		h.Height = int(binary.LittleEndian.Uint16(data[8:])) & 0x3fff
	case name == "VP8L" && len(data) >= 5 && data[0] == 0x2f:
		bits := binary.LittleEndian.Uint32(data[1:])
		h.Width, h.Height, h.Alpha = int(bits&0x3fff)+1, int(bits>>14&0x3fff)+1, bits>>28&1 == 1
	case name == "VP8X" && len(data) >= 10:
		h.Width, h.Height = uint24(data[4:])+1, uint24(data[7:])+1
		h.Alpha = data[0]&0x10 != 0
		if data[0]&0x02 != 0 {
			h.Frames = webpFrames(skip(b, size))
		}
	}
	return h
}

// webpFrames counts the frames of an animation.
func webpFrames(b []byte) (frames int) {
	for len(b) >= 8 {
		size, name, _ := riffChunk(b)
		if name == "ANMF" {
			frames++
		}
		if size > len(b) {
			return max(frames, 2) // the end is not here
		}
		b = b[size:]
	}
	return frames
}

// riffChunk returns the first chunk of b with its size in the file, header and padding included. data is
// cut where b ends.
func riffChunk(b []byte) (size int, name string, data []byte) {
	if len(b) < 8 {
		return len(b), "", nil
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	return 8 + n + n&1, string(b[:4]), b[8:min(8+n, len(b))]
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }
