package llmtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// An answer is a body in the pieces in which it is sent.
type answer struct {
	contentType string
	stream      bool
	pieces      []string
}

func (p Behaviour) answer(r *http.Request, body []byte) answer {
	var q ask
	_ = json.Unmarshal(body, &q) // What cannot be read asks for nothing.
	text := p.Text(body)
	path := r.URL.Path
	switch stream := q.Stream != nil && *q.Stream; {
	case strings.HasSuffix(path, "/chat/completions"):
		if stream {
			return p.events(p.chatEvents(q, text))
		}
		return one(p.chat(q, text))
	case strings.HasSuffix(path, "/completions"):
		if stream {
			return p.events(p.completionEvents(q, text))
		}
		return one(fmt.Sprintf(`{"id":"cmpl-1","object":"text_completion","created":1700000000,"model":%s,"choices":[{"text":%s,"index":0,"logprobs":null,"finish_reason":%s}],"usage":{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19}}`,
			quote(q.Model), quote(text), quote(cmp.Or(p.Finish, "stop"))))
	case strings.HasSuffix(path, "/responses"):
		if stream {
			return p.events(p.responseEvents(q, text))
		}
		return one(p.response(q, text))
	case strings.HasSuffix(path, "/messages"):
		if stream {
			return p.events(p.messageEvents(q, text))
		}
		return one(p.message(q, text))
	case strings.HasSuffix(path, "/embeddings"):
		return one(fmt.Sprintf(`{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.25,-1.5e-3,%d]}],"model":%s,"usage":{"prompt_tokens":12,"total_tokens":12}}`,
			len(text), quote(q.Model)))
	case path == "/api/embed":
		return one(fmt.Sprintf(`{"model":%s,"embeddings":[[0.25,-0.0015,%d]],"total_duration":1,"prompt_eval_count":12}`, quote(q.Model), len(text)))
	case path == "/api/chat", path == "/api/generate":
		return p.ollama(q, path, text)
	}
	return answer{}
}

func quote(text string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // A string can be encoded.
	return strings.TrimSpace(b.String())
}

func one(body string) answer { return answer{"application/json", false, []string{body}} }

// halves cuts a text in two, between characters.
func halves(text string) (string, string) {
	n := 0
	for i := range text {
		if n = i; i >= len(text)/2 {
			break
		}
	}
	return text[:n], text[n:]
}

// events are server-sent, each with its name or without, and with an error
// among them if the provider is to fail.
func (p Behaviour) events(list []string) answer {
	a := answer{"text/event-stream; charset=utf-8", true, nil}
	for i, e := range list {
		if i == 2 && p.Error {
			a.pieces = append(a.pieces, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n")
		}
		a.pieces = append(a.pieces, e+"\n\n")
	}
	return a
}

func (p Behaviour) chat(q ask, text string) string {
	said, finish := `"role":"assistant","content":`+quote(text)+`,"refusal":null`, cmp.Or(p.Finish, "stop")
	if len(q.Tools) > 0 {
		said, finish = `"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Köln\"}"}}]`, "tool_calls"
	}
	return fmt.Sprintf("{\n  \"id\": \"chatcmpl-1\",\n  \"object\": \"chat.completion\",\n  \"created\": 1700000000,\n  \"model\": %s,\n"+
		"  \"choices\": [{\"index\":0,\"message\":{%s},\"logprobs\":null,\"finish_reason\":%s}],\n"+
		"  \"usage\": {\"prompt_tokens\":12,\"completion_tokens\":7,\"total_tokens\":19,\"prompt_tokens_details\":{\"cached_tokens\":4}}\n}\n",
		quote(q.Model), said, quote(finish))
}

func (p Behaviour) chatEvents(q ask, text string) (list []string) {
	add := func(delta, finish string) {
		list = append(list, fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":%s,"choices":[{"index":0,"delta":{%s},"finish_reason":%s}]}`,
			quote(q.Model), delta, finish))
	}
	first, second := halves(text)
	finish := quote(cmp.Or(p.Finish, "stop"))
	add(`"role":"assistant","content":""`, "null")
	if len(q.Tools) > 0 {
		add(`"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}]`, "null")
		add(`"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":\"Köln\"}"}}]`, "null")
		finish = `"tool_calls"`
	} else {
		add(`"content":`+quote(first), "null")
		add(`"content":`+quote(second), "null")
	}
	add("", finish)
	list = append(list, fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":%s,"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19}}`, quote(q.Model)))
	return append(list, "data: [DONE]")
}

func (p Behaviour) completionEvents(q ask, text string) []string {
	return []string{
		fmt.Sprintf(`data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":%s,"choices":[{"text":%s,"index":0,"finish_reason":null}]}`, quote(q.Model), quote(text)),
		fmt.Sprintf(`data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":%s,"choices":[{"text":"","index":0,"finish_reason":%s}]}`, quote(q.Model), quote(cmp.Or(p.Finish, "stop"))),
		"data: [DONE]",
	}
}

