package kvtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ngraf/kv"
)

func keysCases() []Case {
	return []Case{
		{Name: "every id once", Sentence: sKeys, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `null`, "", `2`)
			e.put(s, "a", `3`, "c", `4`)
			e.wantList("Keys", e.list(s), nil, "", "a", "b", "c")
		}},
		{Name: "empty namespace has none", Sentence: sKeys, check: func(e *env) {
			s := e.open(space)
			e.wantList("Keys", e.list(s), nil)
		}},
		{Name: "10,000 ids once each", Sentence: sKeys, check: func(e *env) {
			s := e.open(space)
			all := numbered("k", 10_000)
			e.must(s.Upsert(e.ctx, all), "Upsert")
			e.wantList("Keys", e.list(s), nil, sorted(all)...)
		}},
		{Name: "loop may leave early", Sentence: sBody, check: keysBreak},
		{Name: "loop body may call the store", Sentence: sBody, check: keysBody},
		{Name: "ids that stay are seen whatever else is written", Sentence: sMeanwhile, check: keysMeanwhile},
		{Name: "error is the last pair with an empty id", Sentence: sKeysError, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `2`)
			n := 0
			for id, err := range s.Keys(cancelled(e)) {
				if n++; id != "" || err == nil || n > 1 {
					e.halt("Keys with a cancelled context: pair %d is (%q, %v), want one pair of an empty id and an error", n, id, err)
				}
			}
			if n == 0 {
				e.breach("Keys with a cancelled context: no pair, want an error")
			}
		}},
		{Name: "context that is cancelled on the way ends the sequence", Sentence: sKeysError, check: keysCancel},
	}
}

func keysBreak(e *env) {
	s := e.open(space)
	all := numbered("k", 3000)
	e.must(s.Upsert(e.ctx, all), "Upsert")
	for range 20 {
		for _, err := range s.Keys(e.ctx) {
			e.must(err, "Keys")
			break
		}
	}
	e.wantList("Keys after loops that were left early", e.list(s), nil, sorted(all)...)
	e.put(s, "k000000", `"new"`)
	e.want(s, "k000000", `"new"`)
}

func keysBody(e *env) {
	s := e.open(space)
	e.must(s.Upsert(e.ctx, numbered("k", 50)), "Upsert")
	e.within("a call from the body of a loop over Keys", func() error {
		for id, err := range s.Keys(e.ctx) {
			if err != nil {
				return fmt.Errorf("Keys: %w", err)
			}
			if err := bodyCalls(e.ctx, s, id); err != nil {
				return fmt.Errorf("in the body of the loop: %w", err)
			}
			if id == "k000049" {
				_, err = s.Delete(e.ctx, id)
			}
			if err != nil {
				return fmt.Errorf("Delete in the body of the loop: %w", err)
			}
		}
		return nil
	})
	e.wantAbsent(s, "k000049")
	e.want(s, "k000048", `"seen"`)
}

func bodyCalls(ctx context.Context, s kv.Store, id string) error {
	if _, err := s.Get(ctx, id); err != nil {
		return err
	}
	if err := s.Upsert(ctx, items(id, `"seen"`)); err != nil {
		return err
	}
	if _, err := s.GetMany(ctx, []string{id}); err != nil {
		return err
	}
	for _, err := range s.Keys(ctx) {
		if err != nil {
			return err
		}
		break
	}
	return nil
}

// keysMeanwhile replaces ids, adds others and removes others from the body of
// the loop: those that stay must all come, none of any kind twice.
func keysMeanwhile(e *env) {
	s := e.open(space)
	stay := numbered("stay", 2000)
	e.must(s.Upsert(e.ctx, stay), "Upsert")
	e.must(s.Upsert(e.ctx, numbered("go", 2000)), "Upsert")
	seen := map[string]int{}
	e.within("a call from the body of a loop over Keys", func() error {
		for id, err := range s.Keys(e.ctx) {
			if err != nil {
				return fmt.Errorf("Keys: %w", err)
			}
			n := len(seen)
			seen[id]++
			if n%20 != 0 {
				continue
			}
			if err := s.Upsert(e.ctx, items(id, `"again"`, fmt.Sprintf("new%d", n), `1`)); err != nil {
				return fmt.Errorf("Upsert in the body of the loop: %w", err)
			}
			if _, err := s.Delete(e.ctx, fmt.Sprintf("go%06d", n/2), fmt.Sprintf("go%06d", 1999-n/2)); err != nil {
				return fmt.Errorf("Delete in the body of the loop: %w", err)
			}
		}
		return nil
	})
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		if seen[id] != 1 {
			e.halt("Keys yielded %s %d times", show(id), seen[id])
		}
	}
	for _, id := range sorted(stay) {
		if seen[id] == 0 {
			e.halt("Keys did not yield %s, which was there all the time", show(id))
		}
	}
}

func keysCancel(e *env) {
	s := e.open(space)
	e.must(s.Upsert(e.ctx, numbered("k", 10_000)), "Upsert")
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	var last error
	for id, err := range s.Keys(ctx) {
		if last != nil {
			e.halt("Keys went on after its error, with (%q, %v)", id, err)
		}
		if err != nil && id != "" {
			e.breach("Keys yielded its error with the id %q", id)
		}
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		e.breach("Keys over 10,000 ids ended with the error %v, want one that matches context.Canceled", last)
	}
}
