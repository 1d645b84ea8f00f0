package kv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvmove"
)

// A walkDoc is a document of the model: its value, which no other write has,
// and whether it has a time to live.
type walkDoc struct {
	value string
	lives bool
}

// A walkEntry is what the model remembers of a document.
type walkEntry struct {
	walkDoc
	brief, open bool
}

// A walk goes back and forth between files and Redis at random, and keeps a
// model beside it: what the files have, what Redis has, and what they had in
// common, in plain values, with the table of docs/migration.md over it.
type walk struct {
	t        *testing.T
	rand     *rand.Rand
	client   *redis.Client
	space    string // the namespace, with the seed
	fleeting bool   // Redis gives a time to live to all that has none
	steps    []string

	dir   string
	onRed bool // the service is on Redis
	next  int

	files, redis map[string]walkDoc
	base         map[string]walkEntry // nil: there is none
	seen         map[string]bool      // contents of files
	current      string
	newest       time.Time // of the files that the base is of
	copies       []walkCopy
	snapshots    []walkSnapshot
	rows         map[string]int
}

// A walkCopy is a directory as it was once.
type walkCopy struct {
	dir   string
	files map[string]walkDoc
}

// A walkSnapshot is what the server had once.
type walkSnapshot struct {
	keys    map[string]walkKey
	redis   map[string]walkDoc
	base    map[string]walkEntry
	seen    map[string]bool
	current string
	newest  time.Time
}

type walkKey struct {
	dump  string
	until int64 // Unix milliseconds, 0 for ever
}

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

// content tells one content of the files from another.
func (w *walk) content() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(w.files)) {
		fmt.Fprint(&b, id, w.files[id], "\n")
	}
	return b.String()
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

func union(all ...map[string]walkDoc) map[string]bool {
	ids := make(map[string]bool)
	for _, docs := range all {
		for id := range docs {
			ids[id] = true
		}
	}
	return ids
}

func (w *walk) clone() *walk {
	c := *w
	c.files, c.redis, c.base, c.seen, c.rows = maps.Clone(w.files), maps.Clone(w.redis), maps.Clone(w.base), maps.Clone(w.seen), make(map[string]int)
	return &c
}

// inRedis and inFiles are what is really there.
func (w *walk) inRedis() map[string]walkDoc {
	docs := make(map[string]walkDoc)
	for _, key := range w.keys() {
		if id, ok := strings.CutPrefix(key, w.key("")); ok {
			value, err := w.client.Get(w.t.Context(), key).Result()
			require.NoError(w.t, err)
			ttl, err := w.client.PTTL(w.t.Context(), key).Result()
			require.NoError(w.t, err)
			docs[id] = walkDoc{value, ttl > 0}
		}
	}
	return docs
}

func (w *walk) inFiles() map[string]walkDoc {
	docs := make(map[string]walkDoc)
	src, err := jsonstore.OpenSource(w.t.Context(), w.dir, w.space, true, false)
	require.NoError(w.t, err)
	for part, err := range src.Documents(w.t.Context()) {
		require.NoError(w.t, err)
		for _, d := range part {
			docs[d.ID] = walkDoc{string(d.Value), d.Expires != 0}
		}
	}
	require.NoError(w.t, src.Close())
	return docs
}

// A sight of a document: what both sides and the base have.
type walkSight struct {
	f, r                                walkDoc
	b                                   walkEntry
	inFile, inRedis, inBase             bool
	fileSame, redisSame, expired, alike bool
}

func (w *walk) sight(id string) (s walkSight) {
	s.f, s.inFile = w.files[id]
	s.r, s.inRedis = w.redis[id]
	s.b, s.inBase = w.base[id]
	s.fileSame = s.inFile && s.inBase && s.f == s.b.walkDoc
	s.redisSame = s.inRedis && s.inBase && s.r.value == s.b.value
	s.expired = s.inBase && !s.inRedis && (w.fleeting || s.b.brief) && (!s.fileSame || !s.f.lives)
	s.alike = s.inFile && s.inRedis && s.f.value == s.r.value
	if s.alike && s.redisSame && !s.fileSame { // Stored anew for another time.
		s.alike = false
	}
	return s
}

