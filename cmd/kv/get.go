package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonscan"
)

type getCmd struct {
	Namespace string   `arg:"" help:"Namespace."`
	ID        []string `arg:"" name:"id" help:"Ids of the documents."`
	Field     []string `sep:"none" placeholder:"NAME" help:"Print only this member of each object; may be repeated."`
	WithID    bool     `name:"with-id" help:"Print {\"id\":...,\"value\":...} for each document."`
	Indent    bool     `help:"Lay documents out over several lines, as in the document files."`
}

// getPage bounds how many documents are held in memory.
const getPage = 64

func (c *getCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	return a.look(ctx, cfg, c.Namespace, func(ctx context.Context, s kv.Store) error {
		var failed error
		for ids := range slices.Chunk(c.ID, getPage) {
			err := c.page(ctx, a, s, ids)
			if own := (*failure)(nil); err != nil && !errors.As(err, &own) && !errors.Is(err, kv.ErrCorrupt) {
				return err
			}
			failed = errors.Join(failed, err)
		}
		if failed != nil && !errors.Is(failed, kv.ErrCorrupt) {
			a.exists(cfg, c.Namespace)
		}
		return failed
	})
}

// page prints some documents, and reports those that it cannot.
func (c *getCmd) page(ctx context.Context, a *app, s kv.Store, ids []string) error {
	values, err := s.GetMany(ctx, ids, c.Field...)
	if values == nil {
		return err
	}
	var nothing []string
	for i, value := range values {
		if value == nil {
			nothing = append(nothing, ids[i])
		} else if err := c.print(a, ids[i], value); err != nil {
			return err
		}
	}
	if len(nothing) == 0 {
		return err
	}
	absent, failed := s.Missing(ctx, nothing)
	if failed != nil {
		return failed
	}
	for _, id := range nothing {
		if slices.Contains(absent, id) {
			err = errors.Join(err, failf(exitNothing, "not found: %s has no document %s", c.Namespace, quoted(id)))
		} else {
			err = errors.Join(err, failf(exitCorrupt, "corrupt: the document %s of %s", quoted(id), c.Namespace))
		}
	}
	return err
}

func (c *getCmd) print(a *app, id string, value json.RawMessage) error {
	line := jsonscan.AppendCompact(nil, value)
	if c.WithID {
		line = append(append([]byte(`{"id":`+quoted(id)+`,"value":`), line...), '}')
	}
	if c.Indent {
		line = jsonscan.AppendIndent(nil, line, "")
	}
	_, err := a.out.Write(append(line, '\n'))
	return err
}
