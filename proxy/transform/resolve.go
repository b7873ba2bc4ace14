package transform

// Negotiable reports whether the answer depends on the client's Accept, so that it has to say so in Vary.
func (o Options) Negotiable() bool {
	return !o.IsZero() && !o.Info() && !o.BlurHash() && o.values[optFormat] == 0
}

// autoAVIFMax is the greatest result, in pixels, for which auto chooses AVIF, which is slow to encode.
const autoAVIFMax = 1_000_000

// Format resolves the format of the result. It is Raw for info and a BlurHash, which the server makes of
// the pixels. busy says that jobs wait: then auto gives WebP instead of AVIF.
//
// Without src (a zero Header) the choice is the one for a still, opaque picture of unknown size.
func (o Options) Format(a Accepts, src Header, busy bool) Format {
	animated := o.animated(src)
	switch {
	case o.Info() || o.BlurHash():
		return Raw
	case o.values[optFormat] != 0:
		return Format(o.values[optFormat])
	case a&AcceptsAVIF != 0 && !animated && !busy && o.isSmall(src):
		return AVIF
	case a&AcceptsWebP != 0:
		return WebP
	case animated:
		return GIF
	case o.alpha(src):
		return PNG
	}
	return JPEG
}

// animated reports whether the result has all frames of an animation, if its format can.
func (o Options) animated(src Header) bool {
	first := o.set.has(optAnim) && o.values[optAnim] == 0 || o.set.has(optPlaceholder)
	return src.Frames > 1 && !first
}

// alpha reports whether the result has transparent pixels, if its format can: those of the source
// without an opaque bg below them, or a padding that is not opaque.
func (o Options) alpha(src Header) bool {
	if !o.set.has(optBackground) {
		return src.Alpha
	}
	return o.values[optBackground]&0xff != 0xff && (src.Alpha || o.fit() == Contain)
}

// isSmall reports whether the result is known to have at most autoAVIFMax pixels.
func (o Options) isSmall(src Header) bool {
	w, h := o.size(src)
	return w > 0 && h > 0 && w*h <= autoAVIFMax
}

// size returns the size of the result, or zeros if it depends on a source of unknown size.
func (o Options) size(src Header) (w, h int) {
	t := o.Task(0)
	if t.Fit == Contain || t.Fit == Cover || t.Fit == Fill {
		return t.Width, t.Height
	}
	w, h, _ = t.resultSize(src.Width, src.Height)
	return w, h
}

// MayKeep reports whether the source itself is the answer if the result, in format f, is not smaller: no
// option changes its pixels or its size, and the format is auto or the source's own. With auto, a WebP or
// AVIF source is kept only if f is the same, since a client that gets another format may not read it. A
// strip that is given is the wish that no other metadata be sent; beside w and h strip=all is the default,
// and no wish. The size in src is best the upright one.
func (o Options) MayKeep(f Format, src Header) bool {
	if src.Frames > 1 && (!f.animates() || !o.animated(src)) {
		return false
	}
	o = o.canonical(f)
	const harmless = 1<<optWidth | 1<<optHeight | 1<<optFit | 1<<optFormat | 1<<optQuality
	switch {
	case f == Raw, src.Type == 0, o.set&^harmless != 0:
		return false
	case src.Type != f && (o.values[optFormat] != 0 || src.Type == WebP || src.Type == AVIF):
		return false
	}
	w, h := o.size(src)
	return w == src.Width && h == src.Height && w > 0
}

// Task returns what a worker has to do for a result in a resolved format.
func (o Options) Task(f Format) Task {
	o = o.canonical(f)
	t := Task{Output: f, Quality: int(f.quality())}
	if o.Info() || o.set.has(optPlaceholder) {
		t.Width, t.Height, t.Fit = placeholderSide, placeholderSide, Inside
	}
	if o.Info() {
		return t
	}
	if o.set.has(optQuality) {
		t.Quality = int(o.values[optQuality])
	}
	o.geometry(&t)
	if o.set.has(optBackground) {
		bg := o.values[optBackground]
		t.HasBackground = true
		t.Background = [4]byte{byte(bg >> 24), byte(bg >> 16), byte(bg >> 8), byte(bg)}
	}
	t.Blur, t.Sharpen = float32(o.values[optBlur])/100, float32(o.values[optSharpen])/100
	t.Gray = o.set.has(optGray)
	t.Animate = f.animates() && !o.set.has(optAnim) && !o.set.has(optPlaceholder)
	t.KeepCopyright = o.values[optStrip] == 1
	if mark := o.values[optMark]; o.set.has(optMark) {
		t.MarkGravity = Gravity(mark & 0xff)
		t.MarkOpacity = int(mark >> markOpacity & 0xff)
		t.MarkScale = int(mark >> markScale & 0xff)
		t.MarkTile = mark>>markTile != 0
	}
	return t
}

// geometry fills in the parts of a task that move pixels.
func (o Options) geometry(t *Task) {
	if fit := o.fit(); o.set&(1<<optWidth|1<<optHeight) != 0 {
		t.Width, t.Height, t.Fit = int(o.values[optWidth]), int(o.values[optHeight]), fit
	}
	t.Gravity = Gravity(o.values[optGravity] & 0xffff)
	if t.Gravity == Focal {
		t.FocalX = float32(o.values[optGravity]>>16&0xffff) / 10_000
		t.FocalY = float32(o.values[optGravity]>>32&0xffff) / 10_000
	}
	if crop := o.values[optCrop]; o.set.has(optCrop) {
		t.Crop = Rect{int(crop >> 48), int(crop >> 32 & 0xffff), int(crop >> 16 & 0xffff), int(crop & 0xffff)}
	}
	t.Rotate = int(o.values[optRotate])
	t.FlipH, t.FlipV = o.values[optFlip]&flipHorizontal != 0, o.values[optFlip]&flipVertical != 0
}
