package merge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/ngraf/kv/internal/base"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redisstore"
)

// Redis is an engine that can be merged with files.
type Redis interface {
	engine.Engine
	engine.BulkReader
	engine.ServerInformer
	// Exchange makes changes to documents that are what was seen.
	Exchange(ctx context.Context, changes []engine.Change, seen []string) ([]bool, error)
	Record() *redisstore.Record
}

// Files is an engine that can be merged with Redis.
type Files interface {
	engine.Engine
	Documents
	Look() (jsonstore.Look, error)
}

// A Session is the right to merge a namespace, and the base as it is.
type Session struct {
	Head  base.Header
	Known base.Base

	redis   Redis
	tenure  *tenure
	logger  *slog.Logger
	before  servers
	doubted bool // what was written was missing once, and nobody knows why
}

// Begin waits for the right to merge, within ctx, and reads the base.
func Begin(ctx context.Context, redis Redis, logger *slog.Logger) (*Session, error) {
	s := &Session{redis: redis, logger: logger}
	t, err := newTenure(ctx, redis.Record(), logger, func() (bool, error) { return false, nil })
	if err != nil {
		return nil, err
	}
	s.tenure = t
	if s.Head, err = readHeader(ctx, t.record); err == nil {
		err = s.restart(ctx)
	}
	if err != nil {
		s.End()
		return nil, err
	}
	return s, nil
}

// Peek returns a session for who changes nothing.
func Peek(ctx context.Context, redis Redis) (*Session, error) {
	h, known, err := look(ctx, redis)
	return &Session{Head: h, Known: known, redis: redis}, err
}

// End gives the right back.
func (s *Session) End() {
	if s.tenure != nil {
		s.tenure.end()
	}
}

// during calls do with a context that ends with the right.
func (s *Session) during(ctx context.Context, do func(ctx context.Context) error) error {
	if s.tenure == nil {
		return do(ctx)
	}
	return s.tenure.during(do)
}

// restart reads the base anew, and notes in which state the servers are.
func (s *Session) restart(ctx context.Context) (err error) {
	s.before = serversOf(ctx, s.redis)
	if s.Head, err = readHeader(ctx, s.tenure.record); err != nil {
		return err
	}
	s.Known, err = readBase(ctx, s.tenure.record, s.Head)
	return err
}

// readHeader returns the header, which may be of version 1 or empty.
func readHeader(ctx context.Context, record *redisstore.Record) (base.Header, error) {
	text, err := record.Read(ctx)
	if errors.Is(err, fault.ErrNotFound) {
		return base.Header{}, nil
	}
	if err != nil {
		return base.Header{}, err
	}
	h, err := base.ReadHeader(text)
	if err != nil {
		return h, fmt.Errorf("%w: the key %s does not say what files and Redis had in common; when it is removed, the next merge begins anew: "+
			"what was deleted on one side comes back from the other", fault.ErrCorrupt, record.Key)
	}
	if h.Version > base.Version {
		return h, fault.Invalidf("the key %s has version %d, and this version of kv knows %d; use the newer kv", record.Key, h.Version, base.Version)
	}
	return h, nil
}

// readBase returns the base that a header is of.
func readBase(ctx context.Context, record *redisstore.Record, h base.Header) (base.Base, error) {
	if !h.Exists() {
		return nil, nil
	}
	known := make(base.Base, 0, h.Count)
	for _, name := range h.Names() {
		chunk, err := record.Chunk(ctx, name)
		if err == nil {
			known, err = known.Add(chunk)
		}
		if err != nil && !errors.Is(err, fault.ErrNotFound) {
			return nil, err
		}
		if err != nil {
			return nil, damaged(record)
		}
	}
	if len(known) != h.Count {
		return nil, damaged(record)
	}
	return known, nil
}

func damaged(record *redisstore.Record) error {
	return fmt.Errorf("%w: keys that belong to %s are missing, as if the server had evicted them; when it is removed, the next merge begins anew: "+
		"what was deleted on one side comes back from the other", fault.ErrCorrupt, record.Key)
}

// look returns the base as it is.
func look(ctx context.Context, redis Redis) (base.Header, base.Base, error) {
	record := redis.Record()
	for attempt := 1; ; attempt++ {
		h, err := readHeader(ctx, record)
		if err != nil {
			return h, nil, err
		}
		known, err := readBase(ctx, record, h)
		if errors.Is(err, fault.ErrCorrupt) && attempt < 5 {
			continue // Another has swapped it meanwhile.
		}
		return h, known, err
	}
}

// Dealt says which files a base is of.
type Dealt struct {
	Look     jsonstore.Look
	Contents []uint64
	Older    bool // they are an older copy, and the base is that of newer ones
	Ahead    bool // they have what is not in the base yet
}

