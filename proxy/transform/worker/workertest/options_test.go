package workertest

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	_ "image/jpeg"
	"image/png"
	"sync"
	"testing"

	"golang.org/x/image/webp"

	"ixmage/internal/awstest/picture"
)

var (
	red, green, blue, yellow = picture.Corners[0], picture.Corners[1], picture.Corners[2], picture.Corners[3]
	white                    = color.NRGBA{255, 255, 255, 255}
	empty                    = color.NRGBA{}
)

// quarters400 is the source of most tests.
var quarters400 = sync.OnceValue(func() []byte { return quarters(400, 300) })

// quarters is the upright picture of the corpus, as PNG: red and green above, blue and yellow below.
func quarters(w, h int) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, picture.Corners[2*(2*y/h)+2*x/w])
		}
	}
	return encoded(img)
}

func uniform(w, h int, c color.NRGBA) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := 0; i < len(img.Pix); i += 4 {
		copy(img.Pix[i:], []byte{c.R, c.G, c.B, c.A})
	}
	return encoded(img)
}

func encoded(img image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func decode(t *testing.T, body []byte) image.Image {
	t.Helper()
	if sniff(body) == webpType {
		img, err := webp.Decode(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	img, _, err := image.Decode(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// spot is a place in percent of the picture, and its colour.
type spot struct {
	x, y int
	want color.NRGBA
}

func looks(t *testing.T, img image.Image, tolerance int, spots ...spot) {
	t.Helper()
	size := img.Bounds()
	for _, s := range spots {
		got := color.NRGBAModel.Convert(img.At(size.Min.X+size.Dx()*s.x/100, size.Min.Y+size.Dy()*s.y/100)).(color.NRGBA)
		if got.A == 0 && s.want.A == 0 {
			continue
		}
		for _, d := range []int{int(got.R) - int(s.want.R), int(got.G) - int(s.want.G), int(got.B) - int(s.want.B), int(got.A) - int(s.want.A)} {
			if d > tolerance || -d > tolerance {
				t.Errorf("at %d %%, %d %%: %v, want %v", s.x, s.y, got, s.want)
				break
			}
		}
	}
}

func corners(topLeft, topRight, bottomLeft, bottomRight color.NRGBA) []spot {
	return []spot{{10, 10, topLeft}, {90, 10, topRight}, {10, 90, bottomLeft}, {90, 90, bottomRight}}
}

// TestOptions asks for each option of a picture of 400 x 300 with four quarters, as PNG.
func TestOptions(t *testing.T) {
	t.Parallel()
	c := start(t)
	upright := corners(red, green, blue, yellow)
	gray := func(v uint8) color.NRGBA { return color.NRGBA{v, v, v, 255} }
	tests := map[string]struct {
		options func(r *request)
		w, h    int
		spots   []spot
	}{
		"nothing":                     {func(*request) {}, 400, 300, upright},
		"width":                       {func(r *request) { r.Width = 200 }, 200, 150, upright},
		"height":                      {func(r *request) { r.Height = 100 }, 133, 100, upright},
		"width does not enlarge":      {func(r *request) { r.Width = 800 }, 400, 300, upright},
		"one pixel":                   {func(r *request) { r.Width = 1 }, 1, 1, nil},
		"no fit is inside":            {func(r *request) { r.Width, r.Height = 100, 100 }, 100, 75, upright},
		"inside":                      {func(r *request) { r.Fit, r.Width, r.Height = inside, 100, 100 }, 100, 75, upright},
		"inside does not enlarge":     {func(r *request) { r.Fit, r.Width, r.Height = inside, 1000, 1000 }, 400, 300, upright},
		"outside":                     {func(r *request) { r.Fit, r.Width, r.Height = outside, 100, 100 }, 133, 100, upright},
		"outside does not enlarge":    {func(r *request) { r.Fit, r.Width, r.Height = outside, 1000, 1000 }, 400, 300, upright},
		"fill":                        {func(r *request) { r.Fit, r.Width, r.Height = fill, 50, 150 }, 50, 150, upright},
		"fill enlarges":               {func(r *request) { r.Fit, r.Width, r.Height = fill, 500, 600 }, 500, 600, upright},
		"one side makes cover inside": {func(r *request) { r.Fit, r.Width = cover, 800 }, 400, 300, upright},
		"contain":                     {func(r *request) { r.Fit, r.Width, r.Height = contain, 100, 100 }, 100, 100, []spot{{50, 3, white}, {50, 96, white}, {10, 20, red}, {90, 80, yellow}}},
		"contain does not enlarge":    {func(r *request) { r.Fit, r.Width, r.Height = contain, 800, 600 }, 800, 600, []spot{{10, 10, white}, {90, 90, white}, {30, 30, red}, {70, 70, yellow}}},
		"contain at the top":          {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = contain, 100, 100, 1 }, 100, 100, []spot{{10, 2, red}, {50, 95, white}}},
		"contain on a colour": {func(r *request) {
			r.Fit, r.Width, r.Height, r.Flags, r.Background = contain, 100, 100, flagBackground, [4]byte{1, 2, 3, 255}
		}, 100, 100, []spot{{50, 3, color.NRGBA{1, 2, 3, 255}}, {10, 20, red}}},
		"contain on a transparent colour": {func(r *request) {
			r.Fit, r.Width, r.Height, r.Flags, r.Background = contain, 100, 100, flagBackground, [4]byte{0, 0, 255, 128}
		}, 100, 100, []spot{{50, 3, color.NRGBA{0, 0, 255, 128}}, {10, 20, red}}},
		"cover":             {func(r *request) { r.Fit, r.Width, r.Height = cover, 100, 100 }, 100, 100, upright},
		"cover enlarges":    {func(r *request) { r.Fit, r.Width, r.Height = cover, 600, 600 }, 600, 600, upright},
		"cover west":        {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = cover, 50, 150, 7 }, 50, 150, corners(red, red, blue, blue)},
		"cover east":        {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = cover, 50, 150, 3 }, 50, 150, corners(green, green, yellow, yellow)},
		"cover north":       {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = cover, 200, 50, 1 }, 200, 50, corners(red, green, red, green)},
		"cover south":       {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = cover, 200, 50, 5 }, 200, 50, corners(blue, yellow, blue, yellow)},
		"cover northeast":   {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = cover, 50, 150, 2 }, 50, 150, corners(green, green, yellow, yellow)},
		"cover southwest":   {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = cover, 200, 50, 6 }, 200, 50, corners(blue, yellow, blue, yellow)},
		"cover smart":       {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = cover, 50, 150, 9 }, 50, 150, nil},
		"focal point":       {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity, r.FocalX, r.FocalY = cover, 50, 150, 10, 1, 0 }, 50, 150, corners(green, green, yellow, yellow)},
		"focal point at 0":  {func(r *request) { r.Fit, r.Width, r.Height, r.Gravity = cover, 200, 50, 10 }, 200, 50, corners(red, green, red, green)},
		"crop":              {func(r *request) { r.CropX, r.CropY, r.CropW, r.CropH = 200, 0, 100, 100 }, 100, 100, corners(green, green, green, green)},
		"crop is cut":       {func(r *request) { r.CropX, r.CropY, r.CropW, r.CropH = 300, 200, 5000, 5000 }, 100, 100, corners(yellow, yellow, yellow, yellow)},
		"crop and width":    {func(r *request) { r.CropX, r.CropY, r.CropW, r.CropH, r.Width = 100, 0, 200, 300, 100 }, 100, 150, upright},
		"turn 90":           {func(r *request) { r.Rotate = 1 }, 300, 400, corners(blue, red, yellow, green)},
		"turn 180":          {func(r *request) { r.Rotate = 2 }, 400, 300, corners(yellow, blue, green, red)},
		"turn 270":          {func(r *request) { r.Rotate = 3 }, 300, 400, corners(green, yellow, red, blue)},
		"turn and width":    {func(r *request) { r.Rotate, r.Width = 1, 150 }, 150, 200, corners(blue, red, yellow, green)},
		"turn and fill":     {func(r *request) { r.Rotate, r.Fit, r.Width, r.Height = 1, fill, 60, 20 }, 60, 20, corners(blue, red, yellow, green)},
		"flip h":            {func(r *request) { r.Flip = 1 }, 400, 300, corners(green, red, yellow, blue)},
		"flip v":            {func(r *request) { r.Flip = 2 }, 400, 300, corners(blue, yellow, red, green)},
		"flip hv":           {func(r *request) { r.Flip = 3 }, 400, 300, corners(yellow, blue, green, red)},
		"turn, then flip":   {func(r *request) { r.Rotate, r.Flip = 1, 1 }, 300, 400, corners(red, blue, green, yellow)},
		"crop, then turn":   {func(r *request) { r.CropW, r.CropH, r.Rotate = 200, 300, 1 }, 300, 200, corners(blue, red, blue, red)},
		"blur":              {func(r *request) { r.Blur = 5 }, 400, 300, append(upright, spot{50, 20, color.NRGBA{120, 100, 50, 255}})},
		"strongest blur":    {func(r *request) { r.Blur = 100 }, 400, 300, nil},
		"sharpen":           {func(r *request) { r.Sharpen = 1 }, 400, 300, upright},
		"gray":              {func(r *request) { r.Flags = flagGray }, 400, 300, corners(gray(104), gray(130), gray(83), gray(206))},
		"opaque background": {func(r *request) { r.Flags, r.Background = flagBackground, [4]byte{9, 9, 9, 255} }, 400, 300, upright},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			source := quarters400()
			r := plain(source, pngType)
			test.options(&r)
			answer, body := c.do(r, source, nil)
			img := decode(t, body)
			if got := img.Bounds().Size(); got != image.Pt(test.w, test.h) || int(answer.Width) != test.w || int(answer.Height) != test.h {
				t.Errorf("%v, told %d x %d, want %d x %d", got, answer.Width, answer.Height, test.w, test.h)
			}
			looks(t, img, 12, test.spots...)
		})
	}
}

