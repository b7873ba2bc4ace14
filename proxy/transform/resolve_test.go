package transform

import (
	"testing"
)

var (
	photo  = Header{JPEG, 2000, 1500, 1, false, Colours{}}
	logo   = Header{PNG, 600, 400, 1, true, Colours{}}
	moving = Header{GIF, 85, 77, 10, true, Colours{}}
)

func TestFormat(t *testing.T) {
	t.Parallel()
	const none, webp, avif, both = Accepts(0), AcceptsWebP, AcceptsAVIF, AcceptsAVIF | AcceptsWebP
	for _, c := range []struct {
		query string
		a     Accepts
		src   Header
		busy  bool
		want  Format
	}{
		{"w=400", both, photo, false, AVIF},
		{"w=400", avif, photo, false, AVIF},
		{"w=400", webp, photo, false, WebP},
		{"w=400", none, photo, false, JPEG},
		{"w=400", none, logo, false, PNG},
		{"w=400", both, logo, false, AVIF},
		{"w=40", none, moving, false, GIF},
		{"w=40", both, moving, false, WebP}, // AVIF has one frame
		{"w=40", avif, moving, false, GIF},
		{"w=40&anim=0", both, moving, false, AVIF},
		{"w=40&anim=0", none, moving, false, PNG},
		{"w=400", none, Header{Type: GIF, Width: 9, Height: 9, Frames: 1}, false, JPEG},

		// At most 1 MP.
		{"f=auto", both, photo, false, WebP},
		{"f=auto", avif, photo, false, JPEG},
		{"f=auto", both, Header{JPEG, 1000, 1000, 1, false, Colours{}}, false, AVIF},
		{"f=auto", both, Header{JPEG, 1001, 1000, 1, false, Colours{}}, false, WebP},
		{"w=1154", both, photo, false, AVIF}, // 1154 x 866
		{"w=1156", both, photo, false, WebP}, // 1156 x 867
		{"w=578&dpr=2", both, photo, false, WebP},
		{"h=865", both, photo, false, AVIF},
		{"h=866", both, photo, false, WebP},
		{"w=4000", both, logo, false, AVIF}, // not enlarged
		{"w=4000&h=4000&fit=cover", both, logo, false, WebP},
		{"w=4000&h=4000&fit=fill", both, logo, false, WebP},
		{"w=4000&h=4000", both, logo, false, WebP},
		{"w=1000&h=1000", both, Header{Type: JPEG}, false, AVIF},
		{"w=1000&h=1000&fit=inside", both, Header{Type: JPEG}, false, WebP},  // not known
		{"w=1000&h=1000&fit=outside", both, Header{Type: JPEG}, false, WebP}, // not known
		{"w=1000&h=1000&fit=outside", both, photo, false, WebP},              // 1333 x 1000
		{"w=1000&h=1000&fit=inside", both, photo, false, AVIF},               // 1000 x 750
		{"w=100", both, Header{Type: JPEG}, false, WebP},
		{"crop=0,0,1000,1000", both, photo, false, AVIF},
		{"crop=0,0,1000,1001", both, photo, false, WebP},
		{"crop=1500,500,1000,1000", both, photo, false, AVIF}, // cut to 500 x 1000
		{"w=1000&r=90", both, photo, false, WebP},             // 1000 x 1333
		{"lqip=1", both, photo, false, AVIF},

		// Jobs wait.
		{"w=400", both, photo, true, WebP},
		{"w=400", avif, photo, true, JPEG},
		{"w=400&f=avif", both, photo, true, AVIF},

		// What is transparent in the result.
		{"w=400&bg=fff", none, logo, false, JPEG},
		{"w=400&bg=fff8", none, logo, false, PNG},
		{"w=400&bg=transparent", none, photo, false, JPEG},      // no padding
		{"w=400&h=400&bg=transparent", none, photo, false, PNG}, // a transparent one
		{"w=400&h=400&bg=teal", none, photo, false, JPEG},       // an opaque one
		{"w=400&h=400&fit=cover&bg=0008", none, photo, false, JPEG},

		// Explicit.
		{"f=jpeg", both, logo, false, JPEG}, {"f=png", both, moving, false, PNG}, {"f=gif", none, photo, false, GIF},
		{"f=webp", none, photo, false, WebP}, {"f=avif", none, moving, true, AVIF},
		{"info=1", both, photo, false, Raw}, {"lqip=blurhash", both, photo, false, Raw}, {"lqip=blurhash&f=png", none, photo, false, Raw},
	} {
		if got := mustParse(t, c.query).Format(c.a, c.src, c.busy); got != c.want {
			t.Errorf("%q for %b, %+v, %t: %s, want %s", c.query, c.a, c.src, c.busy, got, c.want)
		}
	}
}

