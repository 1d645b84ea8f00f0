package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvllm"
)

type demoCmd struct {
	Dir string `arg:"" optional:"" help:"A new or empty directory, which stays. Without it: a temporary one."`
}

func (c *demoCmd) Run(ctx context.Context, a *app) (err error) {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	dir := c.Dir
	if dir == "" && a.flags["STORAGE_WORKING_DIR"] != "" {
		dir = workingDir(cfg)
	}
	cfg.WorkingDir = dir
	if !isJSON(cfg) && dir != "" {
		return failf(exitInvalid, "a directory is for the json backend, and this is %s; leave it out, or say --backend json",
			inEffect(cfg, "STORAGE_KV_BACKEND"))
	}
	if dir == "" { // On Redis, too: nothing may be found in the directory of somebody's service.
		if cfg.WorkingDir, err = os.MkdirTemp("", "kv-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(cfg.WorkingDir)) }()
	} else if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return failf(exitInvalid, "%s is not empty; name a new directory for the demo", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failf(exitInvalid, "cannot use the directory: %v", err)
	}
	// A prefix of its own, so that removing what the demo stored cannot
	// remove anything else.
	cfg.Redis.KeyPrefix = fmt.Sprintf("kv_demo_%08x", rand.Uint32())
	d := &demo{app: a, cfg: cfg, stays: dir != ""}
	return a.within(ctx, d.run)
}

// A demo is one run of kv demo.
type demo struct {
	*app
	cfg     kv.Config
	factory *kv.Factory
	stays   bool // the directory is the user's
	begun   bool // something may have been stored
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) run(ctx context.Context) (err error) {
	start := time.Now()
	if d.factory, err = kv.NewFactory(d.cfg, kv.WithLogger(d.logger())); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.factory.Close()) }()
	if isJSON(d.cfg) {
		d.say("JSON files in %s\n", d.cfg.WorkingDir)
	} else {
		d.say("Redis at %s, keys under %s:\n", inEffect(d.cfg, "REDIS_URL"), d.cfg.Redis.KeyPrefix)
		defer func() { err = errors.Join(err, d.cleanUp(ctx)) }()
	}
	for _, step := range []func(context.Context) error{d.documents, d.reports, d.answers} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	show := d.showKeys
	if isJSON(d.cfg) {
		show = d.showFiles
	}
	if err := show(ctx); err != nil {
		return err
	}
	d.say("\nDone in %v. %s", time.Since(start).Round(time.Millisecond), d.next())
	return nil
}

// next says what to try next.
func (d *demo) next() string {
	switch {
	case !isJSON(d.cfg):
		return "The demo's keys are removed again. The same in files:\n  kv --backend json demo"
	case d.stays:
		return "Look around:\n  kv --dir " + d.cfg.WorkingDir + " ls text_chunks\nThe same on Redis:\n" + onRedis
	}
	return "The directory is removed again; kv demo DIR keeps it. The same on Redis:\n" + onRedis
}

const onRedis = "  STORAGE_KV_BACKEND=redis REDIS_URL=redis://localhost:6379 kv demo"

// documents stores documents and their chunks, and reads them back.
func (d *demo) documents(ctx context.Context) error {
	docs, err := d.factory.Open(ctx, "full_docs")
	if err != nil {
		return err
	}
	d.begun = true
	if err := kv.For[document](docs).Upsert(ctx, demoDocuments()); err != nil {
		return err
	}
	d.say("1. full_docs: stored %d documents", len(demoDocuments()))
	absent, err := docs.Missing(ctx, []string{hashID("doc-", carol), "doc-of-tomorrow"})
	if err != nil {
		return err
	}
	d.say("   of two ids, missing: %s", strings.Join(absent, ", "))

	store, err := d.factory.Open(ctx, "text_chunks")
	if err != nil {
		return err
	}
	chunks := kv.For[chunk](store)
	if err := chunks.Upsert(ctx, demoChunks()); err != nil {
		return err
	}
	back, err := chunks.GetMany(ctx, slices.Collect(maps.Keys(demoChunks()))...)
	if err != nil {
		return err
	}
	d.say("2. text_chunks: stored %d chunks and read them back as Go values:", len(demoChunks()))
	for _, c := range slices.SortedFunc(maps.Values(back), func(a, b chunk) int { return a.ChunkOrderIndex - b.ChunkOrderIndex }) {
		d.say("   chunk %d, %d tokens: %q", c.ChunkOrderIndex, c.Tokens, c.Content)
	}
	return nil
}

