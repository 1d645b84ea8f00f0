package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ngraf/kv"
)

// An app is what the commands share.
type app struct {
	std     streams
	out     *bufio.Writer
	held    *heldWriter
	environ map[string]string // with the flags laid over it
	flags   map[string]string // variable to the flag that set it
	timeout time.Duration
	warned  map[string]bool
}

func newApp(c *cli, environ []string, std streams) *app {
	a := &app{
		std:     std,
		held:    &heldWriter{w: std.out},
		environ: make(map[string]string),
		flags:   make(map[string]string),
		timeout: time.Duration(c.Timeout),
		warned:  make(map[string]bool),
	}
	a.out = bufio.NewWriter(a.held)
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			a.environ[name] = value
		}
	}
	if c.Backend != nil {
		a.environ["STORAGE_KV_BACKEND"], a.flags["STORAGE_KV_BACKEND"] = *c.Backend, "--backend"
	}
	if c.Dir != nil {
		a.environ["STORAGE_WORKING_DIR"], a.flags["STORAGE_WORKING_DIR"] = *c.Dir, "--dir"
	}
	return a
}

// config reads the configuration. What could be read comes with the error.
func (a *app) config() (kv.Config, error) {
	var entries []string
	for name, value := range a.environ {
		entries = append(entries, name+"="+value)
	}
	return kv.FromLookup(func(name string) (string, bool) {
		value, ok := a.environ[name]
		return value, ok
	}, entries)
}

// inEffect returns what a variable comes to in cfg, defaults included.
func inEffect(cfg kv.Config, variable string) string {
	for _, s := range cfg.Settings() {
		if s.Variable == variable {
			return s.Value
		}
	}
	return ""
}

func isJSON(cfg kv.Config) bool        { return inEffect(cfg, "STORAGE_KV_BACKEND") == "json" }
func workingDir(cfg kv.Config) string  { return inEffect(cfg, "STORAGE_WORKING_DIR") }
func (a *app) handler() slog.Handler   { return &plainHandler{write: a.warn} }
func (a *app) note(f string, v ...any) { _, _ = fmt.Fprintf(a.std.err, "kv: note: "+f+"\n", v...) }

// logger leaves out the findings that no command but doctor is asked for.
func (a *app) logger() *slog.Logger { return slog.New(withoutFindings{a.handler(), slog.LevelError}) }

// warn says something once, however many namespaces it concerns.
func (a *app) warn(text string) {
	if !a.warned[text] {
		a.warned[text] = true
		_, _ = fmt.Fprintln(a.std.err, "kv: warning: "+text)
	}
}

// flush writes out what has been printed.
func (a *app) flush(err error) error {
	failed := a.out.Flush()
	if said := (*outputError)(nil); err == nil || errors.As(err, &said) {
		return cmp.Or(err, failed)
	}
	return errors.Join(err, failed)
}

// look opens a namespace for reading, which takes no lock and leaves no file.
func (a *app) look(ctx context.Context, cfg kv.Config, namespace string, use func(context.Context, kv.Store) error) error {
	if isJSON(cfg) {
		if _, err := os.Stat(workingDir(cfg)); errors.Is(err, fs.ErrNotExist) {
			return noDirectory(cfg)
		}
	}
	return a.with(ctx, cfg, namespace, use, kv.WithReadOnly())
}

func noDirectory(cfg kv.Config) error {
	return failf(exitInvalid, "there is no directory %s; name the one with the kv_store_*.json files by --dir or STORAGE_WORKING_DIR",
		workingDir(cfg))
}

// with opens a namespace for the time of use. The timeout covers all of it. No
// command brings files to Redis but those that are for it: who removes a
// document, or looks, has not asked for others to come.
func (a *app) with(ctx context.Context, cfg kv.Config, namespace string, use func(context.Context, kv.Store) error, opts ...kv.Option) error {
	cfg.NoMigrate = true
	return a.within(ctx, func(ctx context.Context) (err error) {
		store, err := kv.Open(ctx, cfg, namespace, append(opts, kv.WithLogger(a.logger()))...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		return use(ctx, store)
	})
}

// within ends the context of do when the timeout has passed. The clock stands
// still and starts anew with every write of output, since a pager that holds
// that up is not the backend's fault.
func (a *app) within(ctx context.Context, do func(context.Context) error) error {
	if a.timeout == 0 {
		return do(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := &slowError{limit: a.timeout}
	timer := time.AfterFunc(a.timeout, func() { cancel(slow) })
	defer timer.Stop()
	a.held.timer, a.held.limit = timer, a.timeout
	defer func() { a.held.timer = nil }()
	err := do(ctx)
	if err != nil && errors.Is(context.Cause(ctx), slow) {
		return &slowError{a.timeout, err}
	}
	return err
}

// A slowError says that the timeout has passed, and what that cut short.
type slowError struct {
	limit time.Duration
	err   error
}

func (e *slowError) Error() string { return fmt.Sprintf("the backend took longer than %v", e.limit) }
func (e *slowError) Unwrap() error { return e.err }

// A heldWriter stops a timer while it writes.
type heldWriter struct {
	w     io.Writer
	timer *time.Timer // nil: there is none
	limit time.Duration
}

func (h *heldWriter) Write(p []byte) (int, error) {
	if h.timer != nil && h.timer.Stop() {
		defer h.timer.Reset(h.limit)
	}
	n, err := h.w.Write(p)
	if err != nil {
		err = &outputError{err}
	}
	return n, err
}

// An outputError tells a broken pipe on stdout from one of the backend's.
type outputError struct{ err error }

func (e *outputError) Error() string { return "cannot write the output: " + e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

// A plainHandler makes a sentence of what the library logs as a warning.
type plainHandler struct {
	write func(text string)
	attrs []slog.Attr
}

func (h *plainHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (h *plainHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(attr slog.Attr) bool {
		attrs = append(attrs, attr)
		return true
	})
	var b strings.Builder
	b.WriteString(strings.TrimPrefix(r.Message, "kv: "))
	for i, attr := range attrs {
		fmt.Fprintf(&b, "%s%s", []string{" (", ", "}[min(i, 1)], attr)
	}
	if len(attrs) > 0 {
		b.WriteString(")")
	}
	h.write(b.String())
	return nil
}

func (h *plainHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &plainHandler{h.write, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup is not needed: the library has no groups.
func (h *plainHandler) WithGroup(string) slog.Handler { return h }

// jsonLines prints a list for other programs: an object a line.
func jsonLines[T any](w io.Writer, list []T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, item := range list {
		if err := enc.Encode(item); err != nil {
			return err
		}
	}
	return nil
}
