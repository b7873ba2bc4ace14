package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// chart is a figure with lines over numbers, or with groups of bars over names.
type chart struct {
	File  string `json:"file"` // name of the file, which ends in .svg
	Title string `json:"title"`
	X     string `json:"x"` // label of the axis
	Y     string `json:"y"`
	// LogX and LogY make an axis logarithmic.
	LogX bool `json:"log_x"`
	LogY bool `json:"log_y"`
	// Groups are the names of groups of bars. Without them the series are lines.
	Groups []string `json:"groups"`
	Series []series `json:"series"`
	// Goals are dashed horizontal lines.
	Goals []float64 `json:"goals"`
}

// series is a line, or one bar of each group.
type series struct {
	Name string `json:"name"`
	// Dashed marks what was not measured.
	Dashed bool    `json:"dashed"`
	Points []point `json:"points"`
}

// point is a value with its quartiles; both are zero where there are none.
type point struct {
	X    float64 `json:"x"` // number of the group, for bars
	Y    float64 `json:"y"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

const (
	width  = 7.2 * vg.Inch
	height = 3.6 * vg.Inch
	group  = 0.8 // of the distance between groups, the rest is empty
)

// colors can be told apart by people who see few colours (Okabe and Ito).
var colors = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
	{0xcc, 0x79, 0xa7, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
}

var gray = color.Gray{0x55}

// draw returns the chart as SVG.
func (c chart) draw() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.X, c.Y
	sans(p)
	c.scale(p)
	grid := plotter.NewGrid()
	grid.Vertical.Width, grid.Horizontal.Color = 0, color.Gray{0xdd}
	p.Add(grid)
	for i, s := range c.Series {
		if err := c.add(p, s, i); err != nil {
			return nil, err
		}
	}
	c.addGoals(p)
	c.limits(p)
	canvas := vgsvg.New(width, height)
	p.Draw(draw.Crop(draw.New(canvas), vg.Points(4), -vg.Points(8), vg.Points(4), -vg.Points(4)))
	var out bytes.Buffer
	_, err := canvas.WriteTo(&out)
	return out.Bytes(), err
}

// check refuses what the library would draw wrong or panic at.
func (c chart) check() error {
	if c.File != filepath.Base(c.File) || filepath.Ext(c.File) != ".svg" {
		return errors.New("the file must be a name that ends in .svg")
	}
	n := 0
	for _, s := range c.Series {
		for _, p := range s.Points {
			n++
			if err := c.checkPoint(p); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
		}
	}
	if n == 0 {
		return errors.New("there are no points")
	}
	return nil
}

func (c chart) checkPoint(p point) error {
	for _, v := range []float64{p.X, p.Y, p.Low, p.High} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.New("a point is no number")
		}
	}
	if c.LogX && p.X <= 0 || c.LogY && p.Y <= 0 {
		return errors.New("a point is not above 0 on a logarithmic axis")
	}
	if at := int(p.X); c.Groups != nil && (float64(at) != p.X || at < 0 || at >= len(c.Groups)) {
		return fmt.Errorf("a bar is in group %v of %d", p.X, len(c.Groups))
	}
	return nil
}

func sans(p *plot.Plot) {
	for _, style := range []*draw.TextStyle{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	p.Title.TextStyle.Font.Size = font.Length(12)
	p.Title.Padding = vg.Points(6)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.XOffs, p.Legend.Padding, p.Legend.ThumbnailWidth = vg.Points(6), vg.Points(2), vg.Points(14)
}

func (c chart) scale(p *plot.Plot) {
	p.Y.Tick.Marker = plainTicks{plot.DefaultTicks{}}
	p.X.Tick.Marker = plainTicks{plot.DefaultTicks{}}
	if c.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plainTicks{plot.LogTicks{Prec: -1}}
	}
	if c.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plainTicks{plot.LogTicks{Prec: -1}}
	}
	if c.Groups != nil {
		p.NominalX(c.Groups...)
	}
}

// limits sets the ends of the axes that the data do not.
func (c chart) limits(p *plot.Plot) {
	if c.Groups != nil {
		p.X.Min, p.X.Max = -0.6, float64(len(c.Groups))-0.4
	}
	rows := float64(len(c.Series) + len(c.Goals))
	if c.LogY {
		p.Y.Max *= math.Pow(p.Y.Max/p.Y.Min, 0.08*rows)
		return
	}
	high := 0.0
	for _, s := range c.Series {
		for _, pt := range s.Points {
			high = max(high, pt.Y, pt.High)
		}
	}
	for _, g := range c.Goals {
		high = max(high, g)
	}
	// The legend stands above the data.
	p.Y.Min, p.Y.Max = 0, high*(1.08+0.08*rows)
}

// plainTicks labels 100000 as 100 k.
type plainTicks struct{ plot.Ticker }

func (t plainTicks) Ticks(low, high float64) []plot.Tick {
	ticks := t.Ticker.Ticks(low, high)
	for i, tick := range ticks {
		if tick.Label != "" {
			ticks[i].Label = short(tick.Value)
		}
	}
	return ticks
}

func short(v float64) string {
	switch {
	case math.Abs(v) >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + " M"
	case math.Abs(v) >= 1e3:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + " k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// add draws a series and enters it into the legend.
func (c chart) add(p *plot.Plot, s series, number int) error {
	shade := colors[number%len(colors)]
	if c.Groups != nil {
		wide := group / float64(len(c.Series))
		bars := boxes{fill: shade, wide: wide}
		for _, pt := range s.Points {
			pt.X += (float64(number)+0.5)*wide - group/2
			bars.points = append(bars.points, pt)
		}
		p.Add(bars)
		p.Legend.Add(s.Name, bars)
		return addErrors(p, bars.points)
	}
	xys := make(plotter.XYs, 0, len(s.Points))
	for _, pt := range s.Points {
		xys = append(xys, plotter.XY{X: pt.X, Y: pt.Y})
	}
	line, dots, err := plotter.NewLinePoints(xys)
	if err != nil {
		return err
	}
	line.Color, line.Width = shade, vg.Points(1.5)
	dots.Shape, dots.Color, dots.Radius = draw.CircleGlyph{}, shade, vg.Points(2)
	if s.Dashed {
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	}
	p.Add(line)
	p.Legend.Add(s.Name, line)
	if len(xys) <= 30 && !s.Dashed {
		p.Add(dots)
	}
	return addErrors(p, s.Points)
}

// addErrors draws the quartiles of the points that have them.
func addErrors(p *plot.Plot, points []point) error {
	var values struct {
		plotter.XYs
		plotter.YErrors
	}
	for _, pt := range points {
		if pt.Low == 0 && pt.High == 0 {
			continue
		}
		values.XYs = append(values.XYs, plotter.XY{X: pt.X, Y: pt.Y})
		values.YErrors = append(values.YErrors, struct{ Low, High float64 }{pt.Y - pt.Low, pt.High - pt.Y})
	}
	if len(values.XYs) == 0 {
		return nil
	}
	bars, err := plotter.NewYErrorBars(values)
	if err != nil {
		return err
	}
	bars.Color, bars.CapWidth = gray, vg.Points(4)
	p.Add(bars)
	return nil
}

func (c chart) addGoals(p *plot.Plot) {
	for _, g := range c.Goals {
		line := plotter.NewFunction(func(float64) float64 { return g })
		line.Samples = 2
		line.Color, line.Width = gray, vg.Points(1)
		line.Dashes = []vg.Length{vg.Points(2), vg.Points(2)}
		p.Add(line)
		p.Legend.Add("goal "+strconv.FormatFloat(g, 'g', 4, 64), line)
	}
}

// boxes are bars at any place of the axis; those of the library are as wide in points as
// they are told, whatever the number of groups.
type boxes struct {
	points []point
	fill   color.Color
	wide   float64
}

func (b boxes) Plot(canvas draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&canvas)
	for _, pt := range b.points {
		left, right, base, top := x(pt.X-b.wide/2), x(pt.X+b.wide/2), y(p.Y.Min), y(pt.Y)
		canvas.FillPolygon(b.fill, []vg.Point{{X: left, Y: base}, {X: left, Y: top}, {X: right, Y: top}, {X: right, Y: base}})
	}
}

// DataRange has the library scale the axes. A logarithmic axis begins at half of the
// lowest bar.
func (b boxes) DataRange() (xmin, xmax, ymin, ymax float64) {
	xmin, xmax, ymin, ymax = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, pt := range b.points {
		xmin, xmax = min(xmin, pt.X-b.wide/2), max(xmax, pt.X+b.wide/2)
		ymin, ymax = min(ymin, pt.Y/2), max(ymax, pt.Y)
	}
	return xmin, xmax, ymin, ymax
}

func (b boxes) Thumbnail(canvas *draw.Canvas) {
	low, high := canvas.Min, canvas.Max
	canvas.FillPolygon(b.fill, []vg.Point{low, {X: low.X, Y: high.Y}, high, {X: high.X, Y: low.Y}})
}
