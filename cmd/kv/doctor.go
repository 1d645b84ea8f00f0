package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/ngraf/kv"
)

type doctorCmd struct {
	Namespaces []string `arg:"" name:"namespace" optional:"" help:"Namespaces. Without one: all (files), or the four of nano-graphrag (Redis)."`
	JSON       bool     `name:"json" help:"Print each finding as a JSON object on a line of its own."`
}

// finding is a kv.Finding as doctor prints it: one for all namespaces that it
// was found with.
type finding struct {
	Code       string      `json:"code"`
	Severity   kv.Severity `json:"severity"`
	Where      string      `json:"where"`
	Namespaces []string    `json:"namespaces"`
	Text       string      `json:"text"`
	Remedy     string      `json:"remedy"`
}

func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	namespaces, err := c.namespaces(ctx, a, cfg)
	if err != nil {
		return err
	}
	var all []finding
	var looked []string
	failed := a.within(ctx, func(ctx context.Context) (err error) {
		all, looked, err = examine(ctx, cfg, namespaces, kv.WithLogger(slog.New(withoutFindings{a.handler(), slog.LevelError + 1})))
		return err
	})
	if c.JSON {
		failed = errors.Join(failed, jsonLines(a.out, all))
	} else {
		printFindings(a, cfg, all, looked)
	}
	if failed == nil && slices.ContainsFunc(all, func(f finding) bool { return f.Severity >= kv.SeverityDanger }) {
		return &failure{code: exitNothing} // The findings say why.
	}
	return failed
}

// namespaces are those that are named or, on files, those that there are. On
// Redis a list of them would cost a walk over all keys.
func (c *doctorCmd) namespaces(ctx context.Context, a *app, cfg kv.Config) ([]string, error) {
	switch {
	case len(c.Namespaces) > 0:
		for _, namespace := range c.Namespaces {
			a.exists(cfg, namespace)
		}
		return c.Namespaces, nil
	case !isJSON(cfg):
		return demoNamespaces, nil
	}
	return a.namespaces(ctx, cfg)
}

// examine checks namespaces through one factory. One that does not open does
// not hide the others.
func examine(ctx context.Context, cfg kv.Config, namespaces []string, log kv.Option) (all []finding, looked []string, err error) {
	factory, err := kv.NewFactory(cfg, kv.WithReadOnly(), log)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, factory.Close()) }()
	for _, namespace := range namespaces {
		store, failed := factory.Open(ctx, namespace)
		if failed != nil {
			err = errors.Join(err, failed)
			if errors.Is(failed, kv.ErrUnavailable) || ctx.Err() != nil {
				break // So it is for all.
			}
			continue
		}
		for _, f := range kv.Check(ctx, store) {
			all = collect(all, f)
		}
		looked = append(looked, namespace)
		err = errors.Join(err, store.Close(), ctx.Err())
	}
	slices.SortStableFunc(all, func(a, b finding) int {
		return cmp.Or(strings.Compare(a.Where, b.Where), cmp.Compare(b.Severity, a.Severity), strings.Compare(a.Code, b.Code))
	})
	return all, looked, err
}

// collect adds a finding, unless another namespace had the same.
func collect(all []finding, f kv.Finding) []finding {
	names := []string{}
	if f.Namespace != "" {
		names = append(names, f.Namespace)
	}
	for i, other := range all {
		if other.Code == f.Code && other.Where == f.Where && (f.Namespace == "" || other.Text == f.Text) {
			all[i].Namespaces = append(other.Namespaces, names...)
			return all
		}
	}
	return append(all, finding{f.Code, f.Severity, f.Where, names, f.Text, f.Remedy})
}

func printFindings(a *app, cfg kv.Config, all []finding, looked []string) {
	if len(looked) == 0 {
		return
	}
	where := "-"
	counts := make(map[kv.Severity]int)
	for _, f := range all {
		counts[f.Severity]++
		if f.Where != where {
			where = f.Where
			fmt.Fprintf(a.out, "%s\n", cmp.Or(where, "settings"))
		}
		fmt.Fprintf(a.out, "  %-8s %s", f.Severity, f.Code)
		if len(f.Namespaces) > 0 {
			fmt.Fprintf(a.out, " (%s)", strings.Join(f.Namespaces, ", "))
		}
		fmt.Fprintf(a.out, "\n           %s\n           %s\n", f.Text, f.Remedy)
	}
	if len(all) > 0 {
		fmt.Fprintln(a.out)
	}
	fmt.Fprintf(a.out, "%s, looked at %s: danger %d, warning %d, info %d\n", inEffect(cfg, "STORAGE_KV_BACKEND"), strings.Join(looked, ", "),
		counts[kv.SeverityDanger], counts[kv.SeverityWarning], counts[kv.SeverityInfo])
}

// withoutFindings drops what an Open logs of its findings below a level.
type withoutFindings struct {
	slog.Handler
	below slog.Level
}

func (h withoutFindings) Handle(ctx context.Context, r slog.Record) error {
	isFinding := false
	r.Attrs(func(attr slog.Attr) bool {
		isFinding = isFinding || attr.Key == "code"
		return !isFinding
	})
	if isFinding && r.Level < h.below {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h withoutFindings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withoutFindings{h.Handler.WithAttrs(attrs), h.below}
}
