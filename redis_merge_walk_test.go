package kv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
)

func (w *walk) cfg() kv.Config {
	cfg := kv.Config{Backend: "redis", WorkingDir: w.dir}
	if w.fleeting {
		cfg.TTL = map[string]time.Duration{w.space: time.Hour}
	}
	return cfg
}

func (w *walk) openFiles() kv.Store {
	s, err := kv.Open(w.t.Context(), kv.Config{WorkingDir: w.dir, JSON: kv.JSONConfig{Fsync: "no"}}, w.space, quietly())
	require.NoError(w.t, err, w.steps)
	return s
}

// openRedis opens the namespace there; import is what the variable says.
func (w *walk) openRedis(ctx context.Context, imports bool) (kv.Store, error) {
	cfg := w.cfg()
	cfg.NoMigrate = !imports
	return kv.Open(ctx, cfg, w.space, kv.WithRedisClient(w.client), quietly())
}

func (w *walk) id() string { return fmt.Sprint("id-", w.rand.IntN(7)) }

func (w *walk) value() string {
	w.next++
	return fmt.Sprintf(`{"n":%d}`, w.next)
}

// use has the service do something on the side where it is.
func (w *walk) use(do func(s kv.Store, docs map[string]walkDoc)) {
	if w.onRed {
		s, err := w.openRedis(w.t.Context(), false)
		require.NoError(w.t, err)
		do(s, w.redis)
		require.NoError(w.t, s.Close())
		return
	}
	s := w.openFiles()
	do(s, w.files)
	require.NoError(w.t, s.Close())
}

func (w *walk) write() {
	w.use(func(s kv.Store, docs map[string]walkDoc) {
		id, d := w.id(), walkDoc{w.value(), w.rand.IntN(4) == 0}
		ttl := time.Duration(0)
		if d.lives {
			ttl = time.Hour
		}
		require.NoError(w.t, s.(kv.Expirer).UpsertTTL(w.t.Context(), map[string]json.RawMessage{id: json.RawMessage(d.value)}, ttl))
		docs[id] = d
	})
}

func (w *walk) delete() {
	w.use(func(s kv.Store, docs map[string]walkDoc) {
		id := w.id()
		_, err := s.Delete(w.t.Context(), id)
		require.NoError(w.t, err)
		delete(docs, id)
	})
}

func (w *walk) drop() {
	w.use(func(s kv.Store, docs map[string]walkDoc) {
		require.NoError(w.t, s.Drop(w.t.Context()))
		clear(docs)
	})
}

func (w *walk) key(id string) string { return "nano_graphrag:" + w.space + ":" + id }

// expire lets a document of Redis that has a time to live come to its end.
func (w *walk) expire() {
	for id, d := range w.redis {
		if d.lives {
			require.NoError(w.t, w.client.Del(w.t.Context(), w.key(id)).Err())
			delete(w.redis, id)
			return
		}
	}
}

// pythonKeys writes or removes a key as a Python worker does.
func (w *walk) pythonKeys() {
	id := w.id()
	if w.rand.IntN(3) == 0 {
		require.NoError(w.t, w.client.Del(w.t.Context(), w.key(id)).Err())
		delete(w.redis, id)
		return
	}
	d := walkDoc{value: w.value()}
	require.NoError(w.t, w.client.Set(w.t.Context(), w.key(id), d.value, 0).Err())
	w.redis[id] = d
}

// pythonFile rewrites the document file as Python does, which knows no times to
// live: what has one keeps it as long as its value is the same.
func (w *walk) pythonFile() {
	id := w.id()
	if w.rand.IntN(3) == 0 {
		delete(w.files, id)
	} else {
		w.files[id] = walkDoc{value: w.value()}
	}
	var b strings.Builder
	for i, id := range slices.Sorted(maps.Keys(w.files)) {
		fmt.Fprintf(&b, "%c%q: %s", ",{"[min(1, max(0, 1-i))], id, w.files[id].value)
	}
	if len(w.files) == 0 {
		b.WriteString("{")
	}
	require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, "kv_store_"+w.space+".json"), []byte(b.String()+"}"), 0o600))
}

// touch changes the time of the document file.
func (w *walk) touch() {
	by := time.Hour
	if w.rand.IntN(3) == 0 {
		by = -24 * time.Hour
	}
	age(w.t, w.dir, by)
}

// move goes on with copies of the files, as on another host.
func (w *walk) move() {
	to := w.temp()
	require.NoError(w.t, os.CopyFS(to, os.DirFS(w.dir)))
	w.replace(to)
}

// replace puts a copy of a directory in place of the one that there is.
func (w *walk) replace(from string) {
	require.NoError(w.t, os.RemoveAll(w.dir))
	require.NoError(w.t, os.CopyFS(w.dir, os.DirFS(from)))
}

// temp makes a directory, in memory if there is one: what is tried here is no
// crash of the machine, and syncing takes most of the time.
func (w *walk) temp() string {
	dir, err := os.MkdirTemp("/dev/shm", "kv-walk-")
	if err != nil {
		return w.t.TempDir()
	}
	w.t.Cleanup(func() { require.NoError(w.t, os.RemoveAll(dir)) })
	return dir
}

