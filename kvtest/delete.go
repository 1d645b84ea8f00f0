package kvtest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ngraf/kv"
)

// jsonString is a JSON string that says s.
func jsonString(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // A string always has a JSON text.
	}
	return string(text)
}

func deleteCases() []Case {
	return []Case{
		{Name: "counts the ids that were present", Sentence: sDelete, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `null`, "c", `3`)
			n, err := s.Delete(e.ctx, "a", "x", "b", "")
			e.wantCount("Delete of two present and two absent ids", n, err, 2)
			e.wantAbsent(s, "a", "b")
			e.want(s, "c", `3`)
		}},
		{Name: "absent ids are no error", Sentence: sDeleteAbsent, check: func(e *env) {
			s := e.open(space)
			n, err := s.Delete(e.ctx, "x", "")
			e.wantCount("Delete of absent ids", n, err, 0)
		}},
		{Name: "id named twice is counted once", Sentence: sDeleteAbsent, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `2`)
			n, err := s.Delete(e.ctx, "a", "b", "a", "x", "x", "a")
			e.wantCount("Delete", n, err, 2)
		}},
		{Name: "second time counts nothing", Sentence: sDelete, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			n, err := s.Delete(e.ctx, "a")
			e.wantCount("Delete", n, err, 1)
			n, err = s.Delete(e.ctx, "a")
			e.wantCount("Delete again", n, err, 0)
		}},
		{Name: "deleted id is absent for every method", Sentence: sDelete, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `2`)
			_, err := s.Delete(e.ctx, "a")
			e.must(err, "Delete")
			e.wantMany(s, []string{"a", "b"}, nil, "", `2`)
			missing, err := s.Missing(e.ctx, []string{"a", "b"})
			e.wantList("Missing", missing, err, "a")
			e.wantList("Keys", e.list(s), nil, "b")
		}},
		{Name: "deleted id can be stored again", Sentence: sUpsert, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			_, err := s.Delete(e.ctx, "a")
			e.must(err, "Delete")
			e.put(s, "a", `2`)
			e.want(s, "a", `2`)
		}},
		{Name: "10,000 ids", Sentence: sDelete, check: func(e *env) {
			s := e.open(space)
			all := numbered("k", 10_000)
			e.must(s.Upsert(e.ctx, all), "Upsert")
			n, err := s.Delete(e.ctx, sorted(all)[1:]...)
			e.wantCount("Delete", n, err, len(all)-1)
			e.wantList("Keys", e.list(s), nil, "k000000")
		}},
	}
}

func dropCases() []Case {
	return []Case{
		{Name: "removes every document", Sentence: sDrop, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `2`)
			e.must(s.Drop(e.ctx), "Drop")
			e.wantAbsent(s, "a", "b")
			e.wantMany(s, []string{"a", "b"}, nil, "", "")
			e.wantList("Keys", e.list(s), nil)
		}},
		{Name: "removes odd ids", Sentence: sDrop, check: func(e *env) {
			s := e.open(space)
			var ids []string
			for _, r := range oddIDs() {
				e.put(s, r.value, `1`)
				ids = append(ids, r.value)
			}
			e.must(s.Drop(e.ctx), "Drop")
			e.wantAbsent(s, ids...)
		}},
		{Name: "removes 10,000 documents", Sentence: sDrop, check: func(e *env) {
			s := e.open(space)
			all := numbered("k", 10_000)
			e.must(s.Upsert(e.ctx, all), "Upsert")
			e.must(s.Drop(e.ctx), "Drop")
			missing, err := s.Missing(e.ctx, sorted(all))
			e.wantList("Missing", missing, err, sorted(all)...)
		}},
		{Name: "store stays open", Sentence: sDropOpen, check: func(e *env) {
			s := e.open(space)
			e.must(s.Drop(e.ctx), "Drop of an empty namespace")
			e.put(s, "a", `1`)
			e.must(s.Drop(e.ctx), "Drop")
			e.must(s.Drop(e.ctx), "Drop again")
			e.put(s, "a", `2`, "b", `3`)
			e.want(s, "a", `2`, "b", `3`)
		}},
	}
}

// A neighbour is an open namespace with its documents. The names and ids are
// such that a key made of both in a careless way, or a pattern over them,
// meets those of another.
type neighbour struct {
	kv.Store
	docs []string
}

func (e *env) neighbours() []neighbour {
	e.Helper()
	var all []neighbour
	for _, name := range []string{"a", "ab", "a.b", "a-b", "a_b", "b", "_"} {
		n := neighbour{Store: e.open(name)}
		for _, id := range []string{"", "x", "b", "b:x", ":b:x", "b.x", "*", "a:x", "a.b:x", `\`} {
			n.docs = append(n.docs, id, jsonString(name+" "+id))
		}
		e.put(n, n.docs...)
		all = append(all, n)
	}
	return all
}

func namespaceCases() []Case {
	return []Case{
		{Name: "each holds its own documents", Sentence: sStore, check: func(e *env) {
			for _, n := range e.neighbours() {
				e.want(n, n.docs...)
			}
		}},
		{Name: "documents of one are absent from the others", Sentence: sStore, check: func(e *env) {
			all := e.neighbours()
			for i, n := range all {
				e.put(n, fmt.Sprintf("own%d", i), `1`)
				for _, other := range all[:i] {
					e.wantAbsent(other, fmt.Sprintf("own%d", i))
				}
			}
		}},
		{Name: "Keys yields its own", Sentence: sStore, check: func(e *env) {
			for _, n := range e.neighbours() {
				var want []string
				for i := 0; i < len(n.docs); i += 2 {
					want = append(want, n.docs[i])
				}
				slices.Sort(want)
				e.wantList("Keys", e.list(n), nil, want...)
			}
		}},
		{Name: "Delete removes its own", Sentence: sStore, check: func(e *env) {
			all := e.neighbours()
			n, err := all[0].Delete(e.ctx, "", "x", "b", "b:x", ":b:x", "b.x", "*", `\`)
			e.wantCount("Delete", n, err, 8)
			for _, n := range all[1:] {
				e.want(n, n.docs...)
			}
		}},
		{Name: "Drop removes its own", Sentence: sDrop, check: func(e *env) {
			all := e.neighbours()
			for i, n := range all {
				e.must(n.Drop(e.ctx), "Drop")
				for _, other := range all[i+1:] {
					e.want(other, other.docs...)
				}
			}
		}},
	}
}
