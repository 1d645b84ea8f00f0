package kv_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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

// content tells one content of the files from another.
func (w *walk) content() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(w.files)) {
		fmt.Fprint(&b, id, w.files[id], "\n")
	}
	return b.String()
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
