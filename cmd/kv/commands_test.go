package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPutAndGet(t *testing.T) {
	each(t, func(t *testing.T, s shell) {
		require.Empty(t, s.ok("put", "ns", "arg", `{"a": 1.0, "b": [1e+16, "\u00e9"], "a": 2}`))
		require.Empty(t, s.stdin("[ ]\n").ok("put", "ns", "stdin"))
		require.Empty(t, s.stdin("null").ok("put", "ns", "dash", "-"))
		require.Empty(t, s.ok("put", "ns", "", "5"))
		require.Empty(t, s.ok("put", "ns", "--", "-n", "-5"))
		file := filepath.Join(t.TempDir(), "v.json")
		require.NoError(t, os.WriteFile(file, []byte(`"text"`), 0o600))
		require.Empty(t, s.ok("put", "ns", "a,b c", "@"+file))

		const whole = `{"a":1.0,"b":[1e+16,"\u00e9"],"a":2}` + "\n"
		require.Equal(t, whole, s.ok("get", "ns", "arg"))
		require.Equal(t, "[]\nnull\n5\n-5\n\"text\"\n", s.ok("get", "ns", "--", "stdin", "dash", "", "-n", "a,b c"))
		require.Equal(t, `{"b":[1e+16,"\u00e9"]}`+"\n", s.ok("get", "ns", "arg", "--field", "b", "--field", "c,d"))
		require.Equal(t, `{"id":"dash","value":null}`+"\n", s.ok("get", "ns", "dash", "--with-id"))
		require.Equal(t, "{\n  \"a\": 1.0,\n  \"a\": 2\n}\n", s.ok("get", "ns", "arg", "--field=a", "--indent"))

		r := s.run("get", "ns", "dash", "no\n", "stdin")
		require.Equal(t, result{exitNothing, "null\n[]\n", `kv: not found: ns has no document "no\n"` + "\n"}, r)
	})
}

func TestPutRefuses(t *testing.T) {
	s := jsonShell(t)
	s.env = append(s.env, "STORAGE_MAX_VALUE_BYTES=3")
	for _, test := range []struct {
		text string
		args []string
	}{
		{"not JSON: unexpected character at byte 0", []string{"hello"}},
		{"not JSON: data after the value", []string{"1 2"}},
		{"not JSON: NaN", []string{"NaN"}},
		{"value is empty", []string{" "}},
		{"value is empty", []string{}},
		{"cannot read the value: open /no/such/file", []string{"@/no/such/file"}},
		{"cannot read the value", []string{"@" + t.TempDir()}},
		{"-1s is negative", []string{"1", "--ttl=-1s"}},
		{"neither a number of seconds nor a duration", []string{"1", "--ttl", "soon"}},
	} {
		s.fails(exitInvalid, test.text, append([]string{"put", "ns", "id"}, test.args...)...)
	}
	require.Empty(t, fileNames(t, s.dir()), "refused input makes no files")
	s.fails(exitInvalid, "STORAGE_MAX_VALUE_BYTES allows 3", "put", "ns", "id", "12345")
	for _, args := range [][]string{{"put", "ns", "\xff", "1"}, {"rm", "ns", "a", "\xff"}, {"get", "ns", "\xff"}} {
		s.write("kv_store_ns.json", `{"\ufffd": 1}`)
		s.fails(exitInvalid, "an id is not valid UTF-8", args...)
	}
	require.Equal(t, "1\n", s.ok("get", "ns", "\ufffd"))
}

func TestPutIfAbsent(t *testing.T) {
	each(t, func(t *testing.T, s shell) {
		s.ok("put", "ns", "a", "1", "--if-absent")
		s.fails(exitNothing, `ns has a document "a" already`, "put", "ns", "a", "2", "--if-absent")
		require.Equal(t, "1\n", s.ok("get", "ns", "a"))
	})
}

