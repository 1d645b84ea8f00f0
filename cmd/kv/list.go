package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/ngraf/kv"
)

type lsCmd struct {
	Namespace *string `arg:"" optional:"" help:"Namespace whose ids to list. Without it: which namespaces there are."`
	JSON      bool    `name:"json" xor:"form" help:"Print each id as a JSON string."`
	Null      bool    `short:"0" xor:"form" help:"End each id with a NUL byte in place of a newline, for xargs -0."`
}

func (c *lsCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if c.Namespace == nil {
		names, err := a.namespaces(ctx, cfg)
		for _, name := range names {
			if err := c.print(a, name); err != nil {
				return err
			}
		}
		return err
	}
	return a.look(ctx, cfg, *c.Namespace, func(ctx context.Context, s kv.Store) error {
		a.exists(cfg, *c.Namespace)
		for id, err := range s.Keys(ctx) {
			if err == nil {
				err = c.print(a, id)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *lsCmd) print(a *app, id string) error {
	line := id + "\n"
	switch {
	case c.Null && strings.ContainsRune(id, 0):
		return failf(exitInvalid, "an id holds a NUL byte, so that -0 cannot tell where it ends; use --json")
	case c.Null:
		line = id + "\x00"
	case c.JSON || !safeLine(id):
		line = quoted(id) + "\n"
	}
	_, err := a.out.WriteString(line)
	return err
}

// safeLine reports whether an id can stand on a line for itself, and cannot
// be taken for a JSON string. Control characters could also play tricks on a
// terminal.
func safeLine(id string) bool {
	return id != "" && id[0] != '"' && !strings.ContainsFunc(id, unsafeRune)
}

func unsafeRune(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// quoted is the JSON string of an id, with escapes for all that is unsafe.
func quoted(id string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(id) // A string can be encoded.
	var out strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if unsafeRune(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

type countCmd struct {
	Namespace string `arg:"" help:"Namespace."`
}

func (c *countCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	n, err := a.count(ctx, cfg, c.Namespace)
	if err != nil {
		return err
	}
	a.exists(cfg, c.Namespace)
	fmt.Fprintln(a.out, n)
	return nil
}

func (a *app) count(ctx context.Context, cfg kv.Config, namespace string) (n int, err error) {
	err = a.look(ctx, cfg, namespace, func(ctx context.Context, s kv.Store) error {
		for _, err := range s.Keys(ctx) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}
