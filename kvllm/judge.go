package kvllm

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
)

// A judge reads an answer as it comes, and says at its end whether it is
// complete, and what it cost.
type judge struct {
	operation string
	form      form
	events    eventReader
	rows      lineReader

	model    string
	usage    Usage
	finishes map[int]string // by choice; "" while it has not ended
	failed   string         // why it is no answer; "" if it may be one
	ended    bool           // the end marker has come
	filled   bool           // there are embeddings

	wantsText bool
	text      strings.Builder // what the model said, if that is wanted
	beside    bool            // it says something else beside text
}

func newJudge(operation string, f form) *judge {
	return &judge{operation: operation, form: f, finishes: make(map[int]string)}
}

// read takes the next part of a stream.
func (j *judge) read(part []byte) {
	switch j.form {
	case events:
		j.events.read(part, j.event)
	case rows:
		j.rows.read(part, func(line []byte) {
			if len(bytes.TrimSpace(line)) > 0 {
				j.payload(line)
			}
		})
	}
}

func (j *judge) event(data []byte) {
	if string(data) == "[DONE]" {
		j.ended = j.ended || j.operation == opChat || j.operation == opCompletions
		return
	}
	j.payload(data)
}

// payload takes the body, or what an event or a line says.
func (j *judge) payload(text []byte) {
	wire, ok := wires[j.operation](j, text)
	if !ok {
		j.fail(reasonNotJSON)
		return
	}
	if wire.Error || wire.Type == "error" {
		j.fail(reasonError)
	}
	j.model = cmp.Or(j.model, wire.Model)
	j.usage.take(wire.Usage)
}

// reason returns why an answer that has come to its end is not to be kept; ""
// if it is complete.
func (j *judge) reason() string {
	switch {
	case j.failed != "":
		return j.failed
	case j.form != whole && !j.ended:
		return reasonNoEnd
	case j.operation == opEmbeddings && j.filled:
		return ""
	case len(j.finishes) == 0:
		return reasonEmpty
	}
	for _, f := range j.finishes {
		if f == "" {
			return reasonNoEnd
		}
		if !isComplete(f) {
			return shortReason(f)
		}
	}
	return ""
}

// isWhole reports whether all of an answer has come, and it is no error.
func (j *judge) isWhole() bool { return j.failed == "" && (j.form == whole || j.ended) }

// finish returns how the first choice ended.
func (j *judge) finish() string {
	for _, i := range slices.Sorted(maps.Keys(j.finishes)) {
		return j.finishes[i]
	}
	return ""
}

func (j *judge) fail(reason string) { j.failed = cmp.Or(j.failed, reason) }

func (j *judge) finished(choice int, reason string) {
	j.finishes[choice] = cmp.Or(reason, j.finishes[choice])
}

func (j *judge) say(quoted rawText) {
	if j.wantsText && len(quoted) > 0 && quoted[0] == '"' {
		j.text.WriteString(quoted.String())
	}
}

// Why answers are refused, beside the finish reasons of providers.
const (
	reasonNotJSON  = "not well-formed"
	reasonError    = "an error in the answer"
	reasonNoEnd    = "no end"
	reasonCut      = "cut off"
	reasonEmpty    = "empty"
	reasonEncoding = "compressed"
	reasonTooLarge = "too large"
	reasonUnstored = "not stored"
	reasonKeep     = "refused by Keep"
	reasonPython   = "not a text alone"
	reasonNoAnswer = "no answer"
)

// isComplete reports whether a finish reason says that the model came to its
// end by itself.
func isComplete(reason string) bool {
	return slices.Contains([]string{"stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use"}, reason)
}

// shortReason makes a reason of a word of a provider, which may be anything.
func shortReason(word string) string {
	if len(word) > 32 || strings.ContainsFunc(word, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		return "another finish reason"
	}
	return word
}
