package merge

import (
	"context"
	"errors"
	"time"

	"github.com/ngraf/kv/internal/base"
	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redisstore"
)

// A Transfer brings what is due from files into Redis.
type Transfer struct {
	Session  *Session
	Files    Documents
	Index    *Index
	Rule     Rule
	TTL      time.Duration // of documents for which the files have none
	Fleeting bool          // all that is in Redis may expire
	DryRun   bool          // only count
	Lives    bool          // give documents that are alike the file's time to live
	Clock    func() int64  // Unix milliseconds
	Progress func(docs int, bytes int64)

	Counts
	Next []base.Entry // the base afterwards, but for what the files do not have

	written  []string // ids
	spelling digest.Spelling
}

// Counts say what came of the documents.
type Counts struct {
	Stored      int      // that the destination lacked
	Replaced    int      // that it had otherwise
	Same        int      // alike on both sides
	TTLKept     int      // those of Same with another time to live
	Conflicts   int      // left as they are
	ConflictIDs []string // of these, the first 1,000
	Untouched   int      // the files have not changed, so that nobody looked
	Bytes       int64    // of the values that were written
}

// A candidate is a document of the files for which Redis must be asked.
type candidate struct {
	engine.Item
	file   *FileDoc
	known  *base.Mark // nil: it is not in the base
	redis  Sight
	seen   string // the digest of what Redis has
	absent bool
	life   time.Duration // in Redis
}

// ErrConflict is for a conflict at which the rule stops.
var ErrConflict = errors.New("a document with the same id and another value is there; it was left alone, and the copying stopped")

// Run reads the files once more, and writes what is due.
func (t *Transfer) Run(ctx context.Context) error {
	for part, err := range t.Files.Documents(ctx) {
		if err != nil {
			return err
		}
		due, bytes := t.due(part)
		if err := t.settle(ctx, due); err != nil {
			return err
		}
		if t.Progress != nil {
			t.Progress(len(part), bytes)
		}
	}
	return nil
}

// due chooses the documents for which Redis must be asked.
func (t *Transfer) due(part []engine.Stored) (due []*candidate, bytes int64) {
	now := t.Clock()
	for _, d := range part {
		bytes += int64(len(d.Value))
		file := t.Index.Find(base.IDOf(d.ID))
		if file == nil { // It has expired, or was written since.
			continue
		}
		known := t.known(file.ID)
		if file.State == Refused {
			t.keep(known, file.ID)
			continue
		}
		if d.Expires != 0 && d.Expires <= now {
			t.keep(known, file.ID)
			file.State = Over
			continue
		}
		if known != nil && file.Mark.Same(*known) && !known.Has(base.Open) && !t.Lives {
			t.keep(known, file.ID)
			t.Untouched++
			continue
		}
		item := engine.Item{ID: d.ID, Value: d.Value, TTL: t.TTL}
		switch {
		case d.Expires != 0:
			item.TTL = engine.Millis(d.Expires - now)
		case d.Lasting:
			item.TTL = 0
		}
		due = append(due, &candidate{Item: item, file: file, known: known})
	}
	return due, bytes
}

func (t *Transfer) known(id uint64) *base.Mark {
	at, ok := t.Session.Known.Find(id)
	if !ok {
		return nil
	}
	return &t.Session.Known[at].Mark
}

// keep remembers what was remembered before.
func (t *Transfer) keep(known *base.Mark, id uint64) {
	if known != nil {
		t.Next = append(t.Next, base.Entry{ID: id, Mark: *known})
	}
}

// settle does what is to be done with some documents.
func (t *Transfer) settle(ctx context.Context, due []*candidate) error {
	if len(due) == 0 {
		return nil
	}
	return t.Session.during(ctx, func(ctx context.Context) error {
		added, all, err := t.add(ctx, due)
		if err != nil || all {
			return err
		}
		for attempt := 1; len(due) > 0; attempt++ {
			if due, err = t.weigh(ctx, due, &added, attempt == 5); err != nil {
				return err
			}
		}
		return nil
	})
}

