package kv

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// An importSource has the documents of a namespace's files, in their order. A
// place is that of a document, or of one that is not there any more.
type importSource interface {
	places() int
	// check is a sum over the first n places, see checkPlace.
	check(n int) uint64
	// parts yields the places from first on, a bounded number at a time,
	// which are valid until the next.
	parts(ctx context.Context, first int) iter.Seq2[[]importDoc, error]
	clock() int64
	close() error
}

// An importDoc is what stands in a place.
type importDoc struct {
	id      string
	sum     uint32 // of the value as it is in the file
	expires int64  // Unix milliseconds, 0 for never
	value   []byte // in compact form: white space is the file's layout
	what    placeKind
}

type placeKind byte

const (
	live placeKind = iota
	deleted
	notStrict // not strict JSON
)

// openSource opens the files for reading, and reads them once: a damaged file
// is found before anything of it is in Redis. A document file alone is then
// streamed, in little memory; with journals, times to live or repeated ids
// the json engine's index is needed. done is the number of places whose check
// will be asked for.
func openSource(ctx context.Context, cfg Config, namespace string, now func() time.Time, done int) (importSource, error) {
	dir, err := fsys.Open(cfg.workingDir(), false)
	if err != nil {
		return nil, err
	}
	e := newJSONEngine(jsonOptions{
		Dir: cfg.workingDir(), Namespace: namespace, Files: dir, Policy: policyNo, ReadOnly: true, Now: now,
		Logger: slog.New(slog.DiscardHandler),
	})
	stream := &streamSource{jsonEngine: e, done: done}
	ok, err := stream.survey(ctx)
	if err == nil && ok {
		return stream, nil
	}
	if err == nil {
		e.reset()
		err = e.recover(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, e.discard())
	}
	return indexSource{e}, nil
}

// checkPlace extends a sum over ids and the checksums of values.
func checkPlace(check uint64, id []byte, sum uint32) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(id)
	return (check ^ h.Sum64() ^ uint64(sum)) * 0x9e3779b97f4a7c15
}

// An indexSource reads by the index of a json engine.
type indexSource struct{ *jsonEngine }

func (s indexSource) places() int { return len(s.index.docs) }

func (s indexSource) check(n int) (check uint64) {
	for _, d := range s.index.docs[:n] {
		check = checkPlace(check, []byte(d.id), d.sum)
	}
	return check
}

func (s indexSource) parts(_ context.Context, first int) iter.Seq2[[]importDoc, error] {
	return func(yield func([]importDoc, error) bool) {
		var raw []byte
		for _, part := range chunks(s.index.docs[first:], func(d doc) int { return len(d.id) + int(d.size) }) {
			docs := make([]importDoc, len(part))
			for i, d := range part {
				docs[i] = importDoc{id: d.id, sum: d.sum, expires: d.expires}
				switch {
				case d.segment == nil:
					docs[i].what = deleted
					continue
				case d.foreign:
					docs[i].what = notStrict
					continue
				}
				var err error
				if raw, err = s.readRaw(d, raw); err != nil {
					yield(nil, err)
					return
				}
				docs[i].value = jsonscan.AppendCompact(nil, raw)
			}
			if !yield(docs, nil) {
				return
			}
		}
	}
}

// A streamSource reads a document file from its beginning.
type streamSource struct {
	*jsonEngine
	count, done int
	sum         uint64 // the check of done places
}

func (s *streamSource) places() int        { return s.count }
func (s *streamSource) check(n int) uint64 { return s.sum }

// members lists the members of the document file.
func (s *streamSource) members(ctx context.Context) iter.Seq2[jsonscan.Member, error] {
	return func(yield func(jsonscan.Member, error) bool) {
		src := io.NewSectionReader(s.snapshot.file, 0, 1<<62)
		reader := jsonscan.NewSizedReader(src, maxDepth, s.snapshot.info.Size())
		for n := 0; ; n++ {
			m, err := reader.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil && n%1024 == 0 {
				err = ctx.Err()
			}
			if err != nil {
				yield(m, s.badDocument(err))
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// survey reads the file once, and reports whether it can be streamed.
func (s *streamSource) survey(ctx context.Context) (bool, error) {
	there, err := s.files.List()
	if err != nil || len(s.names.journals(there)) > 0 || slices.Contains(there, s.names.ttl()) {
		return false, err
	}
	if exists, err := s.openDocument(); err != nil || !exists {
		return false, err
	}
	var seen []uint64
	for m, err := range s.members(ctx) {
		if err != nil {
			return false, err
		}
		if s.count++; s.count <= s.done {
			s.sum = checkPlace(s.sum, m.Name, wal.Sum(m.Value))
		}
		h := fnv.New64a()
		_, _ = h.Write(m.Name)
		seen = append(seen, h.Sum64())
	}
	slices.Sort(seen)
	return len(slices.Compact(seen)) == s.count, nil
}

func (s *streamSource) parts(ctx context.Context, first int) iter.Seq2[[]importDoc, error] {
	return func(yield func([]importDoc, error) bool) {
		place, size := 0, 0
		docs := make([]importDoc, 0, perChunk.count)
		for m, err := range s.members(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if place++; place <= first {
				continue
			}
			more := len(m.Name) + len(m.Value)
			if len(docs) == perChunk.count || len(docs) > 0 && size+more > perChunk.bytes {
				if !yield(docs, nil) {
					return
				}
				docs, size = docs[:0], 0
			}
			d := importDoc{id: string(m.Name), sum: wal.Sum(m.Value), what: notStrict}
			if m.Err == nil {
				d.what, d.value = live, jsonscan.AppendCompact(nil, m.Value)
			}
			docs, size = append(docs, d), size+more
		}
		if len(docs) > 0 {
			yield(docs, nil)
		}
	}
}
