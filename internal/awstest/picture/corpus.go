package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"strconv"
)

// Width and Height are those of the pictures of Corpus, upright.
const (
	Width  = 128
	Height = 96
)

// Corners are the colours of the quarters of the pictures of Corpus in sRGB: top
// left, top right, bottom left, bottom right.
var Corners = [4]color.NRGBA{{200, 40, 40, 255}, {40, 160, 60, 255}, {40, 60, 190, 255}, {230, 210, 50, 255}}

// Texts in the metadata of the pictures of Corpus. Copyright and Artist may be kept.
const (
	Private   = "SECRET-PLACE"
	Copyright = "(c) 2026 Ada Example"
	Artist    = "Ada Example"
)

// Case is a picture with something that a program may get wrong. Upright and in sRGB
// it shows four quarters in the colours of Corners.
type Case struct {
	Name        string
	ContentType string
	Body        []byte
	Corners     [4]color.NRGBA
	// Tolerance is the largest difference of a colour that is still right.
	Tolerance int
	Frames    int
	Copyright bool // Body has Copyright and Artist
	Private   bool // Body has Private
}

// Corpus draws a picture for each trap of the formats. Every call returns the same bytes.
func Corpus() []Case {
	upright := quarters(Corners)
	all := []Case{
		{Name: "grey-alpha.png", Body: greyAlphaPNG(), Corners: greyCorners, Tolerance: 2},
		{Name: "deep.png", Body: encode(deep(upright), png.Encode)},
		{Name: "palette.png", Body: encode(paletted(upright), png.Encode), Corners: clearLast(Corners)},
		{Name: "interlaced.png", Body: interlacedPNG(upright)},
		{Name: "metadata.png", Body: pngWithMetadata(encode(upright, png.Encode)), Private: true, Copyright: true},
		{Name: "progressive.jpg", Body: flatJPEG(flat{image: inYCbCr(upright), progressive: true})},
		{Name: "cmyk.jpg", Body: flatJPEG(flat{image: inInks(false), adobe: true}), Tolerance: 90},
		{Name: "cmyk-profile.jpg", Body: flatJPEG(flat{image: inInks(true), adobe: true, profile: inkProfile()})},
		{Name: "p3.jpg", Body: withSegments(encode(inP3(upright), encodeJPEG), iccSegments(p3Profile())...)},
		{Name: "animated.gif", Body: animatedGIF(), Frames: animationFrames},
		{Name: "animated.webp", Body: animatedWebP(), Frames: animationFrames},
		{Name: "orientation-6.webp", Body: orientedWebP(6), Private: true, Copyright: true},
	}
	for o := 1; o <= 8; o++ {
		stored := encode(unturned(upright, o), encodeJPEG)
		body := withSegments(stored, exifSegment(o), xmpSegment(), segment(0xfe, []byte("comment "+Private)))
		all = append(all, Case{Name: "orientation-" + strconv.Itoa(o) + ".jpg", Body: body, Private: true, Copyright: true})
	}
	for i := range all {
		all[i].fill()
	}
	return all
}

// fill sets the fields that most pictures have in common.
func (c *Case) fill() {
	c.ContentType = map[byte]string{0x89: "image/png", 0xff: "image/jpeg", 'G': "image/gif", 'R': "image/webp"}[c.Body[0]]
	if c.Corners == [4]color.NRGBA{} {
		c.Corners = Corners
	}
	if c.Tolerance == 0 {
		c.Tolerance = 12
	}
	c.Frames = max(c.Frames, 1)
}

// quarters paints the four quarters.
func quarters(colours [4]color.NRGBA) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, Width, Height))
	for y := range Height {
		for x := range Width {
			img.SetNRGBA(x, y, colours[2*(2*y/Height)+2*x/Width])
		}
	}
	return img
}

// unturned is the picture as it is stored with an orientation of EXIF, which turns it
// into the upright picture img.
func unturned(img *image.NRGBA, orientation int) *image.NRGBA {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	from := []func(x, y int) (int, int){
		func(x, y int) (int, int) { return x, y },
		func(x, y int) (int, int) { return w - 1 - x, y },
		func(x, y int) (int, int) { return w - 1 - x, h - 1 - y },
		func(x, y int) (int, int) { return x, h - 1 - y },
		func(x, y int) (int, int) { return y, x },
		func(x, y int) (int, int) { return w - 1 - y, x },
		func(x, y int) (int, int) { return w - 1 - y, h - 1 - x },
		func(x, y int) (int, int) { return y, h - 1 - x },
	}[orientation-1]
	size := image.Rect(0, 0, w, h)
	if orientation > 4 {
		size = image.Rect(0, 0, h, w)
	}
	out := image.NewNRGBA(size)
	for y := range size.Dy() {
		for x := range size.Dx() {
			out.SetNRGBA(x, y, img.NRGBAAt(from(x, y)))
		}
	}
	return out
}

