package kvtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ngraf/kv"
)

// wantTTL checks that the time to live of id is over low, or equal to it if
// both are 0, and not over high.
func (e *env) wantTTL(s kv.Store, id string, low, high time.Duration) {
	e.Helper()
	got, err := as[kv.Expirer](e, s).TTL(e.ctx, id)
	e.must(err, "TTL")
	switch {
	case high == 0 && got != 0:
		e.breach("TTL(%q) = %v, want 0", id, got)
	case high != 0 && (got <= low || got > high):
		e.breach("TTL(%q) = %v, want over %v, at most %v", id, got, low, high)
	}
}

func ttlCases() []Case {
	return []Case{
		{Name: "document that lives for ever has 0", Sentence: sTTL, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			e.wantTTL(s, "a", 0, 0)
		}},
		{Name: "absent id is ErrNotFound", Sentence: sTTL, check: func(e *env) {
			s := e.open(space)
			_, err := as[kv.Expirer](e, s).TTL(e.ctx, "absent")
			e.wantErr("TTL", err, kv.ErrNotFound)
		}},
		{Name: "is what is left", Sentence: sTTL, check: func(e *env) {
			if e.h.Advance == nil {
				e.Skipf("the harness has no Advance")
			}
			s := e.open(space)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), hour), "UpsertTTL")
			e.h.Advance(45 * time.Minute)
			e.wantTTL(s, "a", 14*time.Minute, 15*time.Minute)
		}},
		{Name: "namespace's applies to Upsert", Sentence: sUpsert, check: func(e *env) {
			s := e.openTTL(space, hour)
			as[kv.Expirer](e, s)
			e.put(s, "a", `1`, "b", `2`)
			e.wantTTL(s, "a", hour/2, hour)
			e.wantTTL(s, "b", hour/2, hour)
		}},
		{Name: "each namespace has its own", Sentence: sUpsert, check: func(e *env) {
			long, ever := e.openTTL("a", hour), e.open("ab")
			as[kv.Expirer](e, long)
			e.put(long, "x", `1`)
			e.put(ever, "x", `1`)
			e.wantTTL(long, "x", hour/2, hour)
			e.wantTTL(ever, "x", 0, 0)
		}},
	}
}

