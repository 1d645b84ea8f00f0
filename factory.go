package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/merge"
	"github.com/ngraf/kv/internal/quietlog"
	"github.com/ngraf/kv/internal/redisstore"
)

// An OpenFunc opens a namespace in a backend that a program registered. The
// Config has been validated.
type OpenFunc func(ctx context.Context, cfg Config, namespace string) (Store, error)

var registry = struct {
	sync.Mutex
	open map[string]OpenFunc
}{open: make(map[string]OpenFunc)}

// Register makes a backend available under a name, as database/sql does for
// drivers. It panics if open is nil, the name is empty or the name is taken.
func Register(name string, open OpenFunc) {
	if name == "" || open == nil {
		panic("kv: Register needs a name and an OpenFunc")
	}
	if slices.Contains(Backends(), name) {
		panic(fmt.Sprintf("kv: the backend %q is registered already", name))
	}
	registry.Lock()
	defer registry.Unlock()
	registry.open[name] = open
}

// Backends returns the names of all backends, sorted.
func Backends() []string {
	registry.Lock()
	defer registry.Unlock()
	names := append(slices.Sorted(maps.Keys(registry.open)), "json", "redis")
	slices.Sort(names)
	return names
}

// An Option is behaviour that no variable can express.
type Option func(*options)

type options struct {
	logger   *slog.Logger
	client   redis.UniversalClient
	readonly bool
	unshared bool
}

// WithLogger sends what the library has to say to l in place of
// slog.Default(). It is never an id, a value or a secret, and a warning that
// repeats is passed on once in ten seconds. docs/monitoring.md lists all.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithReadOnly opens namespaces for looking only: every write fails with an
// error that matches [ErrInvalid]. A json namespace is then read as it is at
// that moment and without its lock, so that tools work while a service has
// it open, and a Redis namespace without importing files. Registered backends do not see this option.
func WithReadOnly() Option { return func(o *options) { o.readonly = true } }

// Open opens one namespace by itself: NewFactory and Factory.Open in one. The
// store owns all that it uses, and Close releases it. A program with more
// than one namespace uses a [Factory], so that they share one Redis client.
func Open(ctx context.Context, cfg Config, namespace string, opts ...Option) (Store, error) {
	f, err := NewFactory(cfg, opts...)
	if err != nil {
		return nil, err
	}
	f.single = true
	s, err := f.Open(ctx, namespace)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// A Factory opens the namespaces of one application. Its stores share one
// Redis client, and two stores of one namespace share the files. It is safe
// for concurrent use.
type Factory struct {
	cfg    Config
	opts   options
	single bool // the one store closes the factory

	client shared[*redisstore.Client]

	mu      sync.Mutex
	closed  bool
	keeps   bool             // a reference to client
	stores  map[Store]string // that are open, and their namespaces
	past    map[string]Stats // by namespace, of built-in stores that were closed
	engines map[string]*shared[engine.Engine]
	flights map[engine.Engine]*sharedFlights
	said    map[[3]string]bool // findings that have been logged
}

// Format keeps the configuration, and the passwords in it, out of every print.
func (f *Factory) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "kv.Factory{%s}", f.cfg.backend()) }

// NewFactory checks cfg and logs its warnings. It does no other input or
// output: connections and files are opened with the first store.
func NewFactory(cfg Config, opts ...Option) (*Factory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &Error{Op: "configure", Err: err}
	}
	f := &Factory{
		cfg:     cfg,
		stores:  make(map[Store]string),
		past:    make(map[string]Stats),
		engines: make(map[string]*shared[engine.Engine]),
		flights: make(map[engine.Engine]*sharedFlights),
		said:    make(map[[3]string]bool),
	}
	for _, opt := range opts {
		opt(&f.opts)
	}
	if f.opts.client != nil && cfg.backend() == "redis" && cfg.Redis.ClientCache != 0 {
		return nil, &Error{Op: "configure", Err: fault.Invalidf("REDIS_CLIENT_CACHE: the client of WithRedisClient comes with its own settings; leave the cache off")}
	}
	f.opts.logger = quietlog.WithoutRepeats(cmp.Or(f.opts.logger, slog.Default()))
	for _, warning := range cfg.warnings() {
		f.opts.logger.Warn("kv: " + warning)
	}
	return f, nil
}