// keepCopy and oldCopy bring back the files of some time ago.
func (w *walk) keepCopy() {
	to := w.temp()
	require.NoError(w.t, os.CopyFS(to, os.DirFS(w.dir)))
	w.copies = append(w.copies, walkCopy{to, maps.Clone(w.files)})
}

func (w *walk) oldCopy() {
	if len(w.copies) == 0 {
		w.keepCopy()
		return
	}
	c := w.copies[w.rand.IntN(len(w.copies))]
	w.replace(c.dir)
	w.files = maps.Clone(c.files)
}

// keepSnapshot and goBack bring back the server of some time ago, with all that
// it had.
func (w *walk) keepSnapshot() {
	s := walkSnapshot{keys: make(map[string]walkKey), redis: maps.Clone(w.redis), base: maps.Clone(w.base), seen: maps.Clone(w.seen), current: w.current, newest: w.newest}
	for _, key := range w.keys() {
		dump, err := w.client.Dump(w.t.Context(), key).Result()
		require.NoError(w.t, err)
		until, err := w.client.PExpireTime(w.t.Context(), key).Result()
		require.NoError(w.t, err)
		s.keys[key] = walkKey{dump, max(0, until.Milliseconds())}
	}
	w.snapshots = append(w.snapshots, s)
}

func (w *walk) goBack() {
	if len(w.snapshots) == 0 {
		w.keepSnapshot()
		return
	}
	s := w.snapshots[w.rand.IntN(len(w.snapshots))]
	if keys := w.keys(); len(keys) > 0 {
		require.NoError(w.t, w.client.Del(w.t.Context(), keys...).Err())
	}
	for key, k := range s.keys {
		require.NoError(w.t, w.client.Do(w.t.Context(), "restore", key, k.until, k.dump, "absttl").Err())
	}
	w.redis, w.base, w.seen, w.current, w.newest = maps.Clone(s.redis), maps.Clone(s.base), maps.Clone(s.seen), s.current, s.newest
}

func (w *walk) keys() []string {
	return slices.DeleteFunc(testkit.AllKeys(w.t, w.client), func(key string) bool {
		return !strings.Contains(key, ":"+w.space+":") && !strings.Contains(key, ":"+w.space+"}")
	})
}

// killer cancels a context after so many commands.
type killer struct {
	left   atomic.Int64
	cancel context.CancelFunc
}

func (k *killer) hit() {
	if k.left.Add(-1) == 0 {
		k.cancel()
	}
}
func (k *killer) DialHook(next redis.DialHook) redis.DialHook { return next }
func (k *killer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { k.hit(); return next(ctx, cmd) }
}
func (k *killer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { k.hit(); return next(ctx, cmds) }
}

// killed opens on Redis, and dies at some call. Of each document there is then
// what there was or what there will be; nothing else is known.
func (w *walk) killed(k *killer) {
	before, after, header := maps.Clone(w.redis), w.clone(), w.header()
	after.opened()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	k.cancel = cancel
	k.left.Store(1 + w.rand.Int64N(14))
	s, err := w.openRedis(ctx, true)
	k.left.Store(0)
	if err == nil {
		require.NoError(w.t, s.Close())
	}
	require.NoError(w.t, testkit.Await(func() bool {
		return !slices.ContainsFunc(w.keys(), func(key string) bool { return strings.HasPrefix(key, "kv-lease") })
	}))
	now := w.inRedis()
	for id := range union(before, after.redis, now) {
		require.Contains(w.t, []walkDoc{before[id], after.redis[id]}, now[id], "%s %s %v %v", id, w.space, w.sight(id), w.steps[max(0, len(w.steps)-30):])
	}
	if err == nil {
		w.opened()
		return
	}
	// The base is the one of before, or that of after, as the last step of all.
	if w.header() != header {
		w.opened()
		return
	}
	w.redis = now
}

func (w *walk) header() string {
	text, err := w.client.Get(w.t.Context(), "kv-import:{nano_graphrag:"+w.space+"}").Result()
	if err != nil {
		require.ErrorIs(w.t, err, redis.Nil)
	}
	return text
}

func (w *walk) switchToRedis() {
	w.onRed = true
	s, err := w.openRedis(w.t.Context(), true)
	require.NoError(w.t, err, w.steps)
	require.NoError(w.t, s.Close())
	w.opened()
}

// step makes one step at random.
func (w *walk) step(k *killer) {
	steps := []struct {
		name   string
		weight int
		do     func()
	}{
		{"write", 8, w.write},
		{"delete", 4, w.delete},
		{"drop", 1, w.drop},
		{"expire", 2, w.expire},
		{"Python's keys", 2, w.pythonKeys},
		{"Python's file", 2, w.pythonFile},
		{"to Redis", 4, w.switchToRedis},
		{"to files", 3, func() { w.onRed = false }},
		{"migrate to Redis", 2, w.migrateToRedis},
		{"migrate to files", 2, w.migrateToFiles},
		{"touch", 1, w.touch},
		{"move", 1, w.move},
		{"keep a copy", 1, w.keepCopy},
		{"an old copy", 1, w.oldCopy},
		{"keep a snapshot", 1, w.keepSnapshot},
		{"an old snapshot", 1, w.goBack},
		{"killed", 2, func() { w.killed(k) }},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	at := w.rand.IntN(total)
	for _, s := range steps {
		if at -= s.weight; at < 0 {
			w.steps = append(w.steps, s.name)
			s.do()
			return
		}
	}
}