func (p Behaviour) response(q ask, text string) string {
	status := cmp.Or(p.Finish, "completed")
	return fmt.Sprintf(`{"id":"resp_1","object":"response","created_at":1700000000,"status":%s,"error":null,"incomplete_details":null,"model":%s,"output":[{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":%s,"annotations":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":{"input_tokens":12,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":19}}`,
		quote(status), quote(q.Model), quote(text))
}

func (p Behaviour) responseEvents(q ask, text string) []string {
	first, second := halves(text)
	last := "response.completed"
	if p.Finish != "" {
		last = "response." + p.Finish
	}
	return []string{
		fmt.Sprintf("event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"in_progress\",\"model\":%s,\"output\":[]}}", quote(q.Model)),
		fmt.Sprintf("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":%s}", quote(first)),
		fmt.Sprintf("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":2,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":%s}", quote(second)),
		fmt.Sprintf("event: %s\ndata: {\"type\":%s,\"sequence_number\":3,\"response\":%s}", last, quote(last), p.response(q, text)),
	}
}

func (p Behaviour) message(q ask, text string) string {
	content, stop := `{"type":"text","text":`+quote(text)+`}`, cmp.Or(p.Finish, "end_turn")
	if len(q.Tools) > 0 {
		content, stop = `{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Köln"}}`, "tool_use"
	}
	return fmt.Sprintf(`{"id":"msg_1","type":"message","role":"assistant","model":%s,"content":[%s],"stop_reason":%s,"stop_sequence":null,"usage":{"input_tokens":8,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":7}}`,
		quote(q.Model), content, quote(stop))
}

func (p Behaviour) messageEvents(q ask, text string) []string {
	first, second := halves(text)
	block, deltas := `{"type":"text","text":""}`, []string{`{"type":"text_delta","text":` + quote(first) + `}`, `{"type":"text_delta","text":` + quote(second) + `}`}
	stop := cmp.Or(p.Finish, "end_turn")
	if len(q.Tools) > 0 {
		block, deltas = `{"type":"tool_use","id":"toolu_1","name":"weather","input":{}}`, []string{`{"type":"input_json_delta","partial_json":"{\"city\":\"Köln\"}"}`}
		stop = "tool_use"
	}
	list := []string{
		fmt.Sprintf("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":%s,\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":8,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}", quote(q.Model)),
		"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":" + block + "}",
		"event: ping\ndata: {\"type\":\"ping\"}",
	}
	for _, d := range deltas {
		list = append(list, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":"+d+"}")
	}
	return append(list,
		"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}",
		fmt.Sprintf("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":%s,\"stop_sequence\":null},\"usage\":{\"output_tokens\":7}}", quote(stop)),
		"event: message_stop\ndata: {\"type\":\"message_stop\"}")
}

func (p Behaviour) ollama(q ask, path, text string) answer {
	line := func(text, more string) string {
		said := `"message":{"role":"assistant","content":` + quote(text) + `}`
		if path == "/api/generate" {
			said = `"response":` + quote(text)
		}
		return fmt.Sprintf(`{"model":%s,"created_at":"2024-01-01T00:00:00Z",%s,%s}`, quote(q.Model), said, more) + "\n"
	}
	end := `"done":true,"done_reason":` + quote(cmp.Or(p.Finish, "stop")) + `,"total_duration":1,"prompt_eval_count":12,"eval_count":7`
	if q.Stream != nil && !*q.Stream {
		return answer{"application/json; charset=utf-8", false, []string{strings.TrimSpace(line(text, end))}}
	}
	first, second := halves(text)
	return answer{"application/x-ndjson", true, []string{line(first, `"done":false`), line(second, `"done":false`), line("", end)}}
}
