package kvmove_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/move"
	"github.com/ngraf/kv/kvmove"
)

// An export ends where it ends: of two in one file, or of one with anything
// behind it, the rest would be missed in silence.
func TestImportRefusesWhatFollows(t *testing.T) {
	t.Parallel()
	stream, _ := exported(t)
	for name, behind := range map[string]string{"another": string(stream), "a line": "\n", "a byte": "\x00"} {
		long := append(bytes.Clone(stream), behind...)
		_, err := kvmove.VerifyExport(t.Context(), bytes.NewReader(long))
		require.ErrorIs(t, err, kv.ErrCorrupt, name)
		require.ErrorContains(t, err, "something follows", name)
		dst := openFiles(t, t.TempDir(), "ns")
		have(t, dst, docs{"mine": "1"})
		reports, err := kvmove.Import(t.Context(), bytes.NewReader(long), opening(dst), kvmove.Replace)
		require.ErrorIs(t, err, kv.ErrCorrupt, name)
		require.Zero(t, reports[0].Removed, name)
		require.Contains(t, listed(t, dst), "mine", name)
	}
}

// A line of a kind that is not known is not passed over: what it meant would
// be missed.
func TestImportRefusesUnknownLines(t *testing.T) {
	t.Parallel()
	for _, line := range []string{`{"kv":"export","version":1`, `{"other":1`, `{"id":"a"`, `{"id":"a","value":1,"namespace":"b"`} {
		var b bytes.Buffer
		e := move.NewExporter(&b)
		require.NoError(t, e.Begin())
		require.NoError(t, e.Line(`{"namespace":"ns"`))
		require.NoError(t, e.Line("%s", line))
		require.NoError(t, e.End())
		_, err := kvmove.VerifyExport(t.Context(), &b)
		require.ErrorIs(t, err, kv.ErrCorrupt, line)
		require.ErrorContains(t, err, "line 3: the line is not as Export writes it", line)
	}
}

// Arrays of Python's are read document by document: one that is not JSON is
// named by its place and left, and the rest goes.
func TestImportPythonLeavesABadElement(t *testing.T) {
	t.Parallel()
	s := openFiles(t, t.TempDir(), "full_docs")
	const text = `[{"content":"a"}, {"content":"b","score":NaN}, {"content":"c"}, {"content":"` + "\xff" + `"}]`
	r, err := kvmove.ImportPython(t.Context(), strings.NewReader(text), s, "full_docs", kvmove.Merge)
	require.NoError(t, err)
	require.Equal(t, kvmove.ImportReport{
		Namespace: "full_docs", Documents: 2, Stored: 2, Refused: 2,
		Refusals: []kvmove.Refusal{
			{Place: 1, Why: "invalid JSON at offset 41: NaN or Infinity"},
			{Place: 3, Why: "invalid JSON at offset 76: invalid UTF-8"},
		},
	}, r)
	require.Len(t, listed(t, s), 2)
}

// Where it cannot be told where a document ends, an export is damaged there,
// and the error says which document that is, and at which byte.
func TestImportPythonNamesThePlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`[{"content":"a"}, {"content":tru}, {"content":"c"}]`: "document 1 of the export, counted from 0: invalid JSON at offset 29: ",
		`{"a":1,"b":2,"c":{`:                         "document 2 of the export, counted from 0: invalid JSON at offset 18: ",
		`[{"content":"a"}][]`:                        "document 1 of the export, counted from 0: invalid JSON at offset 17: data after the value",
		"  \"secret\"":                               "this is no export of nano-graphrag: invalid JSON at offset 2: ",
		`{"a":1,` + strings.Repeat(" ", 1<<20) + `]`: "invalid JSON at offset 1048583: ",
	} {
		_, err := kvmove.ImportPython(t.Context(), strings.NewReader(text), nil, "full_docs", kvmove.Merge)
		require.ErrorIs(t, err, kv.ErrCorrupt)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}

// small opens a namespace of files for values of at most 1 MiB.
func small(t *testing.T, namespace string) builtin {
	s := closeable(t, kv.Config{WorkingDir: t.TempDir(), MaxValueBytes: 1 << 20}, namespace)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.(builtin)
}

