package kvllm_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvllm"
)

type cacheCase struct {
	Model    string          `json:"model"`
	Messages []kvllm.Message `json:"messages"`
	ID       string          `json:"id"`
}

// CacheID returns the id under which nano-graphrag keeps the answer: all ids
// that Python computed.
func TestCacheIDGolden(t *testing.T) {
	var cases []cacheCase
	require.NoError(t, json.Unmarshal(testkit.GoldenData(t, "cache_ids.json"), &cases))
	require.Len(t, cases, 60)
	for i, c := range cases {
		require.Equal(t, c.ID, kvllm.CacheID(c.Model, c.Messages), "case %d", i)
	}
}

// The MD5 of Python's str((model, messages)), by hand.
func TestCacheIDByHand(t *testing.T) {
	// ('m', [])
	require.Equal(t, "7f9f492ad2eba2709b4073b91ccbad84", kvllm.CacheID("m", nil))
}

// The ids do not change with the Unicode tables of Go: when these do, look at
// sinceUnicode14.
func TestCacheIDIsBoundToUnicode14(t *testing.T) {
	require.Equal(t, "15.0.0", unicode.Version)
}

// pythonIDs computes ids with Python, those of many cases in one process.
const pythonIDs = `
import sys, json, hashlib
for line in sys.stdin.buffer:
    c = json.loads(line)
    messages = [{"role": m["role"], "content": m["content"]} for m in c["messages"]]
    print(hashlib.md5(str((c["model"], messages)).encode()).hexdigest())
`

// python311 returns a Python whose tables are those that CacheID is bound to.
func python311(t testing.TB) string {
	for _, name := range []string{"python3", "python3.11"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(path, "-c", "import unicodedata; print(unicodedata.unidata_version)").Output()
		if err == nil && strings.HasPrefix(string(out), "14.") {
			return path
		}
	}
	t.Skip("there is no python3 with Unicode 14 (Python 3.11)")
	return ""
}

func askPython(t testing.TB, python string, cases []cacheCase) []string {
	var in bytes.Buffer
	for _, c := range cases {
		require.NoError(t, json.NewEncoder(&in).Encode(c))
	}
	cmd := exec.Command(python, "-c", pythonIDs)
	cmd.Stdin = &in
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}

// randomText is of characters that repr treats differently, with any others.
func randomText(rng *rand.Rand) string {
	const odd = "'\"\\\n\r\t\x00\x1f\x7f  aZ{}[]é\u00a0\u00ad\u0301\u0378\u2028\u202e\u3000\ufeff\ufffd中😀\U0001fae8\U000e0001\U0010fffd"
	chars := []rune(odd)
	var b strings.Builder
	for range rng.IntN(40) {
		if rng.IntN(3) > 0 {
			b.WriteRune(chars[rng.IntN(len(chars))])
			continue
		}
		r := rune(rng.IntN(unicode.MaxRune + 1))
		if rng.IntN(2) > 0 {
			r = rune(rng.IntN(0x3000))
		}
		b.WriteRune(r) // A surrogate becomes U+FFFD.
	}
	return b.String()
}

// Equal to what Python computes, for 20,000 random conversations, and for
// every character there is.
func TestCacheIDLikePython(t *testing.T) {
	t.Parallel()
	python := python311(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var cases []cacheCase
	for range 20_000 {
		c := cacheCase{Model: randomText(rng), Messages: []kvllm.Message{}}
		for range rng.IntN(4) {
			c.Messages = append(c.Messages, kvllm.Message{Role: randomText(rng), Content: randomText(rng)})
		}
		cases = append(cases, c)
	}
	for from := rune(0); from <= unicode.MaxRune; from += 64 {
		var b strings.Builder
		for r := from; r < from+64; r++ {
			b.WriteRune(r)
		}
		cases = append(cases, cacheCase{Model: b.String(), Messages: []kvllm.Message{}})
	}
	for i, id := range askPython(t, python, cases) {
		require.Equal(t, id, kvllm.CacheID(cases[i].Model, cases[i].Messages), "%+q", cases[i])
	}
}

// Equal to what Python computes, for what the fuzzer thinks of.
func FuzzCacheID(f *testing.F) {
	python := python311(f)
	f.Add("gpt-4o", "user", "It's \"so\"\n\u2028😀\x7f", "system", "")
	f.Fuzz(func(t *testing.T, model, role, content, role2, content2 string) {
		c := cacheCase{model, []kvllm.Message{{role, content}, {role2, content2}}, ""}
		require.Equal(t, askPython(t, python, []cacheCase{c})[0], kvllm.CacheID(model, c.Messages))
	})
}
