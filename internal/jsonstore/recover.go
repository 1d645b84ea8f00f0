package jsonstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/wal"
)

// A journalLog is a journal as it is found when opening.
type journalLog struct {
	*journal
	header  journalHeader
	commits []identity // snapshots that it announces
	data    bool       // it has other records
	synced  bool       // it says that the journals before it were synced
	ends    bool       // its last record says that all of it was
	damage  *wal.Damage
}

// recover reads the files, as often as somebody who only reads may have to.
func (e *Engine) recover(ctx context.Context) error {
	c := <-e.compactor
	defer c.yield()
	const attempts = 5 // A writer may compact while a reader looks.
	for attempt := 1; ; attempt++ {
		err := c.load(ctx)
		if err == nil || !e.readonly || attempt == attempts || ctx.Err() != nil ||
			!errors.Is(err, fault.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		c.reset()
	}
}

// reset forgets what load has read.
func (c *compactor) reset() {
	e := c.engine
	if c.snapshot.segment != nil {
		_ = c.snapshot.release()
	}
	for _, j := range e.journals {
		_ = j.release()
	}
	c.snapshot, e.journals, e.index = snapshot{}, nil, newIndex()
}

// load finds what was acknowledged. It changes nothing unless it has the lock.
func (c *compactor) load(ctx context.Context) error {
	e := c.engine
	names, err := e.files.List()
	if err != nil {
		return fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}

	// 1. What a crash left half made goes.
	if !e.readonly {
		for _, name := range []string{e.names.document(), e.names.ttl(), e.names.replacement()} {
			if err := ignoreMissing(e.files.Remove(tempName(name))); err != nil {
				return err
			}
		}
	}

	// 2. The journals are opened and read once, to learn what is in them and
	// where they are damaged. They come first: a compaction that comes between
	// makes them newer than the document file, never older.
	logs, err := e.openJournals(e.names.journals(names))
	if err != nil {
		return err
	}

	// 3. The document file, and the times to live of what is in it.
	if err := c.readDocument(ctx); err != nil {
		return err
	}
	e.commits.continues = c.snapshot.identity
	if err := c.readTTLs(); err != nil || len(logs) == 0 {
		return err
	}

	// 4. The writes that it does not have yet.
	from, err := c.replay(ctx, logs)
	if err != nil {
		return err
	}

	// 5. Writing goes on where the journals end, and those that the document
	// file has made superfluous are removed.
	if e.readonly {
		for _, l := range logs[from:] {
			e.journalBytes.Add(l.end)
		}
		return nil
	}
	return c.resume(logs, from)
}

// openJournals opens and checks all journals, and puts them into e.journals.
func (e *Engine) openJournals(generations []uint64) ([]*journalLog, error) {
	var logs []*journalLog
	for i, g := range generations {
		flag := os.O_RDWR
		if e.readonly {
			flag = os.O_RDONLY
		}
		l, err := e.openJournal(g, flag)
		if err != nil {
			return nil, err
		}
		if err := l.scan(); err != nil {
			return nil, err
		}
		// A crash while it was made leaves a journal without a header, in
		// which nothing was ever acknowledged.
		if l.damage != nil && l.damage.Torn && l.damage.Offset == 0 && i == len(generations)-1 {
			e.journals = e.journals[:i]
			return logs, errors.Join(l.release(), e.removeUnlessReadonly(l.name))
		}
		logs = append(logs, l)
	}
	return logs, nil
}

// openJournal opens a journal and puts it into e.journals.
func (e *Engine) openJournal(generation uint64, flag int) (*journalLog, error) {
	file, err := e.files.OpenFile(e.names.journal(generation), flag, 0)
	if err != nil {
		return nil, err
	}
	l := &journalLog{journal: e.newJournal(file, generation, 0)}
	e.journals = append(e.journals, l.journal)
	return l, nil
}

func (e *Engine) removeUnlessReadonly(name string) error {
	if e.readonly {
		return nil
	}
	return errors.Join(e.files.Remove(name), e.files.Sync())
}

// scan reads a journal once, to learn what is in it and where it is damaged.
func (l *journalLog) scan() error {
	err := l.each(nil, func(en entry) error {
		l.ends = false
		switch {
		case en.op == opCommit && en.commit == syncMark:
			l.synced, l.ends = true, true
		case en.op == opCommit:
			l.commits = append(l.commits, en.commit)
		default:
			l.data, l.synced = true, true
		}
		return nil
	})
	if errors.As(err, &l.damage) {
		l.data = l.data || !l.damage.Torn // What cannot be read may be data.
		l.synced = l.synced || l.data
		return nil
	}
	return err
}

// each calls visit for the entries of a journal. It ends with [*wal.Damage] at
// what is damaged, unless there is something behind that, and past wants it.
func (l *journalLog) each(past func(*wal.Damage) bool, visit func(entry) error) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	l.info = info
	log := readJournal(l.file, info.Size())
	head, err := log.Header()
	if err == nil {
		l.header = readJournalHeader(head.Payload)
		l.log = wal.NewEncoder(l.header.salt)
	}
	for ; ; err = nil {
		var r wal.Record
		if err == nil {
			l.end = log.At()
			r, err = log.Next()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			en, ok := decodeEntry(r)
			if ok {
				if err := visit(en); err != nil {
					return err
				}
				continue
			}
			err = &wal.Damage{Offset: r.Offset, Next: log.At(), Reason: "a record of an unknown kind"}
		}
		damage := (*wal.Damage)(nil)
		if past == nil || !errors.As(err, &damage) || !past(damage) {
			return err
		}
		log.Skip(damage)
	}
}

