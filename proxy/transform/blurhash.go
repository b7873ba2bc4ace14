package transform

import "math"

// The components of a BlurHash, across and down.
const (
	blurHashX = 4
	blurHashY = 3
)

// BlurHash returns the BlurHash, with 4 x 3 components, of w x h pixels of sRGB, 3 bytes each. It is
// as long as the published algorithm says, 28 characters. The time is linear in the pixels: a tiny
// picture gives the same hash as a large one. It is "" if rgb has another length, or no pixel.
//
// The algorithm is that of https://github.com/woltapp/blurhash/blob/master/Algorithm.md.
func BlurHash(rgb []byte, w, h int) string {
	if w <= 0 || h <= 0 || len(rgb) != 3*w*h {
		return ""
	}
	factors := blurHashFactors(rgb, w, h)
	hash := base83(nil, (blurHashX-1)+(blurHashY-1)*9, 1)
	greatest := 0.0
	for _, f := range factors[1:] {
		greatest = max(greatest, math.Abs(f[0]), math.Abs(f[1]), math.Abs(f[2]))
	}
	quantised := int(max(0, min(82, math.Floor(greatest*166-0.5))))
	hash = base83(hash, quantised, 1)
	greatest = float64(quantised+1) / 166

	dc := factors[0]
	hash = base83(hash, toSRGB(dc[0])<<16|toSRGB(dc[1])<<8|toSRGB(dc[2]), 4)
	for _, f := range factors[1:] {
		value := 0
		for _, v := range f {
			root := math.Copysign(math.Sqrt(math.Abs(v/greatest)), v)
			value = value*19 + int(max(0, min(18, math.Floor(root*9+9.5))))
		}
		hash = base83(hash, value, 2)
	}
	return string(hash)
}

// blurHashFactors returns the cosine components of linear light, row by row.
func blurHashFactors(rgb []byte, w, h int) [blurHashX * blurHashY][3]float64 {
	var factors [blurHashX * blurHashY][3]float64
	var linear [256]float64
	for i := range linear {
		linear[i] = toLinear(i)
	}
	for y := range h {
		for x := range w {
			p := rgb[3*(y*w+x):]
			r, g, b := linear[p[0]], linear[p[1]], linear[p[2]]
			for i := range factors {
				basis := math.Cos(math.Pi*float64(i%blurHashX*x)/float64(w)) *
					math.Cos(math.Pi*float64(i/blurHashX*y)/float64(h))
				factors[i][0] += basis * r
				factors[i][1] += basis * g
				factors[i][2] += basis * b
			}
		}
	}
	for i := range factors {
		scale := 2 / float64(w*h)
		if i == 0 {
			scale = 1 / float64(w*h)
		}
		for c := range factors[i] {
			factors[i][c] *= scale
		}
	}
	return factors
}

// base83 appends a number with a fixed count of digits.
func base83(b []byte, n, length int) []byte {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
	for i := length - 1; i >= 0; i-- {
		d := n
		for range i {
			d /= 83
		}
		b = append(b, digits[d%83])
	}
	return b
}

// toLinear returns the linear light, 0 to 1, of a byte of sRGB (IEC 61966-2-1).
func toLinear(v int) float64 {
	c := float64(v) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}

// toSRGB is the opposite of toLinear.
func toSRGB(v float64) int {
	v = max(0, min(1, v))
	if v <= 0.0031308 {
		return int(v*12.92*255 + 0.5)
	}
	return int((1.055*math.Pow(v, 1/2.4)-0.055)*255 + 0.5)
}
