package kvllm

import (
	"context"
	"io"
	"net/http"
	"sync"
)

// A reader is the body of a response that a caller has, on a recording.
type reader struct {
	rec   *recording
	ctx   context.Context
	first bool  // the caller started the recording
	at    int64 // how much was read; guarded by recording.mu
	close sync.Once
	left  chan struct{} // closed by Close
}

// Read waits until there is something to read.
func (r *reader) Read(p []byte) (int, error) {
	for {
		select {
		case <-r.left:
			return 0, http.ErrBodyReadAfterClose
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		default:
		}
		n, more, err := r.take(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		select {
		case <-more:
		case <-r.left:
		case <-r.ctx.Done():
		}
	}
}

// take returns what is there, or what to wait for.
func (r *reader) take(p []byte) (n int, more <-chan struct{}, err error) {
	rec := r.rec
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rest := rec.buf[r.at-rec.gone:]
	switch {
	case len(rest) > 0:
		n = copy(p, rest)
		r.at += int64(n)
		if rec.rest != nil {
			rec.wake()
		}
		return n, nil, nil
	case rec.err != nil:
		return 0, nil, rec.err
	}
	return 0, rec.wait(), nil
}

// Close says that the caller has had enough.
func (r *reader) Close() error {
	r.close.Do(func() {
		close(r.left)
		r.rec.leave(r)
	})
	return nil
}

var _ io.ReadCloser = (*reader)(nil)
