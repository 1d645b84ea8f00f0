package main

// jsonSuite are the goals of the JSON backend.
func jsonSuite() suite {
	modules := []string{"go.etcd.io/bbolt", "github.com/philippgille/gokv/file"}
	return suite{name: "json", pattern: "^BenchmarkJSON", modules: modules, goals: []goal{
		{
			"J1", "open", "open a file of 96 MB, against encoding/json Unmarshal into `map[string]json.RawMessage`", "%.1f ×", 6, false,
			faster("JSONOpen/kv", "JSONOpen/encoding-json"),
		}, {
			"J2", "rewrite / Marshal", "rewrite it after one change, against encoding/json Marshal alone", "%.1f ×", 4, false,
			faster("JSONRewrite/kv", "JSONRewrite/encoding-json"),
		}, {
			"J2", "rewrite / Marshal + write", "the same, against Marshal and os.WriteFile", "%.1f ×", 4, false,
			faster("JSONRewrite/kv", "JSONRewrite/encoding-json-write"),
		}, {
			"J3", "Upsert, everysec", "Upsert of 1 KB, everysec, 1,000 documents in the store", "%.0f,000/s", 150, false,
			func(r *results) float64 { return 1e-3 / r.seconds("JSONUpsert/kv-1000") },
		}, {
			"J3", "1,000,000 / 1,000", "its rate with 1,000,000 documents, against 1,000", "%.2f ×", 0.8, false,
			faster("JSONUpsert/kv-1000000", "JSONUpsert/kv-1000"),
		}, {
			"J4", "always / fdatasync", "Upsert, always, one writer, against append + fdatasync", "%.2f ×", 0.6, false,
			func(r *results) float64 {
				return r.median("JSONUpsertAlways/in-turn", "µs-fdatasync") / r.median("JSONUpsertAlways/in-turn", "µs-kv")
			},
		}, {
			"J4", "always, 64 writers / bbolt", "64 writers, against bbolt Batch", "%.1f ×", 10, false,
			faster("JSONUpsertAlways64/kv", "JSONUpsertAlways64/bbolt"),
		}, {
			"J5", "Get", "Get of 1 KB", "%.2f µs", 2, true,
			func(r *results) float64 { return 1e6 * r.seconds("JSONGet/kv") },
		}, {
			"J5", "Get / bbolt", "its rate, against bbolt View, Get and copy", "%.2f ×", 0.8, false,
			faster("JSONGet/kv", "JSONGet/bbolt"),
		}, {
			"J6", "heap", "heap after opening a file of 1 GB, as a part of the file", "%.1f %%", 10, true,
			func(r *results) float64 { return r.median("JSONMemory/kv", "heap-%") },
		}, {
			"J7", "Flush of nothing", "reads and writes of a Flush that has nothing to do", "%.0f", 0, true,
			func(r *results) float64 { return r.median("JSONFlushNothing/kv", "io-calls") },
		},
	}}
}

// faster returns how many times the peer's time ours goes into: the median of
// the rounds, in each of which the two ran one after the other.
func faster(ours, peer string) func(*results) float64 {
	return func(r *results) float64 { return r.medianRatio(peer, ours) }
}
