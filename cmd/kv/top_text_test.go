package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// metricsOfAService are what kvprom's own test holds the collector to.
const metricsOfAService = "../../kvprom/testdata/metrics.txt"

// What kv top takes from all that kvprom can export.
func TestReadService(t *testing.T) {
	file, err := os.Open(metricsOfAService)
	require.NoError(t, err)
	defer file.Close()
	s, err := readService(file)
	require.NoError(t, err)
	none := map[float64]float64{}
	latency := map[float64]float64{
		0x1p-20: 1, 0x1p-18: 1, 0x1p-16: 1, 0x1p-14: 1, 0x1p-12: 1, 0x1p-10: 3, 0x1p-8: 4, 0x1p-6: 4, 0x1p-4: 4, 0x1p-2: 4,
		1: 4, 4: 4, 16: 4, 64: 4, math.Inf(1): 5,
	}
	require.Equal(t, &service{
		namespaces: map[string]*served{
			"closed":      {latency: none},
			"full_docs":   {calls: 5, failed: 2, hits: 5, misses: 3, latency: latency},
			"text_chunks": {hits: 5, misses: 3, latency: none},
		},
		poolInUse: 3, poolIdle: 2, poolLimit: 50, waits: 2, timeouts: 1, retries: 3, circuitOpen: true,
		cacheHits: 1, cacheMisses: 2, cacheBytes: 4, cacheLimit: 1 << 20,
	}, s)
}

// read returns the samples of a text.
func read(text string) (list []sample, err error) {
	err = readSamples(strings.NewReader(text), func(s sample) error {
		list = append(list, s)
		return nil
	})
	return list, err
}

// What the format allows, and what kvprom never writes but others do.
func TestSamples(t *testing.T) {
	for line, want := range map[string]sample{
		"up 1":                              {"up", nil, 1},
		" \tup\t \t-1.5e-3 ":                {"up", nil, -0.0015},
		"up 1 1395066363000":                {"up", nil, 1},
		"up -Inf -1":                        {"up", nil, math.Inf(-1)},
		"up +Inf":                           {"up", nil, math.Inf(1)},
		"a:b_1{} 2":                         {"a:b_1", map[string]string{}, 2},
		"up {} 2":                           {"up", map[string]string{}, 2},
		`up{a="b"}2`:                        {"up", map[string]string{"a": "b"}, 2},
		`up{a="b",c="",} 2`:                 {"up", map[string]string{"a": "b", "c": ""}, 2},
		` up { a = "b" , c = "d" , } 2 `:    {"up", map[string]string{"a": "b", "c": "d"}, 2},
		`up{a="} 1 # {,=",b="\"\\\n\\n"} 2`: {"up", map[string]string{"a": "} 1 # {,=", "b": "\"\\\n\\n"}, 2},
		"up{a=\"\xff\x1b[J🙂\"} 2":           {"up", map[string]string{"a": "\xff\x1b[J🙂"}, 2},
		`{"a.b"} 2`:                         {"a.b", map[string]string{}, 2},
		`{"a \"b\"","c.d"="e"} 2`:           {`a "b"`, map[string]string{"c.d": "e"}, 2},
	} {
		got, err := read("# HELP up help\n#\n \n" + line + "\n# EOF\n\n")
		require.NoError(t, err, line)
		require.Equal(t, []sample{want}, got, line)
	}
	got, err := read("nan NaN\r\n")
	require.NoError(t, err)
	require.True(t, math.IsNaN(got[0].value))
	got, err = read("")
	require.NoError(t, err)
	require.Empty(t, got)
}

