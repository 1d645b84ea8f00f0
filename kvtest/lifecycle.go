package kvtest

import (
	"sync"

	"github.com/ngraf/kv"
)

func flushCases() []Case {
	return []Case{
		{Name: "with nothing written", Sentence: sFlush, check: func(e *env) {
			s := e.open(space)
			e.must(s.Flush(e.ctx), "Flush")
			e.must(s.Flush(e.ctx), "Flush again")
		}},
		{Name: "keeps what was written", Sentence: sFlush, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `2`, "c", `3`)
			e.must(s.Flush(e.ctx), "Flush")
			_, err := s.Delete(e.ctx, "b")
			e.must(err, "Delete")
			e.put(s, "c", `4`)
			e.want(s, "a", `1`, "c", `4`)
			e.must(s.Flush(e.ctx), "Flush")
			e.wantList("Keys", e.list(s), nil, "a", "c")
			e.want(s, "a", `1`, "c", `4`)
		}},
	}
}

func closeCases() []Case {
	cases := []Case{
		{Name: "twice is fine", Sentence: sCloseTwice, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			for range 3 {
				e.must(s.Close(), "Close")
			}
		}},
		{Name: "from several goroutines is fine", Sentence: sCloseTwice, check: func(e *env) {
			s := e.open(space)
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() { errs[i] = s.Close() })
			}
			wg.Wait()
			for _, err := range errs {
				e.must(err, "Close")
			}
		}},
		{Name: "other namespaces stay open", Sentence: sClose, check: func(e *env) {
			a, b := e.open("a"), e.open("b")
			e.put(b, "x", `1`)
			e.must(a.Close(), "Close")
			e.put(b, "y", `2`)
			e.want(b, "x", `1`, "y", `2`)
		}},
		{Name: "another store of the namespace stays open", Sentence: sClose, check: func(e *env) {
			first := e.open(space)
			second := e.openAgain(space)
			e.put(first, "x", `1`)
			e.must(first.Close(), "Close")
			e.put(second, "y", `2`)
			e.want(second, "x", `1`, "y", `2`)
			e.wantErr("Get on the store that was closed", call(first.Get(e.ctx, "x")), kv.ErrClosed)
		}},
	}
	for _, m := range methods() {
		cases = append(cases, Case{Name: m.name + " fails afterwards", Sentence: sClosed, check: func(e *env) {
			s := e.open(space)
			m.skip(e, s)
			e.put(s, "a", `1`)
			e.must(s.Close(), "Close")
			e.wantErr(m.name+" after Close", m.call(e.ctx, s, "a"), kv.ErrClosed)
		}})
	}
	return cases
}

// call drops the first of two results.
func call[T any](_ T, err error) error { return err }

func persistenceCases() []Case {
	return []Case{
		{Name: "documents are there after Close and Open", Sentence: sClose, check: func(e *env) {
			s := e.open(space)
			docs := []string{"", `""`, "a", `null`, "é\x00\n", `{"z":1.0,"a":"\u00e9","z":1e400}`}
			e.put(s, docs...)
			s = e.reopen(s, space)
			e.want(s, docs...)
			e.wantList("Keys", e.list(s), nil, "", "a", "é\x00\n")
		}},
		{Name: "the last write of each id counts", Sentence: sClose, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `1`)
			e.must(s.Flush(e.ctx), "Flush")
			e.put(s, "a", `2`)
			s = e.reopen(s, space)
			e.want(s, "a", `2`, "b", `1`)
			e.put(s, "b", `3`)
			s = e.reopen(s, space)
			e.want(s, "a", `2`, "b", `3`)
		}},
		{Name: "deleted documents stay deleted", Sentence: sDelete, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `2`, "c", `3`)
			e.must(s.Flush(e.ctx), "Flush")
			_, err := s.Delete(e.ctx, "a", "b")
			e.must(err, "Delete")
			e.put(s, "b", `4`)
			s = e.reopen(s, space)
			e.wantAbsent(s, "a")
			e.want(s, "b", `4`, "c", `3`)
		}},
		{Name: "dropped documents stay dropped", Sentence: sDrop, check: func(e *env) {
			s, other := e.open(space), e.open("other")
			e.put(s, "a", `1`, "b", `2`)
			e.put(other, "a", `3`)
			e.must(s.Flush(e.ctx), "Flush")
			e.must(s.Drop(e.ctx), "Drop")
			e.put(s, "b", `4`)
			s = e.reopen(s, space)
			e.wantAbsent(s, "a")
			e.want(s, "b", `4`)
			other = e.reopen(other, "other")
			e.want(other, "a", `3`)
		}},
	}
}

func persistedCases() []Case {
	return []Case{
		{Name: "10,000 documents", Sentence: sStored, check: func(e *env) {
			s := e.open(space)
			all := numbered("k", 10_000)
			e.must(s.Upsert(e.ctx, all), "Upsert")
			s = e.reopen(s, space)
			e.wantList("Keys", e.list(s), nil, sorted(all)...)
			e.want(s, "k009999", `{"n":9999}`)
		}},
		{Name: "a refused batch is absent after Close and Open", Sentence: sChecked, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			e.wantErr("Upsert", s.Upsert(e.ctx, badBatch(`nope`)), kv.ErrInvalid)
			s = e.reopen(s, space)
			e.wantList("Keys", e.list(s), nil, "a")
		}},
		{Name: "time to live goes on after Close and Open", Sentence: sTTL, check: func(e *env) {
			s := e.open(space)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), hour), "UpsertTTL")
			e.put(s, "b", `2`)
			s = e.reopen(s, space)
			e.wantTTL(s, "a", hour/2, hour)
			e.wantTTL(s, "b", 0, 0)
		}},
		{Name: "expired documents stay absent after Close and Open", Sentence: sExpired, check: func(e *env) {
			s := e.open(space)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), e.life()), "UpsertTTL")
			e.put(s, "b", `2`)
			e.outlast(e.life(), func() error { return absent(e, s, "a") })
			s = e.reopen(s, space)
			e.wantAbsent(s, "a")
			e.want(s, "b", `2`)
		}},
	}
}
