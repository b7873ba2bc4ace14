package proxy

import (
	"bytes"
	"errors"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"ixmage/proxy/origin"
)

var errNotImage = errors.New("the object is not a picture")

const typeSVG = "image/svg+xml"

// sniffLen is how many of an object's first bytes the detector reads, to find its type if
// the declared one is generic.
const sniffLen = 3072

// pictures are the types that are served.
var pictures = map[string]bool{
	"image/jpeg": true, "image/jpg": true, "image/png": true, "image/apng": true,
	"image/gif": true, "image/webp": true, "image/avif": true, typeSVG: true,
	"image/bmp": true, "image/x-icon": true, "image/vnd.microsoft.icon": true,
	"image/tiff": true, "image/heic": true, "image/heif": true, "image/jxl": true,
}

// detected maps the detector's names to those above where they differ.
var detected = map[string]string{
	"image/heic-sequence": "image/heic",
	"image/heif-sequence": "image/heif",
}

// declaredType reads a Content-Type: the picture type that it names, or generic for one
// that names no type. It ignores parameters and case.
func declaredType(header string) (picture string, generic bool, err error) {
	media, _, _ := strings.Cut(header, ";")
	media = strings.ToLower(strings.Trim(media, " \t"))
	switch {
	case pictures[media]:
		return media, false, nil
	case media == "" || media == "binary/octet-stream" || media == "application/octet-stream":
		return "", true, nil
	}
	return "", false, errNotImage
}

// isEncoded reports whether an object's bytes are not the picture itself, but for example
// its gzip. Such an object is refused: Content-Encoding is not passed on, and a client that
// does not accept the coding could get no other. S3 writes aws-chunked for uploads that
// were signed chunk by chunk, and has removed that coding.
func isEncoded(contentEncoding string) bool {
	for coding := range strings.SplitSeq(contentEncoding, ",") {
		switch strings.ToLower(strings.Trim(coding, " \t")) {
		case "", "identity", "aws-chunked":
		default:
			return true
		}
	}
	return false
}

// pictureType is declaredType of an object, and an error for an encoded one.
func pictureType(o *origin.Object) (picture string, generic bool, err error) {
	if isEncoded(o.Encoding) {
		return "", false, errNotImage
	}
	return declaredType(o.ContentType)
}

// sniffType finds the type of an object by its first bytes.
func sniffType(front []byte) (string, error) {
	media, _, _ := strings.Cut(mimetype.Detect(front).String(), ";")
	if name, ok := detected[media]; ok {
		media = name
	}
	if !pictures[media] {
		return "", errNotImage
	}
	return media, nil
}

// contradicts reports whether an object's first bytes show that it is not a picture of its
// type. Some servers, and proxies before them, answer 200 with a page or an error document:
// these begin with a tag, which no bitmap does; an SVG must not be an error of S3.
func contradicts(picture string, front []byte) bool {
	front = bytes.TrimLeft(bytes.TrimPrefix(front, []byte("\xef\xbb\xbf")), " \t\r\n")
	if picture != typeSVG {
		return bytes.HasPrefix(front, []byte("<"))
	}
	if bytes.HasPrefix(front, []byte("<?xml")) {
		_, front, _ = bytes.Cut(front, []byte("?>"))
	}
	front = bytes.TrimLeft(front, " \t\r\n")
	return bytes.HasPrefix(front, []byte("<Error>")) || bytes.HasPrefix(front, []byte("<Error "))
}
