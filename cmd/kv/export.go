package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/klauspost/compress/zstd"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvmove"
)

type exportCmd struct {
	File       string   `arg:"" help:"File to write, zstd-compressed if it ends in .zst; - for stdout."`
	Namespaces []string `arg:"" name:"namespace" optional:"" help:"Namespaces. Without one: all."`
	Force      bool     `help:"Replace a file that is there."`
	JSON       bool     `name:"json" help:"Print a JSON object for each namespace, on a line of its own."`
}

func (c *exportCmd) Run(ctx context.Context, a *app) error {
	if c.File == "-" && c.JSON {
		return failf(exitInvalid, "--json prints on stdout, where the export goes; name a file")
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	names, err := c.names(ctx, a, cfg)
	if err != nil {
		return err
	}
	write := func(w io.Writer) ([]kvmove.ExportReport, error) { return c.write(ctx, a, cfg, w, names) }
	var reports []kvmove.ExportReport
	if c.File == "-" {
		reports, err = write(a.out)
	} else if reports, err = c.toFile(write); err == nil {
		err = c.print(a, reports)
	}
	switch {
	case err != nil && c.File == "-":
		return &resumable{err, "the export is not whole"}
	case err != nil:
		return &resumable{err, "no file was written"}
	}
	return c.judge(a, reports)
}

func (c *exportCmd) names(ctx context.Context, a *app, cfg kv.Config) ([]string, error) {
	if len(c.Namespaces) == 0 {
		names, err := a.namespaces(ctx, cfg)
		if err == nil && len(names) == 0 {
			err = failf(exitNothing, "there is nothing to export")
		}
		return names, err
	}
	for _, name := range c.Namespaces {
		if !a.exists(cfg, name) {
			return nil, failf(exitNothing, "nothing was exported")
		}
	}
	return union(c.Namespaces, nil), nil
}

// write exports the namespaces. The timeout is for opening them only.
func (c *exportCmd) write(ctx context.Context, a *app, cfg kv.Config, w io.Writer, names []string) (reports []kvmove.ExportReport, err error) {
	factory, err := kv.NewFactory(cfg, kv.WithReadOnly(), kv.WithLogger(a.logger()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, factory.Close()) }()
	open := func(ctx context.Context, namespace string) (store kv.Store, err error) {
		err = a.within(ctx, func(ctx context.Context) error {
			store, err = factory.Open(ctx, namespace)
			return err
		})
		return store, err
	}
	bar := a.progress("exporting")
	defer bar.end()
	return kvmove.Export(ctx, &lineCounter{w: w, bar: bar}, open, names...)
}

func (c *exportCmd) toFile(write func(io.Writer) ([]kvmove.ExportReport, error)) (reports []kvmove.ExportReport, err error) {
	f, err := createFile(c.File, c.Force)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.discard()
		}
	}()
	if !strings.HasSuffix(c.File, ".zst") {
		if reports, err = write(f); err != nil {
			return nil, err
		}
		return reports, f.commit()
	}
	packed, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	reports, err = write(packed)
	if err := errors.Join(err, packed.Close()); err != nil {
		return nil, err
	}
	return reports, f.commit()
}

func (c *exportCmd) print(a *app, reports []kvmove.ExportReport) error {
	if c.JSON {
		return jsonLines(a.out, reports)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tDOCUMENTS\tSIZE\tREFUSED")
	for _, r := range reports {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\n", r.Namespace, r.Documents, size(r.Bytes), len(r.Refused))
	}
	return w.Flush()
}

// judge points out what a backup would be missed for.
func (c *exportCmd) judge(a *app, reports []kvmove.ExportReport) (err error) {
	for _, r := range reports {
		if r.Documents == 0 && slices.Contains(c.Namespaces, r.Namespace) {
			a.note("%s has no documents", r.Namespace)
		}
		for _, id := range r.Refused {
			err = errors.Join(err, failf(exitNothing, "left out: the document %s of %s, which is not JSON", quoted(id), r.Namespace))
		}
	}
	return err
}
