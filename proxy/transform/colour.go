package transform

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"

	"golang.org/x/image/colornames"
)

// readColour packs red, green, blue and alpha, from the highest byte.
func readColour(value []byte) (uint64, bool) {
	if packed, ok := readHex(bytes.TrimPrefix(value, []byte{'_'})); ok {
		return packed, true
	}
	if len(value) > 20 { // lightgoldenrodyellow
		return 0, false
	}
	name := string(bytes.ToLower(value))
	switch name {
	case "transparent":
		return 0, true
	case "rebeccapurple": // CSS has it, SVG has not
		return 0x663399ff, true
	}
	c, ok := colornames.Map[name]
	return uint64(c.R)<<24 | uint64(c.G)<<16 | uint64(c.B)<<8 | 0xff, ok
}

// readHex reads rgb, rgba, rrggbb and rrggbbaa. All transparent colours are one.
func readHex(value []byte) (packed uint64, ok bool) {
	n := len(value)
	if n != 3 && n != 4 && n != 6 && n != 8 {
		return 0, false
	}
	digits := make([]byte, 0, 8)
	for _, c := range value {
		if digits = append(digits, c); n <= 4 { // a digit stands for two
			digits = append(digits, c)
		}
	}
	rgba := [4]byte{3: 0xff}
	if _, err := hex.Decode(rgba[:], digits); err != nil {
		return 0, false
	}
	if rgba[3] == 0 {
		return 0, true
	}
	return uint64(binary.BigEndian.Uint32(rgba[:])), true
}

func writeColour(b []byte, packed uint64) []byte {
	return hex.AppendEncode(b, []byte{byte(packed >> 24), byte(packed >> 16), byte(packed >> 8), byte(packed)})
}

// overWhite returns an opaque colour: what is seen of a packed one on white.
func overWhite(packed uint64) uint64 {
	alpha := packed & 0xff
	opaque := uint64(0xff)
	for shift := 8; shift <= 24; shift += 8 {
		c := packed >> shift & 0xff
		opaque |= (c*alpha + 255*(255-alpha) + 127) / 255 << shift
	}
	return opaque
}
