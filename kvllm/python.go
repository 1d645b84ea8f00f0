package kvllm

import (
	"bytes"
	"encoding/json"
)

// askPython gives a question the id that nano-graphrag's workers use for it,
// if they could ask it.
func (q *question) askPython() {
	if q.operation != opChat || q.stream || q.model == "" {
		return
	}
	for _, m := range q.body.objects[0].members {
		switch string(q.body.part(m.name)) {
		case "model", "messages", "stream":
		default:
			return
		}
	}
	var asked []struct{ Role, Content *string }
	dec := json.NewDecoder(bytes.NewReader(q.body.member("messages")))
	dec.DisallowUnknownFields()
	if dec.Decode(&asked) != nil {
		return
	}
	messages := make([]Message, len(asked))
	for i, m := range asked {
		if m.Role == nil || m.Content == nil {
			return
		}
		messages[i] = Message{*m.Role, *m.Content}
	}
	q.id, q.python = CacheID(q.model, messages), true
}

// completionOf returns a chat completion that says a text.
func completionOf(text, model string) ([]byte, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	type choice struct {
		Index        int     `json:"index"`
		Message      message `json:"message"`
		FinishReason string  `json:"finish_reason"`
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		ID      string         `json:"id"`
		Object  string         `json:"object"`
		Created int64          `json:"created"`
		Model   string         `json:"model"`
		Choices []choice       `json:"choices"`
		Usage   map[string]int `json:"usage"`
	}{
		"chatcmpl-stored", "chat.completion", 0, model,
		[]choice{{0, message{"assistant", text}, "stop"}},
		map[string]int{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
	})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
