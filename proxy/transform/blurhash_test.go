package transform

import "testing"

// pixels paints w x h pixels of sRGB.
func pixels(w, h int, at func(x, y int) [3]int) []byte {
	var rgb []byte
	for y := range h {
		for x := range w {
			c := at(x, y)
			rgb = append(rgb, byte(c[0]), byte(c[1]), byte(c[2]))
		}
	}
	return rgb
}

func solid(r, g, b int) func(x, y int) [3]int {
	return func(int, int) [3]int { return [3]int{r, g, b} }
}

// TestBlurHash has the hashes that the encoder of the authors, in C, makes of the same pixels.
func TestBlurHash(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		w, h int
		at   func(x, y int) [3]int
		want string
	}{
		"white":    {8, 8, solid(255, 255, 255), "LfTSUA~qfQ~q~qt7fQt7fQfQfQfQ"},
		"black":    {3, 2, solid(0, 0, 0), "L00000fQfQfQfQfQfQfQfQfQfQfQ"},
		"one":      {1, 1, solid(200, 100, 50), "L~M|T9}=}=}=}=}=}=}=}=}=}=}="},
		"gradient": {32, 24, func(x, y int) [3]int { return [3]int{x * 8, y * 10, 255 - x*8} }, "L.H27=77w%XAmHWYjuf8gJfjfQfj"},
		"chess": {16, 16, func(x, y int) [3]int {
			if (x>>2+y>>2)%2 == 1 {
				return [3]int{255, 0, 0}
			}
			return [3]int{0, 0, 255}
		}, "LLLjfL,efQ,e,eFPfQ2NfQfQfQfQ"},
		"noise": {20, 30, func(x, y int) [3]int { return [3]int{x*37 + y*91, x*x*7 + y*13, x*y*29 + 5} }, "L9HLbu?8iI-Uk~n,n4a7QBI;h,VN"},
	} {
		if got := BlurHash(pixels(c.w, c.h, c.at), c.w, c.h); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for _, size := range [][2]int{{0, 0}, {1, 2}, {-1, -1}, {0, 1}} {
		if got := BlurHash([]byte{1, 2, 3}, size[0], size[1]); got != "" {
			t.Errorf("%v: %q", size, got)
		}
	}
}

func TestDominantColor(t *testing.T) {
	t.Parallel()
	half := func(of, a, b [3]int) func(x, y int) [3]int { // 4 of 8 rows of one colour, 2 of each other
		return func(_, y int) [3]int { return [][3]int{of, of, a, of, b, of, a, b}[y] }
	}
	for name, c := range map[string]struct {
		rgb  []byte
		want string
	}{
		"one colour":   {pixels(8, 8, solid(18, 52, 86)), "#123456"},
		"white":        {pixels(1, 1, solid(255, 255, 255)), "#ffffff"},
		"the most":     {pixels(8, 8, half([3]int{200, 40, 40}, [3]int{0, 0, 0}, [3]int{0, 0, 255})), "#c82828"},
		"not the mean": {pixels(2, 3, func(_, y int) [3]int { return [][3]int{{0, 0, 0}, {255, 255, 255}, {255, 255, 255}}[y] }), "#ffffff"},
		// 15 and 16 are close to each other, on both sides of a border, and more than 60 together.
		"across a border": {pixels(5, 1, func(x, _ int) [3]int {
			return [][3]int{{15, 15, 15}, {16, 16, 16}, {60, 60, 60}, {60, 60, 60}, {15, 16, 15}}[x]
		}), "#0f100f"},
		"none":         {nil, ""},
		"half a pixel": {[]byte{1, 2}, ""},
	} {
		if got := DominantColor(c.rgb); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
