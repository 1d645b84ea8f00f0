package main

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ngraf/kv"
)

// A side is one of the two backends that the environment describes.
type side struct {
	app     *app
	cfg     kv.Config
	factory *kv.Factory
	called  string // for people
}

// side makes one, whatever STORAGE_KV_BACKEND says. The files are not imported
// by themselves: the commands that look at both sides would find them equal.
func (a *app) side(backend string, opts ...kv.Option) (*side, error) {
	if a.flags["STORAGE_KV_BACKEND"] != "" {
		return nil, failf(exitInvalid, "--backend is for the other commands; this one works on both backends")
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	cfg.Backend, cfg.NoMigrate = backend, true
	s := &side{app: a, cfg: cfg, called: "Redis"}
	if isJSON(cfg) {
		s.called = "the files"
	}
	s.factory, err = kv.NewFactory(cfg, append(opts, kv.WithLogger(a.logger()))...)
	return s, err
}

// open opens a namespace. Only that is bound by the timeout: how long a copy
// takes is nobody's fault.
func (s *side) open(ctx context.Context, namespace string) (store kv.Store, err error) {
	err = s.app.within(ctx, func(ctx context.Context) error {
		store, err = s.factory.Open(ctx, namespace)
		return err
	})
	return store, err
}

func (s *side) namespaces(ctx context.Context) (names []string, err error) {
	err = s.app.within(ctx, func(ctx context.Context) error {
		names, err = s.factory.Namespaces(ctx)
		return err
	})
	return names, err
}

// needed refuses files that cannot be read since they are not there.
func (s *side) needed() error {
	if !isJSON(s.cfg) {
		return nil
	}
	if _, err := os.Stat(workingDir(s.cfg)); errors.Is(err, fs.ErrNotExist) {
		return noDirectory(s.cfg)
	}
	return nil
}

// A watched store tells a progress which ids it has listed.
type watched struct {
	kv.Store
	bar *progress
}

func (w watched) Unwrap() kv.Store { return w.Store }

func (w watched) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		n := int64(0)
		for id, err := range w.Store.Keys(ctx) {
			if !yield(id, err) {
				return
			}
			n++
			w.bar.at(n, 0)
		}
	}
}

// lifetime is the time to live of new documents in a namespace.
func lifetime(cfg kv.Config, namespace string) time.Duration {
	name := strings.NewReplacer("-", "_", ".", "_").Replace(namespace)
	d, err := time.ParseDuration(inEffect(cfg, "STORAGE_TTL_"+strings.ToUpper(name)))
	if err != nil {
		return 0 // It is not listed: for ever.
	}
	return d
}

func (s *side) close() error { return s.factory.Close() }

// both opens a namespace on two sides for the time of use.
func both(ctx context.Context, namespace string, a, b *side, use func(a, b kv.Store) error) (err error) {
	first, err := a.open(ctx, namespace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, first.Close()) }()
	second, err := b.open(ctx, namespace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, second.Close()) }()
	return use(first, second)
}

// compare looks at namespaces on both sides, at one after the other. It goes on
// after an error, unless the next would be the same.
func (a *app) compare(ctx context.Context, named []string, look func(namespace string, files, redis *side) error) (err error) {
	files, err := a.side("json", kv.WithReadOnly())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.close()) }()
	redis, err := a.side("redis", kv.WithReadOnly())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, redis.close()) }()
	names, err := ofEither(ctx, named, files, redis)
	if err != nil {
		return err
	}
	var failed error
	for _, name := range names {
		err := look(name, files, redis)
		failed = errors.Join(failed, err)
		if err != nil && hopeless(ctx, err) {
			break
		}
	}
	return failed
}

// ofEither are the namespaces that were named, or all that either side has.
func ofEither(ctx context.Context, named []string, files, redis *side) ([]string, error) {
	if err := files.needed(); err != nil {
		return nil, err
	}
	if len(named) > 0 {
		for _, name := range named {
			files.app.exists(files.cfg, name)
		}
		return named, nil
	}
	ours, err := files.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	theirs, err := redis.namespaces(ctx)
	if err == nil && len(ours)+len(theirs) == 0 {
		files.app.note("there are no %s, and no %s", place(files.cfg), place(redis.cfg))
	}
	return union(ours, theirs), err
}

// union is what is in one of two lists, sorted.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// hopeless reports whether an error would be that of the next namespace, too.
func hopeless(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, kv.ErrUnavailable) || errors.As(err, new(*slowError))
}
