package jsonstore

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

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// A Source has the documents of a namespace's files, in their order. A
// place is that of a document, or of one that is not there any more.
type Source interface {
	Places() int
	// check is a sum over the first n places, see CheckPlace.
	Check(n int) uint64
	// parts yields the places from first on, a bounded number at a time,
	// which are valid until the next.
	Parts(ctx context.Context, first int) iter.Seq2[[]SourceDoc, error]
	Clock() int64
	Close() error
}

// A SourceDoc is what stands in a place.
type SourceDoc struct {
	ID      string
	Sum     uint32 // of the value as it is in the file
	Expires int64  // Unix milliseconds, 0 for never
	Value   []byte // in compact form: white space is the file's layout
	What    placeKind
}

// perSource bounds the parts of a source.
var perSource = engine.Limits{Count: 500, Bytes: 1 << 20}

type placeKind byte

const (
	live placeKind = iota
	Deleted
	NotStrict // not strict JSON
)

// OpenSource opens the files for reading, and reads them once: a damaged file
// is found before anything of it is in Redis. A document file alone is then
// streamed, in little memory; with journals, times to live or repeated ids
// the json engine's index is needed. done is the number of places whose check
// will be asked for.
func OpenSource(ctx context.Context, path, namespace string, done int) (Source, error) {
	dir, err := fsys.Open(path, false)
	if err != nil {
		return nil, err
	}
	e := newEngine(Options{
		Dir: path, Namespace: namespace, Files: dir, Policy: policyNo, ReadOnly: true,
		Logger: slog.New(slog.DiscardHandler),
	}.forTests(ctx))
	stream := &StreamSource{files: <-e.compactor, done: done}
	ok, err := stream.survey(ctx)
	if err == nil && ok {
		return stream, nil
	}
	stream.files.reset()
	stream.files.yield()
	if err == nil {
		err = e.recover(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, e.discard())
	}
	return IndexSource{engine: e}, nil
}

// CheckPlace extends a sum over ids and the checksums of values.
func CheckPlace(check uint64, id []byte, sum uint32) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(id)
	return (check ^ h.Sum64() ^ uint64(sum)) * 0x9e3779b97f4a7c15
}

// An IndexSource reads by the index of a json engine.
type IndexSource struct{ engine *Engine }

func (s IndexSource) Places() int  { return len(s.engine.index.docs) }
func (s IndexSource) Clock() int64 { return s.engine.clock() }
func (s IndexSource) Close() error { return s.engine.Close() }

func (s IndexSource) Check(n int) (check uint64) {
	for _, d := range s.engine.index.docs[:n] {
		check = CheckPlace(check, []byte(d.id), d.sum)
	}
	return check
}

func (s IndexSource) Parts(_ context.Context, first int) iter.Seq2[[]SourceDoc, error] {
	return func(yield func([]SourceDoc, error) bool) {
		var raw []byte
		for _, part := range engine.ChunksBy(perSource, s.engine.index.docs[first:], func(d doc) int { return len(d.id) + int(d.size) }) {
			docs := make([]SourceDoc, len(part))
			for i, d := range part {
				docs[i] = SourceDoc{ID: d.id, Sum: d.sum, Expires: d.expires}
				switch {
				case d.segment == nil:
					docs[i].What = Deleted
					continue
				case d.foreign:
					docs[i].What = NotStrict
					continue
				}
				var err error
				if raw, err = s.engine.readRaw(d, raw); err != nil {
					yield(nil, err)
					return
				}
				docs[i].Value = jsonscan.AppendCompact(nil, raw)
			}
			if !yield(docs, nil) {
				return
			}
		}
	}
}

// A StreamSource reads a document file from its beginning.
type StreamSource struct {
	files       *compactor
	count, done int
	sum         uint64 // the check of done places
}

func (s *StreamSource) Places() int      { return s.count }
func (s *StreamSource) Check(int) uint64 { return s.sum }
func (s *StreamSource) Clock() int64     { return s.files.engine.clock() }
func (s *StreamSource) Close() error     { return s.files.discard() }

// members lists the members of the document file.
func (s *StreamSource) members(ctx context.Context) iter.Seq2[jsonscan.Member, error] {
	return func(yield func(jsonscan.Member, error) bool) {
		src := io.NewSectionReader(s.files.snapshot.file, 0, 1<<62)
		reader := jsonscan.NewSizedReader(src, engine.MaxDepth, s.files.snapshot.info.Size())
		for n := 0; ; n++ {
			m, err := reader.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil && n%1024 == 0 {
				err = ctx.Err()
			}
			if err != nil {
				yield(m, s.files.engine.badDocument(err))
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// survey reads the file once, and reports whether it can be streamed.
func (s *StreamSource) survey(ctx context.Context) (bool, error) {
	e := s.files.engine
	there, err := e.files.List()
	if err != nil || len(e.names.journals(there)) > 0 || slices.Contains(there, e.names.ttl()) {
		return false, err
	}
	if exists, err := s.files.openDocument(); err != nil || !exists {
		return false, err
	}
	var seen []uint64
	for m, err := range s.members(ctx) {
		if err != nil {
			return false, err
		}
		if s.count++; s.count <= s.done {
			s.sum = CheckPlace(s.sum, m.Name, wal.Sum(m.Value))
		}
		h := fnv.New64a()
		_, _ = h.Write(m.Name)
		seen = append(seen, h.Sum64())
	}
	slices.Sort(seen)
	return len(slices.Compact(seen)) == s.count, nil
}

func (s *StreamSource) Parts(ctx context.Context, first int) iter.Seq2[[]SourceDoc, error] {
	return func(yield func([]SourceDoc, error) bool) {
		place, size := 0, 0
		docs := make([]SourceDoc, 0, perSource.Count)
		for m, err := range s.members(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if place++; place <= first {
				continue
			}
			more := len(m.Name) + len(m.Value)
			if len(docs) == perSource.Count || len(docs) > 0 && size+more > perSource.Bytes {
				if !yield(docs, nil) {
					return
				}
				docs, size = docs[:0], 0
			}
			d := SourceDoc{ID: string(m.Name), Sum: wal.Sum(m.Value), What: NotStrict}
			if m.Err == nil {
				d.What, d.Value = live, jsonscan.AppendCompact(nil, m.Value)
			}
			docs, size = append(docs, d), size+more
		}
		if len(docs) > 0 {
			yield(docs, nil)
		}
	}
}

// StateOf tells one state of a namespace's files from another, at the cost of
// reading the ends of each. It is empty if there is nothing to import.
func StateOf(path, namespace string) (string, error) {
	names := fileNames(namespace)
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