// TestShrinkOnLoad: where the loader shrinks, crop and turns still hit the same places.
func TestShrinkOnLoad(t *testing.T) {
	t.Parallel()
	c := start(t)
	big := quarters(2000, 1500)
	for name, output := range map[string]uint8{"jpeg": jpegType, "webp": webpType} {
		t.Run(name, func(t *testing.T) {
			_, source := c.do(plain(big, output), big, nil)
			r := plain(source, pngType)
			r.Width = 100
			answer, body := c.do(r, source, nil)
			if answer.SourceWidth != 2000 || answer.SourceHeight != 1500 {
				t.Errorf("the source has %d x %d, want 2000 x 1500", answer.SourceWidth, answer.SourceHeight)
			}
			looks(t, decode(t, body), 14, corners(red, green, blue, yellow)...)
			r.CropX, r.CropY, r.CropW, r.CropH, r.Rotate, r.Width = 1000, 0, 1000, 1500, 1, 90
			answer, body = c.do(r, source, nil)
			if answer.Width != 90 || answer.Height != 60 {
				t.Errorf("%d x %d, want 90 x 60", answer.Width, answer.Height)
			}
			looks(t, decode(t, body), 14, corners(yellow, green, yellow, green)...)
		})
	}
}

// TestAlpha: transparent pixels keep no colour, and lie on the background.
func TestAlpha(t *testing.T) {
	t.Parallel()
	c := start(t)
	source := uniform(40, 40, color.NRGBA{200, 0, 0, 128})
	tests := map[string]struct {
		output  uint8
		options func(r *request)
		want    spot
	}{
		"kept":                    {pngType, func(*request) {}, spot{50, 50, color.NRGBA{200, 0, 0, 128}}},
		"resized":                 {pngType, func(r *request) { r.Width = 10 }, spot{50, 50, color.NRGBA{200, 0, 0, 128}}},
		"blurred":                 {pngType, func(r *request) { r.Blur = 2 }, spot{50, 50, color.NRGBA{200, 0, 0, 128}}},
		"padded":                  {pngType, func(r *request) { r.Fit, r.Width, r.Height = contain, 80, 40 }, spot{5, 50, empty}},
		"kept in webp":            {webpType, func(*request) {}, spot{50, 50, color.NRGBA{200, 0, 0, 128}}},
		"jpeg is white below":     {jpegType, func(*request) {}, spot{50, 50, color.NRGBA{227, 127, 127, 255}}},
		"jpeg on a colour":        {jpegType, func(r *request) { r.Flags, r.Background = flagBackground, [4]byte{0, 0, 200, 255} }, spot{50, 50, color.NRGBA{100, 0, 100, 255}}},
		"on a colour":             {pngType, func(r *request) { r.Flags, r.Background = flagBackground, [4]byte{0, 0, 200, 255} }, spot{50, 50, color.NRGBA{100, 0, 100, 255}}},
		"on a transparent colour": {pngType, func(r *request) { r.Flags, r.Background = flagBackground, [4]byte{0, 0, 200, 128} }, spot{50, 50, color.NRGBA{133, 0, 66, 192}}},
		"on transparent":          {pngType, func(r *request) { r.Flags = flagBackground }, spot{50, 50, color.NRGBA{200, 0, 0, 128}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := plain(source, test.output)
			test.options(&r)
			answer, body := c.do(r, source, nil)
			if answer.Alpha != 1 {
				t.Error("the source has no alpha, want alpha")
			}
			looks(t, decode(t, body), 16, test.want)
		})
	}
}

