// Command archpicture draws the packages of this repository as they import
// each other, and the ways of four calls through them: docs/architecture.svg.
// Run it at the top of the repository.
package main

import (
	"fmt"
	"os"
)

func main() {
	svg, err := picture(".")
	if err == nil {
		err = os.WriteFile("docs/architecture.svg", svg, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "archpicture:", err)
		os.Exit(1)
	}
}

// A box is a package, what it is about in a few words, and where it stands: on
// which rung, and from where to where.
type box struct {
	name, about string
	rung        int
	from, to    int
}

// boxes are the packages that are drawn. What imports another stands on a
// higher rung.
var boxes = []box{
	{"cmd/kv", "the command", 0, 50, 170},
	{"kvmove", "to move documents", 1, 40, 185},
	{"kvtest", "the contract, as a suite", 1, 197, 347},
	{"kvprom", "Prometheus", 1, 359, 464},
	{"kvotel", "OpenTelemetry", 1, 476, 586},
	{"kvllm", "answers, once", 1, 598, 733},
	{"kvembed", "vectors, once", 1, 745, 880},
	{"kv", "contract, settings, factory; the face of what lies below", 2, 40, 880},
	{"move", "between stores", 3, 50, 160},
	{"firstuse", "files into Redis", 3, 395, 525},
	{"once", "one computes", 3, 735, 835},
	{"jsonstore", "the engine on files", 4, 190, 360},
	{"redisstore", "the engine on Redis", 4, 560, 730},
	{"digest", "sums of documents", 5, 385, 520},
	{"lease", "who computes", 5, 560, 660},
	{"engine", "what an engine is", 6, 430, 555},
	{"health", "findings", 7, 430, 540},
	{"fault", "errors", 8, 430, 540},
	{"quietlog", "a log, once", 8, 780, 880},
	{"wal", "records", 9, 60, 150},
	{"fsys", "files", 9, 180, 280},
	{"flock", "locks", 9, 300, 380},
	{"jsonscan", "JSON as bytes", 9, 395, 540},
	{"units", "times and sizes", 9, 555, 680},
	{"go-redis", "the client", 9, 700, 810},
}

// aside are the packages that are for tests or make something of this
// repository.
var aside = []string{"archpicture", "benchmarks", "crashfs", "dashboard", "enginetest", "leaktest", "llmtest", "monitoring", "redistest", "sdk", "strangers", "testkit", "toxic"}

// A route is the way of a call. Each of its steps is an import.
type route struct {
	name  string
	steps []edge
}

var routes = []route{
	{"Get", []edge{{"kv", "jsonstore"}, {"jsonstore", "fsys"}, {"kv", "redisstore"}, {"redisstore", "go-redis"}}},
	{"Upsert", []edge{{"kv", "jsonstore"}, {"jsonstore", "wal"}, {"jsonstore", "fsys"}, {"kv", "redisstore"}, {"redisstore", "go-redis"}}},
	{"Flush", []edge{{"kv", "jsonstore"}, {"jsonstore", "fsys"}, {"kv", "redisstore"}, {"redisstore", "go-redis"}}},
	{"import", []edge{{"kv", "firstuse"}, {"firstuse", "jsonstore"}, {"jsonstore", "fsys"}, {"firstuse", "redisstore"}, {"redisstore", "go-redis"}}},
}
