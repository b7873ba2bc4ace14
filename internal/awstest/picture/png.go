package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
)

// Types of colour in the header of a PNG.
const (
	pngGrey      = 0
	pngRGB       = 2
	pngGreyAlpha = 4
)

// pngHeader has the fields of IHDR that vary.
type pngHeader struct {
	width, height int
	depth, colour byte
	interlaced    bool
}

func (h pngHeader) chunk() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(h.width))
	b = binary.BigEndian.AppendUint32(b, uint32(h.height))
	b = append(b, h.depth, h.colour, 0, 0, 0)
	if h.interlaced {
		b[12] = 1
	}
	return chunk("IHDR", b)
}

// chunk is a chunk of a PNG.
func chunk(name string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, name...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// rawPNG puts a PNG together.
func rawPNG(h pngHeader, rows []byte) []byte {
	return bytes.Join([][]byte{[]byte(signature), h.chunk(), chunk("IDAT", deflated(rows)), chunk("IEND", nil)}, nil)
}

func deflated(b []byte) []byte {
	var out bytes.Buffer
	w, _ := zlib.NewWriterLevel(&out, zlib.BestCompression)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// greyCorners are the quarters of greyAlphaPNG.
var greyCorners = [4]color.NRGBA{{40, 40, 40, 255}, {120, 120, 120, 128}, {200, 200, 200, 0}, {240, 240, 240, 255}}

// greyAlphaPNG has one grey and one alpha value in a pixel, which the encoder of the standard
// library does not write.
func greyAlphaPNG() []byte {
	rows := make([]byte, 0, (1+2*Width)*Height)
	for y := range Height {
		rows = append(rows, 0)
		for x := range Width {
			c := greyCorners[2*(2*y/Height)+2*x/Width]
			rows = append(rows, c.R, c.A)
		}
	}
	return rawPNG(pngHeader{width: Width, height: Height, depth: 8, colour: pngGreyAlpha}, rows)
}

// adam7 are the passes of an interlaced PNG: first column and row, and steps.
var adam7 = [7][4]int{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}}

func interlacedPNG(img *image.NRGBA) []byte {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	var rows []byte
	for _, pass := range adam7 {
		for y := pass[1]; y < h; y += pass[3] {
			rows = append(rows, 0)
			for x := pass[0]; x < w; x += pass[2] {
				c := img.NRGBAAt(x, y)
				rows = append(rows, c.R, c.G, c.B)
			}
		}
	}
	return rawPNG(pngHeader{width: w, height: h, depth: 8, colour: pngRGB, interlaced: true}, rows)
}

// pngWithMetadata puts texts, EXIF and XMP behind the header of a PNG.
func pngWithMetadata(body []byte) []byte {
	end := len(signature) + 12 + 13
	return bytes.Join([][]byte{
		body[:end],
		chunk("tEXt", []byte("Comment\x00"+Private)),
		chunk("eXIf", exif(1)),
		chunk("iTXt", append([]byte("XML:com.adobe.xmp\x00\x00\x00\x00\x00"), xmp()...)),
		body[end:],
	}, nil)
}
