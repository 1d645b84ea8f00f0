package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// kv inspect shows sizes, times to live and the biggest, whose ids are hashed
// unless asked for.
func TestInspect(t *testing.T) {
	each(t, func(t *testing.T, s shell) {
		for i := range 6 {
			s.ok("put", "ns", fmt.Sprint("id-", i), `"`+strings.Repeat("x", 1<<i)+`"`, "--ttl", []string{"0", "50s", "3h"}[i/2])
		}
		require.Equal(t, `ns: 6 documents, 99 B of ids and values
expire: 4, live for ever: 2, not JSON: 0

SIZE OF VALUES
      up to 4 B  ████████████████████████████████████████ 2
      up to 8 B  ████████████████████                     1
     up to 16 B  ████████████████████                     1
     up to 32 B  ████████████████████                     1
     up to 64 B  ████████████████████                     1

LEFT TO LIVE
`, before(t, s.ok("inspect", "ns"), "     up to 64 s"))
		out := s.ok("inspect", "ns", "--biggest", "2")
		require.Regexp(t, `(?m)^     up to 64 s  █{40} 2$`, out)
		require.Regexp(t, `(?m)^   up to 4.55 h  █{40} 2$`, out)
		require.Contains(t, out, "\nBIGGEST\n        38 B  8c6da9d9438fcca3\n        22 B  8a0f517a08ae1251\n")
		require.NotContains(t, out, "id-")
		require.Contains(t, s.ok("inspect", "ns", "--show-ids", "--biggest", "1"), "BIGGEST\n        38 B  id-5\n")
		require.Contains(t, s.ok("inspect", "ns", "--sample", "3"), "(3 looked at)\n")
		require.Equal(t, `{"namespace":"one","documents":1,"sampled":1,"bytes":4,"permanent":1,"unexpected":0,"corrupt":0,`+
			`"biggest":[{"id":"a","bytes":4}],"value_bytes":[{"to":4,"count":1}],"ttl_seconds":[]}`+"\n", func() string {
			s.ok("put", "one", "a", "123")
			return s.ok("inspect", "one", "--show-ids", "--json")
		}())
		s.fails(exitInvalid, "--biggest is at least 1", "inspect", "ns", "--biggest", "0")
	})
}

func before(t *testing.T, text, mark string) string {
	head, _, ok := strings.Cut(text, mark)
	require.True(t, ok, text)
	return head
}

// Documents that live for ever where new ones expire are pointed out, and ids
// cannot play tricks on a terminal.
func TestInspectFindings(t *testing.T) {
	s, _ := redisShell(t)
	s.ok("put", "llm_response_cache", "esc\x1b", "1", "--ttl", "0")
	out := s.ok("inspect", "llm_response_cache", "--show-ids")
	require.Contains(t, out, "live for ever: 1 (although new ones of llm_response_cache expire)")
	require.Contains(t, out, `  "esc\u001b"`+"\n")
}

// Of a large namespace kv stats reads a sample, and says so.
func TestStatsOfASample(t *testing.T) {
	s := jsonShell(t)
	var text strings.Builder
	for i := range 2 * glanced {
		fmt.Fprintf(&text, `,"%04d":123456`, i)
	}
	s.write("kv_store_ns.json", "{"+text.String()[1:]+"}")
	require.Contains(t, s.ok("stats"), "ns         2000       ~19.5 KiB  ~0 ")
	require.Contains(t, s.ok("stats", "--json"), `"documents":2000,"bytes":20000,"sampled":1000,"expiring":0`)
}
