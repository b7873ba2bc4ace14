package transform

import "math/bits"

// Options are the options of a transformation. The zero value has none: the original is asked
// for. Options are comparable, and remember which options were given, so that an option with its
// default in a template still wins over another value in a URL.
type Options struct {
	set    set
	values [options]uint64 // 0 for an option that is not given; packed as its row of table says
	mark   string          // the path in wm, decoded
}

// An option is an index into table. The order is that of the names, because the canonical form is sorted.
type option uint8

const (
	optAnim option = iota
	optBackground
	optBlur
	optCrop
	optDPR
	optFormat
	optFit
	optFlip
	optGravity
	optGray
	optHeight
	optInfo
	optPlaceholder
	optQuality
	optRotate
	optSharpen
	optStrip
	optWidth
	optMark
	options // the number of options

	optSignature // exp, kid and sig belong to the signature
)

// optTemplate is t, which is no setting but a name of settings.
const optTemplate = options

// set is a set of options, one bit for each.
type set uint32

func (s set) has(o option) bool { return s>>o&1 == 1 }

// MaxSide is the greatest width or height of a result, in pixels.
const MaxSide = 8192

// maxResult is the greatest number of pixels of a result.
const maxResult = 25_000_000

// The packed values of lqip and flip.
const (
	placeholderBlurHash = 1
	placeholderImage    = 2

	flipHorizontal = 1
	flipVertical   = 2
)

// IsZero reports whether no option is given: the original is asked for.
func (o Options) IsZero() bool { return o.set == 0 }

// Free reports whether an option other than w is given. Options of a URL are to be asked before
// With: a template is the operator's.
func (o Options) Free() bool { return o.set&^(1<<optWidth) != 0 }

// Width returns the value of w, 0 without it.
func (o Options) Width() int { return int(o.values[optWidth]) }

// Info reports whether the JSON description of the source is asked for.
func (o Options) Info() bool { return o.set.has(optInfo) }

// BlurHash reports whether the BlurHash of the picture is asked for.
func (o Options) BlurHash() bool {
	return !o.Info() && o.values[optPlaceholder] == placeholderBlurHash
}

// Mark returns the path of the watermark below the alias's prefix, or "". It follows alias.IsPath.
func (o Options) Mark() string {
	if o.Info() || o.set.has(optPlaceholder) {
		return ""
	}
	return o.mark
}

// With returns o with the settings of a template, which win over those of o. For any options
// a, b and c, a.With(b).With(c) equals a.With(b.With(c)).
func (o Options) With(template Options) Options {
	for s := template.set; s != 0; s &= s - 1 {
		i := bits.TrailingZeros32(uint32(s))
		o.values[i] = template.values[i]
	}
	if template.set.has(optMark) {
		o.mark = template.mark
	}
	o.set |= template.set
	return o
}

// with returns o with one more option, or with another value of it.
func (o Options) with(i option, value uint64) Options {
	o.set |= 1 << i
	o.values[i] = value
	return o
}

// without returns o without some options.
func (o Options) without(which ...option) Options {
	for _, i := range which {
		o.set &^= 1 << i
		o.values[i] = 0
		if i == optMark {
			o.mark = ""
		}
	}
	return o
}