// firstToReplay finds the journal that continues the document file: the last
// that announced it, or the first, if it began with it.
func (c *compactor) firstToReplay(logs []*journalLog) (int, error) {
	e, have := c.engine, c.snapshot.identity
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
		fault.ErrCorrupt, e.path(e.names.document()), have, e.path(logs[0].name), strings.Join(wants, " or "), string(e.names))
}

// replay applies the journals that the document file does not have yet, and
// returns which is the first. The document file has all of those before, so
// that damage in them does not matter.
func (c *compactor) replay(ctx context.Context, logs []*journalLog) (from int, err error) {
	e := c.engine
	if from, err = c.firstToReplay(logs); err != nil {
		return 0, err
	}
	for i, l := range logs[from:] {
		if err := e.checkDamage(l, logs[from+i+1:]); err != nil {
			return 0, err
		}
		if i > 0 && l.generation != logs[from+i-1].generation+1 {
			return 0, fmt.Errorf("%w: the journal before %s is missing, and with it acknowledged writes; "+
				"put it back, or go on with what there is by kv repair %s", fault.ErrCorrupt, e.path(l.name), string(e.names))
		}
		if err := e.applyJournal(ctx, l); err != nil {
			return 0, err
		}
	}
	return from, nil
}

// checkDamage accepts a torn end with nothing behind it, which is what a
// crash leaves, and nothing else.
func (e *Engine) checkDamage(l *journalLog, later []*journalLog) error {
	if l.damage == nil {
		return nil
	}
	torn := l.damage.Torn && l.damage.Offset > 0
	for _, other := range later {
		torn = torn && !other.synced
	}
	if !torn {
		return fmt.Errorf("%w: %s: %w; nothing was changed: restore a copy, or salvage what is sound with kv repair %s",
			fault.ErrCorrupt, e.path(l.name), l.damage, string(e.names))
	}
	return e.cut(l)
}

// cut removes a torn end, after it has been copied to a file beside it.
func (e *Engine) cut(l *journalLog) error {
	if e.readonly {
		return nil
	}
	aside := l.name + tornMark
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
func (e *Engine) copyAside(name string, src io.ReaderAt, d *wal.Damage) error {
	if err := copyPart(e.files, src, d.Offset, d.Cut, name, os.O_TRUNC); err != nil {
		return err
	}
	return e.files.Sync()
}

func (e *Engine) applyJournal(ctx context.Context, l *journalLog) error {
	err := l.each(nil, e.applyEntry(ctx, l))
	if damage := (*wal.Damage)(nil); errors.As(err, &damage) && e.readonly {
		return nil // The torn end, which a reader leaves where it is.
	}
	return err
}

// applyEntry returns what puts the entries of a journal into the index.
func (e *Engine) applyEntry(ctx context.Context, l *journalLog) func(entry) error {
	n := 0
	return func(en entry) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		at := place{l.segment, en.valueAt, uint32(len(en.value)), wal.Sum(en.value)}
		e.index.apply(change{en.op, doc{id: string(en.id), expires: en.expires, place: at}})
		return nil
	}
}

// resume makes the engine go on where the journals end.
func (c *compactor) resume(logs []*journalLog, from int) error {
	e := c.engine
	for _, l := range logs {
		e.journalBytes.Add(l.end)
	}
	if from > 0 {
		if err := c.removeJournals(logs[from-1].generation); err != nil {
			return err
		}
	}
	if from == len(logs) {
		return nil
	}
	for _, l := range logs[from:] {
		// The process before this one may have died before it synced. What is
		// seen from now on must not be lost, and a journal that others follow
		// must not be torn.
		if err := l.file.Sync(); err != nil {
			return err
		}
		l.resumeAt(l.end)
		if l.data {
			l.pending.Add(1)
		}
		l.announced = len(l.commits) > 0
	}
	// The next tick says that the end is on the disk. Nothing does before the
	// first write: if the process before this one saw an fsync fail, the one
	// above proves nothing.
	last := logs[len(logs)-1]
	last.unmarked = last.data && !last.ends
	return nil
}
