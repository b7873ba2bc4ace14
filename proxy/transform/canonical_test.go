package transform

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// some has a few values of each option, so that random queries often mean the same.
var some = map[string][]string{
	"anim": {"0", "1"}, "bg": {"fff", "ffffffff", "White", "_ffff", "00f", "00f8", "0000ff88", "transparent", "fff0"},
	"blur": {"0.3", "1", "1.00", "1.001"}, "crop": {"0,0,10,10", "1,2,999999,10", "1,2,16384,10"}, "dpr": {"1", "2", "1.5", "4"},
	"f": {"auto", "jpeg", "jpg", "png", "webp", "gif", "avif"}, "fit": {"contain", "cover", "fill", "inside", "outside"},
	"flip": {"h", "v", "hv"}, "gravity": {"center", "north", "smart", "0.5,0.5", "0.5,0.50001", "0,0.25"}, "gray": {"1"},
	"h": {"1", "50", "100", "8192"}, "lqip": {"1", "image", "blurhash"}, "q": {"50", "80", "81"}, "r": {"0", "90", "180", "270"},
	"sharpen": {"1", "10"}, "strip": {"all", "1", "copyright", "0"}, "w": {"1", "50", "100", "150", "8192"},
	"wm": {"a.png", "a.png,southeast", "a.png,o100,southeast", "a.png,tile", "a.png,s20,o50", "a.png,o50,s20", "a%20b/%C3%BC.png,north"},
}

// randomQuery returns some options with values, in any order.
func randomQuery(r *rand.Rand) []string {
	var pairs []string
	for i := range options {
		name := table[i].name
		if values := some[name]; len(values) > 0 && r.IntN(3) == 0 {
			pairs = append(pairs, name+"="+values[r.IntN(len(values))])
		}
	}
	if r.IntN(50) == 0 {
		pairs = append(pairs, "info=1")
	}
	r.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	return pairs
}

func mustParse(t *testing.T, query string) Options {
	t.Helper()
	o, _, err := Parse([]byte(query))
	if err != nil {
		t.Fatalf("%q: %v", query, err)
	}
	return o
}

const rounds = 3_000

var allFormats = []Format{JPEG, PNG, WebP, GIF, AVIF, Raw}

// synonyms has another spelling of some names.
var synonyms = map[string]string{"w": "width", "h": "hei", "bg": "bgc", "q": "quality", "f": "fmt", "gray": "grey", "sharpen": "sharp"}

// respelled returns a query that means the same: in another order, with synonyms, escapes, unknown
// parameters, empty pairs, and defaults.
func respelled(r *rand.Rand, pairs []string) string {
	pairs = slices.Clone(pairs)
	has := func(name string) bool {
		return slices.ContainsFunc(pairs, func(p string) bool { return strings.HasPrefix(p, name+"=") })
	}
	for _, missing := range []string{"fit=contain", "gravity=center", "f=auto", "anim=1", "r=0", "dpr=1"} {
		if name, _, _ := strings.Cut(missing, "="); len(pairs) > 0 && !has(name) && r.IntN(2) == 0 {
			pairs = append(pairs, missing)
		}
	}
	for i, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		if other := synonyms[name]; other != "" && r.IntN(2) == 0 {
			name = other
		}
		if name != "wm" && r.IntN(4) == 0 {
			value = fmt.Sprintf("%%%02x", value[0]) + value[1:]
		}
		pairs[i] = name + "=" + value
	}
	pairs = append(pairs, "v="+fmt.Sprint(r.IntN(9)), "", "utm_source=%zz")
	r.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	return strings.Join(pairs, "&")
}

// TestOneMeaningOneForm: queries that mean the same have one canonical form.
func TestOneMeaningOneForm(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 16))
	for range rounds {
		pairs := randomQuery(r)
		one, other := mustParse(t, strings.Join(pairs, "&")), mustParse(t, respelled(r, pairs))
		f := Format(r.IntN(7))
		if a, b := string(one.Append(nil, f)), string(other.Append(nil, f)); a != b {
			t.Fatalf("%q: %q and %q", pairs, a, b)
		}
	}
}

