package jsonstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// A ttlEntry is a record of the file of times to live: when a document expires,
// or 0 for one that lives for ever though there is a default. Its sum is that of the
// value in compact form, so that it no longer counts once another program has
// put another value under the id.
func appendTTL(b []byte, id string, expires int64, sum uint32) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(expires))
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, id...)
}

func decodeTTL(b []byte) (id string, expires int64, sum uint32, ok bool) {
	if len(b) < 12 {
		return "", 0, 0, false
	}
	return string(b[12:]), int64(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint32(b[8:]), true
}

// readTTLs gives documents of the snapshot their expiry. An entry whose value
// another program has replaced no longer counts.
func (e *Engine) readTTLs() error {
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
		return fmt.Errorf("%w: %s: %w; move it away to keep its documents for ever", fault.ErrCorrupt, e.path(name), damage)
	}
	return err
}

func (e *Engine) expire(id string, expires int64, sum uint32) error {
	at, ok := e.index.position[id]
	if !ok {
		return nil
	}
	d := e.index.docs[at]
	value, err := e.readRaw(d, nil)
	if err != nil || wal.Sum(jsonscan.AppendCompact(nil, value)) != sum {
		return err
	}
	d.expires, d.lasting = expires, expires == 0
	e.index.put(d)
	return nil
}

// ttl notes how long a document lives, if anything is to be said of it: that of
// one that Python wrote is not known, and a default counts.
func (w *snapshotWriter) ttl(d doc, value []byte) {
	if d.expires == 0 && (!d.lasting || !w.engine.lasting) {
		return
	}
	if len(w.ttls.Buf) == 0 {
		w.ttls.Header(journalHeader{salt: w.ttls.Salt()}.encode(ttlKind))
	}
	w.small = jsonscan.AppendCompact(w.small[:0], value)
	start := w.ttls.Begin()
	w.ttls.Buf = appendTTL(w.ttls.Buf, d.id, d.expires, wal.Sum(w.small))
	w.ttls.End(start)
}

// commitTTLs comes before the document file, and before the record that
// announces it, which may make a journal superfluous though the old document
// file stays, if both are the same. Entries without a document do no harm;
// documents without their entry would live for ever, and those that got a
// value again, without a time to live, would be gone with an old entry.
func (w *snapshotWriter) commitTTLs() error {
	e := w.engine
	if len(w.ttls.Buf) == 0 && !e.ttlFile {
		return nil
	}
	// What the entries are taken from must not be lost when they are not.
	if err := e.syncLast(); err != nil {
		return err
	}
	if len(w.ttls.Buf) == 0 {
		if err := ignoreMissing(e.files.Remove(e.names.ttl())); err != nil {
			return err
		}
		if err := e.files.Sync(); err != nil {
			return err // It may come back, so that the next compaction removes it again.
		}
		e.ttlFile = false
		return nil
	}
	if err := w.writeTTLs(); err != nil {
		return err
	}
	e.ttlFile = true
	return e.files.Sync()
}

func (w *snapshotWriter) writeTTLs() error {
	e := w.engine
	temp := e.names.temp(e.names.ttl())
	f, err := e.files.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(w.ttls.Buf, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = e.files.Rename(temp, e.names.ttl())
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(e.files.Remove(temp)))
	}
	return nil
}
