package proxy

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"
)

func TestFirstElement(t *testing.T) {
	t.Parallel()
	const undecided = "undecided"
	for front, want := range map[string]string{
		"<svg>": "svg", "<svg ": "svg", "<svg/>": "svg", "<svg\n": "svg", "<a:svg>": "a:svg", "\xef\xbb\xbf<svg>": "svg",
		"<!-- <a> --><svg>": "svg", "<!----><svg>": "svg", "<?a ?><?b > ?>\n<svg>": "svg", "<!DOCTYPE svg><svg>": "svg",
		"<!DOCTYPE svg [<!ENTITY a '>'>]><svg>": "svg", "<!DOCTYPE svg \"]>'\" [<!-- \"> --><?b '> ?>]> <svg>": "svg",
		"<!doctype svg><svg>": "svg", "<!DOCTYPE html>": "html", "<!DOCTYPE\nHtml[": "html", "<!DOCTYPE htm><svg>": "svg",
		"<Error>": "Error", "</svg>": "", "<><": "", "< svg>": "", "<![CDATA[<svg>": "![CDATA[<svg", "<!ELEMENT a>": "!ELEMENT",
		"text": "", "\xff\xd8\xff": "", "a<svg>": "", "\x00svg>": "", "-->": "", "<" + strings.Repeat("a", 300) + ">": "",
		"\xff\xfe<\x00s\x00v\x00g\x00>\x00": "svg", "\xfe\xff\x00<\x00s\x00v\x00g\x00>": "svg",
		"<\x00s\x00v\x00g\x00>\x00": "svg", "\x00<\x00s\x00v\x00g\x00>": "svg", "<\x00h\x00t\x00m\x00l\x00>\x00": "html",
		"\xff\xfe<\x01s\x00v\x00g\x00>\x00": "", "\xfe\xff<\x00s\x00": "",

		"": undecided, "\xef\xbb": undecided, "\xff": undecided, "<a": undecided, "a": undecided,
		" ": undecided, "\xef\xbb\xbf": undecided, "<": undecided, "<s": undecided, "<svg": undecided, "<!": undecided,
		"<!-": undecided, "<!--": undecided, "<!-->": undecided, "<!-- --": undecided, "<!D": undecided, "<!DOCTYPE": undecided,
		"<!DOCTYPE html": undecided, "<!DOCTYPE svg [": undecided, "<!DOCTYPE svg [<!ENTITY a '>": undecided,
		"<!DOCTYPE svg [<!-- ]> <svg>": undecided, "<!DOCTYPE svg <svg>": undecided, "<?": undecided, "<?xml ?": undecided,
		"\xff\xfe": undecided, "\x00<\x00": undecided, "\xff\xfe<": undecided, "<!DOCTYPE svg>": undecided, "<!-- --> ": undecided,
	} {
		got, decided := firstElement([]byte(front))
		if !decided {
			got += undecided
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", front, got, want)
		}
	}
}

func TestIsSVG(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"svg": true, "s:svg": true, "svg:svg": true,
		"": false, "SVG": false, "svgs": false, ":svg": false, "svg:": false, "svg:g": false, "a:b:svg": false, "html": false,
	} {
		if got := isSVG(name); got != want {
			t.Errorf("%q: got %t", name, got)
		}
	}
}

// xmlElement is firstElement by another parser, "" for what that one refuses.
func xmlElement(front []byte) string {
	d := xml.NewDecoder(bytes.NewReader(front))
	for {
		token, err := d.RawToken()
		if err != nil {
			return ""
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Space != "" {
			return e.Name.Space + ":" + e.Name.Local
		} else if ok {
			return e.Name.Local
		}
	}
}

// FuzzFirstElement: a document is an SVG only if another parser of XML that reads it finds
// the same element, and what a part of it decides stays so.
func FuzzFirstElement(f *testing.F) {
	for _, s := range []string{
		"<svg>", "\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a --><svg/>", "<!DOCTYPE svg [<!ENTITY a '>'>]><svg:svg>", "<!DOCTYPE html><svg>",
		"\xff\xfe<\x00s\x00v\x00g\x00>\x00", "<html><svg>", "<!DOCTYPE svg [<!-- > --><?b > ?>]><a>",
	} {
		f.Add([]byte(s), len(s)/2)
	}
	f.Fuzz(func(t *testing.T, front []byte, cut int) {
		name, decided := firstElement(front)
		if cut < 0 || cut > len(front) {
			cut = 0
		}
		if part, early := firstElement(front[:cut]); early && (!decided || part != name) {
			t.Fatalf("%q decides %q, all of it %q, %t", front[:cut], part, name, decided)
		}
		if !decided && name != "" {
			t.Fatalf("undecided, but %q", name)
		}
		// The other parser reads an instruction in a document type as a part of that.
		odd := bytes.Contains(front, []byte("<?")) && bytes.Contains(bytes.ToLower(front), []byte("<!doctype"))
		if other := xmlElement(front); isSVG(name) && other != "" && other != name && !odd {
			t.Fatalf("%q: got %q, want %q", front, name, other)
		}
	})
}