// TestFormIsStable: the canonical form is a query with the same meaning and itself as its form, sorted,
// and Append only appends.
func TestFormIsStable(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(2, 16))
	for range rounds {
		query := strings.Join(randomQuery(r), "&")
		o, f := mustParse(t, query), Format(r.IntN(7))
		form := string(o.Append(nil, f))
		again := mustParse(t, form)
		if got := string(again.Append([]byte("kept"), f)); got != "kept"+form {
			t.Fatalf("%q: %q, and of that %q", query, form, got)
		}
		if again != o.canonical(f) && o.canonical(f).Append(nil, f) != nil && !o.IsZero() {
			t.Fatalf("%q: %+v, and from its form %+v", query, o.canonical(f), again)
		}
		if o.Task(f) != again.Task(f) || o.Mark() != again.Mark() || o.BlurHash() != again.BlurHash() || o.Info() != again.Info() {
			t.Fatalf("%q: %+v, but %q: %+v", query, o.Task(f), form, again.Task(f))
		}
		if pairs := strings.Split(form, "&"); !slices.IsSorted(pairs) {
			t.Fatalf("%q: %q is not sorted", query, form)
		}
		if _, err := url.ParseQuery(form); err != nil {
			t.Fatalf("%q: %v", form, err)
		}
	}
}

// TestFormDecides: the form that names a variant decides everything that the options decide, for each picture
// and client: two queries with one name are one picture.
func TestFormDecides(t *testing.T) {
	t.Parallel()
	sources := []Header{{}, photo, logo, moving, {Type: AVIF, Width: 40, Height: 30, Frames: 1}, {Type: WebP, Width: 3000, Height: 10, Frames: 3}}
	r := rand.New(rand.NewPCG(5, 16))
	for range rounds {
		o := mustParse(t, strings.Join(randomQuery(r), "&"))
		var named Format // as proxy.nameVariant has it
		if !o.Negotiable() {
			named = o.Format(0, Header{}, false)
		}
		form := string(o.Append(nil, named))
		again := mustParse(t, form)
		if o.IsZero() != again.IsZero() || o.Negotiable() != again.Negotiable() || o.Info() != again.Info() || o.BlurHash() != again.BlurHash() || o.Mark() != again.Mark() {
			t.Fatalf("%+v and its form %q", o, form)
		}
		for _, src := range sources {
			for a := range AllAccepts + 1 {
				f := o.Format(a, src, false)
				if other := again.Format(a, src, false); other != f || again.Task(f) != o.Task(f) || again.MayKeep(f, src) != o.MayKeep(f, src) {
					t.Fatalf("%+v, %d: %s, %+v; its form %q: %s, %+v", src, a, f, o.Task(f), form, other, again.Task(f))
				}
			}
		}
	}
}

// TestOtherFormOtherResult: queries with different forms differ in what is done or sent.
func TestOtherFormOtherResult(t *testing.T) {
	t.Parallel()
	type result struct {
		task                             Task
		mark                             string
		f                                uint64
		zero, info, hash, tiny, stripped bool
	}
	r := rand.New(rand.NewPCG(3, 16))
	forms := map[result]string{}
	for range 3 * rounds {
		query := strings.Join(randomQuery(r), "&")
		if r.IntN(2) == 0 { // few options, so that results often are equal
			pairs := randomQuery(r)
			query = strings.Join(pairs[:min(len(pairs), 3)], "&")
		}
		o, f := mustParse(t, query), allFormats[r.IntN(len(allFormats))]
		c := o.canonical(f)
		if o.BlurHash() != (f == Raw) || c.set.has(optInfo) { // the only formats of these
			continue
		}
		is := result{
			o.Task(f), o.Mark(), c.values[optFormat], o.IsZero(), o.Info(), o.BlurHash(), c.set.has(optPlaceholder),
			c.set.has(optStrip) && c.values[optStrip] == 0,
		}
		form := string(o.Append(nil, f))
		if before, ok := forms[is]; ok && before != form {
			t.Fatalf("%s: %q and %q are the same", f, before, form)
		}
		forms[is] = form
	}
	if len(forms) < 1000 {
		t.Errorf("only %d results", len(forms))
	}
}

