package firstuse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
)

// An importRun is one process's attempt at an import, while it has the lease.
type importRun struct {
	*importer
	ctx    context.Context // of the caller of Open
	known  importRecord
	began  time.Time
	logged time.Time

	spelling digest.Spelling

	stop context.CancelFunc // ends the renewing
	beat sync.WaitGroup

	mu       sync.Mutex
	until    time.Time // the lease is ours until then, by our clock
	sum      imported  // so far
	finished bool
}

// importLogs is how often progress is logged.
const importLogs = 10 * time.Second

// keepUp renews the lease, and writes down how far the import is.
func (r *importRun) keepUp() {
	ctx, stop := context.WithCancel(r.ctx)
	r.stop = stop
	r.beat.Go(func() {
		tick := time.NewTicker(r.Life / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if errors.Is(r.renew(ctx), errLeaseLost) {
				return
			}
		}
	})
}

func (r *importRun) rest() {
	r.stop()
	r.beat.Wait()
}

// renew holds the lease for another life. A failure is no matter as long as
// the lease lasts.
func (r *importRun) renew(ctx context.Context) error {
	sent := time.Now()
	err := r.hold(ctx, r.Life, r.partial())
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && sent.Before(r.until):
		r.until = sent.Add(r.Life)
	case errors.Is(err, errLeaseLost):
		r.until = time.Time{}
	}
	return err
}

// held returns a context that ends with the lease as it is now, so that a
// process that was stopped for a while writes nothing when it goes on: what
// it has not written, another has, and may have been deleted since.
func (r *importRun) held() (context.Context, context.CancelFunc, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The monotonic clock may stand still while a machine sleeps.
	if now := time.Now(); !now.Before(r.until) || !now.Round(0).Before(r.until.Round(0)) {
		return nil, nil, errLeaseLost
	}
	ctx, cancel := context.WithDeadline(r.ctx, r.until)
	return ctx, cancel, nil
}

// partial is the record with what has been done so far.
func (r *importRun) partial() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sum.Total == 0 {
		return nil
	}
	record, sum := r.known, r.sum
	record.Partial = &sum
	return record.encode()
}

// files imports what is in the files.
func (r *importRun) files(state string) error {
	p := r.known.Partial
	if p == nil {
		p = &imported{}
	}
	src, err := r.Open(r.ctx, p.Position)
	if err != nil {
		return r.refusing(err)
	}
	defer func() { _ = src.Close() }()
	sum := resume(*p, src)
	_, sum.Host = readHolder(r.token)
	sum.State, sum.Total = state, src.Places()
	r.set(sum)
	first := sum.Position
	r.logged = r.began
	r.Logger.Info("kv: importing the files into Redis", "dir", r.Dir, "total", sum.Total, "done", first)
	if err := r.renew(r.ctx); err != nil { // Tells those who wait how much there is to do.
		return err
	}
	for part, err := range src.Parts(r.ctx, first) {
		if err != nil {
			return r.refusing(err)
		}
		if err := r.batch(part, src.Clock()); err != nil {
			return err
		}
		r.progress(first)
	}
	return r.finish()
}

// resume goes on where another has stopped, if the files begin with what it
// has imported.
func resume(p imported, src jsonstore.Source) imported {
	if p.Position > src.Places() || src.Check(p.Position) != p.Check {
		return imported{}
	}
	return p
}

func (r *importRun) set(sum imported) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum = sum
}

// batch imports some documents.
func (r *importRun) batch(part []jsonstore.SourceDoc, now int64) error {
	sum := r.sum // Nobody else changes it.
	items := r.take(part, now, &sum)
	if len(items) > 0 {
		ctx, cancel, err := r.held()
		if err != nil {
			return err
		}
		defer cancel()
		err = r.store(ctx, items, &sum)
		switch {
		case err != nil && fault.ContextError(ctx) != nil && fault.ContextError(r.ctx) == nil:
			return errLeaseLost
		case err != nil:
			return fmt.Errorf("importing the files in %s into Redis: %w", r.Dir, err)
		}
	}
	sum.Position += len(part)
	for _, d := range part {
		sum.Check = jsonstore.CheckPlace(sum.Check, []byte(d.ID), d.Sum)
	}
	r.set(sum)
	return nil
}

