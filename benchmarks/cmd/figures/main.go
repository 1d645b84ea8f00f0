// Command figures draws what the panels of the dashboard show, as SVG: what
// TestLive in monitoring has written. It is run by make -C benchmarks
// monitoring.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"strconv"
)

// A figure is what a panel shows.
type figure struct {
	Row, Title, Unit string
	Lines            []line
}

type line struct {
	Legend string
	Points []point
}

// A point is a moment, in seconds, and a value.
type point struct{ at, value float64 }

func (p *point) UnmarshalJSON(text []byte) (err error) {
	var pair [2]json.RawMessage
	var value string
	if err := errors.Join(json.Unmarshal(text, &pair), json.Unmarshal(pair[0], &p.at), json.Unmarshal(pair[1], &value)); err != nil {
		return err
	}
	p.value, err = strconv.ParseFloat(value, 64)
	return err
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: figures FIGURES.json OUT.svg")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var figures []figure
	if err := json.Unmarshal(text, &figures); err != nil {
		return err
	}
	svg, err := draw(figures)
	if err != nil {
		return err
	}
	// Fonts for where Liberation is not installed.
	family := []byte("font-family:Liberation Sans")
	svg = bytes.ReplaceAll(svg, family, append(family, ",Arial,sans-serif"...))
	return os.WriteFile(to, svg, 0o644)
}

// number writes a value in a unit of Grafana's.
func number(v float64, unit string) string {
	switch unit {
	case "percentunit":
		return fmt.Sprintf("%.3g %%", 100*v)
	case "s":
		return scaled(v, []string{"µs", "ms", "s"}, 1e-6, 1000)
	case "bytes", "Bps":
		return scaled(v, []string{"B", "KiB", "MiB", "GiB"}, 1, 1024)
	}
	return fmt.Sprintf("%.4g", v)
}

func scaled(v float64, units []string, least, factor float64) string {
	if v == 0 {
		return "0"
	}
	i := 0
	for i < len(units)-1 && math.Abs(v) >= least*factor {
		least *= factor
		i++
	}
	return fmt.Sprintf("%.4g %s", v/least, units[i])
}