// add stores those that are new in the files, if Redis lacks them, and returns
// how many it lacked, and whether that is all.
func (t *Transfer) add(ctx context.Context, due []*candidate) (n int, all bool, err error) {
	if t.DryRun {
		return 0, false, nil
	}
	var items []engine.Item
	for _, c := range due {
		if c.known == nil {
			items = append(items, c.Item)
		}
	}
	if len(items) == 0 {
		return 0, false, nil
	}
	n, err = engine.RetryUnknown(ctx, func() (int, error) { return t.Session.redis.Insert(ctx, engine.List(items...)) })
	if err != nil {
		return n, false, err
	}
	t.Stored += n
	for _, it := range items {
		t.written = append(t.written, it.ID)
	}
	if n < len(due) {
		return n, false, nil
	}
	for _, c := range due {
		t.Bytes += int64(len(c.Value))
		t.remember(c, OfFile, Sent)
	}
	return n, true, nil
}

// weigh reads what Redis has, does what the table says, and returns those that
// somebody changed meanwhile. Of the documents that were read, so many were
// added just now.
func (t *Transfer) weigh(ctx context.Context, due []*candidate, added *int, last bool) (again []*candidate, err error) {
	if err := t.read(ctx, due); err != nil {
		return nil, err
	}
	var changes []*candidate
	same := 0
	for _, c := range due {
		sight := c.redis
		row, action, memory := t.Rule.Apply(CaseOf(c.known, c.file.Sight(), sight, t.Fleeting))
		switch {
		case action == Refuse:
			return nil, fault.WithID(c.ID, ErrConflict)
		case row == Alike && t.Lives && !t.sameLife(c):
			changes = append(changes, c)
		case row == Alike:
			if same++; !t.sameLife(c) {
				t.TTLKept++
			}
			t.remember(c, memory, Sent)
		case action == Store && c.known == nil && c.absent && !t.DryRun:
			t.remember(c, OfFile, Found) // It was there a moment ago, and somebody removed it.
		case action == Store:
			changes = append(changes, c)
		default:
			if row == Conflict {
				t.conflict(c.ID)
			}
			t.remember(c, memory, Found)
		}
	}
	t.Same += max(0, same-*added)
	*added = max(0, *added-same)
	return t.change(ctx, changes, last)
}

func (t *Transfer) conflict(id string) {
	if t.Conflicts++; len(t.ConflictIDs) < listedIDs {
		t.ConflictIDs = append(t.ConflictIDs, id)
	}
}

// read asks Redis what it has.
func (t *Transfer) read(ctx context.Context, due []*candidate) error {
	ids := make([]string, len(due))
	for i, c := range due {
		ids[i] = c.ID
	}
	values, err := t.Session.redis.ReadMany(ctx, ids)
	if err != nil && (values == nil || !errors.Is(err, fault.ErrCorrupt)) {
		return err
	}
	corrupt := err != nil
	lives, err := t.Session.redis.TTLs(ctx, ids)
	if err != nil {
		return err
	}
	for i, c := range due {
		c.redis, c.seen, c.absent, c.life = Sight{}, "", false, max(lives[i], 0)
		switch {
		case values[i] != nil:
			c.redis = Sight{There: true, Mark: base.MarkOf(t.spelling.Hash(c.ID, values[i]), 0)}
			c.seen = redisstore.Digest(values[i])
		case corrupt && t.unreadable(ctx, c.ID):
			c.redis = Sight{There: true, Mark: ^c.file.Mark} // Another value, whatever it is.
		default:
			c.absent = true
		}
	}
	return nil
}

// sameLife reports whether Redis lets a document live as long as it is to.
func (t *Transfer) sameLife(c *candidate) bool {
	if c.file.Expires == 0 {
		return SameTTL(0, c.life, c.TTL)
	}
	return SameTTL(c.TTL, c.life, 0)
}

// unreadable reports whether Redis has something that is not JSON.
func (t *Transfer) unreadable(ctx context.Context, id string) bool {
	_, err := t.Session.redis.Get(ctx, id)
	return errors.Is(err, fault.ErrCorrupt)
}

