package transform

import (
	"bytes"
	"math"
	"slices"
	"strconv"
)

// integer reads whole numbers from least to most.
type integer struct{ least, most uint64 }

func (r integer) read(value []byte) (uint64, bool) {
	n, ok := digits(value)
	return n, ok && r.least <= n && n <= r.most
}

var percent = integer{1, 100}

func writeInteger(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }

// digits reads 1 to 6 ASCII digits without a leading zero.
func digits(value []byte) (n uint64, ok bool) {
	if len(value) == 0 || len(value) > 6 || value[0] == '0' && len(value) > 1 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// decimal reads numbers from least to most as whole multiples of 1/scale, rounded.
type decimal struct{ least, most, scale uint64 }

func hundredths(least, most uint64) decimal { return decimal{least, most, 100} }

// decimalMax bounds the digits of a number, so that JavaScript's 0.30000000000000004 is one.
const decimalMax = 20

func (r decimal) read(value []byte) (uint64, bool) {
	whole, fraction, point := bytes.Cut(value, []byte{'.'})
	if _, ok := digits(whole); !ok || len(value) > decimalMax || point && len(fraction) == 0 {
		return 0, false
	}
	for _, c := range fraction {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(string(value), 64)
	scale := float64(r.scale)
	if err != nil || f < float64(r.least)/scale || f > float64(r.most)/scale {
		return 0, false
	}
	return uint64(math.Round(f * scale)), true
}

func (r decimal) write(b []byte, n uint64) []byte {
	return strconv.AppendFloat(b, float64(n)/float64(r.scale), 'f', -1, 64)
}

// keywords are the values of an option; a packed value is an index. An empty word is none.
type keywords struct {
	words    []string
	synonyms map[string]uint64
}

func words(w ...string) keywords { return keywords{words: w} }

func (k keywords) read(value []byte) (uint64, bool) {
	if len(value) == 0 {
		return 0, false
	}
	for i, word := range k.words {
		if string(value) == word {
			return uint64(i), true
		}
	}
	n, ok := k.synonyms[string(value)]
	return n, ok
}

func (k keywords) write(b []byte, i uint64) []byte { return append(b, k.words[i]...) }

// The words of the options, at the index of their packed values.
var (
	anims   = words("0", "1")
	fits    = words("", "contain", "cover", "fill", "inside", "outside")
	flips   = words("", "h", "v", "hv")
	ones    = words("", "1")
	lqips   = words("", "blurhash", "image")
	turns   = words("0", "90", "180", "270")
	strips  = keywords{words: []string{"all", "copyright"}, synonyms: map[string]uint64{"1": 0, "0": 1}}
	formats = keywords{
		words:    []string{"auto", JPEG.String(), PNG.String(), WebP.String(), GIF.String(), AVIF.String()},
		synonyms: map[string]uint64{"jpg": uint64(JPEG)},
	}

	compass   = []string{"center", "north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest"}
	gravities = words(append(slices.Clip(compass), "smart")...)
	places    = words(append(slices.Clip(compass), "tile")...) // of a watermark
)

// placeTile is the index of tile in places.
const placeTile = uint64(Smart)

// isOn reports whether value is 1, or true as the hosted product's clients write it.
func isOn(value []byte) bool { return string(value) == "1" || string(value) == "true" }

// readCrop packs x, y, w and h in 16 bits each, from the highest. A crop beyond the greatest side of a source is
// the same as one up to it.
func readCrop(value []byte) (packed uint64, ok bool) {
	for i := range 4 {
		part, rest, comma := bytes.Cut(value, []byte{','})
		n, ok := digits(part)
		if !ok || comma == (i == 3) || i >= 2 && n == 0 {
			return 0, false
		}
		packed, value = packed<<16|min(n, maxSourceSide), rest
	}
	return packed, true
}

func writeCrop(b []byte, packed uint64) []byte {
	for i := range 4 {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, packed>>(48-16*i)&0xffff, 10)
	}
	return b
}

// focal reads the coordinates of focal points.
var focal = decimal{0, 10_000, 10_000}

// readGravity packs a Gravity in the lowest 16 bits and, of a focal point, x and y in the next ones.
func readGravity(value []byte) (uint64, bool) {
	x, y, comma := bytes.Cut(value, []byte{','})
	if !comma {
		return gravities.read(value)
	}
	fx, okX := focal.read(x)
	fy, okY := focal.read(y)
	return uint64(Focal) | fx<<16 | fy<<32, okX && okY
}

func writeGravity(b []byte, packed uint64) []byte {
	if Gravity(packed) != Focal {
		return gravities.write(b, packed)
	}
	b = focal.write(b, packed>>16&0xffff)
	return focal.write(append(b, ','), packed>>32)
}

// A watermark's settings are packed in bytes: gravity, opacity, scale, and 1 for tile.
const (
	markOpacity = 8
	markScale   = 16
	markTile    = 24
)

// readMark reads what follows the path of a watermark and its comma.
func readMark(settings []byte) (packed uint64, ok bool) {
	const none = 1 << 8
	place, opacity, scale := uint64(none), uint64(none), uint64(none)
	for more := len(settings) > 0; more; {
		var word []byte
		word, settings, more = bytes.Cut(settings, []byte{','})
		slot := &place
		n, ok := places.read(word)
		switch {
		case ok:
		case bytes.HasPrefix(word, []byte{'o'}):
			slot = &opacity
			n, ok = percent.read(word[1:])
		case bytes.HasPrefix(word, []byte{'s'}):
			slot = &scale
			n, ok = percent.read(word[1:])
		}
		if !ok || *slot != none {
			return 0, false
		}
		*slot = n
	}
	switch place {
	case none:
		packed = uint64(SouthEast)
	case placeTile:
		packed = uint64(SouthEast) | 1<<markTile
	default:
		packed = place
	}
	return packed | min(opacity, 100)<<markOpacity | scale%none<<markScale, true
}

// writeMark appends the settings that are not the default, with a comma before each.
func writeMark(b []byte, packed uint64) []byte {
	if g := packed & 0xff; Gravity(g) != SouthEast {
		b = places.write(append(b, ','), g)
	}
	if o := packed >> markOpacity & 0xff; o != 100 {
		b = writeInteger(append(b, ",o"...), o)
	}
	if s := packed >> markScale & 0xff; s != 0 {
		b = writeInteger(append(b, ",s"...), s)
	}
	if packed>>markTile != 0 {
		b = append(b, ",tile"...)
	}
	return b
}