func TestNegotiable(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"": false, "w=4": true, "f=auto": true, "f=auto&w=4": true, "f=webp": false, "w=4&f=jpeg": false, "info=1": false,
		"lqip=blurhash": false, "lqip=image": true, "lqip=image&f=png": false, "t=a": false, "v=1": false,
	} {
		if got := mustParse(t, query).Negotiable(); got != want {
			t.Errorf("%q: %t", query, got)
		}
	}
}

// TestMayKeep: when a result that is not smaller gives way to the source.
func TestMayKeep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		query string
		f     Format
		src   Header
		want  bool
	}{
		{"f=auto", WebP, photo, true},
		{"f=auto", JPEG, photo, true},
		{"q=100", JPEG, photo, true},
		{"f=jpeg", JPEG, photo, true},
		{"f=webp", WebP, photo, false}, // another type was asked for
		{"f=auto", PNG, logo, true},
		{"f=auto", GIF, moving, true},
		{"f=auto", WebP, moving, true},
		{"anim=0", WebP, moving, false},
		{"anim=0", JPEG, moving, false},
		{"f=png", PNG, moving, false},
		{"anim=0", JPEG, photo, true},
		{"f=auto", AVIF, Header{AVIF, 100, 100, 1, false, Colours{}}, true},
		{"f=auto", WebP, Header{AVIF, 100, 100, 1, false, Colours{}}, false}, // the client may not read AVIF
		{"f=auto", JPEG, Header{WebP, 100, 100, 1, false, Colours{}}, false},
		{"f=auto", AVIF, Header{WebP, 100, 100, 1, false, Colours{}}, false},
		{"f=auto", WebP, Header{}, false},

		{"w=400", WebP, photo, false},
		{"w=2000", WebP, photo, true},
		{"w=4000", WebP, photo, true}, // not enlarged
		{"dpr=4", WebP, photo, true},
		{"w=1000&dpr=2", WebP, photo, true},
		{"w=2000&h=1500", WebP, photo, true},
		{"w=2000&h=1500&fit=cover", WebP, photo, true},
		{"w=2000&h=2000", WebP, photo, false}, // padded
		{"w=4000&h=3000&fit=cover", WebP, photo, false},
		{"w=4000&h=4000&fit=inside", WebP, photo, true},
		{"w=100&h=100&fit=outside", WebP, photo, false},
		{"w=2000", WebP, Header{Type: JPEG}, false}, // the size is not known

		{"crop=0,0,2000,1500", WebP, photo, false},
		{"r=90", WebP, photo, false},
		{"r=180&flip=hv", WebP, photo, true}, // as it was
		{"flip=h", WebP, photo, false},
		{"blur=1", WebP, photo, false},
		{"sharpen=1", WebP, photo, false},
		{"gray=1", WebP, photo, false},
		{"bg=teal", WebP, photo, false},
		{"wm=a.png", WebP, photo, false},
		{"lqip=1", WebP, photo, false},
		{"lqip=blurhash", Raw, photo, false},
		{"info=1", Raw, photo, false},
		{"strip=all", WebP, photo, false}, // the source has its metadata
		{"strip=copyright", WebP, photo, false},
		{"w=2000&strip=copyright", WebP, photo, false},
	} {
		if got := mustParse(t, c.query).MayKeep(c.f, c.src); got != c.want {
			t.Errorf("%q as %s of %+v: %t", c.query, c.f, c.src, got)
		}
	}
}

