package transform

// Format is a type of picture that a worker reads or writes. Its numbers are those of the
// frames between the server and its workers.
type Format uint8

// The formats. Zero is none of them. Raw is only written: sRGB, 3 bytes for each pixel.
const (
	JPEG Format = iota + 1
	PNG
	WebP
	GIF
	AVIF
	Raw
)

var formatNames = [...]string{"", "jpeg", "png", "webp", "gif", "avif", "raw"}

// String returns the name of the format as the option f has it, or "" for none.
func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return ""
}

// MIME returns the media type of the format, or "" for none.
func (f Format) MIME() string {
	switch {
	case f == Raw:
		return "application/octet-stream"
	case f.String() == "":
		return ""
	default:
		return "image/" + f.String()
	}
}

// Header is what the first bytes of a picture tell about it.
type Header struct {
	Type          Format // 0: none that is decoded
	Width, Height int    // of one frame as stored, before its orientation; 0: not known
	Frames        int    // 0: not known
	Alpha         bool
	Colours       Colours
}

// Colours are those of a picture that gives them by numbers (ITU-T H.273) instead of a profile. The zero
// value is sRGB, or what a profile says.
type Colours struct{ Primaries, Transfer uint8 }

// coloursOf returns the colours of numbers, those that are not known as sRGB: 2 is "unspecified".
func coloursOf(primaries, transfer int) Colours {
	c := Colours{1, 13}
	switch primaries {
	case 9, 12: // BT.2020, Display P3
		c.Primaries = uint8(primaries)
	}
	switch transfer {
	case 4, 5, 8, 14, 15, 16, 18: // gamma 2.2 and 2.8, linear, BT.2020, PQ, HLG
		c.Transfer = uint8(transfer)
	}
	if c == (Colours{1, 13}) {
		return Colours{}
	}
	return c
}

// Fit says how a picture gets into a box of width and height.
type Fit uint8

// The fits. FitNone is the default of a box with one side: the picture fits inside.
const (
	FitNone Fit = iota
	Contain
	Cover
	Fill
	Inside
	Outside
)

// Gravity is the part of a picture that a crop keeps, or the place of a watermark.
type Gravity uint8

// The gravities. Smart lets the worker look for it; with Focal it is Task.FocalX and FocalY.
const (
	Center Gravity = iota
	North
	NorthEast
	East
	SouthEast
	South
	SouthWest
	West
	NorthWest
	Smart
	Focal
)
