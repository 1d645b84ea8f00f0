package main

import (
	"slices"
	"strings"
)

// What nano-graphrag's own Python reaches, per second, on such a machine.
const (
	pythonUpsert  = 48_700
	pythonGetMany = 57_800
	pythonGet     = 7_800
	pythonReaders = 18_200 // 40 at once
)

// redisSuite are the goals of the Redis backend, each for both kinds of
// context.
func redisSuite() suite {
	return suite{
		name:     "redis",
		pattern:  "^BenchmarkRedis",
		programs: []string{"redis-server"},
		modules:  []string{"github.com/redis/go-redis/v9", "github.com/redis/rueidis", "github.com/philippgille/gokv/redis"},
		goals: slices.SortedStableFunc(
			slices.Values(append(redisGoals("background", ""), redisGoals("request", ", cancellable")...)),
			func(a, b goal) int { return strings.Compare(a.id, b.id) }),
	}
}

// redisGoals are those for one kind of context. The note tells it apart.
func redisGoals(ctx, note string) []goal {
	goals := slices.Concat(redisGetGoals(ctx), redisBatchGoals(ctx))
	for i := range goals {
		goals[i].label += note
		goals[i].what += note
	}
	return goals
}

func redisGetGoals(ctx string) []goal {
	get := func(goroutines, who string) string { return "RedisGet/" + goroutines + "/" + ctx + "/" + who }
	cached := func(who string) string { return "RedisCached/1/" + ctx + "/" + who }
	return []goal{
		{
			"R1", "Get", "Get, 1 goroutine: time against go-redis Get", "%.2f ×", 1.10, true,
			faster(get("1", "go-redis"), get("1", "kv")),
		}, {
			"R2", "64 / go-redis", "Get, 64 goroutines, against go-redis Get", "%.1f ×", 3, false,
			faster(get("64", "kv"), get("64", "go-redis")),
		}, {
			"R2", "64 / rueidis", "the same, against rueidis Do", "%.1f ×", 1.3, false,
			faster(get("64", "kv"), get("64", "rueidis")),
		}, {
			"R3", "512 / go-redis", "Get, 512 goroutines, against go-redis Get", "%.1f ×", 4.5, false,
			faster(get("512", "kv"), get("512", "go-redis")),
		}, {
			"R3", "512 / rueidis", "the same, against rueidis Do", "%.1f ×", 1.5, false,
			faster(get("512", "kv"), get("512", "rueidis")),
		}, {
			"R4", "cached / go-redis", "Get of what the client's cache has, against go-redis Get", "%.0f ×", 10, false,
			faster(cached("kv"), cached("go-redis")),
		}, {
			"R4", "cached / DoCache", "the same, against rueidis DoCache", "%.2f ×", 1, false,
			faster(cached("kv"), cached("rueidis-DoCache")),
		}, {
			"R8", "40 readers / Python", "40 readers, against 40 in Python", "%.1f ×", 10, false,
			rate(get("40", "kv"), 1, pythonReaders),
		}, {
			"R8", "Get / Python", "one Get after another, against Python", "%.1f ×", 2, false,
			rate(get("1", "kv"), 1, pythonGet),
		},
	}
}

func redisBatchGoals(ctx string) []goal {
	forever := func(who string) string { return "RedisUpsert/forever/" + ctx + "/" + who }
	ttl := func(who string) string { return "RedisUpsert/ttl/" + ctx + "/" + who }
	many := func(who string) string { return "RedisGetMany/" + ctx + "/" + who }
	memory := func(r *results, count string) float64 {
		return r.median("RedisMemory/"+count+"/"+ctx+"/kv", "peak-bytes")
	}
	return []goal{
		{
			"R5", "Upsert", "Upsert of 10,000, no TTL, against pipelined SET of 1,000", "%.2f ×", 1.5, false,
			faster(forever("kv"), forever("go-redis")),
		}, {
			"R6", "Upsert, TTL", "Upsert of 10,000, TTL, against pipelined SET EX of 1,000", "%.2f ×", 0.95, false,
			faster(ttl("kv"), ttl("go-redis")),
		}, {
			"R7", "GetMany / GET", "GetMany of 10,000, against pipelined GET of 1,000", "%.2f ×", 1.25, false,
			faster(many("kv"), many("go-redis")),
		}, {
			"R7", "GetMany / MGET", "the same, against MGET of rueidis", "%.2f ×", 0.95, false,
			faster(many("kv"), many("rueidis")),
		}, {
			"R8", "Upsert / Python", "Upsert of 10,000, against Python's upsert", "%.1f ×", 10, false,
			rate(forever("kv"), 10_000, pythonUpsert),
		}, {
			"R8", "GetMany / Python", "GetMany of 10,000, against Python's get_by_ids", "%.1f ×", 10, false,
			rate(many("kv"), 10_000, pythonGetMany),
		}, {
			"R9", "memory", "live heap of an Upsert of 1,000,000 beside its items, against 100,000", "%.2f ×", 1.5, true,
			func(r *results) float64 { return memory(r, "1000000") / memory(r, "100000") },
		},
	}
}

// rate returns how many times a rate per second ours is, of that many keys an
// operation.
func rate(ours string, keys, peer float64) func(*results) float64 {
	return func(r *results) float64 { return keys / r.seconds(ours) / peer }
}
