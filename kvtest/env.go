package kvtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ngraf/kv"
)

// space is the namespace of cases that need only one.
const space = "documents"

// hour is a time to live that no case outlasts in real time.
const hour = time.Hour

// An env is what one case works with.
type env struct {
	testing.TB
	ctx context.Context
	h   Harness
	c   Case
}

// breach reports that the store broke the sentence of the case.
func (e *env) breach(format string, args ...any) {
	e.Helper()
	e.Errorf("contract: %s\n     got: %s", e.c.Sentence, fmt.Sprintf(format, args...))
}

// halt is breach where the case cannot go on.
func (e *env) halt(format string, args ...any) {
	e.Helper()
	e.Fatalf("contract: %s\n     got: %s", e.c.Sentence, fmt.Sprintf(format, args...))
}

// must ends the case if a call that should succeed did not.
func (e *env) must(err error, call string) {
	e.Helper()
	if err != nil {
		e.halt("%s: %v", call, err)
	}
}

// open opens a namespace whose documents live for ever.
func (e *env) open(namespace string) kv.Store {
	e.Helper()
	return e.openTTL(namespace, 0)
}

func (e *env) openTTL(namespace string, ttl time.Duration) kv.Store {
	e.Helper()
	s, err := e.h.Open(namespace, ttl)
	if err != nil {
		e.Fatalf("kvtest: the harness did not open namespace %s: %v", namespace, err)
	}
	e.closeLater(s)
	return s
}

// openAgain opens a namespace that is open already, or skips the case.
func (e *env) openAgain(namespace string) kv.Store {
	e.Helper()
	s, err := e.h.Open(namespace, 0)
	if errors.Is(err, kv.ErrLocked) {
		e.Skipf("the backend allows one open store a namespace at a time")
	}
	if err != nil {
		e.Fatalf("kvtest: the harness did not open namespace %s a second time: %v", namespace, err)
	}
	e.closeLater(s)
	return s
}

// closeLater drops the error of Close: cases about Close look at it.
func (e *env) closeLater(s kv.Store) { e.Cleanup(func() { _ = s.Close() }) }

// reopen closes s and opens its namespace again.
func (e *env) reopen(s kv.Store, namespace string) kv.Store {
	e.Helper()
	if !e.h.Persistent {
		e.Skipf("the harness says that documents do not outlive Close")
	}
	e.must(s.Close(), "Close")
	return e.open(namespace)
}

// as finds an optional interface of s, or skips the case.
func as[T any](e *env, s kv.Store) T {
	e.Helper()
	t, ok := kv.As[T](s)
	if !ok {
		e.Skipf("the store is no %v", reflect.TypeFor[T]())
	}
	return t
}

// items makes items of alternating ids and values.
func items(pairs ...string) map[string]json.RawMessage {
	m := make(map[string]json.RawMessage, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	return m
}

// numbered makes n items named prefix000000 and so on, with values that say
// which they are.
func numbered(prefix string, n int) map[string]json.RawMessage {
	m := make(map[string]json.RawMessage, n)
	for i := range n {
		m[fmt.Sprintf("%s%06d", prefix, i)] = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
	}
	return m
}

// sorted returns the ids of items in order.
func sorted(items map[string]json.RawMessage) []string {
	return slices.Sorted(maps.Keys(items))
}

// put stores documents, given as alternating ids and values.
func (e *env) put(s kv.Store, pairs ...string) {
	e.Helper()
	e.must(s.Upsert(e.ctx, items(pairs...)), "Upsert")
}

// want checks documents with Get, given as alternating ids and values.
func (e *env) want(s kv.Store, pairs ...string) {
	e.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		got, err := s.Get(e.ctx, pairs[i])
		switch {
		case err != nil:
			e.breach("Get(%s): %v", show(pairs[i]), err)
		case !same(got, pairs[i+1]):
			e.breach("Get(%s) = %s, want %s", show(pairs[i]), show(string(got)), show(pairs[i+1]))
		}
	}
}

// wantAbsent checks with Get that there are no documents with these ids.
func (e *env) wantAbsent(s kv.Store, ids ...string) {
	e.Helper()
	for _, id := range ids {
		if got, err := s.Get(e.ctx, id); !errors.Is(err, kv.ErrNotFound) {
			e.breach("Get(%s) = %s, %v, want an error that matches ErrNotFound", show(id), show(string(got)), err)
		}
	}
}

// wantErr checks the kind of an error.
func (e *env) wantErr(call string, err, target error) {
	e.Helper()
	if !errors.Is(err, target) {
		e.breach("%s: error %v, want one that matches %q", call, err, target)
	}
}

// wantCount checks the number that Delete and Insert return.
func (e *env) wantCount(call string, n int, err error, want int) {
	e.Helper()
	if err != nil || n != want {
		e.breach("%s = %d, %v, want %d, nil", call, n, err, want)
	}
}

// wantList checks a list of ids.
func (e *env) wantList(call string, got []string, err error, want ...string) {
	e.Helper()
	if err != nil || !slices.Equal(got, want) {
		e.breach("%s = %s, %v, want %s", call, show(fmt.Sprintf("%q", got)), err, show(fmt.Sprintf("%q", want)))
	}
}

// list collects Keys, sorted, repeats and all. It gives up on a sequence that
// does not end.
func (e *env) list(s kv.Store) []string {
	e.Helper()
	const most = 100_000
	var ids []string
	for id, err := range s.Keys(e.ctx) {
		e.must(err, "Keys")
		if ids = append(ids, id); len(ids) > most {
			e.halt("Keys yielded more than %d ids", most)
		}
	}
	slices.Sort(ids)
	return ids
}

// within runs f and ends the case if it hangs. f must not end the goroutine:
// it returns what is wrong.
func (e *env) within(call string, f func() error) {
	e.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			e.halt("%v", err)
		}
	case <-time.After(e.h.Patience):
		e.halt("%s had not returned after %v", call, e.h.Patience)
	}
}

// life is a time to live that a case can outlast.
func (e *env) life() time.Duration {
	if e.h.Advance != nil {
		return time.Minute
	}
	return 200 * time.Millisecond
}

// outlast lets documents expire whose time to live is d, then calls ok until
// it returns nil. A backend with a clock of its own may be a little late.
func (e *env) outlast(d time.Duration, ok func() error) {
	e.Helper()
	if e.h.Advance != nil {
		e.h.Advance(d + time.Millisecond)
		if err := ok(); err != nil {
			e.breach("%v", err)
		}
		return
	}
	time.Sleep(d)
	for end := time.Now().Add(min(e.h.Patience, 2*time.Second)); ; time.Sleep(5 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			e.breach("%v", err)
			return
		}
	}
}

// same reports whether two JSON texts differ in insignificant white space at
// most.
func same(got []byte, want string) bool {
	if string(got) == want {
		return true
	}
	var g, w bytes.Buffer
	if json.Compact(&g, got) != nil || json.Compact(&w, []byte(want)) != nil {
		return false
	}
	return bytes.Equal(g.Bytes(), w.Bytes())
}

// show quotes s for a message, cut if it is long.
func show(s string) string {
	const most = 120
	if len(s) > most {
		return fmt.Sprintf("%q... (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// nested is an array in an array, and so on, depth deep.
func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}
