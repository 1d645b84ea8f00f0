// Package firstuse brings the files of a namespace into Redis before the first
// read or write of whoever opens it there.
package firstuse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redisstore"
)

// An importer brings the files of a namespace into Redis before the first
// read or write of whoever opens the namespace there.
//
// Of the workers that share the server one imports at a time, and the others
// wait in Open. It holds a lease that ends by itself when it dies. What has
// been imported stands in a record (record.go), so that files that have not changed
// are not looked at again, and documents that were deleted since stay deleted.
//
// Redis's value wins: the import adds ids that are missing and changes
// nothing. That is what makes it safe beside workers that know nothing of it,
// such as Python's. Until the import is done, such a worker finds some
// documents missing; what it writes meanwhile stays; what it deletes may come
// back from the file, as if it had been deleted before the switch.
type importer struct {
	Options
	token string // nobody else has it
}

// Options say which files go where.
type Options struct {
	Namespace string
	Dir       string // of the files
	// Open opens them; done is the number of places that were done before.
	Open     func(ctx context.Context, done int) (jsonstore.Source, error)
	Redis    engine.Engine
	Record   *redisstore.Record
	TTL      time.Duration // of documents that have none in the files
	MaxValue int64
	Life     time.Duration // of the lease; 0: the default
	Logger   *slog.Logger
}

// importLease is how long an importer that has died keeps others waiting.
const importLease = 10 * time.Second

type lifeKey struct{}

// WithLife is for tests: what is imported with such a context has a lease of
// this life. No setting of kv leads here, and nobody outside of the module can.
func WithLife(ctx context.Context, life time.Duration) context.Context {
	return context.WithValue(ctx, lifeKey{}, life)
}

var errLeaseLost = errors.New("the lease of the import was lost")

// Import returns when the files of the namespace are in Redis, or there are
// none.
func Import(ctx context.Context, u Options) error {
	state, err := jsonstore.StateOf(u.Dir, u.Namespace)
	if err != nil {
		return u.refusing(err)
	}
	if state == "" {
		return nil
	}
	if life, ok := ctx.Value(lifeKey{}).(time.Duration); ok {
		u.Life = life
	}
	return newImporter(u).ensure(ctx, state)
}

// refusing says how to do without the files.
func (u Options) refusing(err error) error {
	return fmt.Errorf("the files in %s were not imported into Redis; STORAGE_KV_MIGRATE=off leaves them out: %w", u.Dir, err)
}

func newImporter(u Options) *importer {
	u.Life = cmp.Or(u.Life, importLease)
	return &importer{Options: u, token: newHolder()}
}

// newHolder is a token that says who has it.
func newHolder() string {
	host, _ := os.Hostname()
	return strconv.FormatUint(rand.Uint64(), 36) + " " + strconv.Itoa(os.Getpid()) + " " + host
}

func readHolder(token string) (pid, host string) {
	_, rest, _ := strings.Cut(token, " ")
	pid, host, _ = strings.Cut(rest, " ")
	return pid, host
}

// ensure returns when somebody has imported the files in this state.
func (im *importer) ensure(ctx context.Context, state string) error {
	var other progress
	err := im.await(ctx, state, &other)
	if err != nil && other.pid != "" && fault.ContextError(ctx) != nil {
		return fmt.Errorf("waiting for process %s on %s, which has imported %d of %d documents into Redis: %w",
			other.pid, other.host, other.done, other.total, err)
	}
	return err
}

// A progress is how far another process is with its import.
type progress struct {
	pid, host   string
	done, total int
}

func (im *importer) await(ctx context.Context, state string, other *progress) error {
	for polls := 1; ; polls++ {
		known, err := im.read(ctx)
		if err != nil || known.knows(state) {
			return err
		}
		holder, err := im.claim(ctx)
		if err != nil {
			return err
		}
		if holder == "" {
			err = im.lead(ctx, state)
			if errors.Is(err, errLeaseLost) && fault.ContextError(ctx) == nil {
				im.Logger.Warn("kv: the import was interrupted for longer than its lease; looking whether another process goes on with it")
				continue
			}
			return err
		}
		other.pid, other.host = readHolder(holder)
		if p := known.Partial; p != nil {
			other.done, other.total = p.Position, p.Total
		}
		if polls == 2 { // It has had the time to say how much there is to do.
			im.Logger.Info("kv: waiting for another process that imports the files into Redis",
				"host", other.host, "pid", other.pid, "done", other.done, "total", other.total)
		}
		if err := im.pause(ctx); err != nil {
			return err
		}
	}
}

// pause waits for a while, because another process imports.
func (im *importer) pause(ctx context.Context) error {
	pause := min(im.Life/20, 500*time.Millisecond)
	return engine.Pause(ctx, pause/2+rand.N(pause))
}

// lead imports the files, as the holder of the lease, and gives it back.
func (im *importer) lead(ctx context.Context, state string) error {
	r := &importRun{importer: im, ctx: ctx, began: time.Now()}
	r.until = r.began.Add(im.Life)
	var err error
	if r.known, err = im.read(ctx); err == nil && !r.known.knows(state) {
		r.keepUp()
		err = r.files(state)
		r.rest()
	}
	if err == nil && !r.finished {
		return im.giveBack(ctx, nil) // Another was faster.
	}
	if err != nil && !errors.Is(err, errLeaseLost) {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = im.giveBack(after, r.partial()) // Else the lease ends by itself.
	}
	return err
}

// giveBack ends the lease. It is no matter if it has ended already.
func (im *importer) giveBack(ctx context.Context, record []byte) error {
	err := im.hold(ctx, 0, record)
	if errors.Is(err, errLeaseLost) {
		return nil
	}
	return err
}
