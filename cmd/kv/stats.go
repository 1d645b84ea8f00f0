package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
)

type statsCmd struct {
	Namespace *string `arg:"" optional:"" help:"Namespace. Without it: all."`
	JSON      bool    `name:"json" help:"Print one JSON object for each namespace, on a line of its own."`
}

// figures are what stats shows of a namespace. The sizes are nil where there
// are no files.
type figures struct {
	Namespace    string `json:"namespace"`
	Backend      string `json:"backend"`
	Documents    int    `json:"documents"`
	FileBytes    *int64 `json:"file_bytes,omitempty"`
	JournalBytes *int64 `json:"journal_bytes,omitempty"`
}

func (c *statsCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	var names []string
	switch {
	case c.Namespace == nil:
		names, err = a.namespaces(ctx, cfg)
	case a.exists(cfg, *c.Namespace):
		names = []string{*c.Namespace}
	}
	if err != nil {
		return err
	}
	var all []figures
	var failed error // One that cannot be read does not hide the others.
	for _, name := range names {
		n, err := a.count(ctx, cfg, name)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		figure := figures{Namespace: name, Backend: inEffect(cfg, "STORAGE_KV_BACKEND"), Documents: n}
		if isJSON(cfg) {
			file, journals, err := sizes(workingDir(cfg), name)
			failed = errors.Join(failed, err)
			figure.FileBytes, figure.JournalBytes = &file, &journals
		}
		all = append(all, figure)
	}
	return errors.Join(failed, c.print(a, all))
}

func (c *statsCmd) print(a *app, all []figures) error {
	if c.JSON {
		enc := json.NewEncoder(a.out)
		for _, f := range all {
			if err := enc.Encode(f); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	files := all[0].FileBytes != nil
	fmt.Fprint(w, "NAMESPACE\tDOCUMENTS")
	if files {
		fmt.Fprint(w, "\tFILE\tJOURNAL")
	}
	for _, f := range all {
		fmt.Fprintf(w, "\n%s\t%d", f.Namespace, f.Documents)
		if files {
			fmt.Fprintf(w, "\t%s\t%s", size(*f.FileBytes), size(*f.JournalBytes))
		}
	}
	fmt.Fprintln(w)
	return w.Flush()
}
