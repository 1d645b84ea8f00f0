package kvllm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The operations whose answers are cached, as the bill and stored answers name
// them.
const (
	opChat        = "chat"        // OpenAI's chat completions
	opCompletions = "completions" // OpenAI's older ones
	opResponses   = "responses"   // OpenAI
	opMessages    = "messages"    // Anthropic
	opEmbeddings  = "embeddings"  // OpenAI and Ollama
	opOllamaChat  = "ollama chat"
	opOllama      = "ollama generate"
)

// operations are the last parts of paths, and what a body there must have. A
// longer one stands before those it ends with.
var operations = []struct {
	path, operation string
	needs           []string // each with alternatives
}{
	{"/chat/completions", opChat, []string{"messages"}},
	{"/completions", opCompletions, []string{"prompt"}},
	{"/responses", opResponses, []string{"input|prompt"}},
	{"/messages", opMessages, []string{"model", "messages"}}, // Not those of OpenAI's threads.
	{"/embeddings", opEmbeddings, []string{"input|prompt"}},
	{"/api/embed", opEmbeddings, []string{"model", "input"}},
	{"/api/chat", opOllamaChat, []string{"model", "messages"}},
	{"/api/generate", opOllama, []string{"model", "prompt"}},
}

// A question is a request whose answer may be cached.
type question struct {
	*http.Request
	body      *body
	operation string
	model     string // "" where the path or the host has it
	stream    bool   // it asks for a stream
	id        string // of its answer
	python    bool   // the answer is one of those that nano-graphrag's workers share
}

// operationOf returns what a path stands for, "" if nothing that is cached.
func operationOf(path string) (operation string, needs []string) {
	path = strings.TrimSuffix(path, "/")
	for _, o := range operations {
		if strings.HasSuffix(path, o.path) {
			return o.operation, o.needs
		}
	}
	return "", nil
}

// read returns the question that a request is. If it is none, it returns nil,
// and a request to be sent in its place.
func (t *transport) read(r *http.Request) (*question, *http.Request, error) {
	operation, needs := operationOf(r.URL.Path)
	if operation == "" || r.Method != http.MethodPost || r.Body == nil || r.Body == http.NoBody ||
		r.Header.Get("Content-Encoding") != "" || r.ContentLength > maxBody {
		return nil, r, nil
	}
	text, whole, err := readAll(r.Body, r.ContentLength)
	if err != nil {
		_ = r.Body.Close()
		return nil, nil, err
	}
	if !whole {
		out := r.Clone(r.Context())
		out.Body = joined{io.MultiReader(bytes.NewReader(text), r.Body), r.Body}
		return nil, out, nil
	}
	_ = r.Body.Close()
	parsed := parseBody(text)
	if parsed == nil || !parsed.has(needs) || isOpenEnded(operation, parsed) {
		return nil, again(r.Context(), r, text), nil
	}
	q := &question{Request: r, body: parsed, operation: operation, model: parsed.text1("model")}
	q.stream = isTrue(parsed.member("stream"))
	if operation == opOllamaChat || operation == opOllama {
		q.stream = !isFalse(parsed.member("stream")) // Ollama's default.
	}
	q.id = q.digest(t.o.Scope)
	if t.o.Python && t.o.Scope == "" {
		q.askPython()
	}
	return q, nil, nil
}

// A joined body is one that is read from elsewhere than it is closed.
type joined struct {
	io.Reader
	io.Closer
}

// readAll reads a body of which size bytes are announced, unless it is longer
// than maxBody.
func readAll(from io.Reader, size int64) (text []byte, whole bool, err error) {
	if size <= 0 { // 0 with a body says nothing either.
		text, err = io.ReadAll(io.LimitReader(from, maxBody+1))
		return text, len(text) <= maxBody, err
	}
	text = make([]byte, size)
	if _, err = io.ReadFull(from, text); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("kvllm: the body is shorter than the request's ContentLength: %w", io.ErrUnexpectedEOF)
	}
	return text, true, err
}

