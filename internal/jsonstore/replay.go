package jsonstore

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// openJournals opens and checks all journals, and puts them into e.journals.
func (e *Engine) openJournals(generations []uint64) ([]*journalLog, error) {
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

func (e *Engine) removeUnlessReadonly(name string) error {
	if e.readonly {
		return nil
	}
	return errors.Join(e.files.Remove(name), e.files.Sync())
}

// scanJournal reads a journal once, to learn what is in it and where it is
// damaged.
func (e *Engine) scanJournal(l *journalLog) error {
	err := e.eachEntry(l, func(en entry) error {
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

// eachEntry calls visit for the entries of a journal. Damage is a
// [*wal.Damage].
func (e *Engine) eachEntry(l *journalLog, visit func(entry) error) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	l.info = info
	log := readJournal(l.file, info.Size())
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
func (e *Engine) replay(ctx context.Context, logs []*journalLog) error {
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
				"put it back, or go on with what there is by kv repair %s", fault.ErrCorrupt, e.path(l.name), string(e.names))
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
func (e *Engine) firstToReplay(logs []*journalLog) (int, error) {
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
		fault.ErrCorrupt, e.path(e.names.document()), have, e.path(logs[0].name), strings.Join(wants, " or "), string(e.names))
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
func (e *Engine) resume(logs []*journalLog, from int) error {
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
			l.pending.Add(1)
		}
		l.announced = len(l.commits) > 0
	}
	// The next tick says that the end is on the disk. Nothing does before the
	// first write: if the process before this one saw an fsync fail, the one
	// above proves nothing.
	last.unmarked = last.data && !last.ends
	return nil
}

// change is what the record does to the index.
func (en entry) change(s *segment) change {
	at := place{s, en.valueAt, uint32(len(en.value)), wal.Sum(en.value)}
	return change{en.op, doc{id: string(en.id), expires: en.expires, place: at}}
}
