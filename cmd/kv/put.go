package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonscan"
)

type putCmd struct {
	Namespace string  `arg:"" help:"Namespace."`
	ID        string  `arg:"" name:"id" help:"Id of the document."`
	Value     *string `arg:"" optional:"" help:"The JSON value; @FILE to read it from a file; - or nothing to read it from stdin."`
	TTL       *span   `name:"ttl" placeholder:"12h" help:"Time to live in place of the namespace's: seconds, or a duration. 0: for ever."`
	IfAbsent  bool    `name:"if-absent" help:"Leave a document that is there alone; the exit code is then 1."`
}

// maxValue is the most that the library can be told to accept. What its
// setting says is for the library to check.
const maxValue = 512 << 20

// maxDepth is the library's. A value that is refused here has not made a
// directory or a lock file.
const maxDepth = 512

func (c *putCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	value, err := c.value(ctx, a)
	if err != nil {
		return err
	}
	if c.TTL != nil { // The namespace's time to live goes for Upsert and for Insert.
		cfg.TTL = maps.Clone(cfg.TTL)
		if cfg.TTL == nil {
			cfg.TTL = make(map[string]time.Duration)
		}
		cfg.TTL[c.Namespace] = time.Duration(*c.TTL)
	}
	return a.with(ctx, cfg, c.Namespace, func(ctx context.Context, s kv.Store) error {
		items := map[string]json.RawMessage{c.ID: value}
		if !c.IfAbsent {
			return s.Upsert(ctx, items)
		}
		inserter, ok := kv.As[kv.Inserter](s)
		if !ok {
			return failf(exitInvalid, "this backend has no --if-absent")
		}
		n, err := inserter.Insert(ctx, items)
		if err == nil && n == 0 {
			err = failf(exitNothing, "%s has a document %s already; it was left as it is", c.Namespace, quoted(c.ID))
		}
		return err
	})
}

// value reads and checks the value.
func (c *putCmd) value(ctx context.Context, a *app) (json.RawMessage, error) {
	var text []byte
	var err error
	switch {
	case c.Value == nil || *c.Value == "-":
		if a.std.terminal {
			a.note("type the JSON value, then Enter and Ctrl-D (Ctrl-Z on Windows)")
		}
		text, err = a.read(ctx)
	case strings.HasPrefix(*c.Value, "@"):
		text, err = readFile((*c.Value)[1:])
	default:
		text = []byte(*c.Value)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, failf(exitInvalid, "cannot read the value: %v", err)
	case len(text) > maxValue:
		return nil, failf(exitInvalid, "the value has more than %d bytes, the limit of Redis", maxValue)
	case strings.TrimSpace(string(text)) == "":
		return nil, failf(exitInvalid, "the value is empty; give JSON, such as '{\"content\":\"hello\"}' or '\"hello\"'")
	}
	var syntax *jsonscan.Error
	if err := jsonscan.Check(text, maxDepth); errors.As(err, &syntax) {
		return nil, failf(exitInvalid, "the value is not JSON: %s at byte %d; a text needs double quotes, as in '\"hello\"'", syntax.Msg, syntax.Offset)
	}
	return text, nil
}

// read reads all of stdin. It does not wait for it when ctx is done: nobody
// can interrupt a read of a terminal.
func (a *app) read(ctx context.Context) ([]byte, error) {
	return await(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(a.std.in, maxValue+1)) })
}

func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

func readFile(path string) (text []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if text, err = io.ReadAll(io.LimitReader(f, maxValue+1)); err != nil {
		return nil, err
	}
	return text, nil
}
