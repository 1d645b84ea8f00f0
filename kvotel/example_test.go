package kvotel_test

import (
	"context"
	"log"

	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvotel"
)

// Spans of the calls, and below them those of the Redis client, without its
// statements, which hold ids and values.
func ExampleWrap() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true, MaxRetries: -1})
	defer func() { _ = client.Close() }()
	if err := redisotel.InstrumentTracing(client, redisotel.WithDBStatement(false)); err != nil {
		log.Fatal(err)
	}
	store, err := kv.Open(context.Background(), kv.Config{Backend: "redis"}, "full_docs", kv.WithRedisClient(client))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	store = kvotel.Wrap(store)
	_, _ = store.Get(context.Background(), "doc-1")
}
