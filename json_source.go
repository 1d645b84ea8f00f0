package kv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// A source has the documents of a namespace's files, in their order. A
// place is that of a document, or of one that is not there any more.
type source interface {
	places() int
	// check is a sum over the first n places, see checkPlace.
	check(n int) uint64
	// parts yields the places from first on, a bounded number at a time,
	// which are valid until the next.
	parts(ctx context.Context, first int) iter.Seq2[[]sourceDoc, error]
	clock() int64
	close() error
}

// A sourceDoc is what stands in a place.
type sourceDoc struct {
	id      string
	sum     uint32 // of the value as it is in the file
	expires int64  // Unix milliseconds, 0 for never
	value   []byte // in compact form: white space is the file's layout
	what    placeKind
}

// perSource bounds the parts of a source.
var perSource = limits{500, 1 << 20}

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
func openSource(ctx context.Context, path, namespace string, now func() time.Time, done int) (source, error) {
	dir, err := fsys.Open(path, false)
	if err != nil {
		return nil, err
	}
	e := newJSONEngine(jsonOptions{
		Dir: path, Namespace: namespace, Files: dir, Policy: policyNo, ReadOnly: true, Now: now,
		Logger: slog.New(slog.DiscardHandler),
	})
	stream := &streamSource{engine: e, done: done}
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
	return indexSource{engine: e}, nil
}

// checkPlace extends a sum over ids and the checksums of values.
func checkPlace(check uint64, id []byte, sum uint32) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(id)
	return (check ^ h.Sum64() ^ uint64(sum)) * 0x9e3779b97f4a7c15
}

// An indexSource reads by the index of a json engine.
type indexSource struct{ engine *jsonEngine }

func (s indexSource) places() int  { return len(s.engine.index.docs) }
func (s indexSource) clock() int64 { return s.engine.clock() }
func (s indexSource) close() error { return s.engine.close() }

func (s indexSource) check(n int) (check uint64) {
	for _, d := range s.engine.index.docs[:n] {
		check = checkPlace(check, []byte(d.id), d.sum)
	}
	return check
}

func (s indexSource) parts(_ context.Context, first int) iter.Seq2[[]sourceDoc, error] {
	return func(yield func([]sourceDoc, error) bool) {
		var raw []byte
		for _, part := range chunksBy(perSource, s.engine.index.docs[first:], func(d doc) int { return len(d.id) + int(d.size) }) {
			docs := make([]sourceDoc, len(part))
			for i, d := range part {
				docs[i] = sourceDoc{id: d.id, sum: d.sum, expires: d.expires}
				switch {
				case d.segment == nil:
					docs[i].what = deleted
					continue
				case d.foreign:
					docs[i].what = notStrict
					continue
				}
				var err error
				if raw, err = s.engine.readRaw(d, raw); err != nil {
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
	engine      *jsonEngine
	count, done int
	sum         uint64 // the check of done places
}

func (s *streamSource) places() int      { return s.count }
func (s *streamSource) check(int) uint64 { return s.sum }
func (s *streamSource) clock() int64     { return s.engine.clock() }
func (s *streamSource) close() error     { return s.engine.close() }

// members lists the members of the document file.
func (s *streamSource) members(ctx context.Context) iter.Seq2[jsonscan.Member, error] {
	return func(yield func(jsonscan.Member, error) bool) {
		src := io.NewSectionReader(s.engine.snapshot.file, 0, 1<<62)
		reader := jsonscan.NewSizedReader(src, maxDepth, s.engine.snapshot.info.Size())
		for n := 0; ; n++ {
			m, err := reader.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil && n%1024 == 0 {
				err = ctx.Err()
			}
			if err != nil {
				yield(m, s.engine.badDocument(err))
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
	e := s.engine
	there, err := e.files.List()
	if err != nil || len(e.names.journals(there)) > 0 || slices.Contains(there, e.names.ttl()) {
		return false, err
	}
	if exists, err := e.openDocument(); err != nil || !exists {
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

func (s *streamSource) parts(ctx context.Context, first int) iter.Seq2[[]sourceDoc, error] {
	return func(yield func([]sourceDoc, error) bool) {
		place, size := 0, 0
		docs := make([]sourceDoc, 0, perSource.count)
		for m, err := range s.members(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if place++; place <= first {
				continue
			}
			more := len(m.Name) + len(m.Value)
			if len(docs) == perSource.count || len(docs) > 0 && size+more > perSource.bytes {
				if !yield(docs, nil) {
					return
				}
				docs, size = docs[:0], 0
			}
			d := sourceDoc{id: string(m.Name), sum: wal.Sum(m.Value), what: notStrict}
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

// stateOf tells one state of a namespace's files from another, at the cost of
// reading the ends of each. It is empty if there is nothing to import.
func stateOf(path, namespace string) (string, error) {
	names := jsonNames(namespace)
	dir, err := fsys.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	defer func() { _ = dir.Close() }()
	there, err := dir.List()
	if err != nil {
		return "", fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	var mine []string
	for _, generation := range names.journals(there) {
		mine = append(mine, names.journal(generation))
	}
	if slices.Contains(there, names.document()) {
		mine = append(mine, names.document())
	}
	if len(mine) == 0 {
		return "", nil
	}
	sum := sha256.New()
	for _, name := range append(mine, names.ttl()) {
		if err := addState(sum, dir, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// addState adds the name, size, time and ends of a file.
func addState(w io.Writer, dir fsys.FS, name string) error {
	file, err := dir.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	var sums [2]uint32
	for i, at := range []int64{0, max(0, info.Size()-int64(len(buf)))} {
		n, err := file.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sums[i] = wal.Sum(buf[:n])
	}
	_, err = fmt.Fprintf(w, "%q %d %d %08x\n", name, info.Size(), info.ModTime().UnixNano(), sums)
	return err
}
