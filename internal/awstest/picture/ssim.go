package picture

import (
	"image"
	"image/color"
	"math"
)

// SSIM is the structural similarity of the luminance of two pictures of one size, 1 if
// they are equal: the mean over all windows of 11 by 11 pixels, weighted by a Gaussian of
// 1.5 pixels (Wang, Bovik, Sheikh and Simoncelli, 2004). It is NaN if the sizes differ or
// are smaller than a window.
func SSIM(a, b image.Image) float64 {
	x, w, h := luminance(a)
	y, w2, h2 := luminance(b)
	const window = 11
	if w != w2 || h != h2 || w < window || h < window {
		return math.NaN()
	}
	product := func(p, q []float64) []float64 {
		out := make([]float64, len(p))
		for i := range p {
			out[i] = p[i] * q[i]
		}
		return out
	}
	mx, my := smoothed(x, w), smoothed(y, w)
	xx, yy, xy := smoothed(product(x, x), w), smoothed(product(y, y), w), smoothed(product(x, y), w)
	const c1, c2 = (0.01 * 255) * (0.01 * 255), (0.03 * 255) * (0.03 * 255)
	sum := 0.0
	for i := range mx {
		vx, vy, cov := xx[i]-mx[i]*mx[i], yy[i]-my[i]*my[i], xy[i]-mx[i]*my[i]
		sum += (2*mx[i]*my[i] + c1) * (2*cov + c2) / ((mx[i]*mx[i] + my[i]*my[i] + c1) * (vx + vy + c2))
	}
	return sum / float64(len(mx))
}

// luminance is the grey value of each pixel, from 0 to 255.
func luminance(img image.Image) (values []float64, width, height int) {
	b := img.Bounds()
	values = make([]float64, 0, b.Dx()*b.Dy())
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
			values = append(values, 0.299*float64(c.R)+0.587*float64(c.G)+0.114*float64(c.B))
		}
	}
	return values, b.Dx(), b.Dy()
}

// smoothed weights each complete window with the Gaussian.
func smoothed(v []float64, width int) []float64 {
	kernel := [11]float64{}
	sum := 0.0
	for i := range kernel {
		d := float64(i - 5)
		kernel[i] = math.Exp(-d * d / (2 * 1.5 * 1.5))
		sum += kernel[i]
	}
	height := len(v) / width
	rows := make([]float64, 0, len(v))
	for y := range height {
		for x := range width - 10 {
			t := 0.0
			for i, k := range kernel {
				t += k / sum * v[y*width+x+i]
			}
			rows = append(rows, t)
		}
	}
	narrow := width - 10
	out := make([]float64, 0, len(rows))
	for y := range height - 10 {
		for x := range narrow {
			t := 0.0
			for i, k := range kernel {
				t += k / sum * rows[(y+i)*narrow+x]
			}
			out = append(out, t)
		}
	}
	return out
}