// Take chooses the documents that go.
func (r *importRun) take(part []jsonstore.SourceDoc, now int64, sum *imported) []engine.Item {
	items := make([]engine.Item, 0, len(part))
	for _, d := range part {
		switch {
		case d.What == jsonstore.Deleted:
			continue
		case d.Expires != 0 && d.Expires <= now:
			sum.Expired++
			continue
		case d.What == jsonstore.NotStrict, engine.CheckID(d.ID) != nil, int64(len(d.Value)) > r.MaxValue:
			sum.Left++
			continue
		}
		it := engine.Item{ID: d.ID, Value: d.Value, TTL: r.TTL}
		if d.Expires != 0 {
			it.TTL = engine.Millis(d.Expires - now)
		}
		sum.Digest.Add(r.spelling.Hash(it.ID, it.Value))
		items = append(items, it)
	}
	return items
}

// store adds the items that Redis lacks, and compares the others.
func (r *importRun) store(ctx context.Context, items []engine.Item, sum *imported) error {
	n, err := r.Redis.Insert(ctx, engine.List(items...))
	for try := 0; try < 3 && errors.Is(err, fault.ErrOutcomeUnknown); try++ {
		n, err = r.Redis.Insert(ctx, engine.List(items...)) // What the first has added is then found equal.
	}
	if err != nil {
		return err
	}
	sum.Imported += n
	if n == len(items) {
		return nil
	}
	ids := make([]string, len(items))
	for i, it := range items {
		ids[i] = it.ID
	}
	values, corrupt := r.Redis.GetMany(ctx, ids)
	if corrupt != nil && !errors.Is(corrupt, fault.ErrCorrupt) {
		return corrupt
	}
	same := 0
	for i, value := range values {
		switch {
		case value != nil && r.spelling.Same(value, items[i].Value):
			same++
		case value != nil || corrupt != nil: // Else it went away.
			sum.Conflicts++
		}
	}
	sum.Equal += max(0, same-n)
	return nil
}

func (r *importRun) progress(first int) {
	if time.Since(r.logged) < importLogs {
		return
	}
	r.logged = time.Now()
	r.Logger.Info("kv: importing the files into Redis", "done", r.sum.Position, "total", r.sum.Total, "per_second", r.rate(first))
}

func (r *importRun) rate(first int) int {
	return int(float64(r.sum.Position-first) / max(time.Since(r.began).Seconds(), 1e-3))
}

// finish writes down that the import is complete, and gives the lease back.
func (r *importRun) finish() error {
	r.rest() // What is written now is the last word.
	sum := r.sum
	sum.Time = time.Now().UTC().Truncate(time.Millisecond)
	sum.Position, sum.Check = 0, 0
	ctx, cancel, err := r.held()
	if err != nil {
		return err
	}
	defer cancel()
	if err := r.hold(ctx, 0, r.known.add(sum).encode()); err != nil {
		return err
	}
	r.finished = true
	r.Logger.Info("kv: imported the files into Redis; they are left as they are", "imported", sum.Imported, "equal", sum.Equal,
		"conflicts", sum.Conflicts, "left", sum.Left, "expired", sum.Expired, "took", time.Since(r.began).Round(time.Millisecond))
	if sum.Conflicts > 0 {
		r.Logger.Warn("kv: documents have another value in Redis than in the files; Redis's is kept: "+
			"kv verify lists them, kv migrate --overwrite takes the files' values", "documents", sum.Conflicts)
	}
	if sum.Left > 0 {
		r.Logger.Warn("kv: documents of the files are not in Redis, because they are not JSON (NaN, for instance) "+
			"or over the limits of an id or a value; they stay in the files: kv doctor lists them", "documents", sum.Left)
	}
	return nil
}
