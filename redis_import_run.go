package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/jsonscan"
)

// An importRun is one process's attempt at an import, while it has the lease.
type importRun struct {
	*importer
	ctx    context.Context // of the caller of Open
	record importRecord
	began  time.Time
	logged time.Time

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
		tick := time.NewTicker(r.life / 3)
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
	err := r.hold(ctx, r.life, r.partial())
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && sent.Before(r.until):
		r.until = sent.Add(r.life)
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
	record, sum := r.record, r.sum
	record.Partial = &sum
	return record.encode()
}

// files imports what is in the files.
func (r *importRun) files(state string) error {
	e, err := openJSON(r.ctx, r.cfg, r.namespace, options{readonly: true, logger: slog.New(slog.DiscardHandler), now: r.now})
	if err != nil {
		return refusing(r.cfg, err)
	}
	src, _ := e.(*jsonEngine)
	defer src.close()
	_, host := readHolder(r.token)
	docs := src.index.docs
	sum := resume(r.record.Partial, docs)
	sum.State, sum.Total, sum.Host = state, len(docs), host
	r.set(sum)
	first := sum.Position
	r.logged = r.began
	r.logger.Info("kv: importing the files into Redis", "dir", r.cfg.workingDir(), "total", len(docs), "done", first)
	if err := r.renew(r.ctx); err != nil { // Tells those who wait how much there is to do.
		return err
	}
	for _, part := range chunks(docs[first:], func(d doc) int { return len(d.id) + int(d.size) }) {
		if err := r.batch(src, part); err != nil {
			return err
		}
		r.progress(first)
	}
	return r.finish()
}

// resume goes on where another has stopped, if the files begin with what it
// has imported.
func resume(p *imported, docs []doc) imported {
	if p == nil || p.Position > len(docs) || len(p.Digest) != digestSize || checkDocs(0, docs[:p.Position]) != p.Check {
		return imported{Digest: make([]byte, digestSize)}
	}
	return *p
}

func (r *importRun) set(sum imported) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum = sum
}

// checkDocs extends a sum over ids and the checksums of values.
func checkDocs(check uint64, docs []doc) uint64 {
	sum := fnv.New64a()
	var buf []byte
	for _, d := range docs {
		buf = binary.LittleEndian.AppendUint64(buf[:0], check)
		buf = binary.LittleEndian.AppendUint32(buf, d.sum)
		buf = append(buf, d.id...)
		sum.Reset()
		_, _ = sum.Write(buf)
		check = sum.Sum64()
	}
	return check
}

// batch imports some documents.
func (r *importRun) batch(src *jsonEngine, part []doc) error {
	sum := r.sum // Nobody else changes it.
	sum.Digest = append([]byte(nil), sum.Digest...)
	items, err := r.take(src, part, &sum)
	if err != nil {
		return refusing(r.cfg, err)
	}
	if len(items) > 0 {
		ctx, cancel, err := r.held()
		if err != nil {
			return err
		}
		defer cancel()
		err = r.store(ctx, items, &sum)
		switch {
		case err != nil && contextError(ctx) != nil && contextError(r.ctx) == nil:
			return errLeaseLost
		case err != nil:
			return fmt.Errorf("importing the files in %s into Redis: %w", r.cfg.workingDir(), err)
		}
	}
	sum.Position += len(part)
	sum.Check = checkDocs(sum.Check, part)
	r.set(sum)
	return nil
}

// take reads documents from the files, in compact form: white space is the
// files' layout.
func (r *importRun) take(src *jsonEngine, part []doc, sum *imported) ([]item, error) {
	items := make([]item, 0, len(part))
	now, ttl := src.clock(), r.cfg.ttlFor(r.namespace)
	var raw []byte
	for _, d := range part {
		switch {
		case d.segment == nil: // It was deleted.
			continue
		case d.expired(now):
			sum.Expired++
			continue
		case d.foreign:
			sum.Left++
			continue
		}
		var err error
		if raw, err = src.readRaw(d, raw); err != nil {
			return nil, err
		}
		it := item{d.id, jsonscan.AppendCompact(nil, raw), ttl}
		if d.expires != 0 {
			it.ttl = time.Duration(d.expires-now) * time.Millisecond
		}
		if checkID(it.id) != nil || int64(len(it.value)) > r.cfg.maxValue() {
			sum.Left++
			continue
		}
		addDigest(sum.Digest, it.id, it.value)
		items = append(items, it)
	}
	return items, nil
}

// store adds the items that Redis lacks, and compares the others.
func (r *importRun) store(ctx context.Context, items []item, sum *imported) error {
	n, err := r.redis.insert(ctx, items)
	for try := 0; try < 3 && errors.Is(err, ErrOutcomeUnknown); try++ {
		n, err = r.redis.insert(ctx, items) // What the first has added is then found equal.
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
		ids[i] = it.id
	}
	values, corrupt := r.redis.getMany(ctx, ids)
	if corrupt != nil && !errors.Is(corrupt, ErrCorrupt) {
		return corrupt
	}
	same := 0
	for i, value := range values {
		switch {
		case value != nil && sameDocument(value, items[i].value):
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
	r.logger.Info("kv: importing the files into Redis", "done", r.sum.Position, "total", r.sum.Total, "per_second", r.rate(first))
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
	if err := r.hold(ctx, 0, r.record.add(sum).encode()); err != nil {
		return err
	}
	r.finished = true
	r.logger.Info("kv: imported the files into Redis; they are left as they are", "imported", sum.Imported, "equal", sum.Equal,
		"conflicts", sum.Conflicts, "left", sum.Left, "expired", sum.Expired, "took", time.Since(r.began).Round(time.Millisecond))
	if sum.Conflicts > 0 {
		r.logger.Warn(fmt.Sprintf("kv: %d documents have another value in Redis than in the files; Redis's is kept: "+
			"kv verify lists them, kv migrate --overwrite takes the files' values", sum.Conflicts))
	}
	if sum.Left > 0 {
		r.logger.Warn(fmt.Sprintf("kv: %d documents of the files are not in Redis, because they are not JSON (NaN, for instance) "+
			"or over the limits of an id or a value; they stay in the files: kv doctor lists them", sum.Left))
	}
	return nil
}
