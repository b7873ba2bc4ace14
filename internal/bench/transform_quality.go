package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"io"
	"math"

	"ixmage/internal/awstest/picture"
)

// qualities are the settings that are compared, by format.
var qualities = map[string][]int{
	"jpeg": {50, 60, 70, 75, 80, 85, 90},
	"webp": {50, 60, 70, 75, 80, 85, 90},
	"avif": {30, 40, 50, 55, 60, 62, 65, 70, 80},
}

// likeness is how near results of a format and quality are to the references.
type likeness struct {
	quality       int
	mean, least   float64 // SSIM
	bytes, pixels int
}

// runQuality compares results with references: the same picture in the same width, resized by
// the same library and stored without loss.
func (c config) runQuality(ctx context.Context, w io.Writer, e *env, photographs []photograph) error {
	if len(photographs) == 0 {
		fmt.Fprintf(w, "The quality is not measured: there are no photographs in %s.\n", c.images)
		return nil
	}
	p, err := c.startInProcess(ctx, e)
	if err != nil {
		fmt.Fprintf(w, "The quality is not measured: libvips in-process: %v\n", err)
		return nil
	}
	defer p.stop()
	fmt.Fprintf(w, "### Quality\n\nSSIM of the luminance of %d photographs in %d pixels beside the same stored "+
		"without loss, libvips %s.\n\n", len(photographs), transformWidth, p.libs)
	fmt.Fprintln(w, "| format | q | SSIM, mean | SSIM, least | bits a pixel |\n|---|---|---|---|---|")
	curves := make(map[string][]likeness)
	for _, f := range transformFormats {
		for _, q := range qualities[f.name] {
			l, err := p.likeness(ctx, photographs, fmt.Sprintf("f=%s&e=%d&q=%d", f.name, f.effort, q))
			if err != nil {
				return err
			}
			l.quality = q
			curves[f.name] = append(curves[f.name], l)
			bits := 8 * float64(l.bytes) / float64(l.pixels)
			fmt.Fprintf(w, "| %s | %d | %.4f | %.4f | %.2f |\n", f.name, q, l.mean, l.least, bits)
		}
	}
	want := qualityOf(curves["jpeg"], 80)
	fmt.Fprintf(w, "\nThe mean of JPEG 80 is %.4f. WebP reaches it at q %.0f, AVIF at q %.0f.\n\n", want,
		qualityFor(curves["webp"], want), qualityFor(curves["avif"], want))
	return nil
}

// likeness converts every photograph to a format and back.
func (p *inProcess) likeness(ctx context.Context, photographs []photograph, query string) (likeness, error) {
	l := likeness{least: 1}
	for _, photo := range photographs {
		plain, err := p.convert(ctx, photo.body, fmt.Sprintf("f=png&w=%d", transformWidth))
		if err != nil {
			return l, err
		}
		coded, err := p.convert(ctx, plain, query)
		if err != nil {
			return l, err
		}
		back, err := p.convert(ctx, coded, "f=png")
		if err != nil {
			return l, err
		}
		a, _, err := image.Decode(bytes.NewReader(plain))
		if err != nil {
			return l, err
		}
		b, _, err := image.Decode(bytes.NewReader(back))
		if err != nil {
			return l, err
		}
		s := picture.SSIM(a, b)
		l.mean += s / float64(len(photographs))
		l.least = min(l.least, s)
		l.bytes += len(coded)
		l.pixels += a.Bounds().Dx() * a.Bounds().Dy()
	}
	return l, nil
}

// qualityOf is the mean at a quality.
func qualityOf(curve []likeness, quality int) float64 {
	for _, l := range curve {
		if l.quality == quality {
			return l.mean
		}
	}
	return math.NaN()
}

// qualityFor interpolates the quality at which a curve reaches a mean.
func qualityFor(curve []likeness, mean float64) float64 {
	for i := 1; i < len(curve); i++ {
		a, b := curve[i-1], curve[i]
		if a.mean <= mean && mean <= b.mean {
			return float64(a.quality) + (mean-a.mean)/(b.mean-a.mean)*float64(b.quality-a.quality)
		}
	}
	return math.NaN()
}
