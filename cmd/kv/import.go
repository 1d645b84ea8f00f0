package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvmove"
)

type importCmd struct {
	File       string   `arg:"" help:"An export of kv; or of nano-graphrag, an .ngbak archive, its directory, or NAMESPACE.json of it."`
	Namespaces []string `arg:"" name:"namespace" optional:"" help:"Namespaces. Without one: all that the export has."`
	As         string   `placeholder:"NAMESPACE" help:"Namespace of a single file of nano-graphrag, whose name does not tell it."`
	Mode       string   `enum:"merge,overwrite,replace,if-empty" default:"merge" help:"merge: keep what is there; overwrite: replace it; replace: also remove what the export has not; if-empty: only where nothing is. Default merge."`
	DryRun     bool     `name:"dry-run" help:"Write nothing, and say what would be done."`
	JSON       bool     `name:"json" help:"Print a JSON object for each namespace, on a line of its own."`
}

var importModes = map[string]kvmove.Mode{
	"merge": kvmove.Merge, "overwrite": kvmove.MergeOver, "replace": kvmove.Replace, "if-empty": kvmove.IfEmpty,
}

// A bundle is something to import.
type bundle interface {
	// check reads all of it, and returns what is in it if it is sound.
	check(ctx context.Context) ([]kvmove.ImportReport, error)
	// load stores the namespaces for which open returns a store.
	load(ctx context.Context, open kvmove.Opener, mode kvmove.Mode) ([]kvmove.ImportReport, error)
	// place is the format of where in it a document is.
	place() string
	close() error
}

func (c *importCmd) Run(ctx context.Context, a *app) (err error) {
	if c.File == "-" {
		return failf(exitInvalid, "an import is read twice, first to see that it is whole; write the stream to a file, and name that")
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if c.DryRun && isJSON(cfg) {
		if err := (&side{cfg: cfg}).needed(); err != nil {
			return err
		}
	}
	b, err := openBundle(a, c.File, c.As)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	contents, err := b.check(ctx)
	if err != nil {
		return &resumable{err, "nothing was written"}
	}
	if contents, err = c.chosen(contents); err != nil {
		return err
	}
	reports, err := c.load(ctx, a, cfg, b, contents)
	if err != nil { // What has not begun needs no line.
		reports = slices.DeleteFunc(reports, func(r kvmove.ImportReport) bool { return r.Documents == 0 })
	}
	if err = errors.Join(err, c.print(a, b, reports)); err != nil {
		return &resumable{err, c.hint()}
	}
	if slices.ContainsFunc(reports, lacks) {
		return &failure{code: exitNothing} // The list says what.
	}
	return nil
}

func (c *importCmd) hint() string {
	switch {
	case c.DryRun:
		return "nothing was written"
	case c.Mode == "if-empty":
		return "what was stored stays, and the same command with --mode merge completes it"
	}
	return "what was stored stays, and the same command again completes it"
}

// chosen are the namespaces to import.
func (c *importCmd) chosen(contents []kvmove.ImportReport) ([]kvmove.ImportReport, error) {
	var there []string
	var chosen []kvmove.ImportReport
	for _, r := range contents {
		there = append(there, r.Namespace)
		if len(c.Namespaces) == 0 || slices.Contains(c.Namespaces, r.Namespace) {
			chosen = append(chosen, r)
		}
	}
	for _, name := range c.Namespaces {
		if !slices.Contains(there, name) {
			return nil, failf(exitInvalid, "%s has no namespace %q; it has %s", c.File, name, strings.Join(there, ", "))
		}
	}
	for _, r := range chosen {
		if c.Mode == "replace" && lacks(r) {
			return nil, failf(exitInvalid, "some documents of %s cannot be had from %s, and --mode replace would remove them; use --mode overwrite, or name the other namespaces",
				r.Namespace, c.File)
		}
	}
	if len(chosen) == 0 {
		return nil, failf(exitNothing, "%s has no namespace; there is nothing to import", c.File)
	}
	return chosen, nil
}

// load imports what was chosen. Only that the server answers is bound by the
// timeout.
func (c *importCmd) load(ctx context.Context, a *app, cfg kv.Config, b bundle, chosen []kvmove.ImportReport) (reports []kvmove.ImportReport, err error) {
	if !isJSON(cfg) {
		nothing := func(context.Context, kv.Store) error { return nil }
		if err := a.look(ctx, cfg, chosen[0].Namespace, nothing); err != nil {
			return nil, err
		}
	}
	cfg.NoMigrate = true // What is imported is the export, and nothing else.
	opts := []kv.Option{kv.WithLogger(a.logger())}
	if c.DryRun {
		opts = append(opts, kv.WithReadOnly())
	}
	factory, err := kv.NewFactory(cfg, opts...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, factory.Close()) }()
	open := func(ctx context.Context, namespace string) (kv.Store, error) {
		if !slices.ContainsFunc(chosen, func(r kvmove.ImportReport) bool { return r.Namespace == namespace }) {
			return nil, nil
		}
		store, err := factory.Open(ctx, namespace)
		if err == nil && c.DryRun {
			store = dryStore{store}
		}
		return store, err
	}
	reports, err = b.load(ctx, open, importModes[c.Mode])
	return slices.DeleteFunc(reports, func(r kvmove.ImportReport) bool {
		return !slices.ContainsFunc(chosen, func(other kvmove.ImportReport) bool { return other.Namespace == r.Namespace })
	}), err
}

// A dryStore answers as the store would, and writes nothing.
type dryStore struct{ kv.Store }

func (dryStore) Upsert(context.Context, map[string]json.RawMessage) error { return nil }

func (s dryStore) Delete(ctx context.Context, ids ...string) (int, error) {
	missing, err := s.Missing(ctx, ids)
	return len(ids) - len(missing), err
}

func lacks(r kvmove.ImportReport) bool { return r.Refused > 0 }

func (c *importCmd) print(a *app, b bundle, reports []kvmove.ImportReport) error {
	if c.JSON {
		return jsonLines(a.out, reports)
	}
	if len(reports) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tDOCUMENTS\tSTORED\tSKIPPED\tEXPIRED\tREMOVED\tLEFT OUT")
	for _, r := range reports {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", r.Namespace, r.Documents, r.Stored, r.Skipped, r.Expired, r.Removed, r.Refused)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if c.DryRun {
		fmt.Fprintln(a.out, "This was a dry run: nothing was written.")
	}
	for _, r := range reports {
		printRefusals(a.out, r, b.place())
	}
	return nil
}

// printRefusals says what of a namespace was left out: documents by their ids,
// and those that have none by their places, which mostly follow each other.
func printRefusals(w io.Writer, r kvmove.ImportReport, place string) {
	for list := r.Refusals; len(list) > 0; {
		first, n := list[0], 1
		places := []int{first.Place}
		for first.ID == "" && n < len(list) && list[n].ID == "" && list[n].Why == first.Why {
			places = append(places, list[n].Place)
			n++
		}
		name := ""
		if first.ID != "" {
			name = ", the document " + quoted(first.ID)
		}
		fmt.Fprintf(w, "left out of %s: "+place+"%s: %s\n", r.Namespace, ranges(places), name, first.Why)
		list = list[n:]
	}
	if more := r.Refused - len(r.Refusals); more > 0 {
		fmt.Fprintf(w, "left out of %s: %d more\n", r.Namespace, more)
	}
}

// ranges is a list of ascending numbers for people.
func ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		part := fmt.Sprint(numbers[i])
		if last > i {
			part += fmt.Sprint("-", numbers[last])
		}
		parts = append(parts, part)
		i = last + 1
	}
	return strings.Join(parts, ", ")
}
