package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvmove"
)

type migrateCmd struct {
	Namespaces []string `arg:"" name:"namespace" optional:"" help:"Namespaces. Without one: all that the source has."`
	To         string   `enum:",json,redis" default:"" placeholder:"BACKEND" help:"Where the documents go, json or redis; they come from the other one."`
	Status     bool     `help:"Say how both sides stand to each other, and change nothing. The exit code is 1 if one is ahead or they conflict."`
	Conflicts  string   `enum:"leave,files,redis,fail" default:"leave" placeholder:"WHOSE" help:"Of documents that both sides have changed: leave them as they are, let the files or redis be right, or fail at the first. Default leave."`
	Delete     bool     `help:"To redis: also remove there what was removed from the files since both had it."`
	Mirror     bool     `help:"Make the destination have what the source has, whatever either side wrote since."`
	DryRun     bool     `name:"dry-run" help:"Write nothing, and say what would be done."`
	NoVerify   bool     `name:"no-verify" help:"Do not compare both sides in the end."`
	JSON       bool     `name:"json" help:"Print a JSON object for each namespace, on a line of its own."`
}

// Validate is called by kong.
func (c *migrateCmd) Validate() error {
	switch {
	case c.Status && (c.To != "" || c.Mirror || c.Delete || c.DryRun || c.NoVerify || c.Conflicts != "leave"):
		return errors.New("--status changes nothing, and goes with --json and namespaces alone")
	case !c.Status && c.To == "":
		return errors.New("say by --to json or --to redis where the documents go; or --status, to see how both sides stand")
	case c.Mirror && (c.Delete || c.Conflicts != "leave"):
		return errors.New("--mirror decides everything for the source, and goes with neither --conflicts nor --delete")
	case c.Delete && c.To != "redis":
		return errors.New("--delete is for --to redis; to json, what was removed from Redis is removed from the files anyway")
	}
	return nil
}

// A migration is one run of kv migrate.
type migration struct {
	*app
	cmd      *migrateCmd
	src, dst *side
	reports  []kvmove.Report
}

func (c *migrateCmd) Run(ctx context.Context, a *app) (err error) {
	if c.Status {
		return c.status(ctx, a)
	}
	m := &migration{app: a, cmd: c}
	from, opts := "redis", []kv.Option{}
	if c.To == "redis" {
		from = "json"
	}
	if c.DryRun {
		opts = append(opts, kv.WithReadOnly())
	}
	if m.src, err = a.side(from, kv.WithReadOnly()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.src.close()) }()
	if m.dst, err = a.side(c.To, opts...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.dst.close()) }()
	if c.DryRun {
		if err := m.dst.needed(); err != nil {
			return err
		}
	}
	names, err := m.names(ctx)
	if err != nil {
		return err
	}
	failed := m.all(ctx, names)
	return errors.Join(failed, m.print())
}

// names are the namespaces to copy.
func (m *migration) names(ctx context.Context) ([]string, error) {
	if err := m.src.needed(); err != nil {
		return nil, err
	}
	if len(m.cmd.Namespaces) > 0 {
		for _, name := range m.cmd.Namespaces {
			m.exists(m.src.cfg, name)
		}
		return m.cmd.Namespaces, nil
	}
	names, err := m.src.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	theirs, err := m.dst.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(theirs, func(name string) bool { return slices.Contains(names, name) })
	if len(others) > 0 {
		m.note("there is nothing of %s in %s; what there is in %s is left alone", strings.Join(others, ", "), m.src.called, m.dst.called)
	}
	if len(names) == 0 {
		return nil, failf(exitNothing, "there is nothing to copy: no %s", place(m.src.cfg))
	}
	return names, nil
}

// all copies the namespaces in turn. One that fails does not keep back the
// others.
func (m *migration) all(ctx context.Context, names []string) (failed error) {
	for _, name := range names {
		err := m.one(ctx, name)
		failed = errors.Join(failed, err)
		if err != nil && hopeless(ctx, err) {
			break
		}
	}
	if failed != nil && !m.cmd.DryRun {
		failed = &resumable{failed, "both sides are sound; the same command again goes on from here"}
	}
	return failed
}

func (m *migration) one(ctx context.Context, namespace string) error {
	return both(ctx, namespace, m.src, m.dst, func(src, dst kv.Store) error {
		opts := m.options(namespace)
		if opts.Mirror || m.cmd.To == "json" {
			if err := m.refuseEmpty(ctx, namespace, src, dst); err != nil {
				return err
			}
		}
		bar := m.progress(namespace)
		verifying := false
		opts.Progress = func(p kvmove.Progress) {
			if p.Verifying && !verifying {
				verifying = true
				bar.end()
				bar = m.progress("comparing " + namespace)
			}
			bar.at(int64(p.Documents), int64(p.Total))
		}
		report, err := kvmove.Migrate(ctx, dst, src, opts)
		bar.end()
		m.reports = append(m.reports, report)
		return m.judge(report, err)
	})
}

