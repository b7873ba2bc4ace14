package proxy

import (
	"errors"
	"strings"
	"testing"

	"ixmage/internal/awstest/picture"
)

func TestDeclaredType(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"image/jpeg": "image/jpeg", "image/jpg": "image/jpg", "image/png": "image/png", "image/apng": "image/apng",
		"image/gif": "image/gif", "image/webp": "image/webp", "image/avif": "image/avif", "image/svg+xml": "image/svg+xml",
		"image/bmp": "image/bmp", "image/x-icon": "image/x-icon", "image/vnd.microsoft.icon": "image/vnd.microsoft.icon",
		"image/tiff": "image/tiff", "image/heic": "image/heic", "image/heif": "image/heif", "image/jxl": "image/jxl",
		"IMAGE/PNG": "image/png", "Image/Svg+Xml": "image/svg+xml", " image/png ": "image/png", "\timage/png": "image/png",
		"image/png; charset=utf-8": "image/png", "image/png;q=1;r=\"x;y\"": "image/png", "image/png ;x": "image/png",
		"image/svg+xml;charset=utf-8": "image/svg+xml", "image/png;\r\nX: y": "image/png",

		"\"image/png\"": "image/png", "'image/jpeg'": "image/jpeg",

		"image/pjpeg": "image/jpeg", "image/x-png": "image/png", "image/x-ms-bmp": "image/bmp", "image/svg": "image/svg+xml",
		"application/svg+xml": "image/svg+xml", "image/heic-sequence": "image/heic", "image/x-jpg": "image/jpeg",
		"application/x-jpg": "image/jpeg", "IMAGE/X-PNG;x": "image/png", "image/.jpg": "image/jpeg", "img/png": "image/png", "images/jpeg": "image/jpeg",
		"image/undefined": "generic", "octet/stream": "generic", "image/octet-stream": "generic", "x-image/png": "refused",
		"video/jpg": "refused", "image/x-svg+xml": "image/svg+xml",

		"": "generic", " ": "generic", ";charset=x": "generic", "binary/octet-stream": "generic",
		"application/octet-stream": "generic", "Application/Octet-Stream; x=y": "generic",
		"text/plain": "generic", "application/xml": "generic", "text/xml": "generic", "image/": "generic", "image": "generic",
		"image/*": "generic", "*/*": "generic", "/": "generic", "/png": "generic", "jpg": "generic", "octet-stream": "generic",
		"text": "generic", "html": "generic", "\"\"": "generic", "image/unknown": "generic", "multipart/form-data; boundary=x": "generic",

		"text/html": "refused", "application/xhtml+xml": "refused", "application/pdf": "refused",
		"application/json": "refused", "image/svg+xml+x": "refused", "image/jp2": "refused", "image/x-xbitmap": "refused",
		"image/vnd.adobe.photoshop": "refused", "video/mp4": "refused", "image /png": "refused", "image/png,text/html": "refused",
		"text/html;image/png": "refused", "image/png\x00": "refused", "image/png\r\n": "refused", "x/octet-stream": "refused",
		"image/pn\u0261": "refused", "application/x-directory": "refused", "text/png": "refused", "image/x-": "refused",
		"image/x-x-png": "refused", "text/svg+xml": "refused", "multipart/related": "refused", "image/x-unknown": "refused",
	} {
		got, err := declaredType(header)
		switch {
		case err != nil:
			got = "refused" + got
		case got == "":
			got = "generic"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
		if (err != nil) != errors.Is(err, errNotImage) {
			t.Errorf("%q: error %v is not errNotImage", header, err)
		}
	}
}

func TestSniffPictures(t *testing.T) {
	t.Parallel()
	for _, p := range picture.Samples() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			got, more, err := sniffType(p.Body[:min(len(p.Body), sniffLen)])
			if err != nil || more || got != p.ContentType {
				t.Errorf("got %q, %v; want %s", got, err, p.ContentType)
			}
		})
	}
}