func TestPutTTL(t *testing.T) {
	s, server := redisShell(t)
	s.ok("put", "llm_response_cache", "default", "1")
	s.ok("put", "llm_response_cache", "short", "1", "--ttl", "90")
	s.ok("put", "llm_response_cache", "new", "1", "--ttl", "1m", "--if-absent")
	s.ok("put", "llm_response_cache", "ever", "1", "--ttl", "0")
	for id, want := range map[string]time.Duration{"default": 12 * time.Hour, "short": 90 * time.Second, "new": time.Minute, "ever": 0} {
		require.Equal(t, want, server.TTL("nano_graphrag:llm_response_cache:"+id), id)
	}

	s = jsonShell(t)
	s.ok("put", "ns", "brief", "1", "--ttl", "1ms")
	require.Eventually(t, func() bool { return s.run("get", "ns", "brief").code == exitNothing }, time.Second, time.Millisecond)
}

func TestLs(t *testing.T) {
	each(t, func(t *testing.T, s shell) {
		ids := map[string]string{
			"plain":     "plain",
			"a b:é😀":    "a b:é😀",
			"":          `""`,
			"two\nli":   `"two\nli"`,
			`"q"`:       `"\"q\""`,
			`back\`:     `back\`,
			"esc\x1b":   `"esc\u001b"`,
			"c1\u009b<": `"c1\u009b<"`,
			"ls\u2028":  `"ls\u2028"`,
		}
		var plain, quotes, nul []string
		for id, line := range ids {
			s.ok("put", "ns", id, "1")
			plain = append(plain, line)
			nul = append(nul, id)
		}
		require.ElementsMatch(t, plain, lines(s.ok("ls", "ns"), "\n"))
		require.ElementsMatch(t, nul, lines(s.ok("ls", "ns", "-0"), "\x00"))
		for _, line := range lines(s.ok("ls", "ns", "--json"), "\n") {
			var id string
			require.NoError(t, json.Unmarshal([]byte(line), &id))
			quotes = append(quotes, id)
		}
		require.ElementsMatch(t, nul, quotes)
		require.Equal(t, "9\n", s.ok("count", "ns"))

		s.ok("put", "nul", "\x00", "1")
		s.fails(exitInvalid, "use --json", "ls", "nul", "-0")
		s.fails(exitInvalid, "--json and --null", "ls", "ns", "-0", "--json")
	})
}

func lines(text, end string) []string { return strings.Split(strings.TrimSuffix(text, end), end) }

func TestLsNamespaces(t *testing.T) {
	s := jsonShell(t)
	r := s.run("ls")
	require.Equal(t, result{0, "", "kv: note: there are no kv_store_*.json files in " + s.dir() + "\n"}, r)
	s.write("kv_store_b.json", "{}")
	s.write("kv_store_a.json.json", "{}")
	s.write("kv_store_-x.json", "{}")
	s.write("graph.graphml", "")
	require.NoError(t, os.Mkdir(filepath.Join(s.dir(), "kv_store_dir.json"), 0o700))
	s.service("only_journal", map[string]json.RawMessage{"a": []byte("1")})
	require.Equal(t, "a.json\nb\nonly_journal\n", s.ok("ls"))
	require.Equal(t, "\"b\"\n", strings.SplitAfter(s.ok("ls", "--json"), "\n")[1])
	s.fails(exitInvalid, "the namespace is empty", "ls", "")

	s, server := redisShell(t)
	r = s.run("ls")
	require.Equal(t, result{0, "", "kv: note: there are no keys under nano_graphrag: on redis://" + server.Addr() + "\n"}, r)
	for _, key := range []string{"nano_graphrag:b:x:y", "nano_graphrag:b:z", "nano_graphrag:a:", "nano_graphrag:x", "other:c:x"} {
		require.NoError(t, server.Set(key, "1"))
	}
	require.Equal(t, "a\nb\n", s.ok("ls"))
	require.Equal(t, "NAMESPACE  DOCUMENTS  BYTES  EXPIRE\na          1          1 B    0\nb          2          6 B    0\n", s.ok("stats"))
}

func TestRm(t *testing.T) {
	each(t, func(t *testing.T, s shell) {
		s.ok("put", "ns", "a", "1")
		s.ok("put", "ns", "b", "1")
		require.Equal(t, "1\n", s.ok("rm", "ns", "a", "a", "zz"))
		r := s.run("rm", "ns", "a")
		require.Equal(t, result{exitNothing, "0\n", "kv: nothing was removed: ns has no such document\n"}, r)
		require.Equal(t, "b\n", s.ok("ls", "ns"))
	})
}

func TestDrop(t *testing.T) {
	each(t, func(t *testing.T, s shell) {
		s.ok("put", "ns", "a", "1")
		s.ok("put", "ns2", "a", "1")
		s.stdin("ns\n").fails(exitNothing, "say --yes", "drop", "ns")

		s.terminal = true
		for _, answer := range []string{"", "\n", "y\n", "ns2\n"} {
			s.stdin(answer).fails2(t, answer)
		}
		r := s.stdin("ns\n").run("drop", "ns")
		require.Equal(t, exitOK, r.code)
		require.Equal(t, "dropped ns\n", r.out)
		require.Contains(t, r.err, "This removes all 1 documents of ns ")
		require.Equal(t, "0\n", s.ok("count", "ns"))
		require.Equal(t, "1\n", s.ok("count", "ns2"))

		s.terminal = false
		require.Equal(t, "dropped ns2\n", s.ok("drop", "ns2", "-y"))
		require.Equal(t, "0\n", s.ok("count", "ns2"))
	})
}

func (s shell) fails2(t *testing.T, answer string) {
	t.Helper()
	r := s.run("drop", "ns")
	require.Equal(t, exitNothing, r.code, answer)
	require.Contains(t, r.err, "kv: not confirmed; nothing was removed\n")
	require.Equal(t, "1\n", s.ok("count", "ns"))
}

// A misspelt namespace is pointed out, and never made.
func TestNoSuchNamespace(t *testing.T) {
	s := jsonShell(t)
	s.write("kv_store_full_docs.json", "{}")
	note := `kv: note: there is no namespace "fulldocs" in ` + s.dir() + "; there are full_docs\n"
	require.Equal(t, result{0, "0\n", note}, s.run("count", "fulldocs"))
	require.Equal(t, result{0, "", note}, s.run("ls", "fulldocs"))
	for _, args := range [][]string{{"get", "fulldocs", "a"}, {"rm", "fulldocs", "a"}, {"drop", "fulldocs", "-y"}} {
		r := s.run(args...)
		require.Equal(t, exitNothing, r.code)
		require.True(t, strings.HasPrefix(r.err, note), r.err)
	}
	require.Equal(t, []string{"kv_store_full_docs.json"}, fileNames(t, s.dir()))
	require.Empty(t, s.ok("ls", "full_docs"))
}

func TestStats(t *testing.T) {
	s := jsonShell(t)
	s.ok("put", "a", "x", "1")
	s.service("b", map[string]json.RawMessage{"x": []byte("1"), "y": []byte("2")})
	require.Regexp(t, `(?m)^NAMESPACE  DOCUMENTS  BYTES  EXPIRE  FILE  JOURNAL\na  +1  +\d+ B  +0  +12 B  +0 B\nb  +2  +\d+ B  +0  +0 B  +[1-9]\d+ B\n$`, s.ok("stats"))
	require.Equal(t, `{"namespace":"a","backend":"json","documents":1,"bytes":2,"expiring":0,"file_bytes":12,"journal_bytes":0}`+"\n", s.ok("stats", "a", "--json"))
	s.write("kv_store_bad.json", "[")
	r := s.run("stats")
	require.Equal(t, exitCorrupt, r.code)
	require.Contains(t, r.out, "\nb ")

	s, _ = redisShell(t)
	s.ok("put", "a", "x", "1")
	require.Equal(t, `{"namespace":"a","backend":"redis","documents":1,"bytes":2,"expiring":0}`+"\n", s.ok("stats", "a", "--json"))
}
