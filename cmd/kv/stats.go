package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/ngraf/kv"
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
	Bytes        int64  `json:"bytes"`             // of ids and values
	Sampled      int    `json:"sampled,omitempty"` // documents that Bytes and Expiring were taken from, if not all
	Expiring     int    `json:"expiring"`
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
		figure, err := a.glance(ctx, cfg, name)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if isJSON(cfg) {
			file, journals, err := sizes(workingDir(cfg), name)
			failed = errors.Join(failed, err)
			figure.FileBytes, figure.JournalBytes = &file, &journals
		}
		all = append(all, figure)
	}
	return errors.Join(failed, c.print(a, all))
}

// glanced is how many documents of a namespace are read for a glance at it.
const glanced = 1000

// glance looks at a namespace, by a sample where it is large.
func (a *app) glance(ctx context.Context, cfg kv.Config, namespace string) (f figures, err error) {
	err = a.look(ctx, cfg, namespace, func(ctx context.Context, s kv.Store) error {
		found, err := kv.Inspect(ctx, s, kv.InspectOptions{Sample: glanced, Biggest: 1})
		f = figures{Namespace: namespace, Backend: inEffect(cfg, "STORAGE_KV_BACKEND"), Documents: found.Documents,
			Bytes: found.Bytes, Expiring: int(found.TTL.Count)}
		if found.Sampled < found.Documents {
			f.Sampled = found.Sampled
			f.Expiring = int(share(found.TTL.Count, uint64(found.Sampled)) * float64(found.Documents))
		}
		return err
	})
	return f, err
}

// share is the part that n is of all.
func share(n, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return float64(n) / float64(all)
}

// about marks what is taken from a sample.
func (f figures) about(text string) string {
	if f.Sampled > 0 {
		return "~" + text
	}
	return text
}

func (c *statsCmd) print(a *app, all []figures) error {
	if c.JSON {
		return jsonLines(a.out, all)
	}
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	files := all[0].FileBytes != nil
	fmt.Fprint(w, "NAMESPACE\tDOCUMENTS\tBYTES\tEXPIRE")
	if files {
		fmt.Fprint(w, "\tFILE\tJOURNAL")
	}
	for _, f := range all {
		fmt.Fprintf(w, "\n%s\t%d\t%s\t%s", f.Namespace, f.Documents, f.about(size(f.Bytes)), f.about(fmt.Sprint(f.Expiring)))
		if files {
			fmt.Fprintf(w, "\t%s\t%s", size(*f.FileBytes), size(*f.JournalBytes))
		}
	}
	fmt.Fprintln(w)
	return w.Flush()
}
