package jsonstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/testkit"
)

// A counting handler counts warnings.
type counting struct{ warnings atomic.Int64 }

func (c *counting) Enabled(context.Context, slog.Level) bool { return true }
func (c *counting) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		c.warnings.Add(1)
	}
	return nil
}
func (c *counting) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *counting) WithGroup(string) slog.Handler      { return c }

// openMem opens a directory in memory, and says how often it was warned.
func openMem(files *crashfs.FS) (e *Engine, s *enginetest.Store, warnings int64, err error) {
	var c counting
	e = newEngine(Options{Dir: "dir", Namespace: "t", Files: files, Policy: policyAlways, Logger: slog.New(&c)})
	if err := e.recover(context.Background()); err != nil {
		return nil, nil, c.warnings.Load(), errors.Join(err, e.discard())
	}
	s = enginetest.Wrap(e)
	return e, s, c.warnings.Load(), nil
}

const journalName, documentName, ttlName = "kv_store_t.journal.1", "kv_store_t.json", "kv_store_t.ttl"

// makeJournal returns a journal of at least size bytes with one document in
// each record, and where the records end.
func makeJournal(t *testing.T, size int64, valueSize int) (journal []byte, ends []int64) {
	files := crashfs.New()
	e, s, _, err := openMem(files)
	require.NoError(t, err)
	for i := 0; len(ends) == 0 || ends[len(ends)-1] < size; i++ {
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{idOf(i): valueOf(i, valueSize)}))
		ends = append(ends, e.newest().end)
	}
	journal, _ = files.Bytes(journalName)
	require.NoError(t, e.discard())
	return journal, ends
}

func idOf(i int) string { return fmt.Sprintf("id-%d", i) }

func valueOf(i, size int) json.RawMessage {
	return fmt.Appendf(nil, `{"id":%d,"text":%q}`, i, strings.Repeat("xyz", size/3))
}

// inTwo runs f for 0 to n-1 on two goroutines, until the first error.
func inTwo(t *testing.T, n int, f func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := int(next.Add(int64(testkit.Stride()))) - testkit.Stride(); i < n; i = int(next.Add(int64(testkit.Stride()))) - testkit.Stride() {
				i += i / testkit.Stride() % testkit.Stride() // Not always the same bit of a byte.
				if i >= n {
					return
				}
				if err := f(i); !assert.NoErrorf(t, err, "at %d", i) {
					next.Store(int64(n))
				}
			}
		})
	}
	wg.Wait()
}

// has checks that exactly the first n documents of makeJournal are there.
func has(e *Engine, s *enginetest.Store, n, valueSize int) error {
	if len(e.index.position) != n {
		return fmt.Errorf("%d documents, not %d", len(e.index.position), n)
	}
	for _, i := range []int{0, n / 2, n - 1} {
		if i < 0 || i >= n {
			continue
		}
		value, err := s.Get(context.Background(), idOf(i))
		if err != nil || !bytes.Equal(value, valueOf(i, valueSize)) {
			return fmt.Errorf("document %d: %.60s, %w", i, value, err)
		}
	}
	return nil
}

func TestJSONJournalCutAtEveryByte(t *testing.T) {
	t.Parallel()
	const valueSize = 500
	journal, ends := makeJournal(t, 64<<10, valueSize)
	require.GreaterOrEqual(t, len(journal), 64<<10)
	const header = 8 + 12 + journalHeaderSize // A shorter one was never written to.
	inTwo(t, 64<<10+1, func(cut int) error {
		n := 0
		for n < len(ends) && int(ends[n]) <= cut {
			n++
		}
		files := crashfs.New()
		files.Put(journalName, journal[:cut])
		e, s, warnings, err := openMem(files)
		if err != nil {
			return err
		}
		defer func() { _ = e.discard() }()
		if err := has(e, s, n, valueSize); err != nil || cut < header {
			return err
		}
		good := header
		if n > 0 {
			good = int(ends[n-1])
		}
		aside, _ := files.Bytes(journalName + ".torn")
		whole, _ := files.Bytes(journalName)
		exact := cut == good || e.journals == nil
		switch {
		case exact && warnings == 0 && aside == nil:
		case !exact && warnings == 1 && bytes.Equal(aside, journal[len(whole):cut]):
		default:
			return fmt.Errorf("%d warnings, %d bytes aside, %d bytes left", warnings, len(aside), len(whole))
		}
		return nil
	})
	t.Logf("%d cuts", (64<<10+1)/testkit.Stride())
}