// TestWatermark places a white mark of 100 x 100 on the four quarters of 400 x 300.
func TestWatermark(t *testing.T) {
	t.Parallel()
	c := start(t)
	source, mark := quarters400(), uniform(100, 100, white)
	half := func(c color.NRGBA) color.NRGBA {
		return color.NRGBA{uint8((int(c.R) + 255) / 2), uint8((int(c.G) + 255) / 2), uint8((int(c.B) + 255) / 2), 255}
	}
	tests := map[string]struct {
		mark    []byte
		options func(r *request)
		spots   []spot
	}{
		"southeast":      {mark, func(*request) {}, []spot{{98, 98, white}, {77, 69, white}, {72, 98, yellow}, {98, 63, yellow}, {10, 10, red}}},
		"northwest":      {mark, func(r *request) { r.MarkGravity = 8 }, []spot{{2, 2, white}, {23, 30, white}, {27, 2, red}}},
		"center":         {mark, func(r *request) { r.MarkGravity = 0 }, []spot{{50, 50, white}, {36, 45, red}}},
		"half opaque":    {mark, func(r *request) { r.MarkOpacity = 50 }, []spot{{98, 98, half(yellow)}, {10, 10, red}}},
		"invisible":      {mark, func(r *request) { r.MarkOpacity = 0 }, []spot{{98, 98, yellow}}},
		"scaled":         {mark, func(r *request) { r.MarkScale = 50 }, []spot{{52, 98, white}, {48, 98, blue}, {98, 36, white}, {98, 30, green}}},
		"never too high": {mark, func(r *request) { r.MarkScale = 100 }, []spot{{98, 1, white}, {27, 50, white}, {23, 20, red}}},
		"at most 25 %":   {uniform(2000, 1000, white), func(*request) {}, []spot{{77, 98, white}, {73, 98, yellow}, {98, 85, white}, {98, 80, yellow}}},
		"tiled":          {uniform(10, 10, white), func(r *request) { r.Flags = flagTile }, corners(white, white, white, white)},
		"gray below":     {uniform(100, 100, red), func(r *request) { r.Flags = flagGray }, []spot{{98, 98, red}, {10, 10, color.NRGBA{104, 104, 104, 255}}}},
		"on the result":  {mark, func(r *request) { r.Width = 100 }, []spot{{77, 98, white}, {73, 98, yellow}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := plain(source, pngType)
			test.options(&r)
			_, body := c.do(r, source, test.mark)
			looks(t, decode(t, body), 12, test.spots...)
		})
	}
}

