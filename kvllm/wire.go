package kvllm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
)

// wires read what a body, an event or a line of each operation says. The
// formats are those of the public references of OpenAI (chat completions,
// completions, responses, embeddings), Anthropic (messages) and Ollama (chat,
// generate, embed).
var wires = map[string]func(*judge, []byte) (envelope, bool){
	opChat:        (*judge).choices,
	opCompletions: (*judge).choices,
	opResponses:   (*judge).response,
	opMessages:    (*judge).message,
	opEmbeddings:  (*judge).embeddings,
	opOllamaChat:  (*judge).ollama,
	opOllama:      (*judge).ollama,
}

// An envelope is what all formats have.
type envelope struct {
	Type  string
	Model string
	Error present
	Usage wireUsage
}

// parse reads a JSON object. A member of another type than is expected counts
// as absent.
func parse(text []byte, v any) bool {
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return false
	}
	err := json.Unmarshal(text, v)
	other := (*json.UnmarshalTypeError)(nil)
	return err == nil || errors.As(err, &other)
}

// present reports that a member is there with something in it.
type present bool

// UnmarshalJSON looks whether there is something.
func (p *present) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null", `""`, "[]", "{}", "false":
		*p = false
	default:
		*p = true
	}
	return nil
}

// A rawText is a JSON text within a body, as long as that is being read.
type rawText []byte

// UnmarshalJSON keeps the text.
func (r *rawText) UnmarshalJSON(b []byte) error {
	*r = b
	return nil
}

// String returns what a JSON string stands for.
func (r rawText) String() string {
	text, _ := io.ReadAll(newUnescaper(r)) // It has been checked.
	return string(text)
}

// A wireUsage is what providers say of tokens.
type wireUsage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	InputTokens      int64 `json:"input_tokens"`
	OutputTokens     int64 `json:"output_tokens"`
	CacheRead        int64 `json:"cache_read_input_tokens"`     // Anthropic's InputTokens are without them
	CacheWrite       int64 `json:"cache_creation_input_tokens"` // and these
	PromptDetails    struct {
		Cached int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	InputDetails struct {
		Cached int64 `json:"cached_tokens"`
	} `json:"input_tokens_details"`
}

// take adds what is known now. Later figures replace earlier ones, which a
// stream may give while it goes on.
func (u *Usage) take(w wireUsage) {
	read := w.CacheRead + w.PromptDetails.Cached + w.InputDetails.Cached
	u.InputTokens = cmp.Or(w.PromptTokens, w.InputTokens+w.CacheRead+w.CacheWrite, u.InputTokens)
	u.OutputTokens = cmp.Or(w.CompletionTokens, w.OutputTokens, u.OutputTokens)
	u.CachedTokens = cmp.Or(read, u.CachedTokens)
}

func (j *judge) choices(text []byte) (envelope, bool) {
	type said struct {
		Content      rawText
		ToolCalls    present `json:"tool_calls"`
		FunctionCall present `json:"function_call"`
		Refusal      present
		Audio        present
	}
	var r struct {
		envelope
		Choices []struct {
			Index          int
			Message, Delta said
			Text           rawText
			FinishReason   string `json:"finish_reason"`
		}
	}
	ok := parse(text, &r)
	for _, c := range r.Choices {
		j.finished(c.Index, c.FinishReason)
		j.say(c.Text)
		for _, s := range []said{c.Message, c.Delta} {
			j.say(s.Content)
			j.beside = j.beside || bool(s.ToolCalls || s.FunctionCall || s.Refusal || s.Audio)
		}
	}
	j.beside = j.beside || len(r.Choices) > 1
	return r.envelope, ok
}

// response reads a response of OpenAI, or an event about one.
func (j *judge) response(text []byte) (envelope, bool) {
	type response struct {
		envelope
		Status string
		Output []struct {
			Content []struct{ Text rawText }
		}
	}
	var r struct {
		response
		Response *response
		Delta    rawText
	}
	ok := parse(text, &r)
	one := &r.response
	if j.form != whole {
		if r.Type == "response.output_text.delta" {
			j.say(r.Delta)
		}
		if r.Response == nil {
			return r.envelope, ok
		}
		one = r.Response
		r.Model, r.Usage, r.Error = one.Model, one.Usage, one.Error || r.Error
	} else {
		for _, item := range one.Output {
			for _, part := range item.Content {
				j.say(part.Text)
			}
		}
	}
	switch one.Status {
	case "completed":
		j.finished(0, "stop")
		j.ended = true
	case "incomplete", "failed", "cancelled":
		j.finished(0, one.Status)
		j.ended = true
	default:
		j.finished(0, "")
	}
	return r.envelope, ok
}

// message reads a message of Anthropic, or an event about one.
func (j *judge) message(text []byte) (envelope, bool) {
	var r struct {
		envelope
		StopReason string `json:"stop_reason"`
		Content    []struct{ Text rawText }
		Message    struct{ envelope }
		Delta      struct {
			StopReason string `json:"stop_reason"`
			Text       rawText
		}
	}
	ok := parse(text, &r)
	switch r.Type {
	case "message":
		j.finished(0, r.StopReason)
		for _, part := range r.Content {
			j.say(part.Text)
		}
	case "message_start":
		j.finished(0, "")
		j.model = cmp.Or(j.model, r.Message.Model)
		j.usage.take(r.Message.Usage)
	case "content_block_delta":
		j.say(r.Delta.Text)
	case "message_delta":
		j.finished(0, r.Delta.StopReason)
	case "message_stop":
		j.ended = true
	}
	return r.envelope, ok
}

func (j *judge) embeddings(text []byte) (envelope, bool) {
	var r struct {
		envelope
		Data, Embedding, Embeddings present
		PromptEvalCount             int64 `json:"prompt_eval_count"`
	}
	ok := parse(text, &r)
	j.filled = j.filled || bool(r.Data || r.Embedding || r.Embeddings)
	j.usage.take(wireUsage{InputTokens: r.PromptEvalCount})
	return r.envelope, ok
}

func (j *judge) ollama(text []byte) (envelope, bool) {
	var r struct {
		envelope
		Message    struct{ Content rawText }
		Response   rawText
		Done       bool
		DoneReason string `json:"done_reason"`
		In         int64  `json:"prompt_eval_count"`
		Out        int64  `json:"eval_count"`
	}
	ok := parse(text, &r)
	j.say(r.Message.Content)
	j.say(r.Response)
	j.finished(0, "")
	if r.Done {
		j.ended = true
		j.finished(0, cmp.Or(r.DoneReason, "stop")) // Old servers give none.
		j.usage.take(wireUsage{InputTokens: r.In, OutputTokens: r.Out})
	}
	return r.envelope, ok
}
