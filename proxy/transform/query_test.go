package transform

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// canonicalOf parses a query and returns its canonical form for a format.
func canonicalOf(t *testing.T, query string, f Format) string {
	t.Helper()
	o, _, err := Parse([]byte(query))
	if err != nil {
		t.Fatalf("%q: %v", query, err)
	}
	return string(o.Append(nil, f))
}

// TestParse: every option with its synonyms, and what is made of it. The format is not known.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ query, want string }{
		{"", ""},
		{"&", ""},
		{"v=2&utm_source=a%zz", ""},
		{"&&w=400&", "w=400"},
		{"w=1", "w=1"}, {"w=8192", "w=8192"}, {"width=400", "w=400"}, {"wid=400", "w=400"},
		{"h=300", "h=300"}, {"height=300", "h=300"}, {"hei=300", "h=300"},
		{"w=%34%30%30", "w=400"},
		{"W=400", ""}, {"%77=400", ""}, // names are compared as they are written
		{"h=300&w=400", "h=300&w=400"}, {"w=400&h=300", "h=300&w=400"},

		{"w=4&h=3&fit=contain", "h=3&w=4"},
		{"w=4&h=3&fit=cover", "fit=cover&h=3&w=4"},
		{"w=4&h=3&fit=fill", "fit=fill&h=3&w=4"},
		{"w=4&h=3&fit=inside", "fit=inside&h=3&w=4"},
		{"w=4&h=3&fit=outside", "fit=outside&h=3&w=4"},
		{"w=4&fit=cover", "w=4"}, {"fit=cover", "f=auto"}, // one side, or none: inside

		{"w=4&h=3&fit=cover&gravity=north", "fit=cover&gravity=north&h=3&w=4"},
		{"w=4&h=3&fit=cover&gravity=smart", "fit=cover&gravity=smart&h=3&w=4"},
		{"w=4&h=3&fit=cover&gravity=center", "fit=cover&h=3&w=4"},
		{"w=4&h=3&fit=cover&gravity=0.5,0.50", "fit=cover&h=3&w=4"},
		{"w=4&h=3&fit=cover&gravity=0,1", "fit=cover&gravity=0,1&h=3&w=4"},
		{"w=4&h=3&fit=cover&gravity=0.33333333333333,0.25", "fit=cover&gravity=0.3333,0.25&h=3&w=4"},
		{"w=4&h=3&fit=cover&gravity=0.33333333333333%2C0.25", "fit=cover&gravity=0.3333,0.25&h=3&w=4"},
		{"w=4&h=3&gravity=north", "gravity=north&h=3&w=4"}, // the place in the padding
		{"w=4&h=3&gravity=smart", "h=3&w=4"}, {"w=4&h=3&gravity=0,0", "h=3&w=4"},
		{"w=4&h=3&fit=fill&gravity=north", "fit=fill&h=3&w=4"},
		{"w=4&gravity=north", "w=4"},

		{"crop=0,0,400,300", "crop=0,0,400,300"}, {"crop=10,20,999999,300", "crop=10,20,16384,300"},
		{"r=0", "f=auto"}, {"r=90", "r=90"}, {"r=180", "r=180"}, {"r=270", "r=270"},
		{"flip=h", "flip=h"}, {"flip=v", "flip=v"}, {"flip=hv", "r=180"}, {"flop=1", "flip=h"}, {"flip=1", "flip=v"},
		{"flop=true", "flip=h"}, {"flip=true", "flip=v"},
		{"r=180&flip=h", "flip=v"}, {"r=180&flip=v", "flip=h"}, {"r=180&flip=hv", "f=auto"},
		{"r=270&flip=h", "flip=v&r=90"}, {"r=90&flip=hv", "r=270"}, {"r=270&flip=hv", "r=90"}, {"r=90&flip=v", "flip=v&r=90"},

		{"bg=fff", "bg=ffffffff"}, {"bg=abcd", "bg=aabbccdd"}, {"bg=A1b2C3", "bg=a1b2c3ff"}, {"bg=a1b2c3d4", "bg=a1b2c3d4"},
		{"bg=_abd", "bg=aabbddff"}, {"bgc=teal", "bg=008080ff"}, {"bg=Teal", "bg=008080ff"}, {"bg=rebeccapurple", "bg=663399ff"},
		{"bg=lightgoldenrodyellow", "bg=fafad2ff"}, {"bg=transparent", "bg=00000000"}, {"bg=12345600", "bg=00000000"},

		{"q=80", "q=80"}, {"quality=1", "q=1"}, {"q=100", "q=100"},
		{"f=auto", "f=auto"}, {"f=jpg", "f=jpeg"}, {"fmt=jpeg", "f=jpeg"}, {"f=png", "f=png"}, {"f=webp", "f=webp"},
		{"f=avif", "f=avif"}, {"f=gif", "f=gif"}, {"f=auto&w=4", "w=4"},

		{"dpr=2", "f=auto"}, {"w=100&dpr=2", "w=200"}, {"h=3&w=100&dpr=1.5", "h=5&w=150"}, {"w=100&dpr=1.0", "w=100"},
		{"w=100&dpr=4", "w=400"}, {"w=5000&dpr=4", "w=8192"}, {"w=4096&h=1024&dpr=4", "h=2048&w=8192"},
		{"w=4000&h=4000&dpr=2", "h=5000&w=5000"}, {"w=6000&h=6000&dpr=2", "h=6000&w=6000"},
		{"w=4000&h=3000&dpr=4", "h=4330&w=5773"}, // 5774 x 4330 are more than 25 million

		{"blur=0.3", "blur=0.3"}, {"blur=100", "blur=100"}, {"blur=1.2345", "blur=1.23"}, {"blur=0.30000000000000004", "blur=0.3"},
		{"sharpen=0.1", "sharpen=0.1"}, {"sharpen=10", "sharpen=10"}, {"sharp=1", "sharpen=1"}, {"sharpen=1.00", "sharpen=1"},
		{"gray=1", "gray=1"}, {"grey=1", "gray=1"}, {"grey=true", "gray=1"},
		{"w=4&strip=all", "w=4"}, {"w=4&strip=1", "w=4"}, {"w=4&strip=copyright", "strip=copyright&w=4"},
		{"w=4&strip=0", "strip=copyright&w=4"}, {"strip=1", "strip=all"}, // nothing else is asked for

		{"wm=logo.png", "wm=logo.png"}, {"wm=a/b%20c.png,southeast,o100", "wm=a/b%20c.png"},
		{"wm=logo.png,south,s20,o50", "wm=logo.png,south,o50,s20"}, {"wm=logo.png,o50,center", "wm=logo.png,center,o50"},
		{"wm=logo.png,tile,o5", "wm=logo.png,o5,tile"}, {"wm=a+b%26%25=.png", "wm=a%2Bb%26%25%3D.png"},
		{"wm=gr%C3%BC%C3%9Fe.png", "wm=gr%C3%BC%C3%9Fe.png"}, {"wm=grüße.png", "wm=gr%C3%BC%C3%9Fe.png"},

		{"anim=1", "f=auto"}, {"anim=0", "anim=0"},
		{"lqip=blurhash", "lqip=blurhash"}, {"lqip=image", "lqip=image"}, {"lqip=1", "lqip=image"},
		{"lqip=1&w=400", "lqip=image"}, {"lqip=1&w=400&h=300", "h=24&lqip=image&w=32"}, {"lqip=1&w=1&h=400", "h=32&lqip=image&w=1"},
		{"lqip=1&w=16&h=8", "h=8&lqip=image&w=16"}, {"lqip=1&w=400&h=300&fit=inside", "lqip=image"},
		{"lqip=1&blur=3&sharpen=1&wm=a.png&anim=0&dpr=3&gray=1", "gray=1&lqip=image"},
		{"lqip=blurhash&f=webp&q=3&strip=copyright&bg=white", "lqip=blurhash"},
		{"info=1", "info=1"}, {"info=1&w=400&f=webp", "info=1"},
		{"t=thumb", ""}, {"template=thumb&w=4", "w=4"},
		{"exp=1&kid=a&sig=%zz&sig=2", ""},
	} {
		if got := canonicalOf(t, c.query, 0); got != c.want {
			t.Errorf("%q is %q, want %q", c.query, got, c.want)
		}
	}
}

