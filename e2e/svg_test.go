package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"ixmage/internal/awstest/s3"
)

const svgDrawing = `<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><rect width="1" height="1"/></svg>`

// illustrator is the document type that a drawing program writes.
const illustrator = `<?xml version="1.0" encoding="utf-8"?>
<!-- Generator: Adobe Illustrator 16.0.0, SVG Export Plug-In . SVG Version: 6.00 Build 0)  -->
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd" [
	<!ENTITY ns_svg "http://www.w3.org/2000/svg">
	<!ENTITY tag "<html>">
	<!-- it's > a comment -->
	<?pi ]> ?>
]>
<svg xmlns="&ns_svg;" width="1" height="1"/>`

// utf16Text is s in UTF-16 with a byte order mark.
func utf16Text(s string, order binary.AppendByteOrder) []byte {
	b := order.AppendUint16(nil, 0xfeff)
	for _, unit := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, unit)
	}
	return b
}

// svgFronts are SVG documents that do not begin with their element.
func svgFronts() map[string][]byte {
	licence := "<!--\n" + strings.Repeat("Permission is hereby granted, free of charge, to any person.\n", 60) + "-->\n"
	docs := map[string]string{
		"plain":                   svgDrawing,
		"without a namespace":     "<svg/>",
		"comment and newline":     "<!-- made by hand -->\n" + svgDrawing,
		"byte order mark":         "\xef\xbb\xbf" + svgDrawing,
		"mark and declaration":    "\xef\xbb\xbf<?xml version=\"1.0\"?>\r\n" + svgDrawing,
		"declaration":             `<?xml version='1.0' standalone='no'?>` + svgDrawing,
		"comment of an element":   "<?xml version=\"1.0\"?>\n<!-- <html> -->\n" + svgDrawing,
		"white space":             "\n\t \r\n" + svgDrawing,
		"doctype":                 `<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">` + svgDrawing,
		"doctype, small letters":  `<!doctype svg>` + svgDrawing,
		"doctype with a subset":   illustrator,
		"instruction":             `<?xml-stylesheet type="text/css" href="a.css"?><!---->` + svgDrawing,
		"prefix":                  `<svg:svg xmlns:svg="http://www.w3.org/2000/svg"/>`,
		"another prefix":          "<!-- x -->\n<s:svg\nxmlns:s='http://www.w3.org/2000/svg'></s:svg>",
		"licence":                 licence + svgDrawing,
		"declaration and licence": "<?xml version=\"1.0\"?>\n" + licence + "<!DOCTYPE svg>\n" + svgDrawing,
		"long licence":            strings.Repeat(licence, 15) + svgDrawing,
		"much white space":        strings.Repeat(" \n", 2000) + svgDrawing,
		"at the first bytes' end": "<!--" + strings.Repeat("x", 3072-9) + "-->" + svgDrawing,
		"across their end":        "<!--" + strings.Repeat("x", 3072-8) + "-->" + svgDrawing,
	}
	all := map[string][]byte{
		"UTF-16, little end first": utf16Text("<?xml version=\"1.0\" encoding=\"UTF-16\"?>\n<!-- ü -->"+svgDrawing, binary.LittleEndian),
		"UTF-16 without a mark":    utf16Text(licence+svgDrawing, binary.LittleEndian)[2:],
		"UTF-16, big end first":    utf16Text(licence+svgDrawing, binary.BigEndian),
	}
	for name, text := range docs {
		all[name] = []byte(text)
	}
	return all
}

