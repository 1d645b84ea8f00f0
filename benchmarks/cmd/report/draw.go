package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

var (
	good = color.RGBA{0x2e, 0x7d, 0x5b, 0xff}
	poor = color.RGBA{0xc0, 0x5a, 0x3c, 0xff}
	grey = color.RGBA{0x60, 0x60, 0x60, 0xff}
)

// draw writes a bar for every goal: how many times it is reached.
func draw(verdicts []verdict, file string) error {
	verdicts = slices.DeleteFunc(slices.Clone(verdicts), func(v verdict) bool {
		return math.IsNaN(v.value) || v.limit == 0 // Of nothing there is no multiple.
	})
	slices.Reverse(verdicts) // The first on top.
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	plot.DefaultFont, plotter.DefaultFont = sans, sans
	p := plot.New()
	p.Title.Text = "How many times each goal is reached"
	p.Title.TextStyle.Font.Size = font.Points(13)
	p.Title.Padding = vg.Points(8)
	p.HideY()
	var names []string
	for i, v := range verdicts {
		names = append(names, short(v))
		if err := addBar(p, i, v); err != nil {
			return err
		}
	}
	p.NominalY(names...)
	p.Y.Tick.Label.Font.Size = font.Points(10)
	p.Y.LineStyle.Width = 0
	p.X.Label.Text = "1 = the goal"
	p.X.Min = 0
	p.X.Max *= 1.2
	line, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.6}, {X: 1, Y: float64(len(verdicts)) - 0.4}})
	if err != nil {
		return err
	}
	line.Color = grey
	line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(line)
	return save(p, vg.Points(640), vg.Points(float64(60+28*len(verdicts))), file)
}

// save writes the plot as SVG, and names fonts for where Liberation is not
// installed.
func save(p *plot.Plot, width, height vg.Length, file string) error {
	image, err := p.WriterTo(width, height, "svg")
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if _, err := image.WriteTo(&buf); err != nil {
		return err
	}
	family := []byte("font-family:Liberation Sans")
	svg := bytes.ReplaceAll(buf.Bytes(), family, append(family, ",Arial,sans-serif"...))
	return os.WriteFile(file, svg, 0o644)
}

// addBar draws one bar, with the figure behind it.
func addBar(p *plot.Plot, at int, v verdict) error {
	bar, err := plotter.NewBarChart(plotter.Values{v.reach()}, vg.Points(15))
	if err != nil {
		return err
	}
	bar.Horizontal = true
	bar.XMin = float64(at)
	bar.LineStyle.Width = 0
	bar.Color = good
	if v.reached() != "yes" {
		bar.Color = poor
	}
	label, err := plotter.NewLabels(plotter.XYLabels{
		XYs:    plotter.XYs{{X: v.reach(), Y: float64(at)}},
		Labels: []string{fmt.Sprintf(v.format, v.value) + "  (" + v.wanted() + ")"},
	})
	if err != nil {
		return err
	}
	label.Offset = vg.Point{X: vg.Points(5), Y: vg.Points(-3.5)}
	label.TextStyle[0].Font.Size = font.Points(9)
	label.TextStyle[0].Color = grey
	p.Add(bar, label)
	return nil
}

// short is the name of a goal beside its bar.
func short(v verdict) string { return v.id + "  " + v.label }