// TestCanonicalFormat: options that have no effect on a format, and defaults of it.
func TestCanonicalFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		query string
		f     Format
		want  string
	}{
		{"w=4&q=80", JPEG, "w=4"}, {"w=4&q=75", WebP, "w=4"}, {"w=4&q=80", AVIF, "q=80&w=4"},
		{"w=4&q=62", AVIF, "w=4"}, {"w=4&q=50", JPEG, "q=50&w=4"}, {"w=4&q=50", PNG, "w=4"}, {"w=4&q=50", GIF, "w=4"},
		{"w=4&anim=0", JPEG, "w=4"}, {"w=4&anim=0", PNG, "w=4"}, {"w=4&anim=0", AVIF, "w=4"},
		{"w=4&anim=0", WebP, "anim=0&w=4"}, {"w=4&anim=0", GIF, "anim=0&w=4"}, {"w=4&anim=1", GIF, "w=4"},
		{"w=4&bg=fff", JPEG, "w=4"}, {"w=4&bg=transparent", JPEG, "w=4"}, {"w=4&bg=00000080", JPEG, "bg=7f7f7fff&w=4"},
		{"w=4&bg=fff", PNG, "bg=ffffffff&w=4"}, {"w=4&bg=00000080", WebP, "bg=00000080&w=4"},
		{"w=4&f=webp", WebP, "f=webp&w=4"}, {"w=4&f=auto", WebP, "w=4"},
		{"q=80", JPEG, "f=auto"}, {"lqip=blurhash&bg=fff&f=png", Raw, "lqip=blurhash"},
	} {
		if got := canonicalOf(t, c.query, c.f); got != c.want {
			t.Errorf("%q as %s is %q, want %q", c.query, c.f, got, c.want)
		}
	}
}

