package kvllm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ngraf/kv"
)

const (
	longest    = time.Hour       // of a call of the provider
	storeMost  = 2 * time.Second // how long a caller waits until an answer is stored
	markerMost = time.Second     // how long a body may stay open after its end marker
)

var (
	errNotKept = errors.New("kvllm: the answer is not kept")
	errTooLong = errors.New("kvllm: the answer is too long to be kept")
)

// run brings a recording to its end.
func (rec *recording) run() {
	ending := rec.find()
	rec.t.mu.Lock()
	rec.t.forget(rec)
	callers := rec.callers
	rec.t.mu.Unlock()
	rec.count(callers)
	if rec.rest != nil {
		rec.passOn()
	}
	rec.end(ending)
	rec.cancel()
}

// find gets the answer from where it is to be had, and returns the error with
// which its body ends.
func (rec *recording) find() (ending error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		rec.set(func() { rec.panicked = value })
		ending = fmt.Errorf("kvllm: the call of the provider panicked: %v\n\n%s", value, debug.Stack())
	}()
	if rec.t.o.Mode == Refresh {
		ending = rec.alone(rec.replace)
	} else {
		ending = rec.together()
	}
	returned = true
	return ending
}

// together asks the provider if no other process does.
func (rec *recording) together() error {
	t := rec.t
	done := make(chan struct{})
	ending := error(nil)
	docs := kv.For[document](t.cache).With(kv.ComputeOptions[document]{Limit: longest, Unshared: true})
	doc, err := docs.Compute(rec.ctx, rec.q.id, func(ctx context.Context) (document, error) {
		if !rec.begin() {
			return document{}, context.Canceled
		}
		defer close(done)
		defer context.AfterFunc(ctx, rec.cancel)() // The store may be closed.
		var raw json.RawMessage
		var err error
		raw, ending, err = rec.ask()
		return document{raw}, err
	})
	if rec.hasBegun() {
		<-done
		if err != nil && errors.Is(ending, io.EOF) {
			rec.unstored(err)
		}
		return ending
	}
	if err == nil {
		a, foreign := ParseAnswer(doc.raw)
		if foreign == nil {
			rec.set(func() { rec.stored = a })
			return io.EOF
		}
		return rec.alone(nil)
	}
	if rec.ctx.Err() != nil {
		return rec.ctx.Err()
	}
	return rec.alone(rec.insert) // Who asked in our place has failed.
}

// alone asks the provider whatever others do, and stores the answer if it is to
// be kept and store is not nil.
func (rec *recording) alone(store func(json.RawMessage) error) error {
	if !rec.begin() {
		return context.Canceled
	}
	raw, ending, err := rec.ask()
	if err == nil && store == nil {
		rec.refuse(reasonUnstored)
	} else if err == nil {
		if err := store(raw); err != nil {
			rec.unstored(err)
		}
	}
	return ending
}

func (rec *recording) replace(raw json.RawMessage) error {
	return rec.t.cache.Upsert(rec.ctx, map[string]json.RawMessage{rec.q.id: raw})
}

func (rec *recording) insert(raw json.RawMessage) error {
	if i, ok := rec.t.cache.(kv.Inserter); ok {
		_, err := i.Insert(rec.ctx, map[string]json.RawMessage{rec.q.id: raw})
		return err
	}
	return rec.replace(raw)
}

// unstored notes why an answer that was to be kept is not.
func (rec *recording) unstored(err error) {
	if errors.Is(err, kv.ErrInvalid) {
		rec.refuse(reasonTooLarge)
		return
	}
	rec.refuse(reasonUnstored)
}

// begin is called before the provider is asked. It returns false if that was
// done already, or if nobody wants the answer any more.
func (rec *recording) begin() bool {
	rec.t.mu.Lock()
	defer rec.t.mu.Unlock()
	if rec.asked || rec.ctx.Err() != nil {
		return false
	}
	rec.asked = true
	return true
}

func (rec *recording) hasBegun() bool {
	rec.t.mu.Lock()
	defer rec.t.mu.Unlock()
	return rec.asked
}