func upsertTTLCases() []Case {
	return []Case{
		{Name: "every item lives as long as said", Sentence: sUpsertTTL, check: func(e *env) {
			s := e.openTTL(space, 48*hour)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`, "b", `2`), hour), "UpsertTTL")
			e.want(s, "a", `1`, "b", `2`)
			e.wantTTL(s, "a", hour/2, hour)
			e.wantTTL(s, "b", hour/2, hour)
		}},
		{Name: "replaces value and time to live", Sentence: sUpsertTTL, check: func(e *env) {
			s := e.open(space)
			x := as[kv.Expirer](e, s)
			e.put(s, "a", `1`)
			e.must(x.UpsertTTL(e.ctx, items("a", `2`), 24*hour), "UpsertTTL")
			e.want(s, "a", `2`)
			e.wantTTL(s, "a", 23*hour, 24*hour)
			e.must(x.UpsertTTL(e.ctx, items("a", `3`), hour), "UpsertTTL")
			e.want(s, "a", `3`)
			e.wantTTL(s, "a", hour/2, hour)
		}},
		{Name: "0 means for ever", Sentence: sForEver, check: func(e *env) {
			s := e.openTTL(space, hour)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), 0), "UpsertTTL")
			e.wantTTL(s, "a", 0, 0)
		}},
		{Name: "negative is ErrInvalid and nothing is written", Sentence: sForEver, check: func(e *env) {
			s := e.open(space)
			x := as[kv.Expirer](e, s)
			e.put(s, "a", `1`)
			for _, ttl := range []time.Duration{-1, -time.Millisecond, -hour, math.MinInt64} {
				e.wantErr(fmt.Sprintf("UpsertTTL with %d ns", ttl), x.UpsertTTL(e.ctx, items("a", `2`, "b", `2`), ttl), kv.ErrInvalid)
			}
			e.want(s, "a", `1`)
			e.wantAbsent(s, "b")
		}},
		{Name: "less than a millisecond is not for ever", Sentence: sRounded, check: shortest},
		{Name: "kept to the millisecond", Sentence: sRounded, check: func(e *env) {
			s := e.open(space)
			const ttl = 90*time.Minute + 7*time.Second + 250*time.Millisecond
			start := time.Now()
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), ttl), "UpsertTTL")
			got, err := as[kv.Expirer](e, s).TTL(e.ctx, "a")
			e.must(err, "TTL")
			// The clocks of two machines do not tick alike; 5 ms is for that.
			const slack = 5 * time.Millisecond
			if low := ttl - time.Since(start) - slack; got < low || got > ttl+slack {
				e.breach("TTL = %v after UpsertTTL with %v, want between %v and that", got, ttl, low)
			}
		}},
	}
}

func upsertTTLRuleCases() []Case {
	return []Case{
		{Name: "longest time to live", Sentence: sUpsertTTL, check: func(e *env) {
			s := e.open(space)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), math.MaxInt64), "UpsertTTL")
			e.want(s, "a", `1`)
			e.wantTTL(s, "a", 365*24*hour, math.MaxInt64)
		}},
		{Name: "plain Upsert makes it the namespace's again", Sentence: sUpsert, check: func(e *env) {
			s := e.open(space)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), hour), "UpsertTTL")
			e.put(s, "a", `2`)
			e.wantTTL(s, "a", 0, 0)
		}},
		{Name: "plain Upsert restarts the namespace's", Sentence: sUpsert, check: func(e *env) {
			s := e.openTTL(space, 24*hour)
			e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("a", `1`), hour), "UpsertTTL")
			e.put(s, "a", `2`)
			e.wantTTL(s, "a", 23*hour, 24*hour)
		}},
		{Name: "bad value and nothing is written", Sentence: sChecked, check: func(e *env) {
			e.wantRefused(e.open(space), "UpsertTTL", upsertTTL, badBatch(`{`))
		}},
		{Name: "bad id and nothing is written", Sentence: sChecked, check: func(e *env) {
			batch := goodBatch()
			batch["~\xff"] = json.RawMessage(`1`)
			e.wantRefused(e.open(space), "UpsertTTL", upsertTTL, batch)
		}},
	}
}

// shortest gives documents lives that round down to nothing. They must end,
// and until then must not be said to last for ever.
func shortest(e *env) {
	s := e.open(space)
	x := as[kv.Expirer](e, s)
	for _, ttl := range []time.Duration{1, 999 * time.Microsecond} {
		e.must(x.UpsertTTL(e.ctx, items("a", `1`), ttl), fmt.Sprintf("UpsertTTL with %v", ttl))
		if got, err := x.TTL(e.ctx, "a"); err == nil && got <= 0 {
			e.breach("TTL = %v after UpsertTTL with %v, want more or ErrNotFound", got, ttl)
		}
		e.outlast(time.Millisecond, func() error {
			got, err := x.TTL(e.ctx, "a")
			if !errors.Is(err, kv.ErrNotFound) {
				return fmt.Errorf("TTL = %v, %w well after UpsertTTL with %v, want ErrNotFound", got, err, ttl)
			}
			return nil
		})
	}
}

// absent says whether Get finds an id.
func absent(e *env, s kv.Store, id string) error {
	if got, err := s.Get(e.ctx, id); !errors.Is(err, kv.ErrNotFound) {
		return fmt.Errorf("Get(%q) = %s, %w after its time to live, want ErrNotFound", id, show(string(got)), err)
	}
	return nil
}

// An afterlife checks that "gone" is absent for one method, and "kept" is not.
type afterlife struct {
	name  string
	check func(e *env, s kv.Store) error
}

func afterlives() []afterlife {
	return []afterlife{
		{"Get", func(e *env, s kv.Store) error { return absent(e, s, "gone") }},
		{"GetMany", func(e *env, s kv.Store) error {
			got, err := s.GetMany(e.ctx, []string{"gone", "kept", "gone"})
			if err != nil || len(got) != 3 || got[0] != nil || got[1] == nil || got[2] != nil {
				return fmt.Errorf("GetMany = %q, %w, want nil for the expired id alone", got, err)
			}
			return nil
		}},
		{"Missing", func(e *env, s kv.Store) error {
			got, err := s.Missing(e.ctx, []string{"gone", "kept"})
			if err != nil || !slices.Equal(got, []string{"gone"}) {
				return fmt.Errorf("Missing = %q, %w, want the expired id", got, err)
			}
			return nil
		}},
		{"Keys", func(e *env, s kv.Store) error {
			if got := e.list(s); !slices.Equal(got, []string{"kept"}) {
				return fmt.Errorf("Keys = %q, want the id that has not expired", got)
			}
			return nil
		}},
		{"TTL", func(e *env, s kv.Store) error {
			if got, err := as[kv.Expirer](e, s).TTL(e.ctx, "gone"); !errors.Is(err, kv.ErrNotFound) {
				return fmt.Errorf("TTL = %v, %w for an expired id, want ErrNotFound", got, err)
			}
			return nil
		}},
	}
}

func expiryCases() []Case {
	var cases []Case
	expiring := func(e *env) kv.Store {
		s := e.open(space)
		e.must(as[kv.Expirer](e, s).UpsertTTL(e.ctx, items("gone", `1`), e.life()), "UpsertTTL")
		e.put(s, "kept", `2`)
		return s
	}
	for _, a := range afterlives() {
		cases = append(cases, Case{Name: "absent for " + a.name, Sentence: sExpired, check: func(e *env) {
			s := expiring(e)
			e.outlast(e.life(), func() error { return a.check(e, s) })
		}})
	}
	return append(cases,
		Case{Name: "absent for Delete", Sentence: sExpired, check: func(e *env) {
			s := expiring(e)
			e.outlastQuietly(e.life())
			n, err := s.Delete(e.ctx, "gone", "kept")
			e.wantCount("Delete of an expired and a living id", n, err, 1)
		}},
		Case{Name: "absent for Insert", Sentence: sExpired, check: func(e *env) {
			s := expiring(e)
			i := as[kv.Inserter](e, s)
			e.outlastQuietly(e.life())
			n, err := i.Insert(e.ctx, items("gone", `3`, "kept", `3`))
			e.wantCount("Insert of an expired and a living id", n, err, 1)
			e.want(s, "gone", `3`, "kept", `2`)
			e.wantTTL(s, "gone", 0, 0)
		}},
		Case{Name: "namespace's time to live ends", Sentence: sExpired, check: func(e *env) {
			s := e.openTTL(space, e.life())
			e.put(s, "a", `1`)
			e.outlast(e.life(), func() error { return absent(e, s, "a") })
		}},
		Case{Name: "Upsert after the end begins anew", Sentence: sUpsert, check: func(e *env) {
			s := expiring(e)
			e.outlast(e.life(), func() error { return absent(e, s, "gone") })
			e.put(s, "gone", `3`)
			e.want(s, "gone", `3`)
			e.wantTTL(s, "gone", 0, 0)
		}},
		Case{Name: "Upsert on the way starts again", Sentence: sUpsert, check: func(e *env) {
			if e.h.Advance == nil {
				e.Skipf("the harness has no Advance")
			}
			s := e.openTTL(space, hour)
			e.put(s, "a", `1`, "b", `1`)
			e.h.Advance(40 * time.Minute)
			e.put(s, "a", `2`)
			e.h.Advance(40 * time.Minute)
			e.want(s, "a", `2`)
			e.wantAbsent(s, "b")
		}},
		Case{Name: "reading does not prolong", Sentence: sExpired, check: func(e *env) {
			s := expiring(e)
			e.outlastQuietly(e.life() / 2)
			e.must(call(s.GetMany(e.ctx, []string{"gone"})), "GetMany")
			e.must(call(s.Missing(e.ctx, []string{"gone"})), "Missing")
			e.outlast(e.life()/2, func() error { return absent(e, s, "gone") })
		}})
}

// outlastQuietly lets d pass without a look at the documents, which might be
// what removes the expired ones.
func (e *env) outlastQuietly(d time.Duration) {
	e.Helper()
	if e.h.Advance == nil {
		d += 50 * time.Millisecond
	}
	e.outlast(d, func() error { return nil })
}
