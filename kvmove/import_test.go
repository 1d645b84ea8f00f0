package kvmove_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/move"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvmove"
)

// realFiles copies what Python wrote into a directory, and returns it with
// the namespaces.
func realFiles(t *testing.T) (dir string, namespaces []string) {
	dir = t.TempDir()
	for _, file := range []string{"golden/golden", "dickens/full_docs", "dickens/text_chunks", "dickens/community_reports", "dickens/llm_response_cache"} {
		folder, namespace, _ := strings.Cut(file, "/")
		name := "kv_store_" + namespace + ".json"
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), testData(t, folder, name), 0o600))
		namespaces = append(namespaces, namespace)
	}
	return dir, namespaces
}

func opens(t *testing.T, cfg kv.Config) kvmove.Opener {
	f, err := kv.NewFactory(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f.Open
}

// What is exported and imported is the same, byte for byte, in the same order;
// also on the way through Redis.
func TestExportOfRealFiles(t *testing.T) {
	dir, namespaces := realFiles(t)
	var stream bytes.Buffer
	reports, err := kvmove.Export(t.Context(), &stream, opens(t, kv.Config{WorkingDir: dir}), namespaces...)
	require.NoError(t, err)
	require.Len(t, reports, 5)

	verified, err := kvmove.VerifyExport(t.Context(), bytes.NewReader(stream.Bytes()))
	require.NoError(t, err)
	for i, r := range reports {
		assert.Equal(t, kvmove.ImportReport{Namespace: r.Namespace, Documents: r.Documents}, verified[i])
	}

	copied := t.TempDir()
	_, err = kvmove.Import(t.Context(), bytes.NewReader(stream.Bytes()), opens(t, kv.Config{WorkingDir: copied}), kvmove.Merge)
	require.NoError(t, err)
	for _, namespace := range namespaces {
		name := "kv_store_" + namespace + ".json"
		was, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		is, err := os.ReadFile(filepath.Join(copied, name))
		require.NoError(t, err)
		assert.Equal(t, string(was), string(is), namespace)
	}

	cfg := redisCfg(redistest.Start(t).URL())
	cfg.TTL = map[string]time.Duration{"llm_response_cache": 0, "community_reports": 0}
	_, err = kvmove.Import(t.Context(), bytes.NewReader(stream.Bytes()), opens(t, cfg), kvmove.IfEmpty)
	require.NoError(t, err)
	var again bytes.Buffer
	_, err = kvmove.Export(t.Context(), &again, opens(t, cfg), namespaces...)
	require.NoError(t, err)
	sorted := func(text string) map[string]int {
		lines := make(map[string]int)
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, `{"id"`) {
				lines[line]++
			}
		}
		return lines
	}
	assert.Equal(t, sorted(stream.String()), sorted(again.String()))
}

// exported is a small stream with what is awkward.
func exported(t *testing.T) (stream []byte, s kv.Store) {
	open := opens(t, kv.Config{WorkingDir: t.TempDir()})
	s, err := open(t.Context(), "ns")
	require.NoError(t, err)
	require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{
		"":         json.RawMessage(`null`),
		"a\n\"b":   json.RawMessage("{ \"n\" : 1.0,\n \"n\" : 1e400, \"s\":\"\\ud800\" }"),
		"\u2028é😀": json.RawMessage(`[]`),
	}))
	expirer, _ := kv.As[kv.Expirer](s)
	require.NoError(t, expirer.UpsertTTL(t.Context(), map[string]json.RawMessage{"brief": json.RawMessage(`1`)}, time.Hour))
	var b bytes.Buffer
	reports, err := kvmove.Export(t.Context(), &b, open, "ns")
	require.NoError(t, err)
	require.Equal(t, 4, reports[0].Documents)
	return b.Bytes(), s
}

