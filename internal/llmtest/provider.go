// Package llmtest is a provider of language models for tests. It speaks the
// wire formats of OpenAI, Anthropic and Ollama, counts its calls, and fails as
// it is told.
package llmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Provider is a server on this machine. Its behaviour may be changed while
// nobody calls it; a call keeps to that with which it began.
type Provider struct {
	URL string
	Behaviour

	calls  atomic.Int64
	mu     sync.Mutex
	bodies []string
	heads  []http.Header
	gone   atomic.Int64 // calls whose caller left
}

// A Behaviour is how a provider answers.
type Behaviour struct {
	Status  int           // other than 200 for an error
	Finish  string        // a finish reason other than that of a complete answer
	Error   bool          // a stream holds an error after its second event
	Cut     int           // end the connection after so many bytes of the body, if above 0
	Quiet   bool          // the end of a body is the end of the connection, as with HTTP/1.0
	Takes   time.Duration // before the first byte
	Between time.Duration // between two events
	Size    int           // bytes of text in an answer; 0: a few
	Gate    chan struct{} // an event is sent for each that is received, if not nil
	Linger  chan struct{} // a stream stays open after its end until this is closed, if not nil
}

// New returns a provider that ends with the test.
func New(t testing.TB, b ...Behaviour) *Provider {
	p := new(Provider)
	for _, p.Behaviour = range b {
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

// Calls returns how often it was called.
func (p *Provider) Calls() int { return int(p.calls.Load()) }

// Gone returns how many callers left before their answer had ended.
func (p *Provider) Gone() int { return int(p.gone.Load()) }

// Bodies returns what it was asked.
func (p *Provider) Bodies() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.bodies...)
}

// Headers returns those of the calls.
func (p *Provider) Headers() []http.Header {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]http.Header(nil), p.heads...)
}

// ServeHTTP answers a call.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b := p.Behaviour
	p.calls.Add(1)
	body, _ := io.ReadAll(r.Body) // Who hangs up gets no answer anyhow.
	p.mu.Lock()
	p.bodies = append(p.bodies, string(body))
	p.heads = append(p.heads, r.Header.Clone())
	p.mu.Unlock()
	pause(r, b.Takes)
	if b.Status != 0 && b.Status != http.StatusOK {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(b.Status)
		_, _ = io.WriteString(w, `{"type":"error","error":{"type":"overloaded","message":"not now"}}`)
		return
	}
	a := b.answer(r, body)
	if a.contentType == "" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if b.Quiet {
		b.quietly(w, a)
		return
	}
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("X-Request-Id", "req-"+strconv.Itoa(p.Calls()))
	if !b.send(r, a, w, http.NewResponseController(w).Flush) {
		p.gone.Add(1)
	}
}

// send writes an answer, piece by piece, and reports whether its caller stayed.
func (p Behaviour) send(r *http.Request, a answer, w io.Writer, flush func() error) bool {
	sent := 0
	for i, piece := range a.pieces {
		if p.Gate != nil {
			select {
			case <-p.Gate:
			case <-r.Context().Done():
			}
		} else if i > 0 {
			pause(r, p.Between)
		}
		if r.Context().Err() != nil {
			return false
		}
		if p.Cut > 0 && sent+len(piece) > p.Cut {
			_, _ = io.WriteString(w, piece[:p.Cut-sent])
			_ = flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, piece)
		sent += len(piece)
		if a.stream {
			_ = flush()
		}
	}
	if p.Linger != nil {
		select {
		case <-p.Linger:
		case <-r.Context().Done():
		}
	}
	return true
}

// quietly answers so that a cut cannot be seen.
func (p Behaviour) quietly(w http.ResponseWriter, a answer) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.Close() }()
	text := strings.Join(a.pieces, "")
	if p.Cut > 0 {
		text = text[:min(p.Cut, len(text))]
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: "+a.contentType+"\r\nConnection: close\r\n\r\n"+text)
}

func pause(r *http.Request, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// Body returns the body with which it answers a request, all of it.
func (p Behaviour) Body(path, request string) string {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(request))
	return strings.Join(p.answer(r, []byte(request)).pieces, "")
}

// An ask is what it reads of a request.
type ask struct {
	Model  string
	Stream *bool
	Tools  []json.RawMessage
	N      int
	Input  json.RawMessage
}

// Text returns what it says to a request.
func (p Behaviour) Text(body []byte) string {
	sum := sha256.Sum256(body)
	text := "So it goes, \"" + hex.EncodeToString(sum[:4]) + "\" – ünï☃😀\n"
	for len(text) < p.Size {
		text += text[:min(len(text), p.Size-len(text))]
	}
	return strings.ToValidUTF8(text, "?")
}