// IsStrange reports whether files have nothing to do with those that the base is
// of: they are in another directory, and their content was never seen. To bring
// documents there makes a copy beside the files, and no common state.
func (s *Session) IsStrange(look jsonstore.Look, content uint64) bool {
	return s.Head.Exists() && !slices.Contains(s.Head.Home, look.Home) && (!look.There || !s.Head.HasSeen(content))
}

// errUnproven is for a run in which a server restarted or failed over: what it
// acknowledged may be gone.
var errUnproven = fault.Unavailablef("a server of Redis restarted or failed over meanwhile, and may have lost what it had acknowledged; do it again")

// Write replaces the base, and says which files have been dealt with. It is
// written after all that it tells of, and not if a server was another one in
// the beginning: the error is errUnproven then.
func (s *Session) Write(next []base.Entry, dealt Dealt) error {
	h := s.Head
	stale := h.Names()
	if !h.Exists() {
		h.Imports, stale = nil, nil
	}
	h.Generation = strconv.FormatUint(rand.Uint64(), 36)
	known := base.Sorted(next)
	h.Chunks, h.Count = 0, len(known)
	for chunk := range known.Chunks() {
		name := h.Generation + ":" + strconv.Itoa(h.Chunks)
		h.Chunks++
		if err := s.tenure.during(func(ctx context.Context) error { return s.tenure.record.Save(ctx, name, chunk) }); err != nil {
			return err
		}
	}
	if err := s.swap(h, dealt, stale); err != nil {
		return err
	}
	s.Known = known
	return nil
}

// Note says only which files have been dealt with.
func (s *Session) Note(dealt Dealt) error { return s.swap(s.Head, dealt, nil) }

func (s *Session) swap(h base.Header, dealt Dealt, stale []string) error {
	h.Time = time.Now().UTC().Truncate(time.Millisecond)
	h.Host, _ = os.Hostname()
	if !dealt.Older {
		h.Current, h.Home = dealt.Contents, base.Numbers{dealt.Look.Home}
		newest := dealt.Look.Newest.UTC()
		// What is written next is no older copy, though the clock of the files
		// is coarse and these may come from the future.
		if latest := h.Time.Add(-time.Second); newest.After(latest) {
			newest = latest
		}
		if newest.After(h.Newest) {
			h.Newest = newest
		}
	}
	if !dealt.Ahead {
		h.See(dealt.Contents...)
	}
	if !dealt.Ahead && dealt.Look.Settled() {
		h.Put(dealt.Look.Place, dealt.Look.State)
	}
	return s.tenure.during(func(ctx context.Context) error {
		if !s.before.same(serversOf(ctx, s.redis)) {
			return errUnproven
		}
		done, err := s.tenure.record.Swap(ctx, s.tenure.token, h.Encode(), h.Names(), stale)
		if err == nil && !done {
			return errUnproven // Or the lease was lost, which comes to the same.
		}
		s.Head = h
		s.Head.Version = base.Version
		return err
	})
}

// servers are the roles of the servers, by their run ids.
// It is nil if they do not say.
type servers map[string]string

// serversOf asks the servers who they are. One that does not let us ask is no
// reason to fail.
func serversOf(ctx context.Context, redis Redis) servers {
	infos, err := redis.ServerInfo(ctx)
	if err != nil {
		return nil
	}
	all := make(servers)
	for _, info := range infos {
		if info["run_id"] == "" {
			return nil
		}
		all[info["run_id"]] = info["role"]
	}
	return all
}

// same reports whether the servers are what they were, or one cannot tell.
func (s servers) same(now servers) bool {
	return s == nil || now == nil || maps.Equal(s, now)
}

// Proven calls merge, which writes the base in the end, until no server was
// restarted and none failed over meanwhile.
func (s *Session) Proven(ctx context.Context, merge func() error) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := merge()
		if !errors.Is(err, errUnproven) || attempt == attempts {
			return err
		}
		_, cancel, err := s.tenure.held()
		if err != nil {
			return err
		}
		cancel()
		s.logger.WarnContext(ctx, "kv: Redis was restarted or failed over while the files were brought into it; beginning anew")
		if err := s.restart(ctx); err != nil {
			return err
		}
	}
}

// lost returns how many of ids are not there, of those that were written.
func lost(ctx context.Context, redis Redis, ids []string) (n int, err error) {
	for part := range slices.Chunk(ids, 10_000) {
		present, err := redis.Present(ctx, part)
		if err != nil {
			return n, err
		}
		for _, there := range present {
			if !there {
				n++
			}
		}
	}
	return n, nil
}
