package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvmove"
)

// status says how the files and Redis stand to each other.
func (c *migrateCmd) status(ctx context.Context, a *app) error {
	var all []kvmove.State
	failed := a.compare(ctx, c.Namespaces, func(name string, files, redis *side) error {
		return both(ctx, name, files, redis, func(ours, theirs kv.Store) error {
			state, err := kvmove.Status(ctx, ours, theirs)
			if err == nil {
				all = append(all, state)
			}
			return err
		})
	})
	failed = errors.Join(failed, c.printStatus(a, all))
	if failed == nil && slices.ContainsFunc(all, func(s kvmove.State) bool { return !s.Level() }) {
		return &failure{code: exitNothing} // The list says why.
	}
	return failed
}

func (c *migrateCmd) printStatus(a *app, all []kvmove.State) error {
	if c.JSON {
		return jsonLines(a.out, all)
	}
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tFILES\tREDIS\tALIKE\tFILES AHEAD\tREDIS AHEAD\tCONFLICTS\tLAST IN COMMON")
	for _, s := range all {
		last := "never"
		if !s.Base.IsZero() {
			last = s.Base.UTC().Format(time.DateTime) + " UTC"
		}
		if s.Older {
			last += ", and the files are older"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", s.Namespace, s.Files, s.Redis, s.Alike, s.FilesAhead, s.RedisAhead, s.Conflicts, last)
	}
	return w.Flush()
}
