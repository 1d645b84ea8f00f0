package kvtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/ngraf/kv"
)

func concurrencyCases() []Case {
	return []Case{
		{Name: "mixed calls on the same ids", Sentence: sGoroutines, check: mixed},
		{Name: "writes to different ids all arrive", Sentence: sGoroutines, check: func(e *env) {
			const writers, each = 8, 50
			s := e.open(space)
			e.parallel(writers, func(w int) error {
				for i := range each {
					id := fmt.Sprintf("%d-%d", w, i)
					if err := s.Upsert(e.ctx, items(id, jsonString(id))); err != nil {
						return fmt.Errorf("Upsert: %w", err)
					}
				}
				return nil
			})
			for w := range writers {
				for i := range each {
					id := fmt.Sprintf("%d-%d", w, i)
					e.want(s, id, jsonString(id))
				}
			}
		}},
		{Name: "each deleted document is counted once", Sentence: sDelete, check: func(e *env) {
			const deleters = 8
			s := e.open(space)
			all := numbered("k", 100)
			e.must(s.Upsert(e.ctx, all), "Upsert")
			var counts [deleters]int
			e.parallel(deleters, func(d int) error {
				for id := range all { // Every goroutine in another order.
					n, err := s.Delete(e.ctx, id)
					if err != nil {
						return fmt.Errorf("Delete: %w", err)
					}
					counts[d] += n
				}
				return nil
			})
			sum := 0
			for _, n := range counts {
				sum += n
			}
			if sum != len(all) {
				e.breach("%d goroutines deleted %d documents, and %d were counted", deleters, len(all), sum)
			}
		}},
		{Name: "Close during calls ends them as closed", Sentence: sClosed, check: closeDuring},
	}
}

func closeDuring(e *env) {
	s := e.open(space)
	e.put(s, "a", `1`)
	e.parallel(9, func(g int) error {
		if g == 0 {
			return s.Close()
		}
		for range 200 {
			err := turn(e.ctx, s, g, 0)
			if errors.Is(err, kv.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	e.wantErr("Get after Close", call(s.Get(e.ctx, "a")), kv.ErrClosed)
}

// parallel runs f in n goroutines and ends the case with the first error.
func (e *env) parallel(n int, f func(i int) error) {
	e.Helper()
	e.within("one of several goroutines", func() error {
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { errs[i] = f(i) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// A stamp is a value that says which document it belongs to, who wrote it and
// when, so that no value can pass for another.
type stamp struct {
	ID       string
	Writer   int
	Sequence int
}

func (s stamp) text() json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"ID":%q,"Writer":%d,"Sequence":%d}`, s.ID, s.Writer, s.Sequence))
}

// checkStamp checks that a value is one that was written for id.
func checkStamp(id string, raw json.RawMessage) error {
	var s stamp
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("value of %s: %s: %w", id, show(string(raw)), err)
	}
	if s.ID != id || !same(raw, string(s.text())) {
		return fmt.Errorf("value of %s is %s", id, show(string(raw)))
	}
	return nil
}

const turnIDs = 10

func turnID() string { return fmt.Sprintf("shared%d", rand.IntN(turnIDs)) }

func mixed(e *env) {
	s := e.open(space)
	e.parallel(8, func(g int) error {
		for i := range 150 {
			if err := turn(e.ctx, s, g, i); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range turnIDs {
		id := fmt.Sprintf("shared%d", i)
		got, err := s.Get(e.ctx, id)
		if errors.Is(err, kv.ErrNotFound) {
			continue
		}
		e.must(err, "Get")
		if err := checkStamp(id, got); err != nil {
			e.breach("%v", err)
		}
	}
}

// turn makes one call, chosen at random, and checks what comes back.
func turn(ctx context.Context, s kv.Store, writer, sequence int) error {
	a, b := turnID(), turnID()
	switch rand.IntN(6) {
	case 0, 1:
		return s.Upsert(ctx, map[string]json.RawMessage{
			a: stamp{a, writer, sequence}.text(), b: stamp{b, writer, sequence}.text(),
		})
	case 2:
		got, err := s.Get(ctx, a)
		if err != nil {
			if errors.Is(err, kv.ErrNotFound) {
				err = nil
			}
			return err
		}
		return checkStamp(a, got)
	case 3:
		ids := []string{a, b, a}
		got, err := s.GetMany(ctx, ids)
		if err != nil {
			return err
		}
		for i, v := range got {
			if v == nil {
				continue
			}
			if err := checkStamp(ids[i], v); err != nil {
				return err
			}
		}
		return nil
	case 4:
		n, err := s.Delete(ctx, a)
		if err == nil && (n < 0 || n > 1) {
			err = fmt.Errorf("Delete of one id = %d", n)
		}
		return err
	}
	seen := map[string]bool{}
	for id, err := range s.Keys(ctx) {
		if err != nil {
			return err
		}
		if seen[id] {
			return fmt.Errorf("Keys yielded %s twice", id)
		}
		seen[id] = true
	}
	return nil
}
