package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvllm"
)

// stores are the namespaces of a service that answers questions about
// documents.
type stores struct {
	docs, chunks, reports, answers kv.Store
}

func open(ctx context.Context, f *kv.Factory) (*stores, error) {
	s := new(stores)
	for namespace, store := range map[string]*kv.Store{
		"full_docs": &s.docs, "text_chunks": &s.chunks, "community_reports": &s.reports, "llm_response_cache": &s.answers,
	} {
		var err error
		if *store, err = f.Open(ctx, namespace); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *stores) all() []kv.Store { return []kv.Store{s.docs, s.chunks, s.reports, s.answers} }

// drop removes what the demo stored. Its keys have a prefix of their own.
func (s *stores) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var errs []error
	for _, store := range s.all() {
		errs = append(errs, store.Drop(ctx))
	}
	return errors.Join(errs...)
}

// load works until ctx is done. What fails is seen in the metrics.
func (s *stores) load(ctx context.Context, workers int) {
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for ctx.Err() == nil {
				s.work(ctx)
				pause(ctx, time.Millisecond)
			}
		})
	}
	running.Go(func() {
		for ctx.Err() == nil {
			for _, store := range s.all() {
				_ = store.Flush(ctx)
			}
			pause(ctx, 5*time.Second)
		}
	})
	running.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

const documents, chunksOf, questions = 500, 8, 20_000

// work is one request to the service: mostly questions.
func (s *stores) work(ctx context.Context) {
	switch n := rand.IntN(1000); {
	case n < 700:
		s.ask(ctx)
	case n < 940:
		s.look(ctx)
	case n < 997:
		s.ingest(ctx)
	case n < 999:
		_, _ = s.docs.Delete(ctx, documentID(rand.IntN(documents)))
	default: // A mistake, to have something to find.
		_ = s.docs.Upsert(ctx, map[string]json.RawMessage{"broken": []byte("{")})
	}
}

// ask answers a question from the cache or, for a while, thinks. Some
// questions are asked much more often than others.
func (s *stores) ask(ctx context.Context) {
	question := fmt.Sprintf("What does document %d say?", int(questions*rand.Float64()*rand.Float64()*rand.Float64()))
	id := kvllm.CacheID("demo", []kvllm.Message{{Role: "user", Content: question}})
	_, _ = kv.For[kvllm.CachedAnswer](s.answers).Compute(ctx, id, func(ctx context.Context) (kvllm.CachedAnswer, error) {
		pause(ctx, time.Duration(5+rand.IntN(15))*time.Millisecond)
		return kvllm.CachedAnswer{Return: text(20), Model: "demo"}, ctx.Err()
	})
}

// look reads the chunks and the report that an answer is made of.
func (s *stores) look(ctx context.Context) {
	doc := rand.IntN(documents)
	_, _ = s.chunks.GetMany(ctx, chunkIDs(doc), "content")
	_, _ = s.reports.Get(ctx, fmt.Sprint(doc%50))
	_, _ = s.docs.Get(ctx, documentID(doc))
}

type chunk struct {
	Content string `json:"content"`
	Tokens  int    `json:"tokens"`
	Of      string `json:"full_doc_id"`
}

// ingest stores a document, unless it is there, and its chunks.
func (s *stores) ingest(ctx context.Context) {
	doc := rand.IntN(documents)
	id := documentID(doc)
	if absent, err := s.docs.Missing(ctx, []string{id}); err != nil || len(absent) == 0 {
		return
	}
	chunks := make(map[string]chunk)
	var whole []string
	for _, id := range chunkIDs(doc) {
		c := chunk{Content: text(50 + rand.IntN(200)), Of: documentID(doc)}
		c.Tokens = len(c.Content) / 4
		chunks[id], whole = c, append(whole, c.Content)
	}
	_ = kv.For[chunk](s.chunks).Upsert(ctx, chunks)
	_ = kv.For[map[string]string](s.docs).Upsert(ctx, map[string]map[string]string{id: {"content": strings.Join(whole, " ")}})
	_ = kv.For[map[string]string](s.reports).Upsert(ctx, map[string]map[string]string{fmt.Sprint(doc % 50): {"report": text(100)}})
}

func documentID(n int) string { return fmt.Sprintf("doc-%04d", n) }

func chunkIDs(doc int) []string {
	ids := make([]string, chunksOf)
	for i := range ids {
		ids[i] = fmt.Sprintf("chunk-%04d-%d", doc, i)
	}
	return ids
}

func text(words int) string {
	var b strings.Builder
	for range words {
		b.WriteString([]string{"graph ", "entity ", "report ", "community ", "the ", "of ", "a "}[rand.IntN(7)])
	}
	return b.String()
}