func TestSniffType(t *testing.T) {
	t.Parallel()
	heif := func(brand string) string { return "\x00\x00\x00\x18ftyp" + brand + "\x00\x00\x00\x00mif1" + brand }
	const svg = `<svg xmlns="http://www.w3.org/2000/svg">`
	for name, tc := range map[string]struct {
		front string
		want  string // empty: refused
	}{
		"png":             {"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"},
		"apng":            {"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + strings.Repeat("\x01", 17) + "\x00\x00\x00\x08acTL" + strings.Repeat("\x00", 12), "image/apng"},
		"jpeg":            {"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"},
		"gif 87":          {"GIF87a" + strings.Repeat("\x01", 10), "image/gif"},
		"gif 89":          {"GIF89a" + strings.Repeat("\x01", 10), "image/gif"},
		"webp":            {"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"},
		"bmp":             {"BM" + strings.Repeat("\x00", 12) + "\x28\x00\x00\x00" + strings.Repeat("\x00", 36), "image/bmp"},
		"ico":             {"\x00\x00\x01\x00\x01\x00\x10\x10\x00\x00", "image/x-icon"},
		"tiff II":         {"II*\x00\x08\x00\x00\x00", "image/tiff"},
		"tiff MM":         {"MM\x00*\x00\x00\x00\x08", "image/tiff"},
		"avif":            {heif("avif"), "image/avif"},
		"heic":            {heif("heic"), "image/heic"},
		"heic sequence":   {heif("hevc"), "image/heic"},
		"heif":            {heif("mif1"), "image/heif"},
		"heif sequence":   {heif("msf1"), "image/heif"},
		"jxl codestream":  {"\xff\x0a\xfa\x1f", "image/jxl"},
		"jxl container":   {"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a", "image/jxl"},
		"svg":             {svg + "</svg>", "image/svg+xml"},
		"svg in xml":      {`<?xml version="1.0"?>` + svg, "image/svg+xml"},
		"svg with script": {svg + "<script>alert(1)</script></svg>", "image/svg+xml"},

		"nothing":        {"", ""},
		"one byte":       {"\x89", ""},
		"one letter":     {"a", ""},
		"text":           {"just some words\n", ""},
		"html":           {"<!DOCTYPE html><html><body>", ""},
		"html with svg":  {"<html><body>" + svg, ""},
		"script":         {"<script>alert(1)</script>", ""},
		"xml":            {`<?xml version="1.0"?><a/>`, ""},
		"xslt":           {`<?xml version="1.0"?><?xml-stylesheet href="x.xsl"?><a/>`, ""},
		"pdf":            {"%PDF-1.7\n", ""},
		"bm, not a bmp":  {"BM" + strings.Repeat("x", 60), ""},
		"zip":            {"PK\x03\x04\x14\x00\x00\x00", ""},
		"gzip":           {"\x1f\x8b\x08\x00", ""},
		"elf":            {"\x7fELF\x02\x01\x01", ""},
		"json":           {`{"a":1}`, ""},
		"mp4":            {"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42", ""},
		"riff, not webp": {"RIFF\x24\x00\x00\x00WAVEfmt ", ""},
		"photoshop":      {"8BPS\x00\x01", ""},
		"zeros":          {strings.Repeat("\x00", 64), ""},
		"mhtml":          {"MIME-Version: 1.0\r\nContent-Type: multipart/related\r\n", ""},
		"png, cut short": {"\x89PNG", ""},
		"text, then png": {"x\x89PNG\r\n\x1a\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := sniffType([]byte(tc.front))
			if got != tc.want || (err == nil) != (tc.want != "") || (err != nil && !errors.Is(err, errNotImage)) {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestContradicts(t *testing.T) {
	t.Parallel()
	const failed = `<Error><Code>InternalError</Code></Error>`
	for _, tc := range []struct {
		picture, front string
		want           bool
		more           bool
	}{
		{"image/png", "\x89PNG\r\n\x1a\n", false, false},
		{"image/png", "\xff\xd8\xff\xe0", false, false}, // a wrong type, but a picture
		{"image/png", "", false, false},
		{"image/png", "text", false, false},
		{"image/png", failed, true, false},
		{"image/png", "<", true, false},
		{"image/jpeg", `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + failed, true, false},
		{"image/gif", "\xef\xbb\xbf\n <!DOCTYPE html>", true, false},
		{"image/webp", "<svg>", true, false},
		{"image/png", " \r\n\t", false, true},
		{"image/png", "\xef\xbb\xbf", false, true},
		{"image/png", "\n\x89PNG", false, false},
		{"image/png", "\n<", true, false},
		{typeSVG, "<svg>", false, false},
		{typeSVG, "<svg", false, true},
		{typeSVG, "<!-- " + failed, false, true},
		{typeSVG, "<Errors><svg/></Errors>", false, false},
		{typeSVG, "<svg><Error></Error></svg>", false, false},
		{typeSVG, `<?xml version="1.0"?><!-- <Error> --><svg>`, false, false},
		{typeSVG, "", false, true},
		{typeSVG, "text", false, false},
		{typeSVG, "<html>", true, false},
		{typeSVG, "<HTML lang=en>", true, false},
		{typeSVG, "<!doctype html>", true, false},
		{typeSVG, "<!DOCTYPE html SYSTEM \"about:legacy-compat\"><svg>", true, false},
		{typeSVG, "<!-- a proxy --><html>", true, false},
		{typeSVG, "<htm>", false, false},
		{typeSVG, "<!-- " + failed + " --><svg/>", false, false},
		{typeSVG, "<!-- cut", false, true},
		{typeSVG, "<?xml", false, true},
		{typeSVG, failed, true, false},
		{typeSVG, `<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`, true, false},
		{typeSVG, "\xef\xbb\xbf" + `<?xml version="1.0" encoding="UTF-8"?>` + "\r\n" + failed, true, false},
	} {
		if got, more := contradicts(tc.picture, []byte(tc.front)); got != tc.want || more != tc.more {
			t.Errorf("%s that begins with %q: got %t, %t, want %t, %t", tc.picture, tc.front, got, more, tc.want, tc.more)
		}
	}
	for _, p := range picture.Samples() {
		if page, more := contradicts(p.ContentType, p.Body[:min(len(p.Body), sniffLen)]); page || more {
			t.Errorf("%s is refused", p.Name)
		}
	}
}

// Whatever the bytes say, the answer is a type of our list.
func FuzzSniffType(f *testing.F) {
	for _, p := range picture.Samples() {
		f.Add(p.Body[:min(len(p.Body), 256)])
	}
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, front []byte) {
		got, more, err := sniffType(front[:min(len(front), sniffLen)])
		if (err == nil) != pictures[got] || more && err == nil {
			t.Fatalf("got %q, %t, %v", got, more, err)
		}
	})
}

func TestContentCoding(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"": "", "identity": "", "Identity , identity": "", " , ": "",
		"aws-chunked": "no coding", "AWS-Chunked": "no coding", "aws-chunked, identity": "no coding", "base64": "no coding",
		"x": "no coding", "utf-8": "no coding", "none": "no coding", "\x00": "no coding", "*": "no coding", "\"\"": "no coding",
		"image/jpeg": "no coding", "gzipped": "no coding", "xgzip": "no coding", "g\xfczip": "no coding",
		"gzip": "coding", "GZIP": "coding", "x-gzip": "coding", "br": "coding", "aws-chunked,gzip": "coding",
		"gzip, aws-chunked": "coding", "identity,zstd": "coding", "aws-chunked gzip": "coding", "gzip;q=1": "coding",
		"\"gzip\"": "coding", "base64,dcz": "coding", "gzip/br": "coding", "deflate\x00": "coding",
	} {
		noCoding, err := contentCoding(header)
		got := ""
		switch {
		case err != nil:
			got = "coding"
		case noCoding != "":
			got = "no coding"
		}
		if got != want || (noCoding != "" && noCoding != header) || (err != nil && !errors.Is(err, errNotImage)) {
			t.Errorf("%q: got %q, %q, %v; want %q", header, got, noCoding, err, want)
		}
	}
}

func TestTypeOf(t *testing.T) {
	t.Parallel()
	const jpeg, avif = "\xff\xd8\xff\xe0\x00\x10JFIF", "\x00\x00\x00\x18ftypavif\x00\x00\x00\x00mif1avif"
	for name, tc := range map[string]struct {
		d     declaration
		front string
		want  string // empty: refused
		more  bool
	}{
		"declared":                 {declaration{picture: "image/png"}, jpeg, "image/png", false},
		"declared, page":           {declaration{picture: "image/png"}, "<html>", "", false},
		"generic":                  {declaration{}, jpeg, "image/jpeg", false},
		"generic, cut":             {declaration{}, "<!-- ", "", true},
		"no coding":                {declaration{picture: "image/jpeg", noCoding: "x"}, jpeg, "image/jpeg", false},
		"no coding, jpg":           {declaration{picture: "image/jpg", noCoding: "x"}, jpeg, "image/jpg", false},
		"no coding, same family":   {declaration{picture: "image/heif", noCoding: "x"}, avif, "image/heif", false},
		"no coding, other type":    {declaration{picture: "image/png", noCoding: "x"}, jpeg, "", false},
		"no coding, text":          {declaration{picture: "image/png", noCoding: "x"}, "iVBORw0KGgo=", "", false},
		"no coding, SVG":           {declaration{picture: typeSVG, noCoding: "x"}, "<svg/>", typeSVG, false},
		"no coding, SVG, cut":      {declaration{picture: typeSVG, noCoding: "x"}, "<!-- ", "", true},
		"no coding, SVG, other":    {declaration{picture: typeSVG, noCoding: "x"}, "<a/>", "", false},
		"no coding, generic":       {declaration{noCoding: "x"}, jpeg, "image/jpeg", false},
		"no coding, generic, text": {declaration{noCoding: "x"}, "text", "", false},
	} {
		got, more, err := tc.d.typeOf([]byte(tc.front))
		if got != tc.want || more != tc.more || (err == nil) != (tc.want != "") || (err != nil && !errors.Is(err, errNotImage)) {
			t.Errorf("%s: got %q, %t, %v; want %q, %t", name, got, more, err, tc.want, tc.more)
		}
	}
}
