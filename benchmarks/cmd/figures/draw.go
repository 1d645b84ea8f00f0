package main

import (
	"bytes"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	columns  = 3
	width    = vg.Length(320)
	height   = vg.Length(190)
	heading  = vg.Length(30)
	mostSaid = 5 // lines of a legend
)

var (
	grey   = color.RGBA{0x60, 0x60, 0x60, 0xff}
	colors = []color.Color{
		color.RGBA{0x2e, 0x7d, 0x5b, 0xff}, color.RGBA{0xc0, 0x5a, 0x3c, 0xff}, color.RGBA{0x3b, 0x6e, 0xa8, 0xff},
		color.RGBA{0xc9, 0x9a, 0x2e, 0xff}, color.RGBA{0x7d, 0x53, 0x9e, 0xff}, color.RGBA{0x4a, 0xa3, 0xa3, 0xff},
		color.RGBA{0x8c, 0x8c, 0x8c, 0xff}, color.RGBA{0xb0, 0x4a, 0x78, 0xff},
	}
)

// draw returns the figures under their rows' headings.
func draw(figures []figure) ([]byte, error) {
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	plot.DefaultFont, plotter.DefaultFont = sans, sans
	var rows [][]figure
	for _, f := range figures {
		if len(rows) == 0 || rows[len(rows)-1][0].Row != f.Row {
			rows = append(rows, nil)
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], f)
	}
	total := vg.Length(0)
	for _, row := range rows {
		total += heading + height*vg.Length((len(row)+columns-1)/columns)
	}
	image := vgsvg.New(columns*width, total)
	page := vgdraw.New(image)
	page.SetColor(color.White)
	page.Fill(page.Rectangle.Path())
	top := total
	for _, row := range rows {
		style := text.Style{Color: color.Black, Font: sans, Handler: plot.DefaultTextHandler}
		style.Font.Size = font.Points(14)
		page.FillText(style, vg.Point{X: 8, Y: top - heading + 8}, row[0].Row)
		top -= heading
		for i, f := range row {
			if i > 0 && i%columns == 0 {
				top -= height
			}
			p, err := f.plot()
			if err != nil {
				return nil, err
			}
			x := width * vg.Length(i%columns)
			p.Draw(vgdraw.Canvas{Canvas: image, Rectangle: vg.Rectangle{
				Min: vg.Point{X: x + 6, Y: top - height + 6}, Max: vg.Point{X: x + width - 6, Y: top - 4}}})
		}
		top -= height
	}
	var out bytes.Buffer
	_, err := image.WriteTo(&out)
	return out.Bytes(), err
}

// plot draws the lines of a panel, the greatest named in the legend.
func (f figure) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = f.Title
	p.Title.TextStyle.Font.Size = font.Points(10)
	p.Title.Padding = vg.Points(4)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = font.Points(7)
	p.Legend.ThumbnailWidth = vg.Points(10)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Tick.Label.Font.Size = font.Points(7)
		axis.Tick.Label.Color = grey
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = grey, grey
	}
	p.X.Tick.Marker = plot.TickerFunc(func(least, most float64) []plot.Tick { return ticks(least, most, "s") })
	p.Y.Tick.Marker = plot.TickerFunc(func(least, most float64) []plot.Tick { return ticks(least, most, f.Unit) })
	slices.SortStableFunc(f.Lines, func(a, b line) int { return -compare(last(a), last(b)) })
	first, most := math.Inf(1), 0.0
	for _, l := range f.Lines {
		first = min(first, l.Points[0].at)
	}
	for i, l := range f.Lines {
		var points plotter.XYs
		for _, at := range l.Points {
			if !math.IsNaN(at.value) && !math.IsInf(at.value, 0) {
				points = append(points, plotter.XY{X: at.at - first, Y: at.value})
				most = max(most, at.value)
			}
		}
		if len(points) == 0 {
			continue
		}
		drawn, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		drawn.Color = colors[i%len(colors)]
		drawn.Width = vg.Points(1.2)
		p.Add(drawn)
		if i < mostSaid {
			p.Legend.Add(l.Legend+"  "+number(points[len(points)-1].Y, f.Unit), drawn)
		}
	}
	p.X.Min, p.X.Max, p.Y.Min = 0, 75, 0
	p.Y.Max = max(most, 1e-9) * 1.9 // Room for the legend.
	if most == 0 {
		p.Y.Max = 1
	}
	return p, nil
}

// last is the value that a panel ends with.
func last(l line) float64 {
	for i := len(l.Points) - 1; i >= 0; i-- {
		if v := l.Points[i].value; !math.IsNaN(v) {
			return v
		}
	}
	return 0
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func ticks(least, most float64, unit string) []plot.Tick {
	var list []plot.Tick
	round := 1.0 // what ticks are round multiples of
	if unit == "bytes" || unit == "Bps" {
		for most/round >= 1024 {
			round *= 1024
		}
	}
	for _, t := range (plot.DefaultTicks{}).Ticks(least/round, most/round) {
		if t.Label != "" {
			t.Value *= round
			t.Label = number(t.Value, unit)
			list = append(list, t)
		}
	}
	return list
}
