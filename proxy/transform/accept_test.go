package transform

import (
	"strings"
	"testing"
)

func TestParseAccept(t *testing.T) {
	t.Parallel()
	const both = AcceptsAVIF | AcceptsWebP
	for header, want := range map[string]Accepts{
		"":                      0,
		"*/*":                   0,
		"image/*":               0,
		"image/*,*/*;q=0.8":     0,
		"image/avif":            AcceptsAVIF,
		"image/webp":            AcceptsWebP,
		"image/avif,image/webp": both,
		"image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8":                      both, // Chrome
		"image/webp,image/png,image/svg+xml;q=0.8,video/*;q=0.8,*/*;q=0.5":                      AcceptsWebP,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": both,
		" image/avif ; q=0.5 ,\timage/webp\t;\tq=1":                                             both,
		"IMAGE/AVIF;Q=0.1":          AcceptsAVIF,
		"image/webp;q=0":            0,
		"image/webp;q=0.0":          0,
		"image/webp;q=0.000":        0,
		"image/webp;q=0.":           0,
		"image/webp;q=0.001":        AcceptsWebP,
		"image/webp;q=1.":           AcceptsWebP,
		"image/webp;q=1.000":        AcceptsWebP,
		"image/webp;q=1.001":        0,
		"image/webp;q=2":            0,
		"image/webp;q=0.0001":       0,
		"image/webp;q=":             0,
		"image/webp;q":              0,
		"image/webp;q=x":            0,
		"image/webp;q=-1":           0,
		"image/webp;q=01":           0,
		"image/webp;q=1e0":          0,
		"image/webp;q =1":           0 | AcceptsWebP, // no parameter q: whitespace is not allowed there
		"image/webp;level=1":        AcceptsWebP,
		"image/webp;level=1;q=0":    0,
		"image/webp;;;":             AcceptsWebP,
		"image/webp;q=0,image/webp": 0, // refused wins, in any order
		"image/webp,image/webp;q=0": 0,
		",,;q=1,image/webp,":        AcceptsWebP,
		"image /webp":               0,
		"image/webp2":               0,
		"ximage/webp":               0,
		"image/webp image/avif":     0,
		"\"image/webp\"":            0,
		"\x00\xff,image/webp":       AcceptsWebP,
	} {
		if got := ParseAccept([]byte(header)); got != want {
			t.Errorf("%q: %b, want %b", header, got, want)
		}
	}
	if got := ParseAccept([]byte(strings.Repeat(",", acceptMax) + "image/webp")); got != 0 {
		t.Errorf("a long header: %b", got)
	}
}

// FuzzParseAccept: an element that is refused is never accepted, and elements before and after do not
// change what an element says.
func FuzzParseAccept(f *testing.F) {
	f.Add([]byte("image/avif;q=0.5,image/*,*/*;q=0"))
	f.Add([]byte(",;=,image/webp;q=0.000"))
	f.Fuzz(func(t *testing.T, header []byte) {
		got := ParseAccept(header)
		if got > AcceptsAVIF|AcceptsWebP || got != 0 && len(header) < len("image/webp") {
			t.Errorf("%b", got)
		}
		if len(header) < acceptMax/2 {
			if more := ParseAccept([]byte("image/png,*/*;q=0," + string(header) + ",image/jpeg")); more != got {
				t.Errorf("%b, and among others %b", got, more)
			}
			if none := ParseAccept([]byte("image/webp;q=0,image/avif;q=0," + string(header))); none != 0 {
				t.Errorf("refused, but %b", none)
			}
		}
	})
}

func BenchmarkParseAccept(b *testing.B) {
	header := []byte("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8")
	b.ReportAllocs()
	for b.Loop() {
		ParseAccept(header)
	}
}