// ask asks the provider. It returns the document that is to be stored or, if
// none is, an error, and the error with which the body ends.
func (rec *recording) ask() (doc json.RawMessage, ending, err error) {
	out := again(rec.ctx, rec.q.Request, rec.q.body.text)
	out.Header.Del("Accept-Encoding") // What is compressed cannot be read.
	resp, err := rec.t.next.RoundTrip(out)
	if err != nil {
		return nil, err, err
	}
	j := newJudge(rec.q.operation, formOf(resp.Header.Get("Content-Type")))
	j.wantsText = rec.q.python
	ok := resp.StatusCode >= 200 && resp.StatusCode < 300
	rec.set(func() {
		rec.head = resp
		rec.live = ok && (rec.q.stream || j.form != whole)
		if !rec.live && resp.ContentLength > 0 && resp.ContentLength <= rec.t.most {
			rec.buf = make([]byte, 0, resp.ContentLength+readMost)
		}
	})
	switch {
	case !ok:
		rec.refuse("status " + strconv.Itoa(resp.StatusCode))
	case resp.Header.Get("Content-Encoding") != "":
		rec.refuse(reasonEncoding)
	}
	pace, err := rec.record(resp.Body, j)
	if errors.Is(err, errTooLong) {
		rec.refuse(reasonTooLarge)
		rec.set(func() { rec.rest = resp.Body })
		return nil, io.EOF, err
	}
	_ = resp.Body.Close()
	if err != nil {
		rec.refuse(reasonCut)
		return nil, err, err
	}
	a, reason := rec.judged(j, pace)
	if reason != "" {
		rec.refuse(reason)
	}
	rec.set(func() { rec.answer = a })
	if rec.settled().reason != "" {
		return nil, io.EOF, errNotKept
	}
	if doc, err = rec.document(a, j); err != nil {
		rec.refuse(reasonPython)
		return nil, io.EOF, err
	}
	time.AfterFunc(storeMost, func() { rec.end(io.EOF) })
	return doc, io.EOF, nil
}

// record reads a body to its end, and returns its pace.
func (rec *recording) record(from io.ReadCloser, j *judge) (pace []int, err error) {
	var overdue atomic.Bool
	clock := clock{last: time.Now()}
	marked := false
	for n := int64(0); ; {
		part, err := rec.fill(from)
		n += int64(len(part))
		if j.form != whole {
			j.read(part)
			clock.came(len(part))
		}
		rec.came(len(part), j.ended)
		switch {
		case errors.Is(err, io.EOF), err != nil && overdue.Load():
			return clock.steps, nil
		case err != nil:
			return nil, err
		case n > rec.t.most:
			return nil, errTooLong
		case j.ended && !marked:
			marked = true
			defer time.AfterFunc(markerMost, func() {
				overdue.Store(true)
				_ = from.Close()
			}).Stop()
		}
	}
}

// passOn hands the rest of a body that is too long to those who read it, and
// keeps no more of it than they need.
func (rec *recording) passOn() {
	defer rec.rest.Close()
	rec.set(func() { rec.live = true })
	for rec.letGo() {
		part, err := rec.fill(rec.rest)
		if rec.came(len(part), false); err != nil {
			rec.end(err)
			return
		}
	}
	rec.end(context.Canceled)
}

// judged returns the answer, and why it is not to be kept.
func (rec *recording) judged(j *judge, pace []int) (*Answer, string) {
	s, body := rec.settled(), rec.buf
	if j.form == whole && s.reason == "" {
		j.payload(body)
	}
	a := &Answer{
		Operation: rec.q.operation, Model: cmp.Or(rec.q.model, j.model), Question: rec.q.firstLine(),
		Time: time.Now().UTC().Truncate(time.Millisecond), Status: s.head.StatusCode,
		ContentType: s.head.Header.Get("Content-Type"), Stream: j.form != whole, Size: int64(len(body)),
		Finish: j.finish(), Usage: j.usage, Pace: pace,
		body: func() io.Reader { return bytes.NewReader(body) },
	}
	a.Reason = cmp.Or(s.reason, j.reason())
	a.Complete = a.Reason == ""
	keep := rec.t.o.Keep
	switch {
	case s.reason != "", keep == nil, !j.isWhole():
		return a, a.Reason
	case !keep(rec.q.Request, a):
		return a, cmp.Or(a.Reason, reasonKeep)
	}
	return a, ""
}

// document returns what is to be stored.
func (rec *recording) document(a *Answer, j *judge) (json.RawMessage, error) {
	if !rec.q.python {
		return documentOf(a, rec.buf)
	}
	if j.beside || j.text.Len() == 0 {
		return nil, errNotKept
	}
	return pythonDocument(j.text.String(), rec.q.model)
}

// count puts what a recording came to on the bill.
func (rec *recording) count(callers int) {
	s := rec.settled()
	if s.stored != nil {
		rec.t.hit(s.stored, callers)
		return
	}
	a := s.answer
	if a == nil {
		a = &Answer{Operation: rec.q.operation, Model: rec.q.model}
	}
	reason := s.reason
	if s.head == nil {
		reason = reasonNoAnswer
	}
	cost := rec.t.amount(a)
	rec.t.o.Bill.count(a.Operation, a.Model, func(l *Line) {
		l.Misses++
		l.Spent.add(cost)
		if reason != "" {
			l.refuse(reason)
		}
	})
	if callers > 1 {
		rec.t.hit(a, callers-1)
	}
}
