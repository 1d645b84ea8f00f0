package kv

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/move"
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
			s := openDir(t, t.TempDir(), namespace)
			report, err := ImportPython(t.Context(), bytes.NewReader(array), s, namespace, ImportIfEmpty)
			require.NoError(t, err)
			assert.Empty(t, report.Unidentified)
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

// Newer chunks have ids of document and content. What cannot be identified is
// named by its place.
func TestImportPythonIDs(t *testing.T) {
	for _, c := range []struct{ namespace, value, id string }{
		{"full_docs", `{"content":"x"}`, "doc-9dd4e461268c8034f5c8564e155c67a6"},
		{"full_docs", `{"content":"\u0078"}`, "doc-9dd4e461268c8034f5c8564e155c67a6"},
		{"text_chunks", `{"content":"x","doc_id":"d"}`, "chunk-" + move.Md5Hex("d::x")},
		{"text_chunks", `{"content":"x","full_doc_id":"d"}`, "chunk-9dd4e461268c8034f5c8564e155c67a6"},
		{"community_reports", `{"title":"Cluster 12"}`, "12"},
		{"community_reports", `{"title":"Cluster 012"}`, ""},
		{"community_reports", `{"title":"Cluster -1"}`, ""},
		{"community_reports", `{"title":"Cluster 1 and more"}`, ""},
		{"community_reports", `{"title":"Something else"}`, ""},
		{"full_docs", `{"text":"x"}`, ""},
		{"full_docs", `[1]`, ""},
		{"llm_response_cache", `{"return":"x","model":"m"}`, ""},
	} {
		id, ok := move.PythonID(c.namespace, json.RawMessage(c.value))
		assert.Equal(t, c.id != "", ok, c.value)
		if ok {
			assert.Equal(t, c.id, id, c.value)
		}
	}

	s := openDir(t, t.TempDir(), "llm_response_cache")
	report, err := ImportPython(t.Context(), strings.NewReader(`[null, {"return":"a"}, {"return":"b"}]`), s, "llm_response_cache", ImportMerge)
	require.NoError(t, err)
	assert.Equal(t, []int{1, 2}, report.Unidentified)
}

// Exports of Redis have ids. They have no times to live: the namespace's count.
func TestImportPythonObjects(t *testing.T) {
	s := openDir(t, t.TempDir(), "llm_response_cache")
	text := "\n" + `{"a": {"return": "\u00e9", "n": 1.0}, "b": NaN, "c": "not JSON once"}`
	report, err := ImportPython(t.Context(), strings.NewReader(text), s, "llm_response_cache", ImportMerge)
	require.NoError(t, err)
	assert.Equal(t, []string{"b"}, report.Refused)
	assert.Equal(t, 2, report.Stored)
	value, err := s.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, `{"return":"\u00e9","n":1.0}`, compact(t, value))
	expirer, _ := As[Expirer](s)
	ttl, err := expirer.TTL(t.Context(), "a")
	require.NoError(t, err)
	assert.InDelta(t, 12*time.Hour, ttl, float64(time.Minute))

	for _, bad := range []string{"", "  ", `{"a": 1`, `[{"a": 1}`, `[1,`, `"text"`, `{"a": 1}]`} {
		_, err := ImportPython(t.Context(), strings.NewReader(bad), s, "llm_response_cache", ImportMerge)
		assert.ErrorIs(t, err, ErrCorrupt, bad)
	}
}

// Without a store, an export is only looked at.
func TestImportPythonWithoutStore(t *testing.T) {
	for text, want := range map[string]PythonReport{
		`[{"content": "hello"}, null, 5]`: {ImportReport{Namespace: "full_docs", Documents: 1}, []string{}, []int{2}},
		`{"a": {}, "b": NaN}`:             {ImportReport{Namespace: "full_docs", Documents: 1}, []string{"b"}, []int{}},
	} {
		report, err := ImportPython(t.Context(), strings.NewReader(text), nil, "full_docs", ImportMerge)
		require.NoError(t, err)
		require.Equal(t, want, report)
	}
	_, err := ImportPython(t.Context(), strings.NewReader(`{"a": {}`), nil, "full_docs", ImportMerge)
	require.ErrorIs(t, err, ErrCorrupt)
}
