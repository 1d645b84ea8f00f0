// Command report runs a suite of benchmarks, json or redis, in rounds, compares
// the medians with the suite's goals, and puts tables and a plot into the
// documentation. It is run in the directory of the benchmarks module; see the
// Makefile.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A suite is a set of benchmarks and what is expected of them.
type suite struct {
	name     string   // of the markers in the document
	pattern  string   // of the benchmarks' names
	programs []string // whose versions matter, as the benchmarks print them
	modules  []string // the same for modules
	goals    []goal
}

var suites = map[string]func() suite{"json": jsonSuite, "redis": redisSuite}

// settings are the flags.
type settings struct {
	rounds    int
	benchtime string
	reuse     bool
	raw       string
	doc       string
}

func main() {
	var s settings
	flag.IntVar(&s.rounds, "count", 5, "rounds; each runs every benchmark once, so that peers take turns")
	flag.StringVar(&s.benchtime, "benchtime", "1s", "as of go test")
	flag.BoolVar(&s.reuse, "reuse", false, "run nothing, and report on the raw figures that there are")
	flag.StringVar(&s.raw, "raw", "", "file of the raw figures, for benchstat (default <suite>.txt)")
	flag.StringVar(&s.doc, "doc", "../docs/performance.md", "document with the markers, and the plot beside it")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: report [flags] json|redis")
		flag.PrintDefaults()
	}
	flag.Parse()
	of := suites[flag.Arg(0)]
	if of == nil {
		flag.Usage()
		os.Exit(2)
	}
	if err := report(of(), s); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(of suite, s settings) error {
	began := time.Now()
	s.raw = cmp.Or(s.raw, of.name+".txt")
	if !s.reuse {
		if err := measure(of, s); err != nil {
			return err
		}
	}
	raw, err := os.ReadFile(s.raw)
	if err != nil {
		return err
	}
	results, err := parse(raw)
	if err != nil {
		return err
	}
	verdicts := judge(of.goals, results)
	versions, err := versions(of, results)
	if err != nil {
		return err
	}
	text := render(of, versions, results, verdicts, s)
	if err := replaceSection(s.doc, of.name, text); err != nil {
		return err
	}
	fmt.Printf("%s\ntook %v\n", text, time.Since(began).Round(time.Second))
	return draw(verdicts, filepath.Join(filepath.Dir(s.doc), of.plot()))
}

// plot is the name of the suite's plot.
func (of suite) plot() string { return "performance-" + of.name + ".svg" }

// versions lists what was measured against.
func versions(of suite, r *results) ([]string, error) {
	list := []string{runtime.Version()}
	for _, program := range of.programs {
		list = append(list, program+" "+r.config(program))
	}
	for _, module := range of.modules {
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module).Output()
		if err != nil {
			return nil, fmt.Errorf("go list -m %s: %w", module, err)
		}
		list = append(list, strings.TrimPrefix(module, "github.com/")+" "+strings.TrimSpace(string(out)))
	}
	return list, nil
}

// measure runs the benchmarks and writes what they say to the raw file.
func measure(of suite, s settings) error {
	dir, err := os.MkdirTemp("", "kv-report")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "benchmarks.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("go test -c: %w", err)
	}
	raw, err := os.Create(s.raw)
	if err != nil {
		return err
	}
	for round := 1; round <= s.rounds && err == nil; round++ {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round, s.rounds)
		run := exec.Command(program, "-test.run", "^$", "-test.bench", of.pattern, "-test.benchtime", s.benchtime)
		run.Stdout = io.MultiWriter(raw, os.Stderr)
		run.Stderr = os.Stderr
		err = run.Run()
	}
	return errors.Join(err, raw.Close())
}

// replaceSection replaces what stands between the markers of that name.
func replaceSection(file, name, text string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin := fmt.Appendf(nil, "<!-- %s: written by benchmarks/cmd/report -->\n", name)
	end := fmt.Appendf(nil, "<!-- %s: end -->\n", name)
	head, rest, ok := bytes.Cut(doc, begin)
	_, tail, closed := bytes.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s: lacks the markers %q and %q", file, begin, end)
	}
	return os.WriteFile(file, bytes.Join([][]byte{head, begin, []byte(text), end, tail}, nil), 0o644)
}
