package picture

import (
	"bytes"
	"encoding/binary"
	"math"
)

// exif is a TIFF structure with an orientation, artist and copyright, and a place.
func exif(orientation int) []byte {
	const entries, headers = 4, 8 + 2 + 4*12 + 4
	le := binary.LittleEndian
	var ifd, data []byte
	text := func(tag uint16, s string) {
		ifd = le.AppendUint16(le.AppendUint16(ifd, tag), 2)
		ifd = le.AppendUint32(le.AppendUint32(ifd, uint32(len(s)+1)), uint32(headers+len(data)))
		data = append(append(data, s...), 0)
	}
	ifd = le.AppendUint16(le.AppendUint16(ifd, 0x0112), 3)
	ifd = le.AppendUint32(le.AppendUint32(ifd, 1), uint32(orientation))
	text(0x013b, Artist)
	text(0x8298, Copyright)
	// The GPS directory: one entry, the name of the processing method.
	ifd = le.AppendUint16(le.AppendUint16(ifd, 0x8825), 4)
	ifd = le.AppendUint32(le.AppendUint32(ifd, 1), uint32(headers+len(data)))
	gps := le.AppendUint16(nil, 1)
	gps = le.AppendUint16(le.AppendUint16(gps, 0x001b), 7)
	method := "ASCII\x00\x00\x00" + Private
	gps = le.AppendUint32(le.AppendUint32(gps, uint32(len(method))), uint32(headers+len(data)+2+12+4))
	data = append(append(append(data, gps...), 0, 0, 0, 0), method...)

	b := append([]byte("II*\x00"), 8, 0, 0, 0)
	b = append(le.AppendUint16(b, entries), ifd...)
	return append(append(b, 0, 0, 0, 0), data...)
}

func exifSegment(orientation int) []byte {
	return segment(0xe1, append([]byte("Exif\x00\x00"), exif(orientation)...))
}

// xmp is a packet with a place.
func xmp() []byte {
	return []byte(`<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">` +
		`<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSAreaInformation="` + Private + `"/>` +
		`</rdf:RDF></x:xmpmeta>`)
}

func xmpSegment() []byte {
	return segment(0xe1, append([]byte("http://ns.adobe.com/xap/1.0/\x00"), xmp()...))
}

// iccSegments splits a profile as ICC.1 says.
func iccSegments(profile []byte) (all [][]byte) {
	const most = 65000
	count := (len(profile) + most - 1) / most
	for i := range count {
		part := profile[i*most : min(len(profile), (i+1)*most)]
		name := append([]byte("ICC_PROFILE\x00"), byte(i+1), byte(count))
		all = append(all, segment(0xe2, append(name, part...)))
	}
	return all
}

// tag is an entry of an ICC profile.
type tag struct {
	name string
	data []byte
}

// profile puts an ICC profile of version 4 together. kind is the class and the two colour
// spaces, each of four letters.
func profile(kind string, tags []tag) []byte {
	be := binary.BigEndian
	tags = append([]tag{
		{"desc", multiText("Test " + kind[4:8])}, {"cprt", multiText("no copyright")}, {"wtpt", xyz(0.9642, 1, 0.8249)},
	}, tags...)
	table := be.AppendUint32(nil, uint32(len(tags)))
	var data []byte
	for _, t := range tags {
		for len(data)%4 != 0 {
			data = append(data, 0)
		}
		table = append(table, t.name...)
		table = be.AppendUint32(table, uint32(128+4+12*len(tags)+len(data)))
		table = be.AppendUint32(table, uint32(len(t.data)))
		data = append(data, t.data...)
	}
	h := make([]byte, 128)
	be.PutUint32(h, uint32(len(h)+len(table)+len(data)))
	h[8] = 4
	copy(h[12:], kind)
	for i, v := range []uint16{2026, 1, 1} {
		be.PutUint16(h[24+2*i:], v)
	}
	copy(h[36:], "acsp")
	copy(h[68:], xyz(0.9642, 1, 0.8249)[8:]) // the illuminant
	return bytes.Join([][]byte{h, table, data}, nil)
}

// fixed is s15Fixed16Number.
func fixed(b []byte, values ...float64) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, uint32(int32(math.Round(v*65536))))
	}
	return b
}

func xyz(x, y, z float64) []byte { return fixed([]byte("XYZ \x00\x00\x00\x00"), x, y, z) }

// multiText is multiLocalizedUnicodeType with one text in English.
func multiText(s string) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(be.AppendUint32([]byte("mluc\x00\x00\x00\x00"), 1), 12)
	b = append(b, "enUS"...)
	b = be.AppendUint32(be.AppendUint32(b, uint32(2*len(s))), 28)
	for _, c := range []byte(s) {
		b = append(b, 0, c)
	}
	return b
}

// p3Profile is Display P3: primaries adapted to D50, and the curve of sRGB.
func p3Profile() []byte {
	curve := fixed([]byte("para\x00\x00\x00\x00\x00\x03\x00\x00"), 2.4, 1/1.055, 0.055/1.055, 1/12.92, 0.04045)
	return profile("mntrRGB XYZ ", []tag{
		{"rXYZ", xyz(0.51512, 0.24120, -0.00105)},
		{"gXYZ", xyz(0.29198, 0.69225, 0.04189)},
		{"bXYZ", xyz(0.15710, 0.06657, 0.78407)},
		{"rTRC", curve}, {"gTRC", curve}, {"bTRC", curve},
	})
}

// inkProfile is a profile of a printer in which cyan and magenta are exchanged. It gives the
// pairs of inks of inInks(true) the colours of Corners; a program that ignores it mixes up
// red and green.
func inkProfile() []byte {
	b := []byte("mft1\x00\x00\x00\x00\x04\x03\x02\x00") // 4 inks to 3 values, 2 grid points
	b = fixed(b, 1, 0, 0, 0, 1, 0, 0, 0, 1)
	ramp := make([]byte, 256)
	for i := range ramp {
		ramp[i] = byte(i)
	}
	b = append(b, bytes.Repeat(ramp, 4)...)
	corners := map[int]int{0b1010: 0, 0b0110: 1, 0b1100: 2, 0b0010: 3} // cyan (that is, magenta), magenta, yellow, black
	for i := range 16 {
		at, ok := corners[i]
		rgb := [3]uint8{255, 255, 255}
		switch {
		case ok:
			rgb = [3]uint8{Corners[at].R, Corners[at].G, Corners[at].B}
		case i > 0:
			rgb = [3]uint8{30, 30, 30}
		}
		b = append(b, lab(rgb)...)
	}
	b = append(b, bytes.Repeat(ramp, 3)...)
	return profile("prtrCMYKLab ", []tag{{"A2B0", b}, {"A2B1", b}}) // perceptual and relative
}

// lab is a colour of sRGB in CIELAB (D50) in eight bits.
func lab(rgb [3]uint8) []byte {
	r, g, b := linear(rgb[0]), linear(rgb[1]), linear(rgb[2])
	f := func(v float64) float64 {
		if v > 216.0/24389 {
			return math.Cbrt(v)
		}
		return (24389.0/27*v + 16) / 116
	}
	x := f((0.4360747*r + 0.3850649*g + 0.1430804*b) / 0.9642)
	y := f(0.2225045*r + 0.7168786*g + 0.0606169*b)
	z := f((0.0139322*r + 0.0971045*g + 0.7141733*b) / 0.8249)
	part := func(v float64) byte { return byte(math.Round(min(255, max(0, v)))) }
	return []byte{part((116*y - 16) * 2.55), part(500*(x-y) + 128), part(200*(y-z) + 128)}
}