// TestCorpus turns every picture of the corpus into every format: upright, in sRGB, without metadata.
func TestCorpus(t *testing.T) {
	t.Parallel()
	c := start(t)
	for _, p := range picture.Corpus() {
		t.Run(p.Name, func(t *testing.T) {
			for _, output := range []uint8{jpegType, pngType, webpType, gifType, avifType} {
				r := plain(p.Body, output)
				answer, body := c.do(r, p.Body, nil)
				if answer.Width != picture.Width || answer.Height != picture.Height || int(answer.SourceFrames) != p.Frames {
					t.Errorf("type %d: %d x %d, %d frames of the source; want %d x %d, %d", output, answer.Width, answer.Height, answer.SourceFrames, picture.Width, picture.Height, p.Frames)
				}
				if sniff(body) != output {
					t.Errorf("the result has type %d, want %d", sniff(body), output)
				}
				for _, text := range []string{picture.Private, picture.Copyright, picture.Artist} {
					if bytes.Contains(body, []byte(text)) {
						t.Errorf("type %d: metadata %q is kept", output, text)
					}
				}
				if output == pngType {
					looks(t, decode(t, body), p.Tolerance, corners(p.Corners[0], p.Corners[1], p.Corners[2], p.Corners[3])...)
				}
			}
			if !p.Copyright {
				return
			}
			for _, output := range []uint8{jpegType, pngType, webpType, avifType} {
				if output == pngType && bytes.HasPrefix(c.ready.Version[:], []byte("8.14")) {
					continue // Debian's libvips does not write it (docs/decisions/transform-worker.md)
				}
				r := plain(p.Body, output)
				r.Flags, r.Width = flagCopyright, 64
				_, body := c.do(r, p.Body, nil)
				for text, kept := range map[string]bool{picture.Private: false, picture.Copyright: true, picture.Artist: true} {
					if bytes.Contains(body, []byte(text)) != kept {
						t.Errorf("type %d with copyright: metadata %q is there: %v, want %v", output, text, !kept, kept)
					}
				}
			}
		})
	}
}

