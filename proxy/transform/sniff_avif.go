package transform

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// sniffAVIF reads the boxes of an ISO base media file (ISO/IEC 14496-12 and 23008-12) up to the
// properties of its primary item. The zero Header is another type.
func sniffAVIF(b []byte) Header {
	kind, brands, rest := nextBox(b)
	if kind != "ftyp" || len(brands) < 8 {
		return Header{}
	}
	avif, mif1 := false, false
	for i := 0; i+4 <= len(brands); i += 4 {
		if i != 4 { // the minor version
			avif = avif || string(brands[i:i+4]) == "avif" || string(brands[i:i+4]) == "avis"
			mif1 = mif1 || string(brands[i:i+4]) == "mif1"
		}
	}
	if !avif && !mif1 {
		return Header{}
	}
	meta := childBox(rest, "meta")
	items := itemsOf(skip(meta, 4))
	if !avif && items.kind != "av01" {
		return Header{}
	}
	return Header{
		Type: AVIF, Width: items.width, Height: items.height, Frames: 1, Alpha: items.alpha, Colours: items.colours,
	}
}

// items is what a meta box tells about its picture.
type items struct {
	kind          string // the type of the primary item, if it is known
	width, height int
	exact         bool // they are those of the primary item
	alpha         bool
	colours       Colours
	profile       bool
}

func itemsOf(meta []byte) items {
	var found items
	primary, ok := primaryItem(childBox(meta, "pitm"))
	if ok {
		found.kind = itemType(childBox(meta, "iinf"), primary)
	}
	properties := childBox(meta, "iprp")
	associated := associations(childBox(properties, "ipma"), primary)
	rest := childBox(properties, "ipco")
	for index := 1; len(rest) > 0 && index < 1<<15; index++ {
		var kind string
		var body []byte
		kind, body, rest = nextBox(rest)
		found.add(kind, body, slices.Contains(associated, index))
	}
	return found
}

// add notes a property, of the primary item or of another one.
func (i *items) add(kind string, body []byte, primary bool) {
	switch {
	case kind == "auxC":
		i.alpha = i.alpha || isAlpha(skip(body, 4))
	case kind == "colr" && primary && len(body) >= 8:
		i.setColours(body)
	case kind == "ispe" && len(body) >= 12 && !i.exact:
		w, h := int(binary.BigEndian.Uint32(body[4:])), int(binary.BigEndian.Uint32(body[8:]))
		i.exact = primary
		if i.exact || w*h > i.width*i.height { // else the greatest item
			i.width, i.height = w, h
		}
	}
}

// setColours reads a colr box. A profile goes before numbers.
func (i *items) setColours(b []byte) {
	switch {
	case string(b[:4]) != "nclx":
		i.profile, i.colours = true, Colours{}
	case !i.profile:
		i.colours = coloursOf(int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:])))
	}
}

// isAlpha reports whether the name of an auxiliary picture is that of transparency.
func isAlpha(name []byte) bool {
	name, _, _ = bytes.Cut(name, []byte{0})
	return string(name) == "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha" || string(name) == "urn:mpeg:hevc:2015:auxid:1"
}

// nextBox returns the type and the body of the first box of b, and what follows it. The body is cut where
// b ends. A box that is no box ends b: kind is "" then.
func nextBox(b []byte) (kind string, body, rest []byte) {
	if len(b) < 8 {
		return "", nil, nil
	}
	head, size := uint64(8), uint64(binary.BigEndian.Uint32(b))
	switch size {
	case 0: // up to the end of the file
		size = uint64(len(b))
	case 1:
		if len(b) < 16 {
			return "", nil, nil
		}
		head, size = 16, binary.BigEndian.Uint64(b[8:])
	}
	if size < head {
		return "", nil, nil
	}
	end := min(size, uint64(len(b)))
	return string(b[4:8]), b[head:end], b[end:]
}

// childBox returns the body of the first box of a type, or nil.
func childBox(b []byte, want string) []byte {
	for len(b) > 0 {
		var kind string
		var body []byte
		kind, body, b = nextBox(b)
		if kind == want {
			return body
		}
	}
	return nil
}

// primaryItem reads a pitm box.
func primaryItem(b []byte) (id uint32, ok bool) {
	switch {
	case len(b) >= 6 && b[0] == 0:
		return uint32(binary.BigEndian.Uint16(b[4:])), true
	case len(b) >= 8 && b[0] == 1:
		return binary.BigEndian.Uint32(b[4:]), true
	}
	return 0, false
}

// itemType finds the type of an item in an iinf box.
func itemType(b []byte, id uint32) string {
	count := 2
	if len(b) > 0 && b[0] != 0 {
		count = 4
	}
	for b = skip(b, 4+count); len(b) > 0; {
		var kind string
		var entry []byte
		kind, entry, b = nextBox(b)
		switch {
		case kind != "infe" || len(entry) < 12:
		case entry[0] == 2 && uint32(binary.BigEndian.Uint16(entry[4:])) == id:
			return string(entry[8:12])
		case entry[0] == 3 && len(entry) >= 14 && binary.BigEndian.Uint32(entry[4:]) == id:
			return string(entry[10:14])
		}
	}
	return ""
}

// associations lists the properties of an item by their places in ipco, from 1, as an ipma box has them.
func associations(b []byte, id uint32) []int {
	if len(b) < 8 {
		return nil
	}
	idSize, indexSize := 2, 1
	if b[0] >= 1 {
		idSize = 4
	}
	if b[3]&1 == 1 {
		indexSize = 2
	}
	for b = b[8:]; len(b) > idSize; {
		item := uint32(binary.BigEndian.Uint16(b))
		if idSize == 4 {
			item = binary.BigEndian.Uint32(b)
		}
		list := b[idSize+1:]
		list = list[:min(int(b[idSize])*indexSize, len(list))]
		if item == id {
			return indexes(list, indexSize)
		}
		b = b[idSize+1+len(list):]
	}
	return nil
}

// indexes reads a list of indexes of one or two bytes each, the highest bit of which is a flag.
func indexes(b []byte, size int) (list []int) {
	for ; len(b) >= size; b = b[size:] {
		if size == 1 {
			list = append(list, int(b[0]&0x7f))
		} else {
			list = append(list, int(binary.BigEndian.Uint16(b)&0x7fff))
		}
	}
	return list
}
