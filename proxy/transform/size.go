package transform

import "math"

// mayBecome reports whether a source of sw x sh pixels as stored can become a result of
// w x h. Its orientation is not known here, so it may lie on its side.
func (t *Task) mayBecome(sw, sh, w, h int) bool {
	near := func(got, want int) bool { return got >= want-1 && got <= want+1 } // of a rounded side
	for _, upright := range [][2]int{{sw, sh}, {sh, sw}} {
		ew, eh, exact := t.resultSize(upright[0], upright[1])
		if w == ew && h == eh || !exact && near(w, ew) && near(h, eh) {
			return true
		}
	}
	return false
}

// resultSize returns the size of the result for an upright source of sw x sh pixels. It is not
// exact if a side is rounded. A crop outside of the source gives 0, 0.
func (t *Task) resultSize(sw, sh int) (w, h int, exact bool) {
	if t.Crop.W > 0 {
		sw, sh = min(t.Crop.W, sw-t.Crop.X), min(t.Crop.H, sh-t.Crop.Y)
	}
	if sw < 1 || sh < 1 {
		return 0, 0, true
	}
	if t.Rotate&1 == 1 {
		sw, sh = sh, sw
	}
	if t.Width > 0 && t.Height > 0 && (t.Fit == Contain || t.Fit == Cover || t.Fit == Fill) {
		return t.Width, t.Height, true
	}
	scale := t.scale(sw, sh)
	if scale >= 1 { // nothing is enlarged
		return sw, sh, true
	}
	side := func(n int) int { return max(1, int(math.Round(float64(n)*scale))) }
	return side(sw), side(sh), false
}

// scale returns by how much a picture gets larger or smaller that keeps its ratio.
func (t *Task) scale(sw, sh int) float64 {
	w, h := float64(t.Width)/float64(sw), float64(t.Height)/float64(sh)
	switch {
	case t.Width == 0 && t.Height == 0:
		return 1
	case t.Width == 0:
		return h
	case t.Height == 0:
		return w
	case t.Fit == Outside:
		return max(w, h)
	default:
		return min(w, h)
	}
}
