package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// recover reads the document file, the times to live and the journals. It
// changes nothing unless it has the lock; then it removes what a crash left
// half made, and cuts the torn end off the last journal.
func (e *jsonEngine) recover(ctx context.Context) error {
	const attempts = 5 // A writer may compact while a reader looks.
	for attempt := 1; ; attempt++ {
		err := e.load(ctx)
		if err == nil || !e.readonly || attempt == attempts || ctx.Err() != nil ||
			!errors.Is(err, ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		e.reset()
	}
}

// reset forgets what load has read.
func (e *jsonEngine) reset() {
	if e.snapshot.segment != nil {
		_ = e.snapshot.release()
	}
	for _, j := range e.journals {
		_ = j.release()
	}
	e.snapshot, e.journals, e.index = snapshot{}, nil, newIndex()
}

func (e *jsonEngine) load(ctx context.Context) error {
	names, err := e.files.List()
	if err != nil {
		return fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	if !e.readonly {
		for _, name := range []string{e.names.document(), e.names.ttl()} {
			if err := ignoreMissing(e.files.Remove(e.names.temp(name))); err != nil {
				return err
			}
		}
	}
	// The journals first: a compaction that comes between makes them newer
	// than the document file, never older.
	logs, err := e.openJournals(e.names.journals(names))
	if err != nil {
		return err
	}
	if err := e.readDocument(ctx); err != nil {
		return err
	}
	if err := e.readTTLs(); err != nil {
		return err
	}
	return e.replay(ctx, logs)
}

// readDocument streams the document file into the index.
func (e *jsonEngine) readDocument(ctx context.Context) error {
	name := e.names.document()
	file, err := e.files.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	segment := newSegment(file, name)
	e.snapshot.segment = segment
	if e.snapshot.info, err = file.Stat(); err != nil {
		return err
	}
	src := &summing{src: io.NewSectionReader(file, 0, 1<<62)}
	members := jsonscan.NewSizedReader(src, maxDepth, e.snapshot.info.Size())
	repeats, foreign := 0, 0
	for n := 0; ; n++ {
		m, err := members.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n%1024 == 0 {
			err = ctx.Err()
		}
		if err == nil && int64(len(m.Value)) > limitMaxValueBytes {
			err = fmt.Errorf("%w: %s: a value of %d bytes at offset %d", ErrCorrupt, e.path(name), len(m.Value), m.Offset)
		}
		if err != nil {
			return e.badDocument(err)
		}
		if _, again := e.index.position[string(m.Name)]; again {
			repeats++
		}
		if m.Err != nil {
			foreign++
		}
		e.index.put(documentOf(segment, m, 0))
	}
	e.snapshot.identity = identity{true, src.size, src.sum}
	e.snapshotBytes.Store(src.size)
	if repeats > 0 {
		e.logger.Warn("kv: ids stand more than once in the document file; the last of each counts", "file", e.path(name), "repeats", repeats)
	}
	if foreign > 0 {
		e.logger.Warn("kv: values in the document file are not JSON (NaN, for instance) and cannot be read", "file", e.path(name), "values", foreign)
	}
	return nil
}

// documentOf is the index's entry for a member that was read from base on.
func documentOf(s *segment, m jsonscan.Member, base int64) doc {
	at := place{s, base + m.Offset, uint32(len(m.Value)), wal.Sum(m.Value)}
	return doc{id: string(m.Name), place: at, foreign: m.Err != nil}
}

// badDocument says what is wrong with the document file, and what to do.
func (e *jsonEngine) badDocument(err error) error {
	var syntax *jsonscan.Error
	if !errors.As(err, &syntax) {
		return err
	}
	return fmt.Errorf("%w: %s is not a JSON object of documents: %w; the file was not touched: "+
		"mend it, restore a copy, or salvage what is sound with kv repair %s", ErrCorrupt, e.path(e.names.document()), syntax, string(e.names))
}

// A summing reader takes the identity of what passes through it.
type summing struct {
	src  io.Reader
	size int64
	sum  uint32
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	s.size += int64(n)
	s.sum = wal.Extend(s.sum, p[:n])
	return n, err
}

// readTTLs gives documents of the snapshot their expiry. An entry whose value
// another program has replaced no longer counts.
func (e *jsonEngine) readTTLs() error {
	name := e.names.ttl()
	file, err := e.files.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	e.ttlFile = true
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	log := wal.NewReader(file, info.Size(), journalHeaderSize, saltOf(ttlKind))
	_, err = log.Header()
	for err == nil {
		var r wal.Record
		if r, err = log.Next(); err != nil {
			break
		}
		id, expires, sum, ok := decodeTTL(r.Payload)
		if !ok {
			err = &wal.Damage{Offset: r.Offset, Reason: "an unknown record"}
			break
		}
		err = e.expire(id, expires, sum)
	}
	var damage *wal.Damage
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &damage):
		return fmt.Errorf("%w: %s: %w; move it away to keep its documents for ever", ErrCorrupt, e.path(name), damage)
	}
	return err
}