// row is the table of docs/migration.md, line by line.
func (s walkSight) row() string {
	switch {
	case !s.inFile && !s.inRedis:
		return "neither"
	case s.alike:
		return "alike"
	case s.inFile && !s.inBase && !s.inRedis:
		return "new | not there"
	case s.inFile && s.expired && (!s.fileSame || s.b.open):
		return "changed | expired"
	case s.inFile && s.b.open:
		return "changed | changed or gone"
	case !s.inFile && s.redisSame:
		return "not there | same"
	case !s.inFile:
		return "Redis wrote"
	case s.fileSame && s.inRedis:
		return "same | any"
	case s.fileSame && s.expired:
		return "same | expired"
	case s.fileSame:
		return "same | gone"
	case s.redisSame:
		return "changed | same"
	}
	return "changed | changed or gone"
}

func (w *walk) ids() map[string]bool {
	ids := union(w.files, w.redis)
	for id := range w.base {
		ids[id] = true
	}
	return ids
}

// toRedis is what opening there and a migration there do. It reports the rows.
func (w *walk) toRedis(opts kvmove.Options) {
	base := make(map[string]walkEntry)
	for id := range w.ids() {
		s := w.sight(id)
		row := s.row()
		w.rows[row]++
		lives := s.f.lives || w.fleeting
		keep := func() {
			if s.inBase {
				base[id] = s.b
			}
		}
		goes := func() {
			w.redis[id] = walkDoc{s.f.value, lives}
			base[id] = walkEntry{s.f, lives, false}
		}
		overwrite := opts.OnConflict == kvmove.Overwrite
		switch {
		case s.fileSame && !s.b.open && !overwrite:
			keep()
		case row == "alike" && overwrite:
			goes()
		case row == "alike":
			base[id] = walkEntry{s.f, lives, false}
		case row == "new | not there" || row == "changed | same" || row == "changed | expired":
			goes()
		case row == "changed | changed or gone" && overwrite:
			goes()
		case row == "changed | changed or gone":
			base[id] = walkEntry{s.f, s.inBase && s.b.brief, opts.OnConflict != kvmove.Keep}
		default:
			keep()
		}
	}
	w.base = base
	w.see()
	w.dealt()
}

// dealt notes that the base is of the files as they are.
func (w *walk) dealt() {
	w.current = w.content()
	at := w.look().Newest
	if latest := time.Now().Add(-time.Second); at.After(latest) {
		at = latest
	}
	if at.After(w.newest) {
		w.newest = at
	}
}

// older reports whether the files are, by their own time.
func (w *walk) older() bool {
	return w.base != nil && w.content() != w.current && w.look().Newest.Before(w.newest)
}

func (w *walk) see() {
	if w.seen == nil {
		w.seen = make(map[string]bool)
	}
	w.seen[w.content()] = true
}

func (w *walk) look() jsonstore.Look {
	l, err := jsonstore.LookAt(w.dir, w.space)
	require.NoError(w.t, err)
	return l
}

// opened is what opening on Redis does.
func (w *walk) opened() {
	switch {
	case !w.look().There || w.base != nil && w.seen[w.content()]:
	case w.older():
	default:
		w.toRedis(kvmove.Options{})
	}
}

func (w *walk) switchToRedis() {
	w.onRed = true
	s, err := w.openRedis(w.t.Context(), true)
	require.NoError(w.t, err, w.steps)
	require.NoError(w.t, s.Close())
	w.opened()
}

func (w *walk) options() kvmove.Options {
	opts := kvmove.Options{OnConflict: []kvmove.OnConflict{kvmove.Skip, kvmove.Skip, kvmove.Overwrite, kvmove.Keep}[w.rand.IntN(4)]}
	opts.Delete = w.rand.IntN(3) == 0
	return opts
}

// migrateToRedis is kv migrate --to redis.
func (w *walk) migrateToRedis() {
	if !w.look().There {
		return
	}
	opts := w.options()
	if w.fleeting {
		opts.TTL = time.Hour
	}
	w.steps = append(w.steps, fmt.Sprint(opts.OnConflict, opts.Delete))
	files := w.openFiles()
	s, err := w.openRedis(w.t.Context(), false)
	require.NoError(w.t, err)
	r, err := kvmove.Migrate(w.t.Context(), s, files, opts)
	require.NoError(w.t, err, w.steps)
	require.NoError(w.t, files.Close())
	require.NoError(w.t, s.Close())
	older := opts.OnConflict != kvmove.Overwrite && (w.older() || w.base != nil && w.content() != w.current && w.seen[w.content()])
	require.Equal(w.t, older, r.Older, w.steps)
	if !older {
		w.toRedis(opts)
	}
	for id, b := range w.base {
		s := w.sight(id)
		switch {
		case s.inFile:
		case !s.inRedis:
			delete(w.base, id)
		case opts.Delete && !older && w.redis[id].value == b.value:
			delete(w.base, id)
			delete(w.redis, id)
		}
	}
}

