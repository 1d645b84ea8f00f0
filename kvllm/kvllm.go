// Package kvllm pays for each answer of a language model once. It stands
// between an SDK and the provider, as the http.RoundTripper of the SDK's HTTP
// client, and keeps answers in a [kv.Store]:
//
//	store, err := kv.Open(ctx, cfg, "llm_response_cache")
//	...
//	client := openai.NewClient(option.WithHTTPClient(kvllm.Client(store, nil)))
//
// It knows the wire formats of OpenAI, Anthropic and Ollama, and of what speaks
// them, by the path and the body of a request, not by its host. Whatever else
// goes through the client passes untouched.
package kvllm

import (
	"io"
	"net/http"
	"time"

	"github.com/ngraf/kv"
)

// maxBody is how long a body of a request or an answer may be to be looked at:
// what a store takes for a value unless it is configured otherwise.
const maxBody = 64 << 20

// Options say how a Transport works. The zero value is what most want.
type Options struct {
	// Scope is a tenant, an experiment, or whatever else shall have answers of
	// its own. It is part of every id.
	Scope string

	// Mode is what to do with stored answers.
	Mode Mode

	// Keep reports whether an answer is to be stored; nil keeps those that are
	// Complete. It is asked for answers with a 2xx status that have come whole
	// and hold no error, of others nothing is stored in any case. It may
	// run on another goroutine, and must not keep the request's body.
	Keep func(*http.Request, *Answer) bool

	// Price returns what tokens cost with a model, in whatever money the Bill
	// shall be in.
	Price func(model string, u Usage) float64

	// Bill is where to count; nil: nowhere. Several clients may share one.
	Bill *Bill

	// Paced makes the answer of a stored stream come at the pace of the
	// original, in place of at once.
	Paced bool

	// Python shares answers with nano-graphrag's workers: a chat completion
	// that has a model, messages with a role and a text each, and nothing else
	// has the id of [CacheID] and the value of [CachedAnswer]. A stored answer
	// comes back as a completion with that text, without token counts. It
	// counts for no streams, and for nothing where there is a Scope, which
	// such an id does not have.
	Python bool
}

// A Mode is what a Transport does with stored answers.
type Mode int

const (
	// Cached answers from the store what is there, and stores what is not.
	Cached Mode = iota
	// Refresh asks the provider, and stores its answer over the present one.
	Refresh
	// ReplayOnly asks no provider: what is not stored is an error that matches
	// [kv.ErrNotFound]. For tests. Requests that are not cached fail too.
	ReplayOnly
	// Off passes everything through.
	Off
)

// HeaderCache is the header of a response that says where it comes from: hit
// (it is stored, or another caller has just paid for it), miss (it was paid for
// with this call), refused (so too, and it is not kept), bypass (nobody looked).
// The header of a stream is on its way before its end is known, and says miss.
const HeaderCache = "X-Kv-Cache"

// Usage is how many tokens a request took, as the provider says.
type Usage struct {
	InputTokens  int64 `json:"in"`
	OutputTokens int64 `json:"out"`
	CachedTokens int64 `json:"cached,omitempty"` // of InputTokens, those that the provider had in its own cache
}

// An Answer is what a model said, as it is offered to Keep, and as it is stored.
type Answer struct {
	Operation   string    `json:"operation"` // chat, completions, responses, messages, embeddings, ollama chat, ollama generate
	Model       string    `json:"model"`     // that was asked for or, where the request does not say, that answered
	Question    string    `json:"question"`  // how it begins: a line of at most 80 characters
	Time        time.Time `json:"time"`      // when it had come; zero if it is not known
	Status      int       `json:"status"`
	ContentType string    `json:"type"`
	Stream      bool      `json:"stream,omitempty"` // it came as a stream
	Size        int64     `json:"size"`             // of the body, in bytes
	Finish      string    `json:"finish"`           // how it ended, in the provider's word
	Usage       Usage     `json:"usage"`
	Pace        []int     `json:"pace,omitempty"` // of a stream: bytes, and the milliseconds before them, in turn

	// Complete says that the model came to its end by itself. Reason says why
	// it is not, a finish reason such as length or content_filter among them.
	Complete bool   `json:"-"`
	Reason   string `json:"-"`

	body func() io.Reader
}

// Body returns a reader of the body, from its beginning, as the provider sent
// it.
func (a *Answer) Body() io.Reader { return a.body() }

// Text returns what the model said, without what it thought and the tools it
// calls. It reads the whole body. Several choices stand one after the other.
func (a *Answer) Text() string {
	j := newJudge(a.Operation, formOf(a.ContentType))
	j.wantsText = true
	if a.Stream {
		from, part := a.Body(), make([]byte, 8<<10)
		for {
			n, err := from.Read(part)
			j.read(part[:n])
			if err != nil {
				return j.text.String()
			}
		}
	}
	text, _ := io.ReadAll(a.Body()) // From memory.
	j.payload(text)
	return j.text.String()
}

// Client returns an HTTP client with a [Transport].
func Client(cache kv.Store, next http.RoundTripper, o ...Options) *http.Client {
	return &http.Client{Transport: Transport(cache, next, o...)}
}

// Transport returns a RoundTripper that answers from cache what is stored
// there, and asks next, or http.DefaultTransport if that is nil, for the rest.
// Of several options the last count.
//
// What is cached: POST to paths that end as those of chat completions,
// completions, responses, messages, embeddings, and of Ollama's api/chat,
// api/generate and api/embed, with a body such as they take. Two requests have
// one answer if method, path, scope and body are the same; white space, the
// order of members, escapes and the spelling of numbers make no difference,
// and neither do host, query and headers, and so no credentials.
//
// What is stored: answers with a 2xx status that are well-formed and complete,
// see [Options].Keep. Anything else reaches the caller as it is, and is not
// kept, errors of the provider among them.
//
// Of all callers who ask for the same at the same time, one pays. In one
// process and through one Transport, the others read with it what comes, and
// share what becomes of it, an error of the provider too. Callers of other
// processes get the answer when it is stored; see [kv.Typed.Compute]. A
// call that has begun goes on when its caller has gone, so that what is paid
// for is kept, but a stream that nobody reads any more is broken off.
//
// A request with Cache-Control: no-store passes by the cache, and so does one
// with no-cache that asks for no stream. (Some SDKs send no-cache with every
// stream.) Where the store is away, or its document is no answer, the provider
// is asked.
//
// Share one Transport, or one Client, as other HTTP clients are shared.
func Transport(cache kv.Store, next http.RoundTripper, o ...Options) http.RoundTripper {
	t := &transport{cache: cache, next: next, live: make(map[string]*recording), most: maxBody}
	if next == nil {
		t.next = http.DefaultTransport
	}
	if len(o) > 0 {
		t.o = o[len(o)-1]
	}
	if t.o.Bill == nil {
		t.o.Bill = new(Bill)
	}
	return t
}