func TestJSONEveryBitOfAJournal(t *testing.T) {
	t.Parallel()
	const valueSize = 90
	journal, ends := makeJournal(t, 4<<10, valueSize)
	last := int(ends[len(ends)-2])
	inTwo(t, 8*len(journal), func(bit int) error {
		flipped := bytes.Clone(journal)
		flipped[bit/8] ^= 1 << (bit % 8)
		files := crashfs.New()
		files.Put(journalName, flipped)
		e, s, _, err := openMem(files)
		if err == nil {
			defer func() { _ = e.discard() }()
			if bit/8 < last {
				return errors.New("damage in the middle was not noticed")
			}
			return has(e, s, len(ends)-1, valueSize)
		}
		return wasRefused(files, err, journalName, flipped)
	})
	t.Logf("%d flips", 8*len(journal)/testkit.Stride())
}

// wasRefused checks an error of a damaged file, which must be left alone.
func wasRefused(files *crashfs.FS, err error, name string, content []byte) error {
	after, _ := files.Bytes(name)
	switch {
	case err == nil:
		return errors.New("opens")
	case !errors.Is(err, fault.ErrCorrupt) || !strings.Contains(err.Error(), "dir/"+name) || !strings.Contains(err.Error(), "offset"):
		return fmt.Errorf("not the right error: %w", err)
	case !bytes.Equal(after, content):
		return fmt.Errorf("%s was changed", name)
	case files.Handles() != 0:
		return fmt.Errorf("%d files left open", files.Handles())
	}
	return nil
}

// makeSnapshot returns the document file and its times to live.
func makeSnapshot(t *testing.T, n, valueSize int) (document, ttls []byte) {
	files := crashfs.New()
	_, s, _, err := openMem(files)
	require.NoError(t, err)
	for i := range n {
		require.NoError(t, s.UpsertTTL(t.Context(), map[string]json.RawMessage{idOf(i): valueOf(i, valueSize)}, 1e15))
	}
	require.NoError(t, s.Close())
	document, _ = files.Bytes(documentName)
	ttls, _ = files.Bytes(ttlName)
	require.Equal(t, []string{documentName, ttlName}, files.Names())
	return document, ttls
}

func TestJSONDocumentFileCutAtEveryByte(t *testing.T) {
	t.Parallel()
	document, _ := makeSnapshot(t, 60, 270)
	require.Greater(t, len(document), 16<<10)
	document = append(document[:16<<10:16<<10], "\n}"...)[:16<<10]
	inTwo(t, len(document), func(cut int) error {
		files := crashfs.New()
		files.Put(documentName, document[:cut])
		_, _, _, err := openMem(files)
		return wasRefused(files, err, documentName, document[:cut])
	})
	t.Logf("%d cuts", len(document)/testkit.Stride())
}

func TestJSONEveryBitOfTimesToLive(t *testing.T) {
	t.Parallel()
	document, ttls := makeSnapshot(t, 20, 30)
	inTwo(t, 8*len(ttls), func(bit int) error {
		flipped := bytes.Clone(ttls)
		flipped[bit/8] ^= 1 << (bit % 8)
		files := crashfs.New()
		files.Put(documentName, document)
		files.Put(ttlName, flipped)
		_, _, _, err := openMem(files)
		return wasRefused(files, err, ttlName, flipped)
	})
	inTwo(t, len(ttls), func(cut int) error {
		files := crashfs.New()
		files.Put(documentName, document)
		files.Put(ttlName, ttls[:cut])
		e, _, _, err := openMem(files)
		if err == nil { // Between two records nothing shows what is missing.
			return e.discard()
		}
		return wasRefused(files, err, ttlName, ttls[:cut])
	})
}