// TestParseRefuses: values that are not the accepted form. Each is an *OptionError for its option,
// and its text has nothing of the value.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	numbers := []string{"", "x", "-1", "+1", "01", "1e3", "1.", ".5", "NaN", "Inf", "0x10", "1 ", "%201", "1,5", "1_0", "٣", "99999999999999999999999", "1%", "1%2", "1%zz", "1%00"}
	for option, values := range map[string][]string{
		"w":       append([]string{"0", "8193", "400.5", "400px", "auto", "true"}, numbers...),
		"h":       append([]string{"0", "8193", "300.5"}, numbers...),
		"q":       append([]string{"0", "101", "80.5"}, numbers...),
		"dpr":     append([]string{"0", "0.99", "4.01", "4.0000000000000000000001"}, numbers...),
		"blur":    append([]string{"0", "0.29", "100.01", "1"[:0]}, numbers...),
		"sharpen": append([]string{"0", "0.09", "10.1"}, numbers...),
		"fit":     {"", "Cover", "crop", "cover,", "none"},
		"gravity": {"", "middle", "North", "0.5", "0.5,", ",0.5", "0.5,1.1", "-0.1,0", "0.5,0.5,0.5", "NaN,0", "1e-1,0", "tile"},
		"crop":    {"", "1,2,3", "1,2,3,4,5", "0,0,0,5", "0,0,5,0", "-1,0,5,5", "0,0,5,5,", "0,0,5.5,5", "0,0,1000000,5", "0, 0,5,5"},
		"r":       {"", "1", "45", "-90", "360", "090"},
		"flip":    {"", "0", "2", "vh", "H", "false"},
		"bg":      {"", "_", "ff", "fffff", "fffffff", "fffffffff", "__fff", "#fff", "%23fff", "ggg", "blu", "ｆｆｆ", "_teal"},
		"f":       {"", "JPEG", "tiff", "heic", "svg", "raw", "image/webp"},
		"gray":    {"", "0", "2", "yes"},
		"strip":   {"", "2", "none", "All"},
		"anim":    {"", "2", "true"},
		"lqip":    {"", "0", "2", "BlurHash"},
		"info":    {"", "0", "2", "yes"},
		"t":       {"", "-a", "a-", "Thumb", "a_b", strings.Repeat("a", 64), "a%00", "a/b"},
		"wm": {
			"", ",southeast", "/a.png", "a//b.png", "../a.png", "a/../b.png", "./a", "a%5Cb", "a%00.png", "%ff.png", "a.png,", "a.png,o0",
			"a.png,o101", "a.png,s0", "a.png,s101", "a.png,o", "a.png,smart", "a.png,0.5,0.5", "a.png,north,south", "a.png,tile,north",
			"a.png,o5,o6", "a.png,s5,s6", "a.png,x5", "a.png,o5,", "a.png,,o5", strings.Repeat("a", 1025),
		},
	} {
		for _, value := range values {
			query := "v=1&" + option + "=" + value
			_, _, err := Parse([]byte(query))
			var bad *OptionError
			if !errors.As(err, &bad) || bad.Option != option || !strings.HasPrefix(bad.Detail, option+" is ") {
				t.Errorf("%q: %v", query, err)
			}
		}
	}
	for query, option := range map[string]string{"w": "w", "flop=2": "flip", "flop=h": "flip", "sharp=0": "sharpen", "grey=0": "gray", "template": "t"} {
		_, _, err := Parse([]byte(query))
		var bad *OptionError
		if !errors.As(err, &bad) || bad.Option != option {
			t.Errorf("%q: %v", query, err)
		}
	}
}