// change writes over what was read, or where there was nothing, and returns
// those that are something else meanwhile. In the last attempt these are
// conflicts.
func (t *Transfer) change(ctx context.Context, due []*candidate, last bool) (again []*candidate, err error) {
	made := make([]bool, len(due))
	if !t.DryRun {
		if made, err = t.exchange(ctx, due); err != nil {
			return nil, err
		}
	}
	for i, c := range due {
		switch {
		case t.DryRun || made[i]:
			if c.absent {
				t.Stored++
			} else {
				t.Replaced++
			}
			t.Bytes += int64(len(c.Value))
			if !t.DryRun {
				t.written = append(t.written, c.ID)
			}
			t.remember(c, OfFile, Sent)
		case last:
			t.conflict(c.ID)
			t.remember(c, OfFileOpen, Found)
		default:
			again = append(again, c)
		}
	}
	return again, nil
}

func (t *Transfer) exchange(ctx context.Context, due []*candidate) ([]bool, error) {
	made := make([]bool, len(due))
	var changes []engine.Change
	var seen []string
	var at []int
	for i, c := range due {
		if c.absent {
			n, err := engine.RetryUnknown(ctx, func() (int, error) { return t.Session.redis.Insert(ctx, engine.List(c.Item)) })
			if err != nil {
				return nil, err
			}
			made[i] = n > 0
			continue
		}
		if c.seen == "" { // What is no JSON is not replaced by itself.
			continue
		}
		changes, seen, at = append(changes, engine.Change{Item: c.Item}), append(seen, c.seen), append(at, i)
	}
	if len(changes) == 0 {
		return made, nil
	}
	done, err := t.Session.redis.Exchange(ctx, changes, seen)
	if err != nil {
		return nil, err
	}
	for i, ok := range done {
		made[at[i]] = ok
	}
	return made, nil
}

// remember notes what the base says of a document afterwards, and what has
// come of it.
func (t *Transfer) remember(c *candidate, memory Memory, state DocState) {
	c.file.State = state
	e := base.Entry{ID: c.file.ID, Mark: c.file.Mark.Plain()}
	switch memory {
	case Forgotten:
		return
	case AsBefore:
		t.keep(c.known, e.ID)
		return
	case OfFileOpen:
		e.Mark |= base.Open
	}
	if state == Sent && c.TTL > 0 || state != Sent && c.known != nil && c.known.Has(base.Brief) {
		e.Mark |= base.Brief
	}
	t.Next = append(t.Next, e)
}

// Remove removes documents that are still what was seen, and returns how many.
func (t *Transfer) Remove(ctx context.Context, ids, seen []string) (n int, err error) {
	changes := make([]engine.Change, len(ids))
	for i, id := range ids {
		changes[i] = engine.Change{Item: engine.Item{ID: id}, Remove: true}
	}
	var made []bool
	err = t.Session.during(ctx, func(ctx context.Context) error {
		made, err = t.Session.redis.Exchange(ctx, changes, seen)
		return err
	})
	for _, ok := range made {
		if ok {
			n++
		}
	}
	return n, err
}

// Vanished adds to the base what the files do not have and it had, and returns
// how many these are.
func (t *Transfer) Vanished() (n int) {
	for _, e := range t.Session.Known {
		if t.Index.Find(e.ID) == nil {
			t.Next = append(t.Next, e)
			n++
		}
	}
	return n
}

// Finish proves that all that was written is there, and writes the base. What
// somebody has removed meanwhile is gone for good; but where the servers do
// not say whether they are the same, documents that are missing are a reason to
// begin anew, once.
func (t *Transfer) Finish(ctx context.Context, dealt Dealt) error {
	missing, err := lost(ctx, t.Session.redis, t.written)
	if err != nil {
		return err
	}
	if missing > 0 && t.Session.before == nil && !t.Session.doubted {
		t.Session.doubted = true
		return errUnproven
	}
	return t.Session.Write(t.Next, dealt)
}
