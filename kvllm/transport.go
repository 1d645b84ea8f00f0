package kvllm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/ngraf/kv"
)

// A transport answers from a store, or asks the next.
type transport struct {
	cache kv.Store
	next  http.RoundTripper
	o     Options
	most  int64 // bytes of an answer that is recorded

	mu   sync.Mutex
	live map[string]*recording // answers on their way, by id
}

// CloseIdleConnections is for [http.Client.CloseIdleConnections].
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip answers a request.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.o.Mode == Off {
		return t.next.RoundTrip(r)
	}
	q, pass, err := t.read(r)
	if err != nil {
		return nil, err
	}
	if q == nil {
		if t.o.Mode == ReplayOnly {
			if pass.Body != nil {
				_ = pass.Body.Close()
			}
			return nil, fmt.Errorf("kvllm: ReplayOnly: the request is none whose answer is stored: %w", kv.ErrNotFound)
		}
		return t.next.RoundTrip(pass)
	}
	if refusesCache(r, q.stream) && t.o.Mode != ReplayOnly {
		return t.bypass(q)
	}
	if t.o.Mode == Refresh {
		return t.follow(q)
	}
	a, err := t.stored(q)
	switch {
	case err == nil:
		t.hit(a, 1)
		return t.replay(q, a), nil
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	case t.o.Mode == ReplayOnly:
		return nil, fmt.Errorf("kvllm: ReplayOnly: there is no stored answer: %w", err)
	case errors.Is(err, kv.ErrCorrupt), errors.Is(err, kv.ErrClosed):
		return t.bypass(q)
	}
	return t.follow(q)
}

// stored returns the answer that the store has.
func (t *transport) stored(q *question) (*Answer, error) {
	doc, err := t.cache.Get(q.Context(), q.id)
	if err != nil {
		return nil, err
	}
	return ParseAnswer(doc)
}

// bypass asks the next, and leaves the cache alone.
func (t *transport) bypass(q *question) (*http.Response, error) {
	t.o.Bill.count(q.operation, q.model, func(l *Line) { l.Bypassed++ })
	resp, err := t.next.RoundTrip(again(q.Context(), q.Request, q.body.text))
	if err != nil {
		return nil, err
	}
	if resp.Header == nil {
		resp.Header = make(http.Header)
	}
	resp.Header.Set(HeaderCache, "bypass")
	resp.Request = q.Request
	return resp, nil
}

// replay returns a response with a stored answer.
func (t *transport) replay(q *question, a *Answer) *http.Response {
	h := make(http.Header, 4)
	h.Set("Content-Type", a.ContentType)
	h.Set(HeaderCache, "hit")
	if !a.Time.IsZero() {
		h.Set("Age", strconv.FormatInt(max(int64(time.Since(a.Time)/time.Second), 0), 10))
	}
	size := a.Size
	body := a.Body()
	if a.Stream {
		size = -1
		if t.o.Paced {
			body = &pacer{from: body, steps: a.Pace, sleep: sleeper(q.Context())}
		}
	} else {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	return response(q, a.Status, h, size, io.NopCloser(body))
}

func sleeper(ctx context.Context) func(time.Duration) error {
	return func(d time.Duration) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func response(q *question, status int, h http.Header, size int64, body io.ReadCloser) *http.Response {
	return &http.Response{
		Status:     strconv.Itoa(status) + " " + http.StatusText(status),
		StatusCode: status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        h,
		Body:          body,
		ContentLength: size,
		Request:       q.Request,
	}
}

// follow joins the recording of an answer, or starts it.
func (t *transport) follow(q *question) (*http.Response, error) {
	rec, r := t.join(q)
	select {
	case <-rec.ready:
	case <-q.Context().Done():
		_ = r.Close()
		return nil, q.Context().Err()
	}
	s := rec.settled()
	switch {
	case s.panicked != nil && r.first:
		panic(s.panicked)
	case s.stored != nil:
		_ = r.Close()
		return t.replay(q, s.stored), nil
	case s.head == nil:
		_ = r.Close()
		return nil, s.err
	}
	h := s.head.Header.Clone()
	h.Set(HeaderCache, s.label(r.first))
	resp := response(q, s.head.StatusCode, h, s.head.ContentLength, r)
	resp.Status, resp.Uncompressed = s.head.Status, s.head.Uncompressed
	return resp, nil
}
