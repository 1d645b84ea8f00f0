package merge

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
	"sync"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redisstore"
)

// defaultLife is how long one who has died keeps others waiting.
const defaultLife = 10 * time.Second

type lifeKey struct{}

// WithLife is for tests: what is merged with such a context has a lease of
// this life. No setting of kv leads here, and nobody outside of the module can.
func WithLife(ctx context.Context, life time.Duration) context.Context {
	return context.WithValue(ctx, lifeKey{}, life)
}

var errLeaseLost = errors.New("the lease of the merge was lost")

// newHolder is a token that says who has it. Nobody else has it.
func newHolder() string {
	host, _ := os.Hostname()
	return strconv.FormatUint(rand.Uint64(), 36) + " " + strconv.Itoa(os.Getpid()) + " " + host
}

func readHolder(token string) (pid, host string) {
	_, rest, _ := strings.Cut(token, " ")
	pid, host, _ = strings.Cut(rest, " ")
	return pid, host
}

// A tenure is the time in which one process alone may merge a namespace. Its
// lease is renewed as long as the process lives, and ends by itself with it.
type tenure struct {
	record *redisstore.Record
	token  string
	life   time.Duration
	ctx    context.Context // of the caller

	stop context.CancelFunc // ends the renewing
	beat sync.WaitGroup

	mu    sync.Mutex
	until time.Time // the lease is ours until then, by our clock
}

// newTenure waits until the lease is free, within ctx, unless done says that
// there is no need of it any more. It is nil then.
func newTenure(ctx context.Context, record *redisstore.Record, logger *slog.Logger, done func() (bool, error)) (*tenure, error) {
	t := &tenure{record: record, token: newHolder(), ctx: ctx}
	life, _ := ctx.Value(lifeKey{}).(time.Duration)
	t.life = cmp.Or(life, defaultLife)
	var other string
	err := t.await(&other, logger, done)
	pid, host := readHolder(other)
	switch {
	case err != nil && other != "" && fault.ContextError(ctx) != nil:
		return nil, fmt.Errorf("waiting for process %s on %s, which brings the files and Redis together: %w", pid, host, err)
	case err != nil || t.until.IsZero():
		return nil, err
	}
	t.keepUp()
	return t, nil
}

// await takes the lease, and says meanwhile who has it.
func (t *tenure) await(other *string, logger *slog.Logger, done func() (bool, error)) error {
	for polls := 1; ; polls++ {
		if ready, err := done(); ready || err != nil {
			return err
		}
		sent := time.Now()
		holder, err := t.record.Claim(t.ctx, t.token, t.life)
		if err != nil {
			return err
		}
		if holder == "" {
			t.until = sent.Add(t.life)
			return nil
		}
		*other = holder
		if polls == 2 {
			pid, host := readHolder(holder)
			logger.Info("kv: waiting for another process that brings the files and Redis together", "host", host, "pid", pid)
		}
		pause := min(t.life/20, 500*time.Millisecond)
		if err := engine.Pause(t.ctx, pause/2+rand.N(pause)); err != nil {
			return err
		}
	}
}

// keepUp renews the lease. A failure is no matter as long as the lease lasts.
func (t *tenure) keepUp() {
	ctx, stop := context.WithCancel(t.ctx)
	t.stop = stop
	t.beat.Go(func() {
		tick := time.NewTicker(t.life / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			sent := time.Now()
			held, err := t.record.Renew(ctx, t.token, t.life)
			t.mu.Lock()
			switch {
			case err == nil && held && sent.Before(t.until):
				t.until = sent.Add(t.life)
			case err == nil && !held:
				t.until = time.Time{}
			}
			t.mu.Unlock()
		}
	})
}

// held returns a context that ends with the lease as it is now, so that a
// process that was stopped for a while writes nothing when it goes on: what
// it has not written, another has, and may have been deleted since.
func (t *tenure) held() (context.Context, context.CancelFunc, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// The monotonic clock may stand still while a machine sleeps.
	if now := time.Now(); !now.Before(t.until) || !now.Round(0).Before(t.until.Round(0)) {
		return nil, nil, errLeaseLost
	}
	ctx, cancel := context.WithDeadline(t.ctx, t.until)
	return ctx, cancel, nil
}

// during calls do with a context that ends with the lease.
func (t *tenure) during(do func(ctx context.Context) error) error {
	ctx, cancel, err := t.held()
	if err != nil {
		return err
	}
	defer cancel()
	err = do(ctx)
	if err != nil && fault.ContextError(ctx) != nil && fault.ContextError(t.ctx) == nil {
		return errLeaseLost
	}
	return err
}

// end gives the lease back. It is no matter if it is lost already.
func (t *tenure) end() {
	t.stop()
	t.beat.Wait()
	after, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), time.Second)
	defer cancel()
	_ = t.record.Release(after, t.token) // Else it ends by itself.
}