// TestParseTwice: an option may be given once, by any of its names.
func TestParseTwice(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"w=4&w=4":            "w is given twice; it is the same option as wid and width",
		"width=4&h=5&wid=4":  "w is given twice; it is the same option as wid and width",
		"flip=h&flop=1":      "flip is given twice; it is the same option as flop",
		"t=a&template=a":     "t is given twice; it is the same option as template",
		"bg=fff&q=1&bgc=fff": "bg is given twice; it is the same option as bgc",
		"anim=1&anim=1":      "anim is given twice",
	} {
		if _, _, err := Parse([]byte(query)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", query, err)
		}
	}
	// The signature and unknown parameters are not ours.
	if _, _, err := Parse([]byte("v=1&v=2&sig=a&sig=b&w=4")); err != nil {
		t.Error(err)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	_, info, err := Parse([]byte("wm=a.png&t=big&utm_source=x&width=4&exp=1&kid=a&sig=b&utm_source=y&a"))
	if err != nil || info.Template != "big" || info.Unknown != 3 {
		t.Errorf("%+v, %v", info, err)
	}
	if got := info.Names(); !slices.Equal(got, []string{"t", "w", "wm"}) {
		t.Errorf("names: %q", got)
	}
	if got := (Query{}).Names(); len(got) != 0 {
		t.Errorf("names of none: %q", got)
	}
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	if got := UnknownNames([]byte("&w=1&v=2&sig=3&utm_a=%zz&v=3&&W=1&=5")); !slices.Equal(got, []string{"v", "utm_a", "W", ""}) {
		t.Errorf("%q", got)
	}
	long := strings.Repeat("x", 1000)
	if got := UnknownNames([]byte(long + "=1&" + long + "y")); !slices.Equal(got, []string{long[:64]}) {
		t.Errorf("%q", got)
	}
	var many []string
	for i := range 100 {
		many = append(many, "a"+strings.Repeat("b", i%50))
	}
	if got := UnknownNames([]byte(strings.Join(many, "&"))); len(got) != 16 {
		t.Errorf("%d names", len(got))
	}
}

// TestParseKeepsNothing: the query's memory may be used again.
func TestParseKeepsNothing(t *testing.T) {
	t.Parallel()
	query := []byte("t=thumb&wm=logo.png")
	o, info, err := Parse(query)
	for i := range query {
		query[i] = 'x'
	}
	if err != nil || info.Template != "thumb" || o.Mark() != "logo.png" {
		t.Errorf("%+v, %q, %v", info, o.Mark(), err)
	}
}

func TestFree(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"": false, "w=4": false, "width=4&v=1": false, "t=a&w=4": false, "kid=a&sig=b": false,
		"h=4": true, "w=4&f=auto": true, "info=1": true, "dpr=1": true, "t=a&q=80": true, "lqip=1": true, "wm=a.png": true,
	} {
		o, _, err := Parse([]byte(query))
		if err != nil || o.Free() != want {
			t.Errorf("%q: %t, %v", query, o.Free(), err)
		}
	}
}

func TestIsZero(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{"": true, "v=1": true, "t=a": true, "sig=a": true, "f=auto": false, "dpr=1": false, "strip=all": false, "r=0": false, "info=1": false} {
		if o, _, err := Parse([]byte(query)); err != nil || o.IsZero() != want || (len(o.Append(nil, WebP)) == 0) != want {
			t.Errorf("%q: %t, %v", query, o.IsZero(), err)
		}
	}
}

// TestTable: the rows are sorted, and each can be asked for by its name.
func TestTable(t *testing.T) {
	t.Parallel()
	for i, row := range table {
		if s, ok := names[row.name]; !ok || s.option != option(i) {
			t.Errorf("%s is option %d", row.name, s.option)
		}
		if i > 0 && table[i-1].name >= row.name {
			t.Errorf("%s is after %s", row.name, table[i-1].name)
		}
	}
}

func TestParseAllocates(t *testing.T) { //nolint:paralleltest // AllocsPerRun refuses to run beside others
	for query, most := range map[string]float64{"w=400&f=webp": 0, "v=1&w=400&h=300&fit=cover&gravity=0.5,0.25&bg=teal&q=70": 1, "t=thumb": 1, "wm=logo.png": 1} {
		b := []byte(query)
		var o Options
		if n := testing.AllocsPerRun(100, func() { o, _, _ = Parse(b) }); n > most {
			t.Errorf("%q: %v allocations", query, n)
		}
		_ = o
	}
	o, _, _ := Parse([]byte("w=400&h=300&f=webp&bg=teal&blur=1.5"))
	b := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { b = o.Append(b[:0], WebP) }); n > 0 {
		t.Errorf("canonical form: %v allocations", n)
	}
	header := []byte("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8")
	if n := testing.AllocsPerRun(100, func() { ParseAccept(header) }); n > 0 {
		t.Errorf("Accept: %v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	query := []byte("w=400&f=webp")
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = Parse(query)
	}
}

func BenchmarkAppend(b *testing.B) {
	o, _, _ := Parse([]byte("w=400&f=webp"))
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = o.Append(buf[:0], WebP)
	}
}