// TestWith: the laws of templates.
func TestWith(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 16))
	for range rounds {
		a, b, c := mustParse(t, strings.Join(randomQuery(r), "&")), mustParse(t, strings.Join(randomQuery(r), "&")), mustParse(t, strings.Join(randomQuery(r), "&"))
		if a.With(b).With(c) != a.With(b.With(c)) {
			t.Fatal("not associative")
		}
		if a.With(Options{}) != a || (Options{}).With(a) != a || a.With(a) != a {
			t.Fatal("no neutral element, or not idempotent")
		}
		merged := a.With(b)
		for i := range options {
			from := a
			if b.set.has(i) {
				from = b
			}
			if merged.values[i] != from.values[i] || merged.set.has(i) != from.set.has(i) || i == optMark && merged.mark != from.mark {
				t.Fatalf("%s of %+v with %+v", table[i].name, a, b)
			}
		}
	}
	for _, c := range []struct{ url, template, want string }{
		{"w=300", "w=240&h=240&q=70", "h=240&q=70&w=240"},
		{"width=300&flop=1", "w=240", "flip=h&w=240"},
		{"fit=cover", "w=4&h=3&fit=contain", "h=3&w=4"}, // a default wins too
		{"f=png", "f=auto&w=4", "w=4"},
		{"wm=a.png,o50", "wm=b.png&w=4", "w=4&wm=b.png"},
		{"dpr=2", "w=100", "w=200"},
		{"", "f=auto", "f=auto"},
	} {
		if got := string(mustParse(t, c.url).With(mustParse(t, c.template)).Append(nil, 0)); got != c.want {
			t.Errorf("%q with %q is %q, want %q", c.url, c.template, got, c.want)
		}
	}
}

// FuzzParse: a query is refused with a text of ours, or has a form that is stable and a task that a
// worker takes.
func FuzzParse(f *testing.F) {
	for _, query := range []string{
		"w=400&f=webp", "&v=2&width=%34", "crop=0,0,1,1&gravity=0.5,0.1&fit=cover&w=1&h=2", "wm=a%20b.png,tile,o5&bg=_fff8&t=x",
		"lqip=1&w=3&h=8192&dpr=3.3", "info=1", "r=270&flip=hv&strip=0&anim=0&q=1&gray=1&blur=1.5&sharpen=9.99", "w=%", "sig=a&exp=1&kid=b",
	} {
		f.Add([]byte(query))
	}
	details := map[string]bool{}
	for i := range options + 1 {
		details[badValue(i).Detail], details[twice(i).Detail] = true, true
	}
	f.Fuzz(func(t *testing.T, query []byte) {
		o, info, err := Parse(query)
		if err != nil {
			if !details[err.Error()] || o != (Options{}) || info != (Query{}) {
				t.Errorf("%v: %+v, %+v", err, o, info)
			}
			return
		}
		if unknown := UnknownNames(query); (len(unknown) == 0) != (info.Unknown == 0) || len(unknown) > 16 {
			t.Errorf("%d unknown: %q", info.Unknown, unknown)
		}
		for _, format := range append([]Format{0}, allFormats...) {
			form := o.Append(nil, format)
			again, _, err := Parse(form)
			if err != nil || string(again.Append(nil, format)) != string(form) || again.Task(format) != o.Task(format) {
				t.Errorf("%q: %v, %+v, %+v", form, err, o.Task(format), again.Task(format))
			}
			if format != 0 {
				checkTask(t, o.Task(format))
			}
		}
	})
}

// checkTask checks the ranges that a worker checks.
func checkTask(t *testing.T, k Task) {
	t.Helper()
	within := func(name string, value, least, most float64) {
		if !(least <= value && value <= most) {
			t.Errorf("%s is %v in %+v", name, value, k)
		}
	}
	within("width", float64(k.Width), 0, MaxSide)
	within("height", float64(k.Height), 0, MaxSide)
	within("fit", float64(k.Fit), 0, float64(Outside))
	within("gravity", float64(k.Gravity), 0, float64(Focal))
	within("focal x", float64(k.FocalX), 0, 1)
	within("focal y", float64(k.FocalY), 0, 1)
	within("turns", float64(k.Rotate), 0, 3)
	within("blur", float64(k.Blur), 0, 100)
	within("sharpen", float64(k.Sharpen), 0, 10)
	within("quality", float64(k.Quality), 0, 100)
	within("mark gravity", float64(k.MarkGravity), 0, float64(NorthWest))
	within("mark opacity", float64(k.MarkOpacity), 0, 100)
	within("mark scale", float64(k.MarkScale), 0, 100)
	if k.Crop != (Rect{}) {
		within("crop x", float64(k.Crop.X), 0, maxSourceSide)
		within("crop y", float64(k.Crop.Y), 0, maxSourceSide)
		within("crop width", float64(k.Crop.W), 1, maxSourceSide)
		within("crop height", float64(k.Crop.H), 1, maxSourceSide)
	}
	if (k.Output == JPEG || k.Output == Raw) && k.HasBackground && k.Background[3] != 255 {
		t.Errorf("a transparent background of %s", k.Output)
	}
}