// Exports carry the moment of expiry; what has expired since is left out.
func TestExportKeepsTimesToLive(t *testing.T) {
	stream, _ := exported(t)
	open := opens(t, kv.Config{WorkingDir: t.TempDir()})
	_, err := kvmove.Import(t.Context(), bytes.NewReader(stream), open, kvmove.Merge)
	require.NoError(t, err)
	s, err := open(t.Context(), "ns")
	require.NoError(t, err)
	expirer, _ := kv.As[kv.Expirer](s)
	ttl, err := expirer.TTL(t.Context(), "brief")
	require.NoError(t, err)
	assert.InDelta(t, time.Hour, ttl, float64(time.Minute))
	ttl, err = expirer.TTL(t.Context(), "")
	require.NoError(t, err)
	assert.Zero(t, ttl)

	var old bytes.Buffer
	e := move.NewExporter(&old)
	require.NoError(t, e.Line(`{"kv":"export","version":1`))
	require.NoError(t, e.Line(`{"namespace":"old"`))
	require.NoError(t, e.Line(`{"id":"a","expires":1000,"value":1`))
	e.Documents = 1
	require.NoError(t, e.End())
	reports, err := kvmove.Import(t.Context(), &old, open, kvmove.Merge)
	require.NoError(t, err)
	assert.Equal(t, []kvmove.ImportReport{{Namespace: "old", Documents: 1, Expired: 1}}, reports)
}

// Import refuses a stream that is cut anywhere, or of which any byte was
// changed, and never stores a value that was not exported.
func TestImportOfDamage(t *testing.T) {
	stream, s := exported(t)
	try := func(damaged []byte, what string) {
		open := opens(t, kv.Config{WorkingDir: t.TempDir(), JSON: kv.JSONConfig{Fsync: kv.FsyncNo}})
		_, err := kvmove.VerifyExport(t.Context(), bytes.NewReader(damaged))
		require.ErrorIs(t, err, kv.ErrCorrupt, what)
		require.Contains(t, err.Error(), "line ", what)
		_, err = kvmove.Import(t.Context(), bytes.NewReader(damaged), open, kvmove.Merge)
		require.Error(t, err, what)
		got, err := open(t.Context(), "ns")
		require.NoError(t, err)
		for _, id := range listed(t, got) {
			is, err := got.Get(t.Context(), id)
			require.NoError(t, err)
			was, err := s.Get(t.Context(), id)
			require.NoError(t, err, what)
			require.Equal(t, compact(t, was), compact(t, is), what)
		}
		require.NoError(t, got.Close())
	}
	for i := 0; i < len(stream); i += testkit.Stride() {
		try(stream[:i], fmt.Sprintf("cut at byte %d", i))
		flipped := bytes.Clone(stream)
		flipped[i] ^= 1 << (i % 8)
		try(flipped, fmt.Sprintf("a bit of byte %d flipped", i))
	}
	lines := bytes.SplitAfter(stream, []byte("\n"))
	try(bytes.Join(append(lines[:2:2], lines[3:]...), nil), "a line missing")
	try(bytes.Join(append(lines[:3:3], lines[2:]...), nil), "a line twice")
}