// text is a JSON string of n bytes.
func text(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }

// A document over the limit is named, by its place and in the report by its id,
// and left; the rest goes, and an import that is made again ends alike. What is
// there under its id stays, whatever the mode.
func TestImportLeavesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	from := openFiles(t, t.TempDir(), "ns")
	have(t, from, docs{"a": text(1 << 20), "b-secret": text(1<<20 + 1), "c": "3"})
	have(t, from, docs{"d-secret": text(5 << 20), "e": "5"})
	var stream bytes.Buffer
	_, err := kvmove.Export(t.Context(), &stream, opening(from), "ns")
	require.NoError(t, err)
	reports, err := kvmove.VerifyExport(t.Context(), bytes.NewReader(stream.Bytes()))
	require.NoError(t, err)
	require.Equal(t, 5, reports[0].Documents)
	for _, mode := range []kvmove.Mode{kvmove.Merge, kvmove.MergeOver, kvmove.Replace} {
		dst := small(t, "ns")
		have(t, dst, docs{"d-secret": `"old"`})
		for range 2 {
			reports, err = kvmove.Import(t.Context(), bytes.NewReader(stream.Bytes()), opening(dst), mode)
			require.NoError(t, err)
			r := reports[0]
			require.Equal(t, 3, r.Documents)
			require.Equal(t, 3, r.Stored+r.Skipped)
			require.Zero(t, r.Removed)
			require.Equal(t, 2, r.Refused)
			require.Equal(t, []int{4, 6}, []int{r.Refusals[0].Place, r.Refusals[1].Place})
			require.Equal(t, []string{"b-secret", "d-secret"}, []string{r.Refusals[0].ID, r.Refusals[1].ID})
			for _, refusal := range r.Refusals {
				require.Contains(t, refusal.Why, "STORAGE_MAX_VALUE_BYTES allows ")
				require.NotContains(t, refusal.Why, "secret")
			}
			require.Equal(t, []string{"a", "c", "d-secret", "e"}, listed(t, dst))
			value, err := dst.Get(t.Context(), "d-secret")
			require.NoError(t, err)
			require.Equal(t, `"old"`, string(value))
		}
	}

	python := `{"a":` + text(1<<20) + `,"b":` + text(1<<20+1) + `,"c":` + text(5<<20) + `,"d":4}`
	dst := small(t, "ns")
	r, err := kvmove.ImportPython(t.Context(), strings.NewReader(python), dst, "ns", kvmove.Merge)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "d"}, listed(t, dst))
	require.Equal(t, 2, r.Refused)
	require.Equal(t, []string{"b", "c"}, []string{r.Refusals[0].ID, r.Refusals[1].ID})
	require.Contains(t, r.Refusals[1].Why, "it takes more than ")
}

// A large value of a size that its store allows is imported, through a wrapper,
// too.
func TestImportOfLargeValues(t *testing.T) {
	t.Parallel()
	large := docs{"large": text(3 << 20)}
	from := openFiles(t, t.TempDir(), "ns")
	have(t, from, large)
	var stream bytes.Buffer
	_, err := kvmove.Export(t.Context(), &stream, opening(from), "ns")
	require.NoError(t, err)
	for _, dst := range []kv.Store{openFiles(t, t.TempDir(), "ns"), newPlain(nil)} {
		reports, err := kvmove.Import(t.Context(), bytes.NewReader(stream.Bytes()), opening(dst), kvmove.Merge)
		require.NoError(t, err)
		require.Zero(t, reports[0].Refused)
		require.Equal(t, large, holds(t, dst))
	}
}

// repeated is a text of n bytes that nobody holds.
func repeated(n int64) io.Reader { return io.LimitReader(ones{}, n) }

type ones struct{}

func (ones) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '1'
	}
	return len(p), nil
}