// again returns a request like r whose body has been read.
func again(ctx context.Context, r *http.Request, text []byte) *http.Request {
	out := r.Clone(ctx)
	out.Body = io.NopCloser(bytes.NewReader(text))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	out.ContentLength = int64(len(text))
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	return out
}

// has reports whether the members are there.
func (b *body) has(needs []string) bool {
	for _, need := range needs {
		found := false
		for name := range strings.SplitSeq(need, "|") {
			v := b.member(name)
			found = found || v != nil && string(v) != "null"
		}
		if !found {
			return false
		}
	}
	return true
}

// isOpenEnded reports whether the same request means something else the next
// time: one that adds to a conversation kept by the provider.
func isOpenEnded(operation string, b *body) bool {
	v := b.member("conversation")
	return operation == opResponses && v != nil && string(v) != "null"
}

// text1 returns a member that is a string, "" if it is none.
func (b *body) text1(name string) (text string) {
	if v := b.member(name); len(v) > 0 && v[0] == '"' {
		_ = json.Unmarshal(v, &text) // It has been checked.
	}
	return text
}

func isTrue(v []byte) bool  { return string(v) == "true" }
func isFalse(v []byte) bool { return string(v) == "false" }

// digest returns the id: of method, path, scope and body, and of whether the
// answer is to be a stream, which some say by leaving it out.
func (q *question) digest(scope string) string {
	h := sha256.New()
	for _, part := range []string{"kvllm 1", q.Method, strings.TrimSuffix(q.URL.Path, "/"), scope} {
		_, _ = io.WriteString(h, part) // To memory.
		_, _ = h.Write([]byte{0})
	}
	form := byte('w')
	if q.stream {
		form = 's'
	}
	_, _ = h.Write([]byte{form})
	q.body.writeCanonical(h, "stream")
	return hex.EncodeToString(h.Sum(nil))
}

// firstLine returns how the question begins, for people: the first line of the
// last message of the user, of the prompt or of the input.
func (q *question) firstLine() string {
	for _, name := range []string{"messages", "input", "prompt"} {
		v := q.body.member(name)
		if v == nil {
			continue
		}
		var h heading
		_ = json.Unmarshal(v, &h) // Of what is not known it has nothing.
		return string(h)
	}
	return ""
}

// headingMost is how many characters a heading has at most.
const headingMost = 80

// A heading is the first line of a text, of the last of several, or of the
// content of the last message of a user.
type heading string

// UnmarshalJSON takes a string, an array, or an object with a text, a content
// or an input in it.
func (h *heading) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		*h = headingOf(b)
	case '[':
		var all []heading
		if err := json.Unmarshal(b, &all); err != nil {
			return err
		}
		for _, one := range all {
			if one != "" {
				*h = one
			}
		}
	case '{':
		var one struct {
			Role          string
			Content, Text heading
		}
		_ = json.Unmarshal(b, &one) // Of what is not known it has nothing.
		if one.Role == "" || one.Role == "user" {
			*h = one.Content + one.Text
		}
	}
	return nil
}

// headingOf returns the first line of a JSON string, of which it reads no more
// than it may need.
func headingOf(b []byte) heading {
	text, _ := io.ReadAll(io.LimitReader(newUnescaper(b), 4*headingMost)) // It has been checked.
	line, _, _ := strings.Cut(strings.TrimSpace(strings.ToValidUTF8(string(text), "")), "\n")
	n := 0
	for i := range line {
		if n++; n > headingMost {
			return heading(line[:i] + "…")
		}
	}
	return heading(line)
}

// refusesCache reports whether a request's Cache-Control keeps it from the
// cache. Some SDKs send no-cache with every stream, so that there it says
// nothing.
func refusesCache(r *http.Request, stream bool) bool {
	for _, line := range r.Header.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(directive)) {
			case "no-store":
				return true
			case "no-cache":
				if !stream {
					return true
				}
			}
		}
	}
	return false
}
