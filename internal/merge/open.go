package merge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ngraf/kv/internal/base"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redisstore"
)

// Options say which files go where when a namespace is opened on Redis.
type Options struct {
	Namespace string
	Dir       string // of the files
	Redis     Redis
	TTL       time.Duration // of documents for which the files have none
	MaxValue  int64
	Wait      bool // for a process that has the files
	Logger    *slog.Logger
}

// Open brings the files of a namespace into Redis before the first read or
// write of whoever opens the namespace there. It returns when that is done, or
// there is nothing to do.
//
// Of the workers that share the server one merges at a time, and the others
// wait. Files that have been dealt with are not read again, and files are
// never changed. Beside workers that know nothing of it, such as Python's, it
// is safe: a document is added only where there is none, and replaced only
// where it is what was read.
func Open(ctx context.Context, o Options) error {
	look, err := jsonstore.LookAt(o.Dir, o.Namespace)
	if err == nil {
		err = o.unlocked(ctx)
	}
	if err != nil {
		return o.refusing(err)
	}
	if !look.There {
		return nil
	}
	for {
		err := o.once(ctx, look)
		if errors.Is(err, errLeaseLost) && fault.ContextError(ctx) == nil {
			o.Logger.Warn("kv: the merge was interrupted for longer than its lease; looking whether another process goes on with it")
			continue
		}
		return err
	}
}

// refusing says how to do without the files.
func (o Options) refusing(err error) error {
	return fmt.Errorf("the files in %s were not imported into Redis; STORAGE_KV_MIGRATE=off leaves them out: %w", o.Dir, err)
}

// explain adds that where it helps.
func (o Options) explain(err error) error {
	if rights := (*redisstore.RightsError)(nil); errors.As(err, &rights) || errors.Is(err, fault.ErrCorrupt) || errors.Is(err, fault.ErrInvalid) {
		return o.refusing(err)
	}
	return err
}

// unlocked returns when no process has the files, or why one has them still.
func (o Options) unlocked(ctx context.Context) error {
	for said := false; ; said = true {
		held, err := jsonstore.Holder(o.Dir, o.Namespace)
		if err != nil || held == nil {
			return err
		}
		if !o.Wait {
			return fmt.Errorf("%w: %w, which may still write to them: end it first, or wait for it with STORAGE_KV_MIGRATE=wait", fault.ErrLocked, held)
		}
		if !said {
			o.Logger.Info("kv: waiting for the process that has the files", "holder", held.By)
		}
		if err := engine.Pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for the process that has the files, %w: %w", held, err)
		}
	}
}

// once is one attempt, while its lease lasts.
func (o Options) once(ctx context.Context, look jsonstore.Look) error {
	s := &Session{redis: o.Redis, logger: o.Logger}
	t, err := newTenure(ctx, o.Redis.Record(), o.Logger, func() (bool, error) {
		h, err := readHeader(ctx, o.Redis.Record())
		return err == nil && h.Exists() && h.Knows(look.Place, look.State), err
	})
	if err != nil || t == nil {
		return o.explain(err)
	}
	s.tenure = t
	defer s.End()
	if err := s.restart(ctx); err != nil {
		return o.explain(err)
	}
	return o.explain(s.Proven(ctx, func() error { return o.merge(ctx, s) }))
}

// merge brings into Redis what is due, if these files have not been seen.
func (o Options) merge(ctx context.Context, s *Session) error {
	look, err := jsonstore.LookAt(o.Dir, o.Namespace)
	if err != nil || !look.There || s.Head.Exists() && s.Head.Knows(look.Place, look.State) {
		return err
	}
	content, err := look.Digest(ctx)
	if err != nil {
		return o.refusing(err)
	}
	dealt := Dealt{Look: look, Contents: []uint64{content}, Older: true}
	if s.Head.Exists() && s.Head.HasSeen(content) {
		return s.Note(dealt)
	}
	if s.Head.IsOlder(look.Newest, content) {
		o.Logger.Warn("kv: the files are older than those that were brought into Redis last, and change nothing there; "+
			"kv verify lists the differences, kv migrate takes what is wanted of them", "dir", o.Dir, "newest", look.Newest.UTC(), "last", s.Head.Newest)
		return s.Note(Dealt{Look: look, Older: true}) // Of a newer time, they would count.
	}
	return o.fromFiles(ctx, s, dealt)
}

