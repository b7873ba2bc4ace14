// Package picture draws valid pictures of every type, for tests, demonstrations
// and benchmarks.
package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"math/rand/v2"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// Sample is a sample image with its object name and type.
type Sample struct {
	Name        string
	ContentType string
	Body        []byte
}

// Samples draws a landscape at different hours in each format with an encoder: a
// few tens of KiB each and one of more than 1 MiB. Every call returns the same
// bytes. A failure to encode is a bug in this package and panics.
func Samples() []Sample {
	return []Sample{
		{"morning.png", "image/png", encode(scene(320, 200, 0.15, 3), png.Encode)},
		{"noon.jpg", "image/jpeg", encode(scene(640, 400, 0.5, 8), encodeJPEG)},
		{"day.gif", "image/gif", animation()},
		{"afternoon.bmp", "image/bmp", encode(scene(160, 100, 0.7, 0), bmp.Encode)},
		{"evening.tif", "image/tiff", encode(scene(320, 200, 0.9, 2), encodeTIFF)},
		{"dusk.webp", "image/webp", encodeWebP(scene(160, 100, 0.97, 0))},
		{"favicon.ico", "image/x-icon", encodeICO(encode(scene(256, 256, 0.35, 1), png.Encode))},
		{"logo.svg", "image/svg+xml", drawSVG()},
		{"large.png", "image/png", encode(scene(800, 500, 0.6, 4), storedPNG)},
	}
}

// encode runs an encoder with the signature of png.Encode.
func encode(img image.Image, to func(io.Writer, image.Image) error) []byte {
	var b bytes.Buffer
	if err := to(&b, img); err != nil {
		panic(fmt.Sprintf("draw a sample picture: %v", err))
	}
	return b.Bytes()
}

func encodeJPEG(w io.Writer, img image.Image) error {
	return jpeg.Encode(w, img, &jpeg.Options{Quality: 92})
}

