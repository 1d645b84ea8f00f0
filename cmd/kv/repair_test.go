package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRepair(t *testing.T) {
	s := jsonShell(t)
	s.write("kv_store_docs.json", "{\n  \"a\": 1,\n  \"b\": tru,\n  \"c\": 3\n}")
	s.fails(exitCorrupt, "kv repair docs", "get", "docs", "a")

	out := s.ok("repair", "docs")
	require.Contains(t, out, "copied the file as it was to "+s.dir())
	require.Contains(t, out, "lost in kv_store_docs.json: ")
	require.Contains(t, out, "repaired docs; it has 2 documents")
	require.Equal(t, "a\nc\n", s.ok("ls", "docs"))

	require.JSONEq(t, `{"Documents":2,"Lost":null,"Copies":null}`, s.ok("repair", "docs", "--json"))
	s.fails(exitNothing, "no files of nothing", "repair", "nothing")
}
