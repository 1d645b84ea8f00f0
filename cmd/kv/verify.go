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

type verifyCmd struct {
	Namespaces []string `arg:"" name:"namespace" optional:"" help:"Namespaces. Without one: all that either side has."`
	JSON       bool     `name:"json" help:"Print a JSON object for each namespace, on a line of its own."`
}

// A verified is what verify says of one namespace.
type verified struct {
	Namespace   string              `json:"namespace"`
	Files       kvmove.Contents     `json:"files"`
	Redis       kvmove.Contents     `json:"redis"`
	Differences []kvmove.Difference `json:"differences"`
	Duration    time.Duration       `json:"duration_ns"`
}

func (c *verifyCmd) Run(ctx context.Context, a *app) error {
	var all []verified
	failed := a.compare(ctx, c.Namespaces, func(name string, files, redis *side) error {
		v, err := c.one(ctx, a, name, files, redis)
		if err == nil {
			all = append(all, v)
		}
		return err
	})
	failed = errors.Join(failed, c.print(a, all))
	if failed == nil && slices.ContainsFunc(all, func(v verified) bool { return len(v.Differences) > 0 }) {
		return &failure{code: exitNothing} // The list says why.
	}
	return failed
}

func (c *verifyCmd) one(ctx context.Context, a *app, namespace string, files, redis *side) (v verified, err error) {
	err = both(ctx, namespace, files, redis, func(ours, theirs kv.Store) error {
		bar := a.progress("comparing " + namespace)
		defer bar.end()
		report, err := kvmove.Verify(ctx, watched{ours, bar}, theirs)
		if err != nil {
			return err
		}
		v = verified{namespace, report.A, report.B, []kvmove.Difference{}, report.Duration}
		for _, d := range report.Differences {
			if d.Kind == kvmove.OtherTTL {
				given, err := c.given(ctx, d.ID, ours, theirs, lifetime(redis.cfg, namespace))
				if err != nil {
					return err
				}
				if given {
					continue
				}
			}
			v.Differences = append(v.Differences, kvmove.Difference{ID: d.ID, Kind: inWords(d.Kind)})
		}
		return nil
	})
	return v, err
}

// given reports whether a document has the time to live that Redis gives to
// those of its namespace, and none in the files, as Python writes them.
func (c *verifyCmd) given(ctx context.Context, id string, files, redis kv.Store, lifetime time.Duration) (bool, error) {
	ours, err := ttlOf(ctx, files, id)
	if err != nil || ours != 0 {
		return false, err
	}
	theirs, err := ttlOf(ctx, redis, id)
	return theirs > 0 && theirs <= lifetime, err
}

// ttlOf is 0, too, for what has gone since.
func ttlOf(ctx context.Context, s kv.Store, id string) (time.Duration, error) {
	expirer, ok := kv.As[kv.Expirer](s)
	if !ok {
		return 0, nil
	}
	ttl, err := expirer.TTL(ctx, id)
	if errors.Is(err, kv.ErrNotFound) {
		err = nil
	}
	return ttl, err
}

func inWords(kind kvmove.DifferenceKind) kvmove.DifferenceKind {
	switch kind {
	case kvmove.OnlyInA:
		return "only in the files"
	case kvmove.OnlyInB:
		return "only in Redis"
	case kvmove.OtherValue:
		return "another value"
	case kvmove.OtherTTL:
		return "another time to live"
	}
	return kind
}

func (c *verifyCmd) print(a *app, all []verified) error {
	if c.JSON {
		return jsonLines(a.out, all)
	}
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tFILES\tREDIS\tDIFFERENCES")
	n := 0
	for _, v := range all {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", v.Namespace, v.Files.Documents, v.Redis.Documents, len(v.Differences))
		n += len(v.Differences)
	}
	if err := w.Flush(); err != nil || n == 0 {
		return err
	}
	fmt.Fprintln(w, "\nNAMESPACE\tDIFFERENCE\tID")
	for _, v := range all {
		for _, d := range v.Differences {
			id := d.ID
			if !safeLine(id) {
				id = quoted(id)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", v.Namespace, d.Kind, id)
		}
	}
	return w.Flush()
}
