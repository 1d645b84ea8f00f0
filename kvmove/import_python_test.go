package kvmove_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvmove"
)

// asArray is what the original's export of a JSON file is: the values, without
// their ids.
func asArray(t *testing.T, file []byte) (array []byte, ids []string, values map[string]json.RawMessage) {
	ids, values = members(t, file)
	list := make([]json.RawMessage, len(ids))
	for i, id := range ids {
		list[i] = values[id]
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	require.NoError(t, enc.Encode(list))
	return b.Bytes(), ids, values
}

// Ids that an export lost are computed again, for real documents.
func TestImportPythonArrays(t *testing.T) {
	for _, namespace := range []string{"full_docs", "text_chunks", "community_reports"} {
		t.Run(namespace, func(t *testing.T) {
			array, ids, values := asArray(t, testData(t, "dickens", "kv_store_"+namespace+".json"))
			s := openFiles(t, t.TempDir(), namespace)
			report, err := kvmove.ImportPython(t.Context(), bytes.NewReader(array), s, namespace, kvmove.IfEmpty)
			require.NoError(t, err)
			assert.Zero(t, report.Refused)
			assert.Empty(t, report.Refusals)
			assert.Equal(t, len(ids), report.Stored)
			var order []string
			for id, err := range s.Keys(t.Context()) {
				require.NoError(t, err)
				order = append(order, id)
			}
			assert.Equal(t, ids, order)
			for _, id := range ids {
				value, err := s.Get(t.Context(), id)
				require.NoError(t, err)
				assert.JSONEq(t, string(values[id]), string(value))
			}
		})
	}
}

const noID = "its id is not in the export, and cannot be computed from the value"

// What cannot be identified is named by its place.
func TestImportPythonUnidentified(t *testing.T) {
	s := openFiles(t, t.TempDir(), "llm_response_cache")
	report, err := kvmove.ImportPython(t.Context(), strings.NewReader(`[null, {"return":"a"}, {"return":"b"}]`), s, "llm_response_cache", kvmove.Merge)
	require.NoError(t, err)
	assert.Equal(t, 2, report.Refused)
	assert.Equal(t, []kvmove.Refusal{{Place: 1, Why: noID}, {Place: 2, Why: noID}}, report.Refusals)
}

// Exports of Redis have ids. They have no times to live: the namespace's count.
func TestImportPythonObjects(t *testing.T) {
	cfg := kv.Config{WorkingDir: t.TempDir(), TTL: map[string]time.Duration{"llm_response_cache": 12 * time.Hour}}
	s, err := kv.Open(t.Context(), cfg, "llm_response_cache")
	require.NoError(t, err)
	defer s.Close()
	text := "\n" + `{"a": {"return": "\u00e9", "n": 1.0}, "b": NaN, "c": "not JSON once"}`
	report, err := kvmove.ImportPython(t.Context(), strings.NewReader(text), s, "llm_response_cache", kvmove.Merge)
	require.NoError(t, err)
	assert.Equal(t, 1, report.Refused)
	assert.Equal(t, []kvmove.Refusal{{Place: 1, ID: "b", Why: "invalid JSON at offset 44: NaN or Infinity"}}, report.Refusals)
	assert.Equal(t, 2, report.Stored)
	value, err := s.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, `{"return":"\u00e9","n":1.0}`, compact(t, value))
	expirer, _ := kv.As[kv.Expirer](s)
	ttl, err := expirer.TTL(t.Context(), "a")
	require.NoError(t, err)
	assert.InDelta(t, 12*time.Hour, ttl, float64(time.Minute))

	for _, bad := range []string{"", "  ", `{"a": 1`, `[{"a": 1}`, `[1,`, `"text"`, `{"a": 1}]`} {
		_, err := kvmove.ImportPython(t.Context(), strings.NewReader(bad), s, "llm_response_cache", kvmove.Merge)
		assert.ErrorIs(t, err, kv.ErrCorrupt, bad)
	}
}

// Without a store, an export is only looked at.
func TestImportPythonWithoutStore(t *testing.T) {
	for text, want := range map[string]kvmove.ImportReport{
		`[{"content": "hello"}, null, 5]`: {Namespace: "full_docs", Documents: 1, Refused: 1, Refusals: []kvmove.Refusal{{Place: 2, Why: noID}}},
		`{"a": {}, "b": NaN}`: {Namespace: "full_docs", Documents: 1, Refused: 1,
			Refusals: []kvmove.Refusal{{Place: 1, ID: "b", Why: "invalid JSON at offset 15: NaN or Infinity"}}},
	} {
		report, err := kvmove.ImportPython(t.Context(), strings.NewReader(text), nil, "full_docs", kvmove.Merge)
		require.NoError(t, err)
		require.Equal(t, want, report)
	}
	_, err := kvmove.ImportPython(t.Context(), strings.NewReader(`{"a": {}`), nil, "full_docs", kvmove.Merge)
	require.ErrorIs(t, err, kv.ErrCorrupt)
}