// TestColours: colours that a file gives by numbers come out in sRGB, of a watermark too.
func TestColours(t *testing.T) {
	t.Parallel()
	c, pure := start(t), color.NRGBA{255, 0, 0, 255}
	for name, tt := range map[string]struct {
		colours [2]uint8
		stored  color.NRGBA
		want    color.NRGBA
	}{
		"none":                  {[2]uint8{}, color.NRGBA{234, 51, 35, 255}, color.NRGBA{234, 51, 35, 255}},
		"sRGB":                  {[2]uint8{1, 13}, color.NRGBA{234, 51, 35, 255}, color.NRGBA{234, 51, 35, 255}},
		"Display P3":            {[2]uint8{12, 13}, color.NRGBA{234, 51, 35, 255}, pure},
		"Display P3, grey":      {[2]uint8{12, 13}, color.NRGBA{128, 128, 128, 255}, color.NRGBA{128, 128, 128, 255}},
		"Display P3 with alpha": {[2]uint8{12, 13}, color.NRGBA{234, 51, 35, 128}, color.NRGBA{255, 0, 0, 128}},
		"BT.2020":               {[2]uint8{9, 14}, color.NRGBA{202, 59, 19, 255}, pure},
		"BT.2020 as sRGB":       {[2]uint8{9, 13}, color.NRGBA{208, 74, 35, 255}, pure},
		"gamma 2.8":             {[2]uint8{1, 5}, color.NRGBA{128, 128, 128, 255}, color.NRGBA{108, 108, 108, 255}},
		"linear":                {[2]uint8{1, 8}, color.NRGBA{55, 55, 55, 255}, color.NRGBA{128, 128, 128, 255}},
		"PQ, diffuse white":     {[2]uint8{9, 16}, color.NRGBA{148, 148, 148, 255}, color.NRGBA{191, 191, 191, 255}},
		"PQ, 1000 nits":         {[2]uint8{9, 16}, color.NRGBA{192, 192, 192, 255}, white},
		"HLG, diffuse white":    {[2]uint8{9, 18}, color.NRGBA{191, 191, 191, 255}, color.NRGBA{191, 191, 191, 255}},
		"HLG, white":            {[2]uint8{9, 18}, white, white},
		"unknown":               {[2]uint8{77, 99}, color.NRGBA{234, 51, 35, 255}, color.NRGBA{234, 51, 35, 255}},
	} {
		source := uniform(40, 30, tt.stored)
		r := plain(source, pngType)
		r.SourceColours = tt.colours
		_, body := c.do(r, source, nil)
		t.Log(name)
		looks(t, decode(t, body), 3, spot{50, 50, tt.want})
	}
	source, mark := uniform(40, 30, white), uniform(40, 30, color.NRGBA{234, 51, 35, 255})
	r := plain(source, pngType)
	r.MarkColours, r.MarkScale = [2]uint8{12, 13}, 100
	_, body := c.do(r, source, mark)
	looks(t, decode(t, body), 3, spot{50, 50, pure})
}

// TestAnimation: frames, delays and loop are kept where the format can.
func TestAnimation(t *testing.T) {
	t.Parallel()
	c := start(t)
	for _, p := range picture.Corpus() {
		if p.Frames == 1 {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			before, _ := gif.DecodeAll(bytes.NewReader(p.Body))
			r := plain(p.Body, gifType)
			r.Flags, r.Width, r.Height, r.Fit, r.Rotate = flagFrames, 40, 60, cover, 1
			answer, body := c.do(r, p.Body, nil)
			after, err := gif.DecodeAll(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if len(after.Image) != p.Frames || int(answer.Frames) != p.Frames || after.Config.Width != 40 || after.Config.Height != 60 {
				t.Errorf("%d frames of %d x %d, told %d; want %d of 40 x 60", len(after.Image), after.Config.Width, after.Config.Height, answer.Frames, p.Frames)
			}
			for i := range after.Delay {
				if before != nil && after.Delay[i] != before.Delay[i] {
					t.Errorf("frame %d is shown for %d, want %d", i, after.Delay[i], before.Delay[i])
				}
			}
			for output, frames := range map[uint8]int{webpType: p.Frames, pngType: 1, jpegType: 1, avifType: 1, rawType: 1} {
				r.Output = output
				if answer, _ := c.do(r, p.Body, nil); int(answer.Frames) != frames {
					t.Errorf("type %d has %d frames, want %d", output, answer.Frames, frames)
				}
			}
			r.Flags, r.Output = 0, gifType
			if answer, _ := c.do(r, p.Body, nil); answer.Frames != 1 {
				t.Errorf("%d frames without the flag, want 1", answer.Frames)
			}
		})
	}
}