// reports stores a community's report, and reads parts of it as they are
// stored.
func (d *demo) reports(ctx context.Context) error {
	store, err := d.factory.Open(ctx, "community_reports")
	if err != nil {
		return err
	}
	if err := kv.For[communityReport](store).Upsert(ctx, map[string]communityReport{"0": demoReport()}); err != nil {
		return err
	}
	values, err := store.GetMany(ctx, []string{"0"}, "title", "nodes")
	if err != nil {
		return err
	}
	d.say("3. community_reports: stored a report; only two of its fields:\n   %s", values[0])
	return nil
}

// answers asks a language model the same twice, by HTTP as an SDK does. The
// second answer is the stored one, which expires.
func (d *demo) answers(ctx context.Context) error {
	store, err := d.factory.Open(ctx, "llm_response_cache")
	if err != nil {
		return err
	}
	client := kvllm.Client(store, demoModel{}, kvllm.Options{Python: true})
	var how []string
	for range 2 {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://model/v1/chat/completions", strings.NewReader(demoRequest))
		if err != nil {
			return err
		}
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		how = append(how, resp.Header.Get(kvllm.HeaderCache))
	}
	id := kvllm.CacheID(demoModelName, []kvllm.Message{{Role: "user", Content: demoQuestion}})
	answer, err := kv.For[kvllm.CachedAnswer](store).Get(ctx, id)
	if err != nil {
		return err
	}
	life := "for ever"
	if expirer, ok := kv.As[kv.Expirer](store); ok {
		left, err := expirer.TTL(ctx, id)
		if err != nil {
			return err
		}
		if left > 0 {
			life = "for " + left.Round(time.Minute).String()
		}
	}
	d.say("4. llm_response_cache: asked a model twice (%s), and paid once; the answer is kept %s:\n   %s: %q",
		strings.Join(how, ", "), life, answer.Model, answer.Return)
	return nil
}

// showFiles lists the files as they are when all is closed.
func (d *demo) showFiles(context.Context) error {
	if err := d.factory.Close(); err != nil {
		return err
	}
	entries, err := os.ReadDir(d.cfg.WorkingDir)
	if err != nil {
		return err
	}
	d.say("\nThe files (lock files left out):")
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); ext != ".json" && ext != ".ttl" {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		d.say("  %6d B  %s", info.Size(), entry.Name())
	}
	const first = "kv_store_text_chunks.json"
	f, err := os.Open(filepath.Join(d.cfg.WorkingDir, first))
	if err != nil {
		return err
	}
	defer f.Close()
	d.say("\n%s begins:", first)
	for lines, n := bufio.NewScanner(f), 0; n < 6 && lines.Scan(); n++ {
		d.say("  %s", lines.Text())
	}
	return nil
}

// demoNamespaces are those that the demo fills.
var demoNamespaces = []string{"full_docs", "text_chunks", "community_reports", "llm_response_cache"}

func (d *demo) showKeys(ctx context.Context) error {
	d.say("\nThe keys:")
	for _, namespace := range demoNamespaces {
		store, err := d.factory.Open(ctx, namespace)
		if err != nil {
			return err
		}
		for id, err := range store.Keys(ctx) {
			if err != nil {
				return err
			}
			d.say("  %s:%s:%s", d.cfg.Redis.KeyPrefix, namespace, id)
		}
	}
	return nil
}

// cleanUp removes the demo's keys, even if the demo was interrupted.
func (d *demo) cleanUp(ctx context.Context) error {
	if !d.begun {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var errs []error
	for _, namespace := range demoNamespaces {
		store, err := d.factory.Open(ctx, namespace)
		if err == nil {
			err = store.Drop(ctx)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keys under %s: may be left: %w", d.cfg.Redis.KeyPrefix, err)
	}
	return nil
}
