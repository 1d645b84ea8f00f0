package kvtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/ngraf/kv"
)

func insertCases() []Case {
	return []Case{
		{Name: "stores what is absent and leaves what is there", Sentence: sInsert, check: func(e *env) {
			s := e.open(space)
			e.put(s, "b", `"old"`, "n", `null`)
			n, err := as[kv.Inserter](e, s).Insert(e.ctx, items("a", `1`, "b", `2`, "c", `3`, "n", `4`))
			e.wantCount("Insert", n, err, 2)
			e.want(s, "a", `1`, "b", `"old"`, "c", `3`, "n", `null`)
		}},
		{Name: "second time stores nothing", Sentence: sInsert, check: func(e *env) {
			s := e.open(space)
			i := as[kv.Inserter](e, s)
			n, err := i.Insert(e.ctx, items("a", `1`))
			e.wantCount("Insert", n, err, 1)
			n, err = i.Insert(e.ctx, items("a", `2`))
			e.wantCount("Insert again", n, err, 0)
			e.want(s, "a", `1`)
		}},
		{Name: "deleted id is absent", Sentence: sInsert, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			_, err := s.Delete(e.ctx, "a")
			e.must(err, "Delete")
			n, err := as[kv.Inserter](e, s).Insert(e.ctx, items("a", `2`))
			e.wantCount("Insert", n, err, 1)
			e.want(s, "a", `2`)
		}},
		{Name: "10,000 items", Sentence: sInsert, check: func(e *env) {
			s := e.open(space)
			i := as[kv.Inserter](e, s)
			e.put(s, "k005000", `"old"`)
			n, err := i.Insert(e.ctx, numbered("k", 10_000))
			e.wantCount("Insert", n, err, 9999)
			e.want(s, "k000000", `{"n":0}`, "k005000", `"old"`, "k009999", `{"n":9999}`)
		}},
	}
}

func insertRuleCases() []Case {
	return []Case{
		{Name: "bad id and nothing is written", Sentence: sInvalid, check: func(e *env) {
			batch := goodBatch()
			batch["~\xff"] = json.RawMessage(`1`)
			e.wantRefused(e.open(space), "Insert", insert, batch)
		}},
		{Name: "bad value and nothing is written", Sentence: sInvalid, check: func(e *env) {
			e.wantRefused(e.open(space), "Insert", insert, badBatch(`{`))
		}},
		{Name: "one of many goroutines stores", Sentence: sAtomic, check: func(e *env) {
			s := e.open(space)
			insertRace(e, s, s)
		}},
		{Name: "one of many goroutines with two stores stores", Sentence: sAtomic, check: func(e *env) {
			first := e.open(space)
			insertRace(e, first, e.openAgain(space))
		}},
		{Name: "namespace's time to live applies", Sentence: sUpsert, check: func(e *env) {
			s := e.openTTL(space, hour)
			as[kv.Expirer](e, s)
			_, err := as[kv.Inserter](e, s).Insert(e.ctx, items("a", `1`))
			e.must(err, "Insert")
			e.wantTTL(s, "a", hour/2, hour)
		}},
		{Name: "time to live of what is there is left alone", Sentence: sInsert, check: func(e *env) {
			s := e.openTTL(space, hour)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), 0), "UpsertTTL")
			_, err := as[kv.Inserter](e, s).Insert(e.ctx, items("a", `2`))
			e.must(err, "Insert")
			e.wantTTL(s, "a", 0, 0)
		}},
	}
}

// insertRace lets goroutines insert the same ids through two stores. Each says
// who it is, so that the winner can be told.
func insertRace(e *env, first, second kv.Store) {
	const rounds, racers = 20, 8
	inserters := []kv.Inserter{as[kv.Inserter](e, first), as[kv.Inserter](e, second)}
	for round := range rounds {
		id := fmt.Sprintf("race%d", round)
		var wg sync.WaitGroup
		var counts [racers]int
		var errs [racers]error
		start := make(chan struct{})
		for r := range racers {
			wg.Go(func() {
				<-start
				counts[r], errs[r] = inserters[r%2].Insert(e.ctx, items(id, fmt.Sprint(r)))
			})
		}
		close(start)
		wg.Wait()
		e.must(errors.Join(errs[:]...), "Insert")
		winner, won := -1, 0
		for r, n := range counts {
			if won += n; n == 1 {
				winner = r
			}
		}
		if won != 1 {
			e.halt("%d goroutines inserted one id, and %d were told that they stored it", racers, won)
		}
		e.want(first, id, fmt.Sprint(winner))
	}
}

func pingCases() []Case {
	return []Case{{Name: "answers nil", Sentence: sPing, check: func(e *env) {
		s := e.open(space)
		p := as[kv.Pinger](e, s)
		e.must(p.Ping(e.ctx), "Ping")
		e.must(p.Ping(e.ctx), "Ping again")
	}}}
}

func statsCases() []Case {
	figures := func(e *env, s kv.Store) kv.Stats {
		e.Helper()
		st, err := as[kv.Statser](e, s).Stats(e.ctx)
		e.must(err, "Stats")
		return st
	}
	expect := func(e *env, what string, got, want int64) {
		e.Helper()
		if got != want {
			e.breach("Stats: %s is %d, want %d", what, got, want)
		}
	}
	return []Case{
		{Name: "names backend and namespace", Sentence: sStats, check: func(e *env) {
			if st := figures(e, e.open("a.b-c_")); st.Namespace != "a.b-c_" || st.Backend == "" {
				e.breach("Stats: Backend is %q and Namespace is %q, want a name and %q", st.Backend, st.Namespace, "a.b-c_")
			}
		}},
		{Name: "counts reads and hits", Sentence: sStats, check: func(e *env) {
			s := e.open(space)
			as[kv.Statser](e, s)
			e.put(s, "a", `1`, "b", `null`)
			e.want(s, "a", `1`)
			e.wantAbsent(s, "x")
			e.wantMany(s, []string{"a", "b", "y"}, nil, `1`, `null`, "")
			st := figures(e, s)
			expect(e, "Gets", st.Gets, 5)
			expect(e, "Hits", st.Hits, 3)
		}},
		{Name: "counts writes", Sentence: sStats, check: func(e *env) {
			s := e.open(space)
			as[kv.Statser](e, s)
			want := int64(3)
			e.put(s, "a", `1`, "b", `2`)
			e.put(s, "a", `3`)
			if i, ok := kv.As[kv.Inserter](s); ok {
				want++
				e.must(call(i.Insert(e.ctx, items("a", `4`, "c", `5`))), "Insert")
			}
			if x, ok := kv.As[kv.Expirer](s); ok {
				want += 2
				e.must(x.UpsertTTL(e.ctx, items("a", `6`, "d", `7`), hour), "UpsertTTL")
			}
			e.must(call(s.Delete(e.ctx, "a", "b", "x", "a")), "Delete")
			st := figures(e, s)
			expect(e, "Upserts", st.Upserts, want)
			expect(e, "Deletes", st.Deletes, 2)
		}},
		{Name: "counts failed calls without ErrNotFound", Sentence: sStats, check: func(e *env) {
			s := e.open(space)
			as[kv.Statser](e, s)
			e.wantAbsent(s, "x")
			expect(e, "Errors before any", figures(e, s).Errors, 0)
			e.wantErr("Upsert", s.Upsert(e.ctx, items("a", `bad`)), kv.ErrInvalid)
			e.wantErr("Delete", call(s.Delete(e.ctx, "\xff")), kv.ErrInvalid)
			expect(e, "Errors after two", figures(e, s).Errors, 2)
		}},
	}
}