// deep has 16 bits in each part of a colour.
func deep(img *image.NRGBA) *image.NRGBA64 {
	out := image.NewNRGBA64(img.Rect)
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			out.Set(x, y, img.At(x, y))
		}
	}
	return out
}

// paletted has a palette, of which the colour of the last quarter is transparent.
func paletted(img *image.NRGBA) *image.Paletted {
	last := clearLast(Corners)
	out := image.NewPaletted(img.Rect, color.Palette{last[0], last[1], last[2], last[3]})
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			out.SetColorIndex(x, y, uint8(2*(2*y/Height)+2*x/Width))
		}
	}
	return out
}

// clearLast makes the last colour transparent.
func clearLast(colours [4]color.NRGBA) [4]color.NRGBA {
	colours[3].A = 0
	return colours
}

// inP3 has the same colours in Display P3.
func inP3(img *image.NRGBA) *image.NRGBA {
	out := image.NewNRGBA(img.Rect)
	for i := 0; i < len(img.Pix); i += 4 {
		r, g, b := linear(img.Pix[i]), linear(img.Pix[i+1]), linear(img.Pix[i+2])
		out.Pix[i] = curved(0.8224621*r + 0.1775380*g)
		out.Pix[i+1] = curved(0.0331941*r + 0.9668058*g)
		out.Pix[i+2] = curved(0.0170827*r + 0.0723974*g + 0.9105199*b)
		out.Pix[i+3] = img.Pix[i+3]
	}
	return out
}

// linear undoes the transfer curve of sRGB, which Display P3 has too.
func linear(v uint8) float64 {
	c := float64(v) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}

func curved(c float64) uint8 {
	if c <= 0.0031308 {
		return uint8(math.Round(255 * 12.92 * max(0, c)))
	}
	return uint8(math.Round(255 * min(1, 1.055*math.Pow(c, 1/2.4)-0.055)))
}

// Blank returns a picture of one colour in a size of its own.
func Blank(width, height int) []byte {
	img := image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{Corners[0]})
	return encode(img, png.Encode)
}

// Montage is a JPEG of photographs side by side in two rows, each scaled to fill its
// cell. Without photographs it is a drawing.
func Montage(width, height int, photographs ...image.Image) []byte {
	if len(photographs) == 0 {
		photographs = []image.Image{scene(width, height, 0.4, 6)}
	}
	columns := (len(photographs) + 1) / 2
	rows := min(len(photographs), 2)
	cell := image.Pt(width/columns, height/rows)
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			at := min(y/cell.Y, rows-1)*columns + min(x/cell.X, columns-1)
			img := photographs[at%len(photographs)]
			b := img.Bounds()
			out.Set(x, y, img.At(b.Min.X+x%cell.X*b.Dx()/cell.X, b.Min.Y+y%cell.Y*b.Dy()/cell.Y))
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, out, &jpeg.Options{Quality: 90}); err != nil {
		panic("draw a montage: " + err.Error())
	}
	return b.Bytes()
}

// animationFrames is the number of frames of the animations of Corpus.
const animationFrames = 3

// animatedGIF begins with the quarters. Its second frame is a small one with an offset,
// which is taken away before the third.
func animatedGIF() []byte {
	palette := color.Palette{Corners[0], Corners[1], Corners[2], Corners[3], color.NRGBA{}, color.White}
	first := image.NewPaletted(image.Rect(0, 0, Width, Height), palette)
	copy(first.Pix, paletted(quarters(Corners)).Pix)
	g := &gif.GIF{
		Image:    []*image.Paletted{first, patch(palette, 16, 8), patch(palette, 80, 56)},
		Delay:    []int{10, 20, 30},
		Disposal: []byte{gif.DisposalNone, gif.DisposalPrevious, gif.DisposalBackground},
		Config:   image.Config{ColorModel: palette, Width: Width, Height: Height},
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		panic("draw an animation: " + err.Error())
	}
	return b.Bytes()
}

// patchSize is the side of the small frames of animations.
const patchSize = 32

// patch is a white frame at x, y.
func patch(palette color.Palette, x, y int) *image.Paletted {
	img := image.NewPaletted(image.Rect(x, y, x+patchSize, y+patchSize), palette)
	for i := range img.Pix {
		img.Pix[i] = 5
	}
	return img
}