func (e *jsonEngine) expire(id string, expires int64, sum uint32) error {
	at, ok := e.index.position[id]
	if !ok {
		return nil
	}
	d := e.index.docs[at]
	value, err := e.readRaw(d, nil)
	if err != nil || wal.Sum(jsonscan.AppendCompact(nil, value)) != sum {
		return err
	}
	d.expires = expires
	e.index.put(d)
	return nil
}

// A journalLog is a journal as it is found when opening.
type journalLog struct {
	*journal
	header  journalHeader
	commits []identity // snapshots that it announces
	data    bool       // it has other records
	damage  *wal.Damage
}

// openJournals opens and checks all journals, and puts them into e.journals.
func (e *jsonEngine) openJournals(generations []uint64) ([]*journalLog, error) {
	var logs []*journalLog
	for i, g := range generations {
		flag := os.O_RDWR
		if e.readonly {
			flag = os.O_RDONLY
		}
		name := e.names.journal(g)
		file, err := e.files.OpenFile(name, flag, 0)
		if err != nil {
			return nil, err
		}
		l := &journalLog{journal: &journal{segment: newSegment(file, name), generation: g}}
		e.journals = append(e.journals, l.journal)
		if err := e.scanJournal(l); err != nil {
			return nil, err
		}
		// A crash while it was made leaves a journal without a header, in
		// which nothing was ever acknowledged.
		if l.damage != nil && l.damage.Torn && l.damage.Offset == 0 && i == len(generations)-1 {
			e.journals = e.journals[:i]
			return logs, errors.Join(l.release(), e.removeUnlessReadonly(name))
		}
		logs = append(logs, l)
	}
	return logs, nil
}

func (e *jsonEngine) removeUnlessReadonly(name string) error {
	if e.readonly {
		return nil
	}
	return errors.Join(e.files.Remove(name), e.files.Sync())
}

// scanJournal reads a journal once, to learn what is in it and where it is
// damaged.
func (e *jsonEngine) scanJournal(l *journalLog) error {
	err := e.eachEntry(l, func(en entry) error {
		if en.op == opCommit {
			l.commits = append(l.commits, en.commit)
		} else {
			l.data = true
		}
		return nil
	})
	if errors.As(err, &l.damage) {
		l.data = l.data || !l.damage.Torn // What cannot be read may be data.
		return nil
	}
	return err
}

// eachEntry calls visit for the entries of a journal. Damage is a
// [*wal.Damage].
func (e *jsonEngine) eachEntry(l *journalLog, visit func(entry) error) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	log := wal.NewReader(l.file, info.Size(), journalHeaderSize, saltOf(journalKind))
	head, err := log.Header()
	if err != nil {
		return err
	}
	l.header = readJournalHeader(head.Payload)
	l.salt = l.header.salt
	for {
		l.end = log.At()
		r, err := log.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		en, ok := decodeEntry(r)
		if !ok {
			return &wal.Damage{Offset: r.Offset, Reason: "a record of an unknown kind"}
		}
		if err := visit(en); err != nil {
			return err
		}
	}
}

// replay applies the journals that the document file does not have yet.
func (e *jsonEngine) replay(ctx context.Context, logs []*journalLog) error {
	if len(logs) == 0 {
		return nil
	}
	from, err := e.firstToReplay(logs)
	if err != nil {
		return err
	}
	for i, l := range logs {
		if i < from {
			continue // The document file has all of it, so that damage does not matter.
		}
		if err := e.checkDamage(l, logs[i+1:]); err != nil {
			return err
		}
		if i > from && l.generation != logs[i-1].generation+1 {
			return fmt.Errorf("%w: the journal before %s is missing, and with it acknowledged writes; "+
				"put it back, or go on with what there is by kv repair %s", ErrCorrupt, e.path(l.name), string(e.names))
		}
		if err := e.applyJournal(ctx, l); err != nil {
			return err
		}
	}
	if e.readonly {
		for _, l := range logs[from:] {
			e.journalBytes.Add(l.end)
		}
		return nil
	}
	return e.resume(logs, from)
}

