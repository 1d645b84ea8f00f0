package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ngraf/kv"
)

type inspectCmd struct {
	Namespace string `arg:"" help:"Namespace."`
	Sample    int    `placeholder:"N" help:"Read only so many documents, spread over the namespace. 0: all."`
	Biggest   int    `default:"10" placeholder:"10" help:"How many of the biggest documents to name."`
	ShowIDs   bool   `name:"show-ids" help:"Name them by their ids in place of a hash."`
	JSON      bool   `name:"json" help:"Print one JSON object."`
}

// Validate is called by kong.
func (c *inspectCmd) Validate() error {
	if c.Sample < 0 || c.Biggest < 1 {
		return errors.New("--sample and --biggest are numbers of documents, and --biggest is at least 1")
	}
	return nil
}

func (c *inspectCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	var found kv.Inspection
	err = a.look(ctx, cfg, c.Namespace, func(ctx context.Context, s kv.Store) (err error) {
		a.exists(cfg, c.Namespace)
		bar := a.progress("inspect " + c.Namespace)
		defer bar.end()
		found, err = kv.Inspect(ctx, s, kv.InspectOptions{
			Sample:   c.Sample,
			Biggest:  c.Biggest,
			ShowIDs:  c.ShowIDs,
			Expected: lifetime(cfg, c.Namespace),
			Progress: func(done int) { bar.at(int64(done), 0) },
		})
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return c.printJSON(a, found)
	}
	c.print(a, found)
	return nil
}

// printJSON prints what was found, the histograms as lists of buckets.
func (c *inspectCmd) printJSON(a *app, found kv.Inspection) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Namespace string `json:"namespace"`
		kv.Inspection
		ValueBytes []bar `json:"value_bytes"`
		TTL        []bar `json:"ttl_seconds"`
	}{c.Namespace, found, bars(found.ValueBytes), bars(found.TTL)})
}

func (c *inspectCmd) print(a *app, found kv.Inspection) {
	fmt.Fprintf(a.out, "%s: %d documents, ", c.Namespace, found.Documents)
	if found.Sampled < found.Documents {
		fmt.Fprintf(a.out, "about %s of ids and values (%d looked at)\n", size(found.Bytes), found.Sampled)
	} else {
		fmt.Fprintf(a.out, "%s of ids and values\n", size(found.Bytes))
	}
	fmt.Fprintf(a.out, "expire: %d, live for ever: %d", found.TTL.Count, found.Permanent)
	if found.Unexpected > 0 {
		fmt.Fprintf(a.out, " (although new ones of %s expire)", c.Namespace)
	}
	fmt.Fprintf(a.out, ", not JSON: %d\n", found.Corrupt)
	drawBars(a, "SIZE OF VALUES", found.ValueBytes, func(to float64) string { return size(int64(to)) })
	drawBars(a, "LEFT TO LIVE", found.TTL, func(to float64) string { return duration(time.Duration(to * 1e9)) })
	if len(found.Biggest) > 0 {
		fmt.Fprintln(a.out, "\nBIGGEST")
	}
	for _, b := range found.Biggest {
		name := b.ID
		if !safeLine(name) {
			name = quoted(name)
		}
		fmt.Fprintf(a.out, "%12s  %s\n", size(int64(b.Bytes)), name)
	}
}

// A bar is a part of a histogram.
type bar struct {
	To    float64 `json:"to"` // the greatest value that is in it
	Count uint64  `json:"count"`
}

// bars makes bars of a histogram that end at powers of two, without empty ones
// at either end.
func bars(h kv.Histogram) []bar {
	counts := make(map[int]uint64)
	for i, n := range h.Buckets {
		counts[int(math.Ceil(float64(i)/4))] += n
	}
	list := []bar{}
	if len(counts) == 0 {
		return list
	}
	exponents := slices.Sorted(maps.Keys(counts))
	for e := exponents[0]; e <= exponents[len(exponents)-1]; e++ {
		list = append(list, bar{math.Ldexp(1, e), counts[e]})
	}
	return list
}

// drawBars draws a histogram, a line for each bar.
func drawBars(a *app, title string, h kv.Histogram, name func(to float64) string) {
	if h.Count == 0 {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", title)
	list := bars(h)
	most := slices.MaxFunc(list, func(a, b bar) int { return int(a.Count) - int(b.Count) }).Count
	const width = 40
	for _, b := range list {
		long := int(math.Ceil(float64(b.Count) / float64(most) * width))
		fmt.Fprintf(a.out, "%15s  %-*s %d\n", "up to "+name(b.To), width, strings.Repeat("█", long), b.Count)
	}
}

// duration is a length of time for people.
func duration(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.3g d", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.3g h", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.3g min", d.Minutes())
	case d >= time.Second:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g µs", float64(d)/1e3)
}
