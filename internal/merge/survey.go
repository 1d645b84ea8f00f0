package merge

import (
	"github.com/ngraf/kv/internal/base"
	"github.com/ngraf/kv/internal/digest"
)

// A Survey says of every document in which row of the table it is, from one
// pass over either side.
type Survey struct {
	Index    *Index // of the files
	Known    base.Base
	Fleeting bool // all that is in Redis may expire

	Rows  [rows]int
	Sum   digest.Set // of what Redis has
	Lost  int        // documents that were sent, and are not there
	Other int        // and those that are there with another value

	seen     []bool // by place in Known
	spelling digest.Spelling
}

// Sight is what Redis has under an id.
func (s *Survey) Sight(id string, value []byte) Sight {
	h := s.spelling.Hash(id, value)
	s.Sum.Add(h)
	return Sight{There: true, Mark: base.MarkOf(h, 0)}
}

// Entry returns what the base has of an id, nil for nothing, and notes that
// Redis has the document.
func (s *Survey) Entry(id uint64) *base.Mark {
	if s.seen == nil {
		s.seen = make([]bool, len(s.Known))
	}
	at, ok := s.Known.Find(id)
	if !ok {
		return nil
	}
	s.seen[at] = true
	return &s.Known[at].Mark
}

// See counts a document that Redis has, and returns its row.
func (s *Survey) See(id string, redis Sight) Row {
	number := base.IDOf(id)
	file, known := s.Index.Find(number), s.Entry(number)
	if file != nil && file.State == Refused {
		s.Rows[Conflict]++
		return Conflict
	}
	if file != nil && file.State == Sent && !file.Mark.SameValue(redis.Mark) {
		s.Other++
	}
	row := CaseOf(known, file.Sight(), redis, s.Fleeting).Row()
	if file != nil {
		file.State = Seen
	}
	s.Rows[row]++
	return row
}

// Rest counts the documents that Redis does not have, and returns what of the
// base is on neither side any more.
func (s *Survey) Rest() (nowhere map[uint64]bool) {
	if s.seen == nil {
		s.seen = make([]bool, len(s.Known))
	}
	for file := range s.Index.All() {
		switch file.State {
		case Seen, Refused, Over:
			continue
		case Sent:
			s.Lost++
		}
		var known *base.Mark
		if at, ok := s.Known.Find(file.ID); ok {
			known = &s.Known[at].Mark
		}
		s.Rows[CaseOf(known, file.Sight(), Sight{}, s.Fleeting).Row()]++
	}
	nowhere = make(map[uint64]bool)
	for at, e := range s.Known {
		if !s.seen[at] && s.Index.Find(e.ID) == nil {
			nowhere[e.ID] = true
		}
	}
	return nowhere
}

// FileAhead returns how many documents the files have written or removed.
func (s *Survey) FileAhead() int { return s.Rows[FileWrote] + s.Rows[FileRemoved] }

// RedisAhead returns how many documents Redis has written, removed or let expire.
func (s *Survey) RedisAhead() int {
	return s.Rows[RedisWrote] + s.Rows[RedisRemoved] + s.Rows[RedisExpired]
}

// Conflicts returns how many documents both have changed.
func (s *Survey) Conflicts() int { return s.Rows[Conflict] }