func (o Options) fromFiles(ctx context.Context, s *Session, dealt Dealt) error {
	began := time.Now()
	src, index, err := o.index(ctx)
	if err != nil {
		return o.refusing(err)
	}
	defer func() { _ = src.Close() }()
	dealt.Contents = append(dealt.Contents, index.Content)
	if s.Head.Exists() && s.Head.HasSeen(index.Content) {
		return s.Note(dealt)
	}
	dealt.Older = false
	if !s.Head.Exists() && len(s.Head.Imports) > 0 {
		state, err := dealt.Look.OldState()
		if err != nil {
			return o.refusing(err)
		}
		if s.Head.Imported(state) {
			return o.adopt(s, index, dealt)
		}
	}
	o.Logger.Info("kv: importing the files into Redis", "dir", o.Dir, "total", index.Len())
	t := &Transfer{
		Session: s, Files: src, Index: index, Rule: Rule{Way: ToRedis}, TTL: o.TTL, Fleeting: o.TTL > 0,
		Clock: func() int64 { return time.Now().UnixMilli() }, Progress: o.progress(began, index.Len()),
	}
	if err := t.Run(ctx); err != nil {
		return fmt.Errorf("importing the files in %s into Redis: %w", o.Dir, err)
	}
	vanished := t.Vanished()
	if err := t.Finish(ctx, dealt); err != nil {
		return err
	}
	o.say(t, vanished, began)
	return nil
}

// index opens the files, and reads them once: damage is found before anything
// of them is in Redis.
func (o Options) index(ctx context.Context) (jsonstore.Source, *Index, error) {
	for indexed := false; ; indexed = true {
		src, err := jsonstore.OpenSource(ctx, o.Dir, o.Namespace, indexed, o.TTL > 0)
		if err != nil {
			return nil, nil, err
		}
		index, err := IndexOf(ctx, src, time.Now().UnixMilli(), o.MaxValue)
		if err == nil && (!index.Repeated || !src.Repeats()) {
			return src, index, nil
		}
		if err := errors.Join(err, src.Close()); err != nil {
			return nil, nil, err
		}
	}
}

// adopt takes the files as they are for the base, since a version of kv that
// had none has imported them.
func (o Options) adopt(s *Session, index *Index, dealt Dealt) error {
	var next []base.Entry
	for d := range index.All() {
		if d.State == Refused {
			continue
		}
		e := d.Entry
		if o.TTL > 0 || d.Expires != 0 {
			e.Mark |= base.Brief
		}
		next = append(next, e)
	}
	return s.Write(next, dealt)
}

// importLogs is how often progress is logged.
const importLogs = 10 * time.Second

func (o Options) progress(began time.Time, total int) func(int, int64) {
	done, logged := 0, began
	return func(docs int, _ int64) {
		done += docs
		if time.Since(logged) < importLogs {
			return
		}
		logged = time.Now()
		o.Logger.Info("kv: importing the files into Redis", "done", done, "total", total,
			"per_second", int(float64(done)/max(time.Since(began).Seconds(), 1e-3)))
	}
}

// say says what was done.
func (o Options) say(t *Transfer, vanished int, began time.Time) {
	o.Logger.Info("kv: imported the files into Redis; they are left as they are", "imported", t.Stored, "equal", t.Same,
		"conflicts", t.Conflicts, "left", t.Index.RefusedCount(), "expired", t.Index.Expired, "updated", t.Replaced,
		"unchanged", t.Untouched, "took", time.Since(began).Round(time.Millisecond))
	if t.Conflicts > 0 {
		o.Logger.Warn("kv: documents have another value in Redis than in the files; Redis's is kept: "+
			"kv verify lists them, kv migrate --to redis --conflicts=files takes the files' values", "documents", t.Conflicts)
	}
	if n := t.Index.RefusedCount(); n > 0 {
		o.Logger.Warn("kv: documents of the files are not in Redis, because they are not JSON (NaN, for instance) "+
			"or over the limits of an id or a value; they stay in the files: kv doctor lists them", "documents", n)
	}
	if vanished > 0 {
		o.Logger.Info("kv: documents that the files do not have any more stay in Redis; kv verify lists them", "documents", vanished)
	}
}