func (m *migration) options(namespace string) kvmove.Options {
	opts := kvmove.Options{Mirror: m.cmd.Mirror, Delete: m.cmd.Delete, DryRun: m.cmd.DryRun, SkipVerify: m.cmd.NoVerify}
	from := map[string]string{"json": "redis", "redis": "files"}[m.cmd.To]
	switch m.cmd.Conflicts {
	case "leave":
		opts.OnConflict = kvmove.Skip
	case "fail":
		opts.OnConflict = kvmove.Fail
	case from:
		opts.OnConflict = kvmove.Overwrite
	default:
		opts.OnConflict = kvmove.Keep
	}
	if m.cmd.To == "redis" { // What Python wrote has no time to live in its file.
		opts.TTL = lifetime(m.src.cfg, namespace)
	}
	return opts
}

// refuseEmpty says in the words of the command line what the library would.
func (m *migration) refuseEmpty(ctx context.Context, namespace string, src, dst kv.Store) error {
	for _, s := range []kv.Store{src, dst} {
		for _, err := range s.Keys(ctx) {
			if err != nil || s == src {
				return err
			}
			return failf(exitInvalid, "there is nothing of %s in %s, so that everything of it would be removed from %s; if that is meant: kv --backend %s drop %s",
				namespace, m.src.called, m.dst.called, m.cmd.To, namespace)
		}
	}
	return nil
}

// judge adds to what the library says of a namespace what the user can do. What
// is left undone that somebody has to decide about is a failure.
func (m *migration) judge(report kvmove.Report, err error) error {
	namespace, n := report.Namespace, report.Refused
	if e := (*kv.Error)(nil); m.cmd.Conflicts == "fail" && errors.As(err, &e) && e.ID != "" && !ofKind(err) {
		return failf(exitNothing, "the document %s of %s has another value in %s; it was left alone, and nothing more was copied", quoted(e.ID), namespace, m.dst.called)
	}
	if report.Older && m.cmd.To == "redis" {
		err = errors.Join(err, failf(exitNothing, "the files of %s are a copy from before Redis and they last had something in common, as after a backup was put back; "+
			"nothing was taken from them; if they are right: --mirror", namespace))
	}
	if report.Skipped > 0 && m.cmd.Conflicts == "leave" { // Else somebody has decided.
		err = errors.Join(err, failf(exitNothing, "%d documents of %s were changed in the files and in Redis; they stay as they are on both sides, "+
			"kv verify %[2]s lists them, --conflicts=files or --conflicts=redis says who is right", report.Skipped, namespace))
	}
	if n > 0 {
		err = errors.Join(err, failf(exitNothing, "%d documents of %s are not JSON and stay behind in %s; kv verify %s lists them",
			n, namespace, m.src.called, namespace))
	}
	if m.cmd.To == "json" && report.AheadInFile > 0 {
		m.note("%d documents of %s were written to the files, and Redis does not have them so; they stay in the files", report.AheadInFile, namespace)
	}
	if m.cmd.To == "redis" && report.AheadInRedis > 0 {
		m.note("%d documents of %s were written to or removed from Redis alone; they stay so there, and kv migrate --to json takes them to the files", report.AheadInRedis, namespace)
	}
	if m.cmd.To == "redis" && report.AheadInFile > 0 {
		m.note("%d documents of %s were removed from the files, and stay in Redis; --delete removes them there", report.AheadInFile, namespace)
	}
	return err
}

// ofKind reports whether an error is something else than a conflict.
func ofKind(err error) bool {
	return slices.ContainsFunc([]error{kv.ErrUnavailable, kv.ErrInvalid, kv.ErrCorrupt, kv.ErrLocked, context.Canceled}, func(kind error) bool {
		return errors.Is(err, kind)
	})
}

func (m *migration) print() error {
	if m.cmd.JSON {
		enc := json.NewEncoder(m.out)
		enc.SetEscapeHTML(false)
		for _, r := range m.reports {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	if len(m.reports) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(m.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tCOPIED\tSAME\tOVERWRITTEN\tREMOVED\tEXPIRED\tCONFLICTS\tREFUSED\tVERIFIED")
	for _, r := range m.reports {
		verified := "no"
		switch {
		case m.cmd.DryRun, m.cmd.NoVerify:
			verified = "-"
		case r.Verified:
			verified = "yes"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", r.Namespace,
			r.Copied, r.Same, r.Overwritten, r.Removed, r.Expired, r.Skipped, r.Refused, verified)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if m.cmd.DryRun {
		fmt.Fprintln(m.out, "This was a dry run: nothing was written.")
	}
	for _, r := range m.reports {
		if r.Previous != "" {
			fmt.Fprintf(m.out, "The file of %s as it was before is %s.\n", r.Namespace, filepath.Join(workingDir(m.dst.cfg), r.Previous))
		}
	}
	return nil
}