// storedPNG encodes without compression: fast, and the size does not depend on
// the picture.
func storedPNG(w io.Writer, img image.Image) error {
	return (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(w, img)
}

func encodeTIFF(w io.Writer, img image.Image) error {
	return tiff.Encode(w, img, &tiff.Options{Compression: tiff.Deflate, Predictor: true})
}

// scene paints a sky, a sun and three rows of hills. hour runs from 0 (dawn) to
// 1 (night), grain is the strength of a noise that keeps the file from
// becoming tiny.
func scene(width, height int, hour float64, grain int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	noise := rand.New(rand.NewPCG(1, uint64(width))) //nolint:gosec // the same picture each time
	land := newLandscape(hour)
	for x := range width {
		ridges := land.ridges(float64(x) / float64(width))
		for y := range height {
			c := land.at(float64(x)/float64(width), float64(y)/float64(height), ridges)
			if grain > 0 {
				c = c.lighter(float64(noise.IntN(2*grain+1) - grain))
			}
			i := img.PixOffset(x, y)
			img.Pix[i], img.Pix[i+1], img.Pix[i+2], img.Pix[i+3] = uint8(c[0]), uint8(c[1]), uint8(c[2]), 255
		}
	}
	return img
}

// rgb is a colour, each part from 0 to 255.
type rgb [3]float64

// mix goes from a (at 0) to b (at 1).
func mix(a, b rgb, t float64) rgb {
	return rgb{a[0] + (b[0]-a[0])*t, a[1] + (b[1]-a[1])*t, a[2] + (b[2]-a[2])*t}
}

func (c rgb) lighter(by float64) rgb {
	return rgb{min(255, max(0, c[0]+by)), min(255, max(0, c[1]+by)), min(255, max(0, c[2]+by))}
}

// landscape has the colours of an hour and the position of the sun.
type landscape struct {
	top, low, sun rgb
	hills         [3]rgb
	sunX, sunY    float64
}

func newLandscape(hour float64) *landscape {
	light := math.Sin(hour * math.Pi)
	l := &landscape{
		top:  mix(rgb{24, 26, 68}, rgb{64, 140, 220}, light),
		low:  mix(rgb{240, 120, 80}, rgb{200, 230, 250}, light),
		sun:  rgb{255, 236, 170},
		sunX: 0.1 + 0.8*hour, sunY: 0.75 - 0.6*light,
	}
	for row := range l.hills {
		near := mix(rgb{96, 120, 140}, rgb{20, 70, 50}, float64(row)/2)
		l.hills[row] = mix(rgb{16, 20, 34}, near, 0.35+0.65*light)
	}
	return l
}

// ridges are the heights of the hills in a column.
func (l *landscape) ridges(x float64) (heights [3]float64) {
	for row := range heights {
		r := float64(row)
		heights[row] = 0.58 + 0.13*r + 0.05*math.Sin(x*(5+3*r)+2*r) + 0.02*math.Sin(x*(17+5*r)+r)
	}
	return heights
}

// at is the colour of a point; x and y run from 0 to 1.
func (l *landscape) at(x, y float64, ridges [3]float64) rgb {
	c := mix(l.top, l.low, y)
	// Pictures are wider than they are high.
	distance := math.Hypot((x-l.sunX)*1.6, y-l.sunY)
	c = mix(l.sun, c, smooth(0.07, 0.085, distance))
	c = mix(mix(c, l.sun, 0.35), c, smooth(0.08, 0.35, distance))
	for row, ridge := range ridges {
		c = mix(c, l.hills[row], smooth(ridge, ridge+0.006, y))
	}
	return c
}

// smooth runs from 0 at low to 1 at high.
func smooth(low, high, x float64) float64 {
	t := min(1, max(0, (x-low)/(high-low)))
	return t * t * (3 - 2*t)
}

// animation is an animated GIF of a day.
func animation() []byte {
	const frames = 12
	g := &gif.GIF{}
	for i := range frames {
		g.Image = append(g.Image, dithered(scene(160, 100, (float64(i)+0.5)/frames, 0)))
		g.Delay = append(g.Delay, 15)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		panic(fmt.Sprintf("draw a sample picture: %v", err))
	}
	return b.Bytes()
}

// dithered brings an image to the 6 x 6 x 6 colours of the web-safe palette
// with an ordered dither, a hundred times faster than package draw.
func dithered(img *image.NRGBA) *image.Paletted {
	matrix := [4][4]int{{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}}
	out := image.NewPaletted(img.Bounds(), palette.WebSafe)
	for i := range out.Pix {
		threshold := matrix[i/out.Stride%4][i%4] * 51 / 16
		index := 0
		for part := range 3 {
			index = index*6 + (int(img.Pix[4*i+part])+threshold)/51
		}
		out.Pix[i] = uint8(index)
	}
	return out
}

// drawSVG writes a sun with rays over hills.
func drawSVG() []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 200">
<defs><linearGradient id="sky" x2="0" y2="1">
<stop stop-color="#408cdc"/><stop offset="1" stop-color="#c8e6fa"/>
</linearGradient></defs>
<rect width="320" height="200" fill="url(#sky)"/>
<g stroke="#ffecaa" stroke-width="3" stroke-linecap="round">
`)
	for i := range 24 {
		sin, cos := math.Sincos(float64(i) * math.Pi / 12)
		fmt.Fprintf(&b, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
			160+38*cos, 80+38*sin, 160+52*cos, 80+52*sin)
	}
	b.WriteString("</g>\n<circle cx=\"160\" cy=\"80\" r=\"30\" fill=\"#ffecaa\"/>\n")
	for row, fill := range []string{"#60788c", "#405f5f", "#144632"} {
		fmt.Fprintf(&b, "<path fill=%q d=\"M0 200", fill)
		for x := 0; x <= 320; x += 4 {
			y := 118 + 26*float64(row) + 10*math.Sin(float64(x)*(5+3*float64(row))/320+2*float64(row))
			fmt.Fprintf(&b, " L%d %.1f", x, y)
		}
		b.WriteString(" L320 200 Z\"/>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
