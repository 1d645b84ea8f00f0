package kv_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// damaged makes a namespace with ten documents in the document file, and ten
// in the journal, as a killed process leaves it; change damages its files.
func damaged(t *testing.T, change func(name string, text []byte) []byte) (dir string) {
	live := t.TempDir()
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: live, JSON: kv.JSONConfig{Fsync: kv.FsyncAlways}}, "docs")
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	put := func(from int) {
		for i := range 10 {
			item := map[string]json.RawMessage{fmt.Sprint("id", from+i): fmt.Appendf(nil, `{"n":%d}`, from+i)}
			require.NoError(t, s.Upsert(t.Context(), item))
		}
	}
	put(0)
	require.NoError(t, s.Flush(t.Context()))
	put(10)
	dir = t.TempDir()
	entries, err := os.ReadDir(live)
	require.NoError(t, err)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(live, e.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, e.Name()), change(e.Name(), text), 0o600))
	}
	return dir
}

func repairDir(t *testing.T, dir string) kv.RepairReport {
	report, err := kv.Repair(t.Context(), kv.Config{WorkingDir: dir}, "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return report
}

func ids(t *testing.T, dir string) []string {
	s := openDir(t, dir, "docs")
	var ids []string
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		value, err := s.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, `{"n":`+strings.TrimPrefix(id, "id")+`}`, compact(t, value))
		ids = append(ids, id)
	}
	require.NoError(t, s.Close())
	return ids
}

// Ways to damage a namespace, and what repair makes of each.
var damages = []struct {
	name   string
	damage func(name string, text []byte) []byte
	lost   int // parts
	keeps  int // documents
}{
	{"nothing is wrong", func(_ string, text []byte) []byte { return text }, 0, 20},
	{"a record in the middle of the journal", func(name string, text []byte) []byte {
		if strings.Contains(name, ".journal.") {
			text[len(text)/2] ^= 1
		}
		return text
	}, 1, 19},
	{"a bad member in the document file", func(name string, text []byte) []byte {
		if strings.HasSuffix(name, ".json") {
			return []byte(strings.Replace(string(text), `"n": 4`, `"n": tru`, 1))
		}
		return text
	}, 1, 19},
	{"a document file cut short", func(name string, text []byte) []byte {
		if strings.HasSuffix(name, ".json") {
			return text[:len(text)-10]
		}
		return text
	}, 1, 19},
	{"an empty document file", func(name string, text []byte) []byte {
		if strings.HasSuffix(name, ".json") {
			return nil
		}
		return text
	}, 1, 10},
	{"a journal without its header", func(name string, text []byte) []byte {
		if strings.Contains(name, ".journal.") {
			text[12] ^= 1
		}
		return text
	}, 1, 10},
	{"a changed document file", func(name string, text []byte) []byte {
		if strings.HasSuffix(name, ".json") {
			return []byte(strings.Replace(string(text), ",\n", ", \n", 1))
		}
		return text
	}, 0, 20},
}

func TestRepair(t *testing.T) {
	for _, test := range damages {
		t.Run(test.name, func(t *testing.T) {
			originals := make(map[string]string)
			dir := damaged(t, func(name string, text []byte) []byte {
				text = test.damage(name, text)
				originals[name] = string(text)
				return text
			})
			report := repairDir(t, dir)
			require.Len(t, report.Lost, test.lost, "%+v", report)
			require.Equal(t, test.keeps, report.Documents)
			require.Len(t, ids(t, dir), test.keeps)
			for _, c := range report.Copies {
				text, err := os.ReadFile(c)
				require.NoError(t, err)
				name, _, _ := strings.Cut(filepath.Base(c), ".damaged-")
				require.Equal(t, originals[name], string(text))
			}
			if test.name != "nothing is wrong" {
				require.Len(t, report.Copies, 2)
			}
			require.Empty(t, repairDir(t, dir).Copies, "once repaired, nothing is wrong")
		})
	}
}

func TestRepairRefuses(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir, "docs")
	_, err := kv.Repair(t.Context(), kv.Config{WorkingDir: dir}, "docs")
	require.ErrorIs(t, err, kv.ErrLocked)
	_, err = kv.Repair(t.Context(), kv.Config{Backend: "redis"}, "docs")
	require.ErrorIs(t, err, kv.ErrInvalid)
	_, err = kv.Repair(t.Context(), kv.Config{WorkingDir: dir}, "../docs")
	require.ErrorIs(t, err, kv.ErrInvalid)
}
