package kvtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ngraf/kv"
)

func contextCases() []Case {
	var cases []Case
	for _, m := range methods() {
		cases = append(cases,
			Case{Name: m.name + " with a cancelled context", Sentence: sContext, check: func(e *env) {
				e.wantEnded(m, cancelled(e), context.Canceled)
			}},
			Case{Name: m.name + " with an expired context", Sentence: sContext, check: func(e *env) {
				ctx, cancel := context.WithDeadline(e.ctx, time.Now().Add(-time.Second))
				e.Cleanup(cancel)
				e.wantEnded(m, ctx, context.DeadlineExceeded)
			}})
	}
	return append(cases, Case{Name: "a deadline that has not come is none", Sentence: sContext, check: func(e *env) {
		ctx, cancel := context.WithTimeout(e.ctx, hour)
		e.Cleanup(cancel)
		s := e.open(space)
		e.must(s.Upsert(ctx, items("a", `1`)), "Upsert with a deadline in an hour")
		_, err := s.Get(ctx, "a")
		e.must(err, "Get with a deadline in an hour")
	}})
}

// wantEnded checks that a done context ends a call as itself, not as a backend
// that cannot serve, and that the store is none the worse for it.
func (e *env) wantEnded(m method, ctx context.Context, want error) {
	e.Helper()
	s := e.open(space)
	m.skip(e, s)
	e.put(s, "kept", `1`, "a", `2`)
	var err error
	e.within(m.name, func() error { err = m.call(ctx, s, "a"); return nil })
	e.wantErr(m.name, err, want)
	if errors.Is(err, kv.ErrUnavailable) {
		e.breach("%s: error %v matches ErrUnavailable too", m.name, err)
	}
	if m.name != "Drop" {
		e.want(s, "kept", `1`)
	}
}

func emptyCases() []Case {
	var cases []Case
	for _, m := range methods() {
		if !m.ids || m.name == "Get" || m.name == "TTL" {
			continue
		}
		cases = append(cases, Case{Name: m.name + " of nothing", Sentence: sEmpty, check: func(e *env) {
			s := e.open(space)
			m.skip(e, s)
			e.put(s, "a", `1`)
			e.must(m.call(e.ctx, s), m.name+" of nothing")
			e.wantList("Keys", e.list(s), nil, "a")
			e.want(s, "a", `1`)
		}})
	}
	return append(cases,
		Case{Name: "nil and empty are the same", Sentence: sEmpty, check: func(e *env) {
			s := e.open(space)
			for _, none := range []map[string]json.RawMessage{nil, {}} {
				e.must(s.Upsert(e.ctx, none), "Upsert of nothing")
			}
			for _, none := range [][]string{nil, {}} {
				got, err := s.GetMany(e.ctx, none)
				if err != nil || len(got) != 0 {
					e.breach("GetMany of nothing = %d elements, %v", len(got), err)
				}
				got, err = s.GetMany(e.ctx, none, "field")
				if err != nil || len(got) != 0 {
					e.breach("GetMany of nothing with a field = %d elements, %v", len(got), err)
				}
				missing, err := s.Missing(e.ctx, none)
				e.wantList("Missing of nothing", missing, err)
				n, err := s.Delete(e.ctx, none...)
				e.wantCount("Delete of nothing", n, err, 0)
			}
		}},
		Case{Name: "Insert of nothing stores none", Sentence: sEmpty, check: func(e *env) {
			s := e.open(space)
			n, err := as[kv.Inserter](e, s).Insert(e.ctx, nil)
			e.wantCount("Insert of nothing", n, err, 0)
		}})
}

// The marker is in the ids and values of calls that fail, and must not be in
// the text of the errors.
const marker = "xyzzy"

func errorCases() []Case {
	var cases []Case
	for _, m := range methods() {
		cases = append(cases, Case{Name: m.name + " says which call failed", Sentence: sErrors, check: func(e *env) {
			s := e.open(space)
			m.skip(e, s)
			e.wantKVError(m.name, m.call(cancelled(e), s, marker))
			if m.ids {
				e.wantKVError(m.name, m.call(e.ctx, s, marker+"\xff"))
			}
			e.must(s.Close(), "Close")
			e.wantKVError(m.name, m.call(e.ctx, s, marker))
		}})
	}
	for _, m := range methods() {
		if !m.ids {
			continue
		}
		cases = append(cases, Case{Name: m.name + " keeps ids and values out of the text", Sentence: sText, check: func(e *env) {
			s := e.open(space)
			m.skip(e, s)
			e.put(s, marker, `"`+marker+`"`)
			e.wantDiscreet(m.name, m.call(e.ctx, s, marker+" \xff"))
			e.wantDiscreet(m.name, m.call(e.ctx, s, strings.Repeat(marker, maxID)))
			e.wantDiscreet(m.name, m.call(cancelled(e), s, marker))
			if m.name == "Get" || m.name == "TTL" {
				e.wantDiscreet(m.name, m.call(e.ctx, s, "absent "+marker))
			}
		}})
	}
	for _, w := range []struct {
		name string
		do   write
	}{{"Upsert", upsert}, {"Insert", insert}, {"UpsertTTL", upsertTTL}} {
		cases = append(cases, Case{Name: w.name + " keeps bad values out of the text", Sentence: sText, check: func(e *env) {
			s := e.open(space)
			for _, bad := range []string{marker, `{"` + marker + `":` + marker + `}`, `"` + marker + "\xff\"", `[1,"` + marker + "\n\"]"} {
				e.wantDiscreet(w.name, w.do(e, s, items(marker, bad)))
			}
		}})
	}
	return append(cases, Case{Name: "ID names the one document concerned", Sentence: sErrors, check: func(e *env) {
		s := e.open(space)
		e.wantErrorID("Get of an absent id", call(s.Get(e.ctx, "the id")), "the id")
		e.wantErrorID("Upsert of one bad value", s.Upsert(e.ctx, items("the id", `x`)), "the id")
		if x, ok := kv.As[kv.Expirer](s); ok {
			e.wantErrorID("TTL of an absent id", call(x.TTL(e.ctx, "the id")), "the id")
		}
	}})
}

func (e *env) wantErrorID(call string, err error, id string) {
	e.Helper()
	var k *kv.Error
	if !errors.As(err, &k) || k.ID != id {
		e.breach("%s: %v, want a *kv.Error with the ID %q", call, err, id)
	}
}

// wantKVError checks what an error of a call on space says beside its text.
func (e *env) wantKVError(call string, err error) {
	e.Helper()
	var k *kv.Error
	if !errors.As(err, &k) {
		e.breach("%s: error %T %v, want a *kv.Error", call, err, err)
		return
	}
	if op := strings.ToLower(call); k.Op != op || k.Namespace != space || k.Err == nil {
		e.breach("%s: kv.Error{Op: %q, Namespace: %q, Err: %v}, want %q, %q and a cause", call, k.Op, k.Namespace, k.Err, op, space)
	}
}

// wantDiscreet checks that an error prints without the marker.
func (e *env) wantDiscreet(call string, err error) {
	e.Helper()
	if err == nil {
		e.breach("%s: nil, want an error", call)
		return
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if printed := fmt.Sprintf(verb, err); strings.Contains(printed, marker) {
			e.breach("%s: the error prints as %s with %s", call, show(printed), verb)
		}
	}
}
