package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ngraf/kv"
)

type configCmd struct {
	JSON bool `name:"json" help:"Print one JSON object: {\"settings\":[...],\"warnings\":[...],\"problems\":[...]}."`
}

// setting is a kv.Setting as config --json prints it.
type setting struct {
	Variable string `json:"variable"`
	Value    string `json:"value"`
	Default  string `json:"default"`
	Source   string `json:"source"`
	Meaning  string `json:"meaning"`
}

func (c *configCmd) Run(_ context.Context, a *app) error {
	cfg, err := a.config()
	list := struct {
		Settings []setting `json:"settings"`
		Warnings []string  `json:"warnings"`
		Problems []string  `json:"problems"`
	}{[]setting{}, warnings(cfg), []string{}}
	for _, s := range cfg.Settings() {
		if s.Source == "set" {
			s.Source = cmp.Or(a.flags[s.Variable], "environment")
		}
		list.Settings = append(list.Settings, setting(s))
	}
	if err != nil {
		list.Problems = strings.Split(err.Error(), "\n")
	}
	if c.JSON {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return errors.Join(err, enc.Encode(list))
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VARIABLE\tVALUE\tSOURCE")
	for _, s := range list.Settings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Variable, cmp.Or(s.Value, "-"), s.Source)
	}
	if failed := w.Flush(); failed != nil {
		return errors.Join(err, failed)
	}
	for _, text := range list.Warnings {
		a.warn(text)
	}
	return a.flush(err)
}

// warnings are those that a factory logs when it is made, which is the only
// way to learn all of them. Nothing is opened.
func warnings(cfg kv.Config) []string {
	texts := []string{}
	logger := slog.New(&plainHandler{write: func(text string) { texts = append(texts, text) }})
	factory, err := kv.NewFactory(cfg, kv.WithLogger(logger))
	if err != nil {
		return append(texts, cfg.Warnings...)
	}
	_ = factory.Close() // It has opened nothing.
	return texts
}

type pingCmd struct{}

// pingNamespace is one that nobody has; on files its absence makes ping look
// at the directory alone.
const pingNamespace = "kv_ping"

func (pingCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	start := time.Now()
	err = a.look(ctx, cfg, pingNamespace, func(ctx context.Context, s kv.Store) error {
		if p, ok := kv.As[kv.Pinger](s); ok {
			if err := p.Ping(ctx); err != nil {
				return err
			}
		}
		took := time.Since(start).Round(10 * time.Microsecond)
		if isJSON(cfg) {
			fmt.Fprintf(a.out, "json: %s can be read (%v)\n", workingDir(cfg), took)
		} else {
			fmt.Fprintf(a.out, "%s: %s answers (%v)\n", inEffect(cfg, "STORAGE_KV_BACKEND"), inEffect(cfg, "REDIS_URL"), took)
		}
		return nil
	})
	// The namespace is none that the user has heard of.
	if e := (*kv.Error)(nil); errors.As(err, &e) && e.Namespace == pingNamespace && !errors.As(err, new(*slowError)) {
		err = fmt.Errorf("ping: %w", e.Err)
	}
	return err
}