// migrateToFiles is kv migrate --to json.
func (w *walk) migrateToFiles() {
	opts := w.options()
	w.steps = append(w.steps, fmt.Sprint(opts.OnConflict))
	files := w.openFiles()
	s, err := w.openRedis(w.t.Context(), false)
	require.NoError(w.t, err)
	r, err := kvmove.Migrate(w.t.Context(), files, s, opts)
	require.NoError(w.t, files.Close())
	require.NoError(w.t, s.Close())
	if len(w.redis) == 0 && len(w.files) > 0 {
		require.ErrorIs(w.t, err, kv.ErrInvalid)
		return
	}
	require.NoError(w.t, err, w.steps)
	ahead := false
	base := make(map[string]walkEntry)
	for id := range w.ids() {
		ahead = w.toFile(id, opts, base) || ahead
	}
	w.base = base
	if !ahead {
		w.see()
	}
	w.dealt()
	require.Equal(w.t, ahead, r.AheadInFile+r.Skipped > 0, w.steps)
}

// toFile does it for one document, and reports whether the file is ahead.
func (w *walk) toFile(id string, opts kvmove.Options, base map[string]walkEntry) (ahead bool) {
	s := w.sight(id)
	row := s.row()
	w.rows["to files: "+row]++
	store := func() {
		w.files[id] = s.r
		base[id] = walkEntry{s.r, s.r.lives, false}
	}
	otherTTL := row == "alike" && s.f.lives != s.r.lives
	given := !s.f.lives && (!s.r.lives || s.b.brief)
	switch {
	case otherTTL && (s.fileSame && !given || opts.OnConflict == kvmove.Overwrite):
		store()
	case row == "alike":
		base[id] = walkEntry{s.f, s.r.lives || s.b.brief, false}
	case row == "Redis wrote", row == "same | any", row == "not there | same":
		store()
	case row == "same | gone":
		delete(w.files, id)
	case row == "changed | changed or gone" && opts.OnConflict == kvmove.Overwrite:
		if !s.inRedis {
			delete(w.files, id)
			return false
		}
		store()
	case row == "changed | changed or gone" && opts.OnConflict == kvmove.Keep:
		if s.inRedis {
			base[id] = walkEntry{walkDoc: walkDoc{s.r.value, false}}
		}
		return true
	case row == "neither":
	default:
		if s.inBase {
			base[id] = s.b
		}
		return true
	}
	return false
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

// The promise of switching: random walks between files and Redis, with
// whatever happens to either, lead after each step to exactly what the table
// says. The rows that were met are printed. (Issue 14.)
func TestMergeModel(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	o.MaxRetries, o.ContextTimeoutEnabled = -1, true
	seeds := testkit.Soak("KV_SOAK_MERGE_SEEDS", 200)
	if testkit.Stride() > 1 {
		seeds = 8 // Each has 500 steps.
	}
	var mu sync.Mutex
	rows := make(map[string]int)
	t.Run("walks", func(t *testing.T) {
		const atATime = 4
		for worker := range atATime {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for seed := worker; seed < seeds; seed += atATime {
					met := walkFrom(t, o, seed)
					mu.Lock()
					for row, n := range met {
						rows[row] += n
					}
					mu.Unlock()
				}
			})
		}
	})
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		t.Logf("%7d %s", rows[row], row)
	}
}

// walkFrom walks 500 steps, and returns the rows that were met.
func walkFrom(t *testing.T, o *redis.Options, seed int) map[string]int {
	client := redis.NewClient(o)
	defer client.Close()
	k := new(killer)
	client.AddHook(k)
	w := &walk{
		t: t, rand: rand.New(rand.NewPCG(uint64(seed), 14)), client: client, space: fmt.Sprint("walk", seed), fleeting: seed%3 == 2,
		files: map[string]walkDoc{}, redis: map[string]walkDoc{}, rows: map[string]int{},
	}
	w.dir = w.temp()
	for range 500 {
		w.step(k)
		last := w.steps[max(0, len(w.steps)-30):]
		require.Equal(t, w.redis, w.inRedis(), "Redis, seed %d: %v", seed, last)
		require.Equal(t, w.files, w.inFiles(), "files, seed %d: %v", seed, last)
	}
	for _, key := range w.keys() {
		require.NoError(t, client.Del(t.Context(), key).Err())
	}
	return w.rows
}
