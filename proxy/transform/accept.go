package transform

import "bytes"

// Accepts are the formats that a client names in its header Accept: what is left of it in any key.
type Accepts uint8

// The formats that auto chooses only for clients that name them.
const (
	AcceptsAVIF Accepts = 1 << iota
	AcceptsWebP

	// AllAccepts is every format at once, and the greatest value.
	AllAccepts = AcceptsAVIF | AcceptsWebP
)

// acceptMax bounds the part of a header that is read, in bytes.
const acceptMax = 4096

// ParseAccept reads a header Accept (RFC 9110, section 12.5.1). A type with q=0 is not accepted, */* and
// image/* name no format, and a malformed element is skipped. Only the first 4 KiB count.
func ParseAccept(header []byte) Accepts {
	header = header[:min(len(header), acceptMax)]
	var named, refused Accepts
	for len(header) > 0 {
		var element []byte
		element, header, _ = bytes.Cut(header, []byte{','})
		media, parameters, _ := bytes.Cut(element, []byte{';'})
		media = bytes.TrimSpace(media)
		var a Accepts
		switch {
		case bytes.EqualFold(media, []byte("image/avif")):
			a = AcceptsAVIF
		case bytes.EqualFold(media, []byte("image/webp")):
			a = AcceptsWebP
		default:
			continue
		}
		if isRefused(parameters) {
			refused |= a
		}
		named |= a
	}
	return named &^ refused
}

// isRefused reports whether parameters have a weight of 0, or one that is malformed.
func isRefused(parameters []byte) bool {
	for len(parameters) > 0 {
		var parameter []byte
		parameter, parameters, _ = bytes.Cut(parameters, []byte{';'})
		name, value, _ := bytes.Cut(bytes.TrimSpace(parameter), []byte{'='})
		if bytes.EqualFold(name, []byte("q")) {
			return !isPositive(value)
		}
	}
	return false
}

// isPositive reports whether a value is a qvalue above 0 (RFC 9110, section 12.4.2).
func isPositive(value []byte) bool {
	whole, fraction, _ := bytes.Cut(value, []byte{'.'})
	zeros := len(bytes.Trim(fraction, "0")) == 0
	switch {
	case len(fraction) > 3 || len(bytes.Trim(fraction, "0123456789")) > 0:
		return false
	case string(whole) == "0":
		return !zeros
	}
	return string(whole) == "1" && zeros
}