// bomb is an export that breaks off behind a value of n bytes, which nobody
// holds.
func bomb(t *testing.T, n int64) io.Reader {
	var b bytes.Buffer
	e := move.NewExporter(&b)
	require.NoError(t, e.Begin())
	require.NoError(t, e.Line(`{"namespace":"ns"`))
	require.NoError(t, e.End())
	lines := bytes.SplitAfter(b.Bytes(), []byte("\n"))
	const begin = `{"id":"large","value":`
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, err := io.Copy(sum, io.MultiReader(strings.NewReader(begin), repeated(n)))
	require.NoError(t, err)
	end := fmt.Sprintf(`,"sum":"%08x"}`+"\n", sum.Sum32())
	return io.MultiReader(bytes.NewReader(lines[0]), bytes.NewReader(lines[1]), strings.NewReader(begin), repeated(n), strings.NewReader(end))
}

// The limit of a value bounds what an import holds, before memory is taken:
// what is larger is read to its end and left, as a value of a compressed stream
// may be, which costs who wrote it nothing.
func TestImportBoundsMemory(t *testing.T) {
	const n = 64 << 20
	for name, do := range map[string]func(dst kv.Store) error{
		"line 4: the stream ends here": func(dst kv.Store) error {
			_, err := kvmove.Import(t.Context(), bomb(t, n), opening(dst), kvmove.Merge)
			return err
		},
		"document 0 of the export": func(dst kv.Store) error {
			_, err := kvmove.ImportPython(t.Context(), io.MultiReader(strings.NewReader(`[{"content":"`), repeated(n)), dst, "full_docs", kvmove.Merge)
			return err
		},
		"counted from 0: invalid JSON": func(dst kv.Store) error {
			_, err := kvmove.ImportPython(t.Context(), io.MultiReader(strings.NewReader(`{"a":"`), repeated(n)), dst, "full_docs", kvmove.Merge)
			return err
		},
		"unexpected end": func(dst kv.Store) error {
			_, err := kvmove.ImportPython(t.Context(), io.MultiReader(strings.NewReader(`{"`), repeated(n)), dst, "full_docs", kvmove.Merge)
			return err
		},
	} {
		dst := small(t, "full_docs")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := do(dst)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, kv.ErrCorrupt, name) // As it breaks off there.
		require.ErrorContains(t, err, name, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20), "%s: of %d", name, n)
	}
}

// With Replace an export of which some documents have no id removes nothing:
// they may be among those that are there. The caller's store stays open.
func TestImportPythonReplace(t *testing.T) {
	t.Parallel()
	for text, removed := range map[string]bool{`[{"content":"a"}, {"content":NaN}]`: false, `[{"content":"a"}]`: true} {
		dst := openFiles(t, t.TempDir(), "full_docs")
		have(t, dst, docs{"mine": "1"})
		r, err := kvmove.ImportPython(t.Context(), strings.NewReader(text), dst, "full_docs", kvmove.Replace)
		require.Equal(t, 1, r.Stored)
		if removed {
			require.NoError(t, err)
			require.Len(t, listed(t, dst), 1)
			continue
		}
		require.ErrorIs(t, err, kv.ErrInvalid)
		require.ErrorContains(t, err, "none was removed")
		require.Len(t, listed(t, dst), 2)
	}
}

// A wrapped store gives documents of Python's the time to live of its
// namespace, as the store itself does.
func TestImportPythonThroughAWrapper(t *testing.T) {
	t.Parallel()
	dst := closeable(t, kv.Config{WorkingDir: t.TempDir(), TTL: map[string]time.Duration{"answers": time.Hour}}, "answers").(builtin)
	defer dst.Close()
	_, err := kvmove.ImportPython(t.Context(), strings.NewReader(`{"a":1}`), keptOpen{dst}, "answers", kvmove.Merge)
	require.NoError(t, err)
	ttl, err := dst.TTL(t.Context(), "a")
	require.NoError(t, err)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))
}

// A refused list is bounded, as what it is made from is not.
func TestImportListsTheFirstRefusals(t *testing.T) {
	t.Parallel()
	text := "[NaN" + strings.Repeat(",NaN", 4999) + "]"
	r, err := kvmove.ImportPython(t.Context(), strings.NewReader(text), newPlain(nil), "full_docs", kvmove.Merge)
	require.NoError(t, err)
	require.Equal(t, 5000, r.Refused)
	require.Len(t, r.Refusals, 1000)
	line, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(line), `"refused":5000,"refusals":[{"place":0,"why":"invalid JSON at offset 1: `)
}