// Open opens a namespace: it connects and pings, or locks and reads the file.
// On Redis it first imports what is missing there of the namespace's files, or
// waits for the process that does; see [Config.NoMigrate]. What a failed Open
// has imported stays, and the next goes on from there; otherwise it leaves
// nothing behind. The errors that it may match are
// [ErrInvalid], [ErrUnavailable], [ErrLocked], [ErrCorrupt], [ErrClosed] and
// that of ctx.
func (f *Factory) Open(ctx context.Context, namespace string) (Store, error) {
	s, err := f.open(ctx, namespace)
	if err != nil {
		return nil, opError("open", printable(namespace), err)
	}
	f.mu.Lock()
	closed := f.closed
	if !closed {
		f.stores[s] = namespace
	}
	f.mu.Unlock()
	if closed {
		return nil, errors.Join(&Error{Op: "open", Namespace: namespace, Err: ErrClosed}, s.Close())
	}
	return s, nil
}

// printable keeps what is not a namespace out of error texts.
func printable(namespace string) string {
	if engine.CheckNamespace(namespace) != nil {
		return ""
	}
	return namespace
}

func (f *Factory) open(ctx context.Context, namespace string) (Store, error) {
	if err := engine.CheckNamespace(namespace); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, ErrClosed
	}
	eng := f.engines[namespace]
	if eng == nil {
		eng = new(shared[engine.Engine])
		f.engines[namespace] = eng
	}
	f.mu.Unlock()

	var open func(context.Context) (engine.Engine, error)
	switch backend := f.cfg.backend(); backend {
	case "json":
		open = func(ctx context.Context) (engine.Engine, error) {
			e, err := jsonstore.Open(ctx, f.jsonOptions(namespace))
			if err != nil {
				return nil, err // And not an engine that is a nil.
			}
			return e, nil
		}
	case "redis":
		open = func(ctx context.Context) (engine.Engine, error) { return f.openRedis(ctx, namespace) }
	default:
		registry.Lock()
		other := registry.open[backend]
		registry.Unlock()
		return other(ctx, f.cfg, namespace)
	}
	e, err := eng.acquire(ctx, func(ctx context.Context) (engine.Engine, error) {
		e, err := open(ctx)
		if err == nil {
			f.sayFindings(ctx, e, namespace)
		}
		return e, err
	})
	if err != nil {
		return nil, err
	}
	s := &store{
		engine:    e,
		backend:   f.cfg.backend(),
		namespace: namespace,
		ttl:       f.cfg.ttlFor(namespace),
		maxValue:  f.cfg.maxValue(),
		readonly:  f.opts.readonly,
		flights:   f.flightsOf(e),
	}
	s.release = func() error { return f.release(s, eng) }
	return s, nil
}

