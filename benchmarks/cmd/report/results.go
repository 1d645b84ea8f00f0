package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// results are the figures of all rounds.
type results struct {
	names  []string                        // of the benchmarks, in order of appearance
	values map[string]map[string][]float64 // by name and unit
	last   *benchfmt.Result
}

// parse reads what go test -bench has written.
func parse(raw []byte) (*results, error) {
	r := &results{values: make(map[string]map[string][]float64)}
	var errs []error
	for reader := benchfmt.NewReader(bytes.NewReader(raw), "raw figures"); reader.Scan(); {
		switch rec := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			errs = append(errs, rec)
		case *benchfmt.Result:
			r.add(rec)
		}
	}
	if len(r.names) == 0 {
		errs = append(errs, errors.New("no benchmark has a result"))
	}
	return r, errors.Join(errs...)
}

func (r *results) add(rec *benchfmt.Result) {
	name := string(rec.Name)
	if at := strings.LastIndexByte(name, '-'); at >= 0 {
		name = name[:at] // -GOMAXPROCS
	}
	if r.values[name] == nil {
		r.names = append(r.names, name)
		r.values[name] = make(map[string][]float64)
	}
	for _, v := range rec.Values {
		r.values[name][v.Unit] = append(r.values[name][v.Unit], v.Value)
	}
	r.last = rec.Clone()
}

// config returns what the benchmarks say of the machine and its programs.
func (r *results) config(key string) string { return r.last.GetConfig(key) }

// median returns the middle of the figures, or NaN if there are none.
func (r *results) median(name, unit string) float64 { return middle(r.values[name][unit]) }

// medianRatio returns the middle of the ratios of two times, round by round:
// what slows a machine down for a while slows down both.
func (r *results) medianRatio(name, by string) float64 {
	list, others := r.values[name]["sec/op"], r.values[by]["sec/op"]
	ratios := make([]float64, min(len(list), len(others)))
	for i := range ratios {
		ratios[i] = list[i] / others[i]
	}
	return middle(ratios)
}

func middle(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	n := len(list)
	if n == 0 {
		return math.NaN()
	}
	return (list[(n-1)/2] + list[n/2]) / 2
}

// spread returns how far the figures lie apart, as a part of their median.
func (r *results) spread(name, unit string) float64 {
	list := r.values[name][unit]
	if len(list) == 0 {
		return math.NaN()
	}
	return (slices.Max(list) - slices.Min(list)) / r.median(name, unit)
}

// seconds is the time of one operation.
func (r *results) seconds(name string) float64 { return r.median(name, "sec/op") }

// A goal is one figure and what it should be.
type goal struct {
	id     string
	label  string // in the plot
	what   string // in the table
	format string // of the figure and of its limit
	limit  float64
	most   bool // the limit is the highest that will do; else the lowest
	figure func(*results) float64
}

// A verdict is a goal with its figure.
type verdict struct {
	goal
	value float64
}

func judge(goals []goal, r *results) []verdict {
	list := make([]verdict, len(goals))
	for i, g := range goals {
		list[i] = verdict{g, g.figure(r)}
	}
	return list
}

// reach is how many times the goal has been reached: 1 is just so.
func (v verdict) reach() float64 {
	if v.most {
		return v.limit / v.value
	}
	return v.value / v.limit
}

// reached is the word for the table.
func (v verdict) reached() string {
	switch {
	case math.IsNaN(v.value):
		return "not measured"
	case v.most && v.value <= v.limit, !v.most && v.value >= v.limit:
		return "yes"
	}
	return "**no**"
}

func (v verdict) wanted() string {
	sign := "≥ "
	if v.most {
		sign = "≤ "
	}
	return sign + fmt.Sprintf(v.format, v.limit)
}
