package transform

import "fmt"

// DominantColor returns the colour that most of some pixels of sRGB, 3 bytes each, are close to, as
// "#rrggbb". Pixels are counted in boxes of 16 levels for each part, and in boxes that are moved by half
// of one, so that a colour at the edge of a box is not split; the colour is the mean of the fullest box. Of
// equal boxes the darkest wins. Without a pixel it is "".
func DominantColor(rgb []byte) string {
	var best box
	for _, shift := range []int{0, 8} {
		boxes := make([]box, 17*17*17)
		for p := rgb; len(p) >= 3; p = p[3:] {
			r, g, b := int(p[0]), int(p[1]), int(p[2])
			boxes[((r+shift)>>4*17+(g+shift)>>4)*17+(b+shift)>>4].add(r, g, b)
		}
		for _, c := range boxes {
			if c.n > best.n {
				best = c
			}
		}
	}
	if best.n == 0 {
		return ""
	}
	half := best.n / 2
	return fmt.Sprintf("#%02x%02x%02x", (best.r+half)/best.n, (best.g+half)/best.n, (best.b+half)/best.n)
}

// box sums up pixels of similar colours.
type box struct{ n, r, g, b int }

func (c *box) add(r, g, b int) {
	c.n++
	c.r += r
	c.g += g
	c.b += b
}