// What is not the format is refused by the number of its line, which the error
// does not repeat.
func TestSamplesThatAreNone(t *testing.T) {
	for _, line := range []string{
		"<!DOCTYPE html>", "{}", "\x00", "secret", "secret 1 2 3", "secret 1 2.5", "secret 1 now", "secret x", "secret 1e999", "secret {",
		"secret}", "1 secret", " 1", "{} 1", "{,} 1", "secret{,} 1", "secret{a} 1", "secret{a=} 1", "secret{a=b} 1", `secret{a="b} 1`,
		`secret{a="b\"} 1`, `secret{a="b\`, `secret{a="\t"} 1`, `secret{a="b"c="d"} 1`, `secret{a="b",,} 1`, `secret{="b"} 1`, `secret{""="b"} 1`,
		`secret{"other"} 1`, `{"secret","other"} 1`, `secret{a="b"`, `secret{a="b",`, `secret{a="b"} `, `secret{a="b"}}1`, `{"secret" 1`,
		"secret 1 # {} 1", `secret="b" 1`,
	} {
		_, err := read("up 1\n" + line + "\nup 1\n")
		require.Error(t, err, line)
		require.Contains(t, err.Error(), "line 2: ", line)
		require.NotContains(t, err.Error(), "secret", line)
	}
}

// A text that was cut or does not end is refused: 12345 cut short is 123.
func TestSamplesThatAreCut(t *testing.T) {
	_, err := read("kv_up 1\nkv_hits_total 123")
	require.EqualError(t, err, "line 2: the text ends within it")
	_, err = read("kv_up 1\n# HELP")
	require.EqualError(t, err, "line 2: the text ends within it")
	broken := errors.New("broken")
	err = readSamples(io.MultiReader(strings.NewReader("kv_up 1\nkv_hits_total 123"), iotest.ErrReader(broken)), func(sample) error { return nil })
	require.ErrorIs(t, err, broken)
	_, err = read("kv_up 1\n# " + strings.Repeat("x", longestLine) + "\n")
	require.EqualError(t, err, "line 2: it is longer than 64.0 KiB")
	err = readSamples(&endless{line: "up 1\n"}, func(sample) error { return nil })
	require.ErrorContains(t, err, ": the text is longer than 32.0 MiB")
	_, err = read("up{a=\"" + strings.Repeat(`\\`, longestLine/2-20) + "\"} 1\n") // In time that grows with its length.
	require.NoError(t, err)
}

// An endless text repeats a line.
type endless struct{ line, left string }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == "" {
		e.left = e.line
	}
	n := copy(p, e.left)
	e.left = e.left[n:]
	return n, nil
}

// A page that is no service of kv is said to be none.
func TestServiceThatIsNone(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "has no metrics of kv; register kvprom.NewCollector",
		"# TYPE kv_up gauge\nup 1\n":  "has no metrics of kv; register kvprom.NewCollector",
		"<html>\n":                    "serves no metrics of Prometheus: line 1: it is not a name, labels and a number",
		bucketOf("NaN") + "kv_up 1\n": "serves no metrics of Prometheus: line 1: the end of a bucket is not a number",
		bucketOf("x") + "kv_up 1\n":   "serves no metrics of Prometheus: line 1: the end of a bucket is not a number",
	} {
		_, err := readService(strings.NewReader(text))
		require.EqualError(t, err, want, text)
	}
}

func bucketOf(end string) string {
	return fmt.Sprintf("kv_operation_duration_seconds_bucket{namespace=\"docs\",op=\"get\",le=%q} 1\n", end)
}

// Whatever a service calls its namespaces, and counts, a frame is lines of
// what can be printed.
func TestTopHostileService(t *testing.T) {
	var text strings.Builder
	for _, name := range []string{"a\nb", "a\tb", "\x1b[2J", "\xff", "\u009b2J", "docs"} {
		write(&text, sample{"kv_hits_total", map[string]string{"namespace": name}, math.NaN()})
	}
	text.WriteString("kv_up 1\nkv_pool_connections NaN\nkv_cache_max_bytes +Inf\n")
	frames := framesOf(t, text.String())
	require.NotNil(t, frames)
	shown := strings.Join(frames, "\n")
	for _, name := range []string{`"a\nb" `, `"a\tb" `, `"\x1b[2J" `, `"\xff" `, `"\u009b2J" `, "\ndocs "} {
		require.Contains(t, shown, name)
	}
}

// framesOf is what top shows of a text on two looks, or nil of one that is no
// service's.
func framesOf(t *testing.T, text string) []string {
	s, err := readService(strings.NewReader(text))
	if err != nil {
		return nil
	}
	before := look{at: noon, service: s}
	now := look{at: noon.Add(time.Second), service: s}
	frames := append(view(nil, before), view(&before, now)...)
	for _, line := range frames {
		require.True(t, utf8.ValidString(line), "%q", line)
		require.False(t, strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", line)
	}
	return frames
}

// FuzzSamples: no text makes kv top panic or send what is not printable to a
// terminal, and what was read reads the same once it is written.
func FuzzSamples(f *testing.F) {
	text, err := os.ReadFile(metricsOfAService)
	require.NoError(f, err)
	f.Add(string(text))
	for line := range strings.Lines(string(text)) {
		f.Add(line)
	}
	f.Add("up {a=\"\\\\\\\"\\n\", b = \"\",} NaN 123\n")
	f.Add("{\"a.b\",\"c d\"=\"e\"} -Inf\n# EOF\n")
	f.Add("kv_up 1\nkv_hits_total{namespace=\"\xff\"} 1e308\n" + bucketOf("-Inf") + bucketOf("1"))
	f.Fuzz(func(t *testing.T, text string) {
		framesOf(t, text)
		read1, err := read(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, s := range read1 {
			write(&again, s)
		}
		read2, err := read(again.String())
		require.NoError(t, err)
		require.Len(t, read2, len(read1))
		for i, s := range read1 {
			require.Equal(t, s.name, read2[i].name)
			require.True(t, maps.Equal(s.labels, read2[i].labels))
			require.True(t, s.value == read2[i].value || math.IsNaN(s.value) && math.IsNaN(read2[i].value))
		}
	})
}

// write writes a sample in the one form that has room for every name.
func write(text *strings.Builder, s sample) {
	quote := func(value string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"`
	}
	text.WriteString("{" + quote(s.name))
	for _, name := range slices.Sorted(maps.Keys(s.labels)) {
		text.WriteString("," + quote(name) + "=" + quote(s.labels[name]))
	}
	fmt.Fprintf(text, "} %v\n", s.value)
}