// notSVG are documents whose first element is not that of an SVG.
func notSVG() map[string]string {
	return map[string]string{
		"html":                   "<html><body>" + svgDrawing,
		"doctype of HTML":        "<!DOCTYPE html>" + svgDrawing,
		"doctype in small type":  "\n<!doctype HTML >" + svgDrawing,
		"comment, then html":     "<!-- svg -->\n<html>" + svgDrawing,
		"XHTML":                  `<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "x.dtd"><html xmlns="http://www.w3.org/1999/xhtml">` + svgDrawing,
		"XHTML, no doctype":      `<?xml version="1.0"?>` + "\n" + `<html xmlns="http://www.w3.org/1999/xhtml"><body>` + svgDrawing,
		"another root":           `<?xml version="1.0"?><a>` + svgDrawing + `</a>`,
		"error of S3":            `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>InternalError</Code>" + svgDrawing + "</Error>",
		"only a comment":         "<!-- " + svgDrawing + " -->",
		"comment without an end": "<!-- " + svgDrawing,
		"only a doctype":         `<!DOCTYPE svg [<!ENTITY a "` + svgDrawing + `">]>`,
		"text":                   "svg " + svgDrawing,
		"longer name":            "<svgx/>",
		"other prefix and name":  "<svg:g/>",
		"capitals":               `<SVG xmlns="http://www.w3.org/2000/svg"/>`,
		"empty tag":              "< svg/>",
		"cdata":                  "<![CDATA[" + svgDrawing + "]]>",
		"script":                 "<script>" + svgDrawing + "</script>",
		"cut":                    "<sv",
		"blank":                  " \n",
		"past the bound":         "<!--" + strings.Repeat("x", 64<<10) + "-->" + svgDrawing,
		"html past 3 KiB":        "<!--" + strings.Repeat("x", 4000) + "--><html>" + svgDrawing,
	}
}

// TestSVGWithoutType: an SVG of a generic type is one whatever stands before its element,
// and no other document is.
func TestSVGWithoutType(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for name, body := range svgFronts() {
		for _, declared := range []string{"binary/octet-stream", "text/xml"} {
			t.Run(name+" "+declared, func(t *testing.T) {
				t.Parallel()
				key := aliasFor(name+declared[:1]) + ".svg"
				s.put(key, s3.Object{Body: body, ContentType: declared})
				wantType(t, s, "/shop/"+key, body, "image/svg+xml")
			})
		}
	}
	for name, body := range notSVG() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := aliasFor("no "+name) + ".svg"
			s.put(key, s3.Object{Body: []byte(body), ContentType: "binary/octet-stream"})
			wantType(t, s, "/shop/"+key, nil, "")
		})
	}
}

// TestPageAsPicture: a page, or an error document of S3, is no picture of its declared type,
// whatever stands before its first element. Beyond 64 KiB the declaration counts.
func TestPageAsPicture(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	licence, blank := "<!--"+strings.Repeat("x", 4000)+"-->\n", strings.Repeat(" \n", 2000)
	const page, failed = "<html><body>" + svgDrawing, "<Error><Code>InternalError</Code></Error>"
	for name, tc := range map[string]struct{ declared, body, want string }{
		"page after a comment":         {"image/svg+xml", licence + page, ""},
		"error after a comment":        {"image/svg+xml", licence + failed, ""},
		"page after much of a doctype": {"image/svg", "<!DOCTYPE x [" + licence + licence + "]>" + page, ""},
		"page after white space":       {"image/svg+xml", blank + page, ""},
		"page, declared as PNG":        {"image/png", blank + page, ""},
		"drawing after a comment":      {"image/svg+xml", licence + svgDrawing, "image/svg+xml"},
		"page past the bound":          {"image/svg+xml", "<!--" + strings.Repeat("x", 64<<10) + "-->" + page, "image/svg+xml"},
		"only a comment":               {"image/svg+xml", licence, "image/svg+xml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := aliasFor(name)
			s.put(key, s3.Object{Body: []byte(tc.body), ContentType: tc.declared})
			r, code := s.ask("/shop/"+key), http.StatusUnsupportedMediaType
			if tc.want != "" {
				code = http.StatusOK
			}
			if r.StatusCode != code || tc.want != "" && (r.Header.Get("Content-Type") != tc.want || string(r.body) != tc.body) {
				t.Errorf("got %s, want %d %s", summary(r), code, tc.want)
			}
		})
	}
}

// TestSVGReads: an undecided front is read on, and a decided one is not.
func TestSVGReads(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	docs := svgFronts()
	for name, more := range map[string]bool{"plain": false, "licence": true, "long licence": true} {
		key := aliasFor(name)
		body := docs[name]
		asked := []string{"HEAD "}
		if more {
			asked = append(asked, "GET bytes=0-3071")
		}
		asked = append(asked, fmt.Sprintf("GET bytes=0-%d", len(body)-1))
		s.put(key, s3.Object{Body: body, ContentType: "binary/octet-stream"})
		s.head("/shop/" + key)
		if got := s.askedFor(key); !slices.Equal(got, asked) {
			t.Errorf("%s: S3 was asked %q, want %q", name, got, asked)
		}
	}
	large := append([]byte("<!--"+strings.Repeat("x", 100_000)+"-->"), bytes.Repeat([]byte("y"), 100_000)...)
	s.put("large", s3.Object{Body: large, ContentType: "binary/octet-stream"})
	s.head("/shop/large")
	if got := s.askedFor("large"); len(got) != 3 || got[2] != "GET bytes=0-65535" {
		t.Errorf("S3 was asked %q", got)
	}
}

// TestSVGDeclared: a page or an error document of S3 with the type of an SVG is refused,
// whatever stands before its element; other documents are served as declared.
func TestSVGDeclared(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	pages := []string{"html", "doctype of HTML", "doctype in small type", "comment, then html", "XHTML", "XHTML, no doctype", "error of S3"}
	docs := notSVG()
	for _, name := range pages {
		key := aliasFor(name)
		s.put(key, s3.Object{Body: []byte(docs[name]), ContentType: "image/svg+xml"})
		wantProblem(t, s.get("/shop/"+key), 415, "not-an-image")
	}
	for name, body := range svgFronts() {
		key := aliasFor(name) + ".svg"
		s.put(key, s3.Object{Body: body, ContentType: "image/svg+xml"})
		wantType(t, s, "/shop/"+key, body, "image/svg+xml")
	}
}

// TestHeadWithoutRanges: a server that ignores ranges, or answers them with a document of its
// own, gives HEAD the same answer as GET.
func TestHeadWithoutRanges(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	licence := svgFronts()["licence"]
	s.put("licence", s3.Object{Body: licence, ContentType: "text/xml"})
	s.put("large", s3.Object{Body: sampleOf(t, "image/png"), ContentType: "binary/octet-stream"})
	s.put("error", s3.Object{Body: png(100, "")})
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if strings.HasSuffix(r.Key, "/error") {
			return s3.XML200()
		}
		r.Header.Del("Range")
		return nil
	})
	for path, want := range map[string]int{"licence": 200, "large": 200, "error": 415} {
		head, get := s.head("/shop/"+path), s.get("/shop/"+path)
		if head.StatusCode != want || get.StatusCode != want || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
			t.Errorf("%s: HEAD got %s, %q, and GET %s, %q", path, head.Status, head.Header.Get("Content-Type"), get.Status, get.Header.Get("Content-Type"))
		}
	}
}