func TestTask(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		query string
		f     Format
		want  Task
	}{
		{"w=400", JPEG, Task{Output: JPEG, Quality: 80, Width: 400}},
		{"f=auto", AVIF, Task{Output: AVIF, Quality: 62}},
		{"h=300&q=7", WebP, Task{Output: WebP, Quality: 7, Height: 300, Animate: true}},
		{"h=300&q=7&anim=0", WebP, Task{Output: WebP, Quality: 7, Height: 300}},
		{"h=300&q=7", PNG, Task{Output: PNG, Height: 300}},
		{"w=4&h=3", GIF, Task{Output: GIF, Width: 4, Height: 3, Fit: Contain, Animate: true}},
		{"w=4&h=3&dpr=2.5&fit=cover&gravity=0.25,1", JPEG,
			Task{Output: JPEG, Quality: 80, Width: 10, Height: 8, Fit: Cover, Gravity: Focal, FocalX: 0.25, FocalY: 1}},
		{"w=4&h=3&fit=fill", JPEG, Task{Output: JPEG, Quality: 80, Width: 4, Height: 3, Fit: Fill}},
		{"w=4&h=3&fit=inside&gravity=north", JPEG, Task{Output: JPEG, Quality: 80, Width: 4, Height: 3, Fit: Inside}},
		{"w=4&h=3&fit=outside", JPEG, Task{Output: JPEG, Quality: 80, Width: 4, Height: 3, Fit: Outside}},
		{"w=4&h=3&gravity=southwest", JPEG, Task{Output: JPEG, Quality: 80, Width: 4, Height: 3, Fit: Contain, Gravity: SouthWest}},
		{"crop=1,2,30,40&r=270&flip=v", PNG, Task{Output: PNG, Crop: Rect{1, 2, 30, 40}, Rotate: 1, FlipH: true}},
		{"r=180", PNG, Task{Output: PNG, Rotate: 2}},
		{"flip=v&r=90", PNG, Task{Output: PNG, Rotate: 1, FlipV: true}},
		{"bg=11223344&gray=1&blur=1.5&sharpen=0.1", PNG,
			Task{Output: PNG, HasBackground: true, Background: [4]byte{0x11, 0x22, 0x33, 0x44}, Gray: true, Blur: 1.5, Sharpen: 0.1}},
		{"bg=00000080", JPEG, Task{Output: JPEG, Quality: 80, HasBackground: true, Background: [4]byte{0x7f, 0x7f, 0x7f, 0xff}}},
		{"bg=transparent", PNG, Task{Output: PNG, HasBackground: true}},
		{"strip=copyright", PNG, Task{Output: PNG, KeepCopyright: true}},
		{"strip=all", PNG, Task{Output: PNG}},
		{"wm=a.png", PNG, Task{Output: PNG, MarkGravity: SouthEast, MarkOpacity: 100}},
		{"wm=a.png,center,o5,s10", PNG, Task{Output: PNG, MarkGravity: Center, MarkOpacity: 5, MarkScale: 10}},
		{"wm=a.png,tile", PNG, Task{Output: PNG, MarkGravity: SouthEast, MarkOpacity: 100, MarkTile: true}},
		{"info=1&w=400&gray=1", Raw, Task{Output: Raw, Width: 32, Height: 32, Fit: Inside}},
		{"lqip=blurhash&w=400&gray=1&q=3", Raw, Task{Output: Raw, Width: 32, Height: 32, Fit: Inside, Gray: true}},
		{"lqip=1&w=400&h=200&fit=cover", WebP, Task{Output: WebP, Quality: 75, Width: 32, Height: 16, Fit: Cover}},
		{"lqip=1&w=400&wm=a.png", AVIF, Task{Output: AVIF, Quality: 62, Width: 32, Height: 32, Fit: Inside}},
	} {
		if got := mustParse(t, c.query).Task(c.f); got != c.want {
			t.Errorf("%q as %s:\n%+v, want\n%+v", c.query, c.f, got, c.want)
		}
	}
	for query, want := range map[string]string{"wm=a/b.png,o5": "a/b.png", "wm=a.png&info=1": "", "wm=a.png&lqip=1": "", "w=4": ""} {
		if got := mustParse(t, query).Mark(); got != want {
			t.Errorf("%q: %q", query, got)
		}
	}
}
