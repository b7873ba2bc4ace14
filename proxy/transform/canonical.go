package transform

import "math"

// Append appends the canonical form of o for a resolved format: options that mean the same have the
// same form, and no others. Options are sorted; defaults and options without an effect are left out;
// dpr is multiplied out; a colour has 8 digits. It is a query that Parse reads, with the same canonical
// form again. Options that change nothing beside the format are "f=auto", and only no options are "".
//
// Format 0 stands for one that is not known yet: then q and anim stay as they are. An f other than
// auto stays in the form, because the source may be sent instead of a larger result only with auto or
// the source's own format, and because only auto is answered with Vary.
func (o Options) Append(b []byte, f Format) []byte { return o.canonical(f).append(b) }

// append appends all options that are given, sorted, with their values.
func (o Options) append(b []byte) []byte {
	start := len(b)
	for i := range options {
		if !o.set.has(i) {
			continue
		}
		if len(b) > start {
			b = append(b, '&')
		}
		b = append(append(b, table[i].name...), '=')
		if i == optMark {
			b = escape(b, o.mark)
		}
		b = table[i].write(b, o.values[i])
	}
	return b
}

// escape appends a path with all bytes but slashes and the unreserved ones of RFC 3986 percent-encoded.
func escape(b []byte, path string) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range []byte(path) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == '/':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// canonical returns the options with the same meaning that Append writes.
func (o Options) canonical(f Format) Options {
	if o.IsZero() {
		return o
	}
	if o.Info() {
		return Options{}.with(optInfo, 1)
	}
	if o.BlurHash() {
		f = Raw
	}
	o = o.scaled().placed().turned().coloured(f).encoded(f)
	if o.set.has(optPlaceholder) {
		o = o.reduced()
	}
	if o.IsZero() {
		o = o.with(optFormat, 0)
	}
	return o
}

// box reports whether both sides are given, so that fit counts.
func (o Options) box() bool { return o.set.has(optWidth) && o.set.has(optHeight) }

// fit returns what happens to a picture and its box.
func (o Options) fit() Fit {
	switch {
	case !o.box():
		return FitNone
	case !o.set.has(optFit):
		return Contain
	}
	return Fit(o.values[optFit])
}

// scaled multiplies dpr out. It is lowered first to the greatest one with which both sides, and the
// pixels of the box, are within the limits: the ratio of the box stays.
func (o Options) scaled() Options {
	dpr := float64(o.values[optDPR]) / 100
	w, h := float64(o.values[optWidth]), float64(o.values[optHeight])
	o = o.without(optDPR)
	dpr = min(dpr, MaxSide/max(w, h))
	round := 0.5
	if most := math.Sqrt(maxResult / (w * h)); o.box() && most < dpr {
		dpr, round = most, 0 // two sides that are rounded up can be more than the limit
	}
	for _, i := range []option{optWidth, optHeight} {
		if side := float64(o.values[i]); side > 0 && dpr > 1 {
			o.values[i] = uint64(side*dpr + round)
		}
	}
	return o
}

// placed leaves out fit and gravity where they have no effect.
func (o Options) placed() Options {
	fit, gravity := o.fit(), Gravity(o.values[optGravity]&0xffff)
	if fit == FitNone || fit == Contain {
		o = o.without(optFit)
	}
	switch {
	case fit != Contain && fit != Cover, gravity == Center,
		fit == Contain && gravity >= Smart, // nothing is cut off
		o.values[optGravity] == focalCenter:
		o = o.without(optGravity)
	}
	return o
}

// focalCenter is the packed focal point 0.5,0.5.
const focalCenter = uint64(Focal) | 5000<<16 | 5000<<32

// turned gives the eight ways to turn and mirror a picture one spelling each: a flip of both kinds is
// half a turn, and one kind is the other kind and half a turn.
func (o Options) turned() Options {
	turns, flip := o.values[optRotate], o.values[optFlip]
	switch {
	case flip == flipHorizontal|flipVertical:
		turns, flip = (turns+2)%4, 0
	case flip != 0 && turns >= 2:
		turns, flip = turns-2, flip^(flipHorizontal|flipVertical)
	}
	o = o.without(optRotate, optFlip)
	if turns != 0 {
		o = o.with(optRotate, turns)
	}
	if flip != 0 {
		o = o.with(optFlip, flip)
	}
	return o
}

// coloured makes bg opaque where the format has no alpha, and leaves it out if it is the default then.
func (o Options) coloured(f Format) Options {
	if !o.set.has(optBackground) || f != JPEG && f != Raw {
		return o
	}
	bg := overWhite(o.values[optBackground])
	if bg == 0xffffffff {
		return o.without(optBackground)
	}
	return o.with(optBackground, bg)
}

// quality returns the default quality of a format, or 0 if it has none. By SSIM the three are
// equally good with libvips 8.18 (docs/benchmarks.md); make bench measures it again.
func (f Format) quality() uint64 {
	switch f {
	case JPEG:
		return 80
	case WebP:
		return 75
	case AVIF:
		return 62
	default:
		return 0
	}
}

// animates reports whether a format can have several frames.
func (f Format) animates() bool { return f == GIF || f == WebP }

// encoded leaves out the options of the encoder that have no effect on a format, or their default.
func (o Options) encoded(f Format) Options {
	if o.values[optFormat] == 0 || f == Raw {
		o = o.without(optFormat)
	}
	if f != 0 && (f.quality() == 0 || o.values[optQuality] == f.quality()) {
		o = o.without(optQuality)
	}
	if o.values[optAnim] == 1 || f != 0 && !f.animates() {
		o = o.without(optAnim)
	}
	if o.values[optStrip] == 0 && o.changes() || f == Raw {
		o = o.without(optStrip)
	}
	return o
}

// placeholderSide is the longer side of a tiny picture, in pixels.
const placeholderSide = 32

// reduced keeps of the options of a placeholder those that show in a tiny picture. A box that is
// filled or padded becomes a tiny one of the same ratio.
func (o Options) reduced() Options {
	o = o.without(optBlur, optSharpen, optMark, optAnim)
	w, h := o.values[optWidth], o.values[optHeight]
	longer := max(w, h)
	switch fit := o.fit(); {
	case fit != Contain && fit != Cover && fit != Fill:
		return o.without(optWidth, optHeight, optFit)
	case longer <= placeholderSide:
		return o
	}
	tiny := func(side uint64) uint64 { return max(1, (side*placeholderSide+longer/2)/longer) }
	return o.with(optWidth, tiny(w)).with(optHeight, tiny(h))
}

// changes reports whether an option beside f, q, anim and strip is given.
func (o Options) changes() bool {
	const encoder = 1<<optFormat | 1<<optQuality | 1<<optAnim | 1<<optStrip | 1<<optDPR
	return o.set&^encoder != 0
}