// firstToReplay finds the journal that continues the document file: the last
// that announced it, or the first, if it began with it.
func (e *jsonEngine) firstToReplay(logs []*journalLog) (int, error) {
	have := e.snapshot.identity
	for i := len(logs) - 1; i >= 0; i-- {
		for _, announced := range logs[i].commits {
			if announced == have {
				return i, nil
			}
		}
	}
	if h := logs[0].header; !h.compacts && h.continues == have {
		return 0, nil
	}
	empty := true
	var wants []string
	for _, l := range logs {
		empty = empty && !l.data
		if !l.header.compacts {
			wants = append(wants, l.header.continues.String())
		}
		for _, announced := range l.commits {
			wants = append(wants, announced.String())
		}
	}
	if empty { // Nothing is pending, so the file may be anybody's.
		return len(logs), nil
	}
	return 0, fmt.Errorf("%w: %s has %s, but the writes in %s continue %s: another program changed the file while they were pending. "+
		"Put the file back as it was, or move the journal away and lose the writes in it, or put them on top of the file with kv repair %s",
		ErrCorrupt, e.path(e.names.document()), have, e.path(logs[0].name), strings.Join(wants, " or "), string(e.names))
}

// checkDamage accepts a torn end with nothing behind it, which is what a
// crash leaves, and nothing else.
func (e *jsonEngine) checkDamage(l *journalLog, later []*journalLog) error {
	if l.damage == nil {
		return nil
	}
	torn := l.damage.Torn && l.damage.Offset > 0
	for _, other := range later {
		torn = torn && !other.data
	}
	if !torn {
		return fmt.Errorf("%w: %s: %w; nothing was changed: restore a copy, or salvage what is sound with kv repair %s",
			ErrCorrupt, e.path(l.name), l.damage, string(e.names))
	}
	return e.cut(l)
}

// cut removes a torn end, after it has been copied to a file beside it.
func (e *jsonEngine) cut(l *journalLog) error {
	if e.readonly {
		return nil
	}
	aside := l.name + ".torn"
	e.logger.Warn("kv: the journal ends in the middle of a record, as after a crash; the end was cut off and kept aside",
		"file", e.path(l.name), "offset", l.damage.Offset, "bytes", l.damage.Cut, "aside", e.path(aside))
	if err := e.copyAside(aside, l.file, l.damage); err != nil {
		return err
	}
	if err := l.file.Truncate(l.damage.Offset); err != nil {
		return err
	}
	return l.file.Sync()
}

// copyAside copies what is about to be cut off. Unless every write was
// synced, there may be some in it that were acknowledged.
func (e *jsonEngine) copyAside(name string, src io.ReaderAt, d *wal.Damage) error {
	f, err := e.files.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(f, 0), io.NewSectionReader(src, d.Offset, d.Cut))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return e.files.Sync()
}

func (e *jsonEngine) applyJournal(ctx context.Context, l *journalLog) error {
	n := 0
	err := e.eachEntry(l, func(en entry) error {
		if n++; n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		e.index.apply(en.change(l.segment))
		return nil
	})
	if damage := (*wal.Damage)(nil); errors.As(err, &damage) && e.readonly {
		return nil // The torn end, which a reader leaves where it is.
	}
	return err
}

// resume makes the engine go on where the journals end. Those that the
// document file has made superfluous are removed.
func (e *jsonEngine) resume(logs []*journalLog, from int) error {
	for _, l := range logs {
		e.journalBytes.Add(l.end)
	}
	if from > 0 {
		if err := e.removeJournals(logs[from-1].generation); err != nil {
			return err
		}
	}
	if from == len(logs) {
		return nil
	}
	last := logs[len(logs)-1]
	e.commits.encoder = wal.NewEncoder(last.salt)
	e.commits.active = last.journal
	for _, l := range logs[from:] {
		// The process before this one may have died before it synced. What is
		// seen from now on must not be lost, and a journal that others follow
		// must not be torn.
		if err := l.file.Sync(); err != nil {
			return err
		}
		l.resumeAt(l.end)
		if l.data {
			e.commits.pending.Add(1)
		}
	}
	e.stale = len(logs)-from > 1
	return nil
}