func TestRaw(t *testing.T) {
	t.Parallel()
	c := start(t)
	for _, p := range picture.Corpus() {
		r := plain(p.Body, rawType)
		r.Flags = flagGray
		if answer, body := c.do(r, p.Body, nil); len(body) != 3*int(answer.Width*answer.Height) {
			t.Errorf("%s: %d bytes for %d x %d pixels, want 3 a pixel", p.Name, len(body), answer.Width, answer.Height)
		}
	}
}

// TestRefused: each limit and each wrong field has its status, and the worker goes on.
func TestRefused(t *testing.T) {
	t.Parallel()
	c := start(t)
	png, animation := quarters400(), []byte(nil)
	for _, p := range picture.Corpus() {
		if p.Name == "animated.gif" {
			animation = p.Body
		}
	}
	tests := map[string]struct {
		source  []byte
		options func(r *request)
		want    uint32
	}{
		"pixels":          {png, func(r *request) { r.MaxPixels = 119_999 }, statusTooLarge},
		"pixels are few":  {png, func(r *request) { r.MaxPixels = 120_000 }, statusOK},
		"frames":          {animation, func(r *request) { r.Flags, r.Output, r.MaxFrames = flagFrames, gifType, 1 }, statusTooLarge},
		"first frame":     {animation, func(r *request) { r.Output, r.MaxFrames = gifType, 1 }, statusOK},
		"crop outside":    {png, func(r *request) { r.CropX, r.CropW, r.CropH = 400, 1, 1 }, statusCropOutside},
		"crop below":      {png, func(r *request) { r.CropY, r.CropW, r.CropH = 300, 1, 1 }, statusCropOutside},
		"crop, no height": {png, func(r *request) { r.CropW = 1 }, statusCropOutside},
		"side":            {png, func(r *request) { r.Width, r.Height, r.Fit, r.MaxSide = 101, 10, fill, 100 }, statusResultTooLarge},
		"result":          {png, func(r *request) { r.Width, r.Height, r.Fit, r.MaxResult = 101, 100, fill, 10_000 }, statusResultTooLarge},
		"output":          {png, func(r *request) { r.MaxOutput = 100 }, statusResultTooLarge},
		"another type":    {png, func(r *request) { r.SourceType = jpegType }, statusBroken},
		"no type":         {png, func(r *request) { r.SourceType = 6 }, statusInternal},
		"no output":       {png, func(r *request) { r.Output = 0 }, statusInternal},
		"fit":             {png, func(r *request) { r.Fit = 6 }, statusInternal},
		"gravity":         {png, func(r *request) { r.Gravity = 11 }, statusInternal},
		"turn":            {png, func(r *request) { r.Rotate = 4 }, statusInternal},
		"flip":            {png, func(r *request) { r.Flip = 4 }, statusInternal},
		"flags":           {png, func(r *request) { r.Flags = 32 }, statusInternal},
		"quality":         {png, func(r *request) { r.Quality = 101 }, statusInternal},
		"blur":            {png, func(r *request) { r.Blur = 101 }, statusInternal},
		"sharpen":         {png, func(r *request) { r.Sharpen = -1 }, statusInternal},
		"focal point":     {png, func(r *request) { r.FocalX = 1.5 }, statusInternal},
		"opacity":         {png, func(r *request) { r.MarkOpacity = 101 }, statusInternal},
		"scale":           {png, func(r *request) { r.MarkScale = 101 }, statusInternal},
		"effort":          {png, func(r *request) { r.Effort = 10 }, statusInternal},
		"empty":           {nil, func(*request) {}, statusInternal},
		"truncated":       {png[:len(png)/2], func(*request) {}, statusBroken},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := plain(test.source, pngType)
			test.options(&r)
			answer, body, err := c.send(r, test.source, nil)
			if err != nil || answer.Status != test.want || (answer.Status != statusOK && len(body) > 0) {
				t.Errorf("status %d with %d bytes, %v; want %d", answer.Status, len(body), err, test.want)
			}
		})
	}
}
