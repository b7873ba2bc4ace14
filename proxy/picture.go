package proxy

import (
	"errors"
	"fmt"
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

// oldNames maps the subtypes that programs wrote before a type was registered, or write
// wrongly, to types that are served. They stand behind one of oldTops, with or without a
// dot or x-.
var oldNames = map[string]string{
	"jpeg": "image/jpeg", "jpg": "image/jpeg", "jpe": "image/jpeg", "jfif": "image/jpeg", "pjpeg": "image/jpeg",
	"pjpg": "image/jpeg", "pipeg": "image/jpeg", "citrix-jpeg": "image/jpeg", "citrix-pjpeg": "image/jpeg",
	"png": "image/png", "citrix-png": "image/png", "apng": "image/apng", "vnd.mozilla.apng": "image/apng",
	"gif": "image/gif", "citrix-gif": "image/gif", "webp": "image/webp",
	"avif": "image/avif", "avif-sequence": "image/avif", "avis": "image/avif",
	"heic": "image/heic", "heic-sequence": "image/heic", "heif": "image/heif", "heif-sequence": "image/heif",
	"svg": typeSVG, "svg+xml": typeSVG, "svg-xml": typeSVG, "svg xml": typeSVG, "svgxml": typeSVG,
	"bmp": "image/bmp", "ms-bmp": "image/bmp", "windows-bmp": "image/bmp", "win-bmp": "image/bmp",
	"win-bitmap": "image/bmp", "bitmap": "image/bmp", "dib": "image/bmp",
	"ico": "image/x-icon", "icon": "image/x-icon", "win-icon": "image/x-icon",
	"tiff": "image/tiff", "tif": "image/tiff", "jxl": "image/jxl",
}

// oldTops are the top-level types of oldNames.
var oldTops = map[string]bool{
	"image": true, "application": true, "images": true, "img": true, "picture": true, "photo": true,
}

// generic are the types that name no type: clients and servers write them if they do not
// know it, or did not ask.
var generic = map[string]bool{
	"binary/octet-stream": true, "application/octet-stream": true, "application/x-octet-stream": true,
	"application/octetstream": true, "application/octet": true, "application/binary": true, "application/x-binary": true,
	"application/unknown": true, "application/x-unknown": true, "application/x-unknown-content-type": true,
	"application/force-download": true, "application/x-force-download": true,
	"application/download": true, "application/x-download": true, "application/file": true, "application/save": true,
	"application/x-www-form-urlencoded": true, "multipart/form-data": true,
	"application/xml": true, "text/xml": true, "text/plain": true, "image/unknown": true,
	"unknown/unknown": true, "content/unknown": true, "unknown/application": true,
	"image/*": true, "*/*": true, "octet/stream": true, "image/octet-stream": true, "image/binary": true,
	"image/undefined": true, "image/null": true, "image/none": true, "undefined/undefined": true,
}

// declaration is the information of S3's headers about an object's type.
type declaration struct {
	// picture is the declared type, one of pictures, or "" if the first bytes decide.
	picture string
	// noCoding is a Content-Encoding that names no content coding, or "". It is ignored if
	// the first bytes fit the type.
	noCoding string
	header   string // the Content-Type, for errors
}

// declarationOf reads the headers of an object. It is an error if they show that the object
// cannot be served.
func declarationOf(o *origin.Object) (d declaration, err error) {
	d.header = o.ContentType
	if d.noCoding, err = contentCoding(o.Encoding); err != nil {
		return d, err
	}
	d.picture, err = declaredType(o.ContentType)
	return d, err
}

// needsFront reports whether the first bytes decide.
func (d declaration) needsFront() bool { return d.picture == "" || d.noCoding != "" }

// declaredType reads a Content-Type: the picture type that it names, or "" for one that
// names no type. It ignores parameters, case and quotes. A value without a slash is
// malformed and names no type, even if it is a word such as jpg.
func declaredType(header string) (picture string, err error) {
	media, _, _ := strings.Cut(header, ";")
	media = strings.ToLower(strings.Trim(media, " \t\"'"))
	top, sub, slash := strings.Cut(media, "/")
	switch {
	case pictures[media]:
		return media, nil
	case !slash, top == "", sub == "", generic[media]:
		return "", nil
	case oldTops[top]:
		if name := oldNames[strings.TrimPrefix(strings.TrimPrefix(sub, "."), "x-")]; name != "" {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: its Content-Type is %s", errNotImage, quote(header))
}

// quote quotes the value of a header of S3 for the log, where it may fill a part of a line.
func quote(header string) string { return fmt.Sprintf("%.64q", header) }

// typeOf finds the type of an object by its declaration and its first bytes. With an error,
// more says that more bytes may yet show a type: front ends before the first element of an
// XML document.
func (d declaration) typeOf(front []byte) (picture string, more bool, err error) {
	if !d.needsFront() {
		page, more := contradicts(d.picture, front)
		if page {
			return "", false, errContradiction
		}
		return d.picture, more, nil
	}
	picture, more, err = sniffType(front)
	switch {
	case d.noCoding != "" && (err != nil || d.picture != "" && family(picture) != family(d.picture)):
		return "", more, &codingError{value: d.noCoding, contentType: d.header}
	case err != nil && d.header != "":
		return "", more, fmt.Errorf("%w; its Content-Type %s names no type", err, quote(d.header))
	case err != nil:
		return "", more, fmt.Errorf("%w; it has no Content-Type", err)
	case d.picture != "":
		picture = d.picture
	}
	return picture, false, nil
}

// sniffType finds the type of an object by its first bytes; see typeOf.
func sniffType(front []byte) (picture string, more bool, err error) {
	switch name, decided := firstElement(front); {
	case len(front) == 0:
		return "", true, fmt.Errorf("%w: it is empty", errNotImage)
	case isSVG(name):
		return typeSVG, false, nil
	case name != "":
		return "", false, fmt.Errorf("%w: its first element is %s", errNotImage, quote(name))
	case !decided:
		return "", true, fmt.Errorf("%w: its first %d bytes have no element of XML", errNotImage, len(front))
	}
	media, _, _ := strings.Cut(mimetype.Detect(front).String(), ";")
	if name, _ := declaredType(media); name != "" && name != typeSVG {
		return name, false, nil
	}
	return "", false, fmt.Errorf("%w: its first bytes are %s", errNotImage, media)
}

// family is one name for the types whose first bytes are alike.
func family(picture string) string {
	switch picture {
	case "image/jpg":
		return "image/jpeg"
	case "image/apng":
		return "image/png"
	case "image/vnd.microsoft.icon":
		return "image/x-icon"
	case "image/heif", "image/avif":
		return "image/heic"
	}
	return picture
}

// contradicts reports whether an object's first bytes show that it is not a picture of its
// type, or whether more of them are needed to tell. Some servers, and proxies before them,
// answer 200 with a page or an error document: these begin with a tag, which no bitmap
// does; an SVG must be no page and no error of S3.
func contradicts(picture string, front []byte) (page, more bool) {
	if picture != typeSVG {
		return isMarkup(front), isBlank(front)
	}
	name, decided := firstElement(front)
	return name == "Error" || strings.EqualFold(name, "html"), !decided
}
