package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ngraf/kv"
)

type rmCmd struct {
	Namespace string   `arg:"" help:"Namespace."`
	ID        []string `arg:"" name:"id" help:"Ids of the documents."`
}

func (c *rmCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	n := 0
	if a.exists(cfg, c.Namespace) { // Else opening it would make its files.
		err = a.with(ctx, cfg, c.Namespace, func(ctx context.Context, s kv.Store) error {
			n, err = s.Delete(ctx, c.ID...)
			return err
		})
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, n)
	if n == 0 {
		return failf(exitNothing, "nothing was removed: %s has no such document", c.Namespace)
	}
	return nil
}

type dropCmd struct {
	Namespace string `arg:"" help:"Namespace."`
	Yes       bool   `short:"y" help:"Do not ask."`
}

func (c *dropCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if !c.Yes && !a.std.terminal {
		return failf(exitNothing, "drop removes all of %s and cannot ask here; say --yes if that is meant", c.Namespace)
	}
	if !a.exists(cfg, c.Namespace) {
		return failf(exitNothing, "nothing was removed")
	}
	c.beside(a, cfg)
	if !c.Yes {
		if err := c.confirm(ctx, a, cfg); err != nil {
			return err
		}
	}
	err = a.with(ctx, cfg, c.Namespace, func(ctx context.Context, s kv.Store) error { return s.Drop(ctx) })
	if err == nil {
		fmt.Fprintln(a.out, "dropped "+c.Namespace)
	}
	return err
}

// beside says what to drop a namespace on Redis means for its files, which stay.
func (c *dropCmd) beside(a *app, cfg kv.Config) {
	if inEffect(cfg, "STORAGE_KV_BACKEND") != "redis" {
		return
	}
	cfg.Backend = "json"
	names, err := a.list(context.Background(), cfg)
	if err != nil || !slices.Contains(names, c.Namespace) {
		return // What cannot be listed cannot come back either.
	}
	a.note("the files of %s in %s stay as they are. Of their documents those that Redis has had stay gone, and the others come to Redis "+
		"when a service next opens %[1]s there, unless STORAGE_KV_MIGRATE=off; with STORAGE_KV_BACKEND=json services find all of them", c.Namespace, workingDir(cfg))
}

// confirm asks for the namespace by name: a y is typed too easily.
func (c *dropCmd) confirm(ctx context.Context, a *app, cfg kv.Config) error {
	n, err := a.count(ctx, cfg, c.Namespace)
	if err != nil {
		return err
	}
	where := "on " + inEffect(cfg, "REDIS_URL") + " under " + inEffect(cfg, "REDIS_KEY_PREFIX")
	if isJSON(cfg) {
		where = "in " + workingDir(cfg)
	}
	_, _ = fmt.Fprintf(a.std.err, "This removes all %d documents of %s %s.\nType the namespace to confirm: ", n, c.Namespace, where)
	answer, _ := await(ctx, func() (string, error) { return bufio.NewReader(a.std.in).ReadString('\n') })
	if !strings.HasSuffix(answer, "\n") {
		_, _ = fmt.Fprintln(a.std.err)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case strings.TrimSpace(answer) != c.Namespace: // At the end of the input, too.
		return failf(exitNothing, "not confirmed; nothing was removed")
	}
	return nil
}