// The modes differ in what they do about documents that are there already.
func TestImportModes(t *testing.T) {
	stream, _ := exported(t)
	for _, backend := range []string{"json", "redis"} {
		cfg := kv.Config{WorkingDir: t.TempDir()}
		if backend == "redis" {
			cfg = redisCfg(redistest.Start(t).URL())
		}
		open := opens(t, cfg)
		for _, c := range []struct {
			mode   kvmove.Mode
			report kvmove.ImportReport
			old    string // of the id that is in both
			ids    int
			err    error
		}{
			{kvmove.Merge, kvmove.ImportReport{Documents: 4, Stored: 3, Skipped: 1}, `"old"`, 5, nil},
			{kvmove.MergeOver, kvmove.ImportReport{Documents: 4, Stored: 4}, `1`, 5, nil},
			{kvmove.Replace, kvmove.ImportReport{Documents: 4, Stored: 4, Removed: 1}, `1`, 4, nil},
			{kvmove.IfEmpty, kvmove.ImportReport{}, `"old"`, 2, kv.ErrInvalid},
		} {
			t.Run(fmt.Sprint(backend, c.mode), func(t *testing.T) {
				s, err := open(t.Context(), "ns")
				require.NoError(t, err)
				require.NoError(t, s.Drop(t.Context()))
				require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"brief": json.RawMessage(`"old"`), "mine": json.RawMessage(`2`)}))
				c.report.Namespace = "ns"
				reports, err := kvmove.Import(t.Context(), bytes.NewReader(stream), open, c.mode)
				require.ErrorIs(t, err, c.err)
				assert.Equal(t, []kvmove.ImportReport{c.report}, reports)
				_, err = kvmove.Import(t.Context(), bytes.NewReader(stream), open, c.mode) // Repeating it is safe.
				require.ErrorIs(t, err, c.err)
				value, err := s.Get(t.Context(), "brief")
				require.NoError(t, err)
				assert.Equal(t, c.old, string(value))
				assert.Len(t, listed(t, s), c.ids)
			})
		}
	}
}

// A namespace for which there is no store is passed over; errors of opening
// and of the context end an import.
func TestImportOpener(t *testing.T) {
	stream, _ := exported(t)
	broken := errors.New("no such place")
	_, err := kvmove.Import(t.Context(), bytes.NewReader(stream), func(context.Context, string) (kv.Store, error) { return nil, broken }, kvmove.Merge)
	require.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = kvmove.VerifyExport(ctx, bytes.NewReader(stream))
	require.ErrorIs(t, err, context.Canceled)
	_, err = kvmove.VerifyExport(t.Context(), strings.NewReader("{\"a\":1}\n"))
	require.ErrorContains(t, err, "this is not an export of kv")
}

// FuzzImport: whatever the bytes, reading ends with a stream that is whole or
// with an error of the documented kinds.
func FuzzImport(f *testing.F) {
	var b bytes.Buffer
	e := move.NewExporter(&b)
	_ = e.Line(`{"kv":"export","version":1`)
	_ = e.Line(`{"namespace":"ns"`)
	_ = e.Document(engine.Item{ID: "a", Value: json.RawMessage(`{"b":[1]}`)}, time.Now())
	_ = e.End()
	f.Add(b.Bytes())
	f.Add([]byte(`{"kv":"export","version":2,"sum":"00000000"}` + "\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if _, err := kvmove.VerifyExport(t.Context(), bytes.NewReader(stream)); err != nil && !errors.Is(err, kv.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// A weighed store notes the most bytes that it was asked for at a time.
type weighed struct {
	kv.Store
	most int
}

func (w *weighed) GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
	values, err := w.Store.GetMany(ctx, ids, fields...)
	sum := 0
	for _, value := range values {
		sum += len(value)
	}
	w.most = max(w.most, sum)
	return values, err
}

// Export and Inspect hold pages of a bounded size, however large the values.
func TestBulkReadsAreBounded(t *testing.T) {
	s := openFiles(t, t.TempDir(), "ns")
	large := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	items := make(map[string]json.RawMessage)
	for i := range 40 {
		items[fmt.Sprint(i)] = large
	}
	require.NoError(t, s.Upsert(t.Context(), items))
	for name, read := range map[string]func(w *weighed) error{
		"export": func(w *weighed) error {
			_, err := kvmove.Export(t.Context(), io.Discard, func(context.Context, string) (kv.Store, error) { return unclosed{w}, nil }, "ns")
			return err
		},
		"inspect": func(w *weighed) error { _, err := kv.Inspect(t.Context(), w, kv.InspectOptions{}); return err },
	} {
		w := &weighed{Store: s}
		require.NoError(t, read(w), name)
		assert.Greater(t, w.most, len(large), name)
		assert.LessOrEqual(t, w.most, 2*move.BulkBytes, name)
	}
}

// An unclosed store stays open for the next.
type unclosed struct{ kv.Store }

func (unclosed) Close() error { return nil }