// openRedis makes the factory's client with the first namespace. The factory
// keeps it until it is closed itself.
func (f *Factory) openRedis(ctx context.Context, namespace string) (engine.Engine, error) {
	client, o, err := f.acquireRedis(ctx)
	if err != nil {
		return nil, err
	}
	e := redisstore.New(client, o, namespace, f.client.release)
	err = e.Begin(ctx)
	if err == nil && !f.opts.readonly && !f.cfg.NoMigrate {
		err = merge.Open(ctx, merge.Options{
			Namespace: namespace,
			Dir:       f.cfg.workingDir(),
			Redis:     e,
			TTL:       f.cfg.ttlFor(namespace),
			MaxValue:  f.cfg.maxValue(),
			Wait:      f.cfg.MigrateWait,
			Logger:    f.opts.logger.With("namespace", namespace),
		})
	}
	if err != nil {
		return nil, errors.Join(err, f.client.release())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.keeps && !f.closed {
		f.keeps = true
		_, _, err = f.acquireRedis(ctx)
	}
	return e, err
}

// release is the last step of a store's Close.
func (f *Factory) release(s *store, eng *shared[engine.Engine]) error {
	last := s.stats()
	f.endFlights(s)
	err := eng.release()
	f.mu.Lock()
	delete(f.stores, s)
	s.counters.fill(&last) // Calls that have ended meanwhile are in it.
	past := f.past[s.namespace]
	past.add(last)
	f.past[s.namespace] = past
	f.mu.Unlock()
	if f.single {
		err = errors.Join(err, f.Close())
	}
	return err
}

// Stats returns the figures of each namespace that f has opened, by name: the
// sum over its stores, those that were closed included. What stores share
// counts from when the first of them was opened. Stores of registered backends
// count while they are open, if they are [Statser]s.
func (f *Factory) Stats(ctx context.Context) ([]Stats, error) {
	f.mu.Lock()
	open := slices.Collect(maps.Keys(f.stores))
	total := maps.Clone(f.past)
	f.mu.Unlock()
	for _, s := range open {
		stats, err := statsOf(ctx, s)
		if errors.Is(err, ErrClosed) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sum := total[stats.Namespace]
		sum.add(stats)
		total[stats.Namespace] = sum
	}
	list := make([]Stats, 0, len(total))
	for _, namespace := range slices.Sorted(maps.Keys(total)) {
		list = append(list, total[namespace])
	}
	return list, nil
}

// statsOf returns the figures of a store that was open just now. A built-in
// one has them after its Close, too, so that no sum goes back when it is closed
// in between. A store that does not count is as one that is closed.
func statsOf(ctx context.Context, s Store) (Stats, error) {
	if own, ok := s.(*store); ok {
		return own.stats(), nil
	}
	if statser, ok := As[Statser](s); ok {
		return statser.Stats(ctx)
	}
	return Stats{}, ErrClosed
}

// Stores returns an open store of each namespace, by name. They belong to
// those who opened them, who may close them at any time.
func (f *Factory) Stores() map[string]Store {
	f.mu.Lock()
	defer f.mu.Unlock()
	open := make(map[string]Store)
	for s, namespace := range f.stores {
		open[namespace] = s
	}
	return open
}

// Close closes every store that f has opened, and then what they shared.
// Closing twice is fine.
func (f *Factory) Close() error {
	f.mu.Lock()
	f.closed = true
	open := make([]Store, 0, len(f.stores))
	for s := range f.stores {
		open = append(open, s)
	}
	keeps := f.keeps
	f.keeps = false
	f.mu.Unlock()

	var errs []error
	for _, s := range open {
		errs = append(errs, s.Close())
	}
	if keeps {
		errs = append(errs, f.client.release())
	}
	f.mu.Lock()
	clear(f.stores) // Those of registered backends; the others are past.
	f.mu.Unlock()
	return errors.Join(errs...)
}

// shared is something that its first user opens and its last one closes.
type shared[T interface{ Close() error }] struct {
	once sync.Once
	turn chan struct{} // holds a token while nobody opens or closes
	refs int
	it   T
}

// acquire returns the thing, and opens it if nobody has it open.
func (s *shared[T]) acquire(ctx context.Context, open func(context.Context) (T, error)) (T, error) {
	var zero T
	if err := s.enter(ctx); err != nil {
		return zero, err
	}
	defer s.leave()
	if s.refs == 0 {
		it, err := open(ctx)
		if err != nil {
			return zero, err
		}
		s.it = it
	}
	s.refs++
	return s.it, nil
}

// release closes the thing if the caller was the last to have it.
func (s *shared[T]) release() error {
	if err := s.enter(context.Background()); err != nil {
		return err
	}
	defer s.leave()
	s.refs--
	if s.refs > 0 {
		return nil
	}
	it := s.it
	var zero T
	s.it = zero
	return it.Close()
}

func (s *shared[T]) enter(ctx context.Context) error {
	s.once.Do(func() {
		s.turn = make(chan struct{}, 1)
		s.turn <- struct{}{}
	})
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *shared[T]) leave() { s.turn <- struct{}{} }
