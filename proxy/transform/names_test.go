package transform

import (
	"maps"
	"slices"
	"testing"

	"ixmage/alias/signature"
)

// TestSignedNames: a signature covers every name that is read. An option that it did not cover
// could be changed in a signed URL.
func TestSignedNames(t *testing.T) {
	t.Parallel()
	if read := slices.Sorted(maps.Keys(names)); !slices.Equal(read, signature.Names) {
		t.Errorf("options are read from %q, and signatures cover %q", read, signature.Names)
	}
}

// FuzzSignedQuery: two queries with one signed message have the same options.
func FuzzSignedQuery(f *testing.F) {
	f.Add("w=400&wm=a%2fb.png,o50", "wm=a/b.png%2Co50&w=%34%30%30&utm_x=%zz")
	f.Add("t=a&&w=1", "%77=2&w=1&t=a&W=3")
	f.Add("w=1&info=1", "w=1;h=2")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, errX := signature.Message("/p", a)
		y, errY := signature.Message("/p", b)
		if errX != nil || errY != nil || x != y {
			return
		}
		// Which of two equal names is refused first depends on their order, and no more.
		o, q, errO := Parse([]byte(a))
		p, r, errP := Parse([]byte(b))
		if (errO == nil) != (errP == nil) || o != p || q.Template != r.Template {
			t.Errorf("%q and %q have the message %q, and the options %+v (%v) and %+v (%v)", a, b, x, o, errO, p, errP)
		}
	})
}
