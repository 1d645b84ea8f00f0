// Package merge brings the files of a namespace and Redis together, any number
// of times and in any order, by what they last had in common: the base.
//
// What is done with a document follows from one table (table.go). Whoever
// opens a namespace on Redis (open.go), migrates one way or the other
// (redis.go, files.go), or only looks (survey.go), asks it.
package merge

import "github.com/ngraf/kv/internal/base"

// A Change is what has become of a document on one side since the base.
type Change uint8

const (
	None    Change = iota // not there, and not in the base
	New                   // there, and not in the base
	Same                  // as in the base
	Changed               // there, with another value than in the base
	Gone                  // in the base, and not there
	Expired               // gone from Redis, where it had a time to live
)

// A Case is one document on both sides.
type Case struct {
	File, Redis Change
	Alike       bool // both have it, with one value
	Open        bool // an earlier conflict that nobody has decided
}

// A Row of the table says who is ahead.
type Row uint8

const (
	Nowhere      Row = iota // on neither side
	Alike                   // on both
	RedisWrote              // since the base, and the file did not change
	RedisRemoved            // it was deleted or dropped, and the file did not change
	RedisExpired            // likewise, and nobody need have removed it
	FileWrote               // since the base, and nobody wrote to or removed it from Redis
	FileRemoved             // and Redis did not change
	Conflict                // both were changed
	rows
)

func (r Row) String() string {
	return [rows]string{
		"on neither side", "alike", "Redis wrote", "Redis removed", "Redis expired",
		"the file wrote", "the file removed", "conflict",
	}[r]
}

// Row returns the row of a case.
func (c Case) Row() Row {
	there := c.File == New || c.File == Same || c.File == Changed
	inRedis := c.Redis == New || c.Redis == Same || c.Redis == Changed
	switch {
	case !there && !inRedis:
		return Nowhere
	case c.Alike:
		return Alike
	case !inRedis && (c.Redis == None || c.Redis == Expired && (c.File == Changed || c.Open)):
		return FileWrote // What has expired in Redis is no other opinion.
	case c.Open && there:
		return Conflict
	case !there && c.Redis == Same:
		return FileRemoved
	case !there, c.File == Same && inRedis:
		return RedisWrote
	case c.File == Same && c.Redis == Expired:
		return RedisExpired
	case c.File == Same:
		return RedisRemoved
	case c.Redis == Same:
		return FileWrote
	}
	return Conflict
}

// A Way is where documents go.
type Way uint8

const (
	ToRedis Way = iota
	ToFiles
)

// A Winner says what is done about a conflict.
type Winner uint8

const (
	Nobody      Winner = iota // it stays as it is, and open
	Source                    // what the source has goes to the destination
	Destination               // it stays as it is, and is decided
	Stop                      // the merge ends there
)

// A Rule is how documents go.
type Rule struct {
	Way      Way
	Conflict Winner
	Delete   bool // what was removed from the source is removed from Redis
}

// An Action is what is done to the destination.
type Action uint8

const (
	Stay Action = iota
	Store
	Remove
	Refuse // stop: a conflict
)

// A Memory is what the base says of the document afterwards.
type Memory uint8

const (
	AsBefore   Memory = iota
	OfFile            // the file's mark
	OfFileOpen        // the file's mark, and that the conflict is open
	OfRedis           // the mark of what Redis has; nothing if it has nothing
	Forgotten         // nothing
)

// Apply is the table: what is done with a document, and what is remembered.
// The file's mark stands in the base for what has been dealt with; what only
// Redis has is not in the base until it went to the file.
func (r Rule) Apply(c Case) (Row, Action, Memory) {
	row := c.Row()
	switch {
	case row == Nowhere:
		return row, Stay, Forgotten
	case row == Alike:
		return row, Stay, OfFile
	case row == Conflict:
		action, memory := r.decide(c)
		return row, action, memory
	case r.Way == ToRedis && row == FileWrote:
		return row, Store, OfFile
	case r.Way == ToRedis && row == FileRemoved && r.Delete:
		return row, Remove, Forgotten
	case r.Way == ToFiles && (row == RedisWrote || row == FileRemoved):
		return row, Store, OfRedis
	case r.Way == ToFiles && row == RedisRemoved:
		return row, Remove, Forgotten
	}
	return row, Stay, AsBefore
}

// decide is what is done about a conflict.
func (r Rule) decide(c Case) (Action, Memory) {
	gone := c.Redis == Gone || c.Redis == Expired
	switch {
	case r.Conflict == Stop:
		return Refuse, AsBefore
	case r.Conflict == Nobody && r.Way == ToRedis:
		return Stay, OfFileOpen
	case r.Conflict == Nobody:
		return Stay, AsBefore
	case r.Way == ToRedis && r.Conflict == Source:
		return Store, OfFile
	case r.Way == ToRedis:
		return Stay, OfFile
	case r.Conflict == Destination: // The file is ahead of what Redis has.
		return Stay, OfRedis
	case gone:
		return Remove, Forgotten
	}
	return Store, OfRedis
}

// A Sight is what one side has of a document.
type Sight struct {
	There   bool
	Mark    base.Mark
	Expires bool // it has a time to live there
}

// CaseOf compares what both sides have with the base, which may have nothing.
// If fleeting is set, all that is in Redis may expire. What the file itself
// lets expire, later than Redis, was removed there.
func CaseOf(known *base.Mark, file, redis Sight, fleeting bool) Case {
	c := Case{Alike: file.There && redis.There && file.Mark.SameValue(redis.Mark)}
	if known == nil {
		if file.There {
			c.File = New
		}
		if redis.There {
			c.Redis = New
		}
		return c
	}
	switch {
	case !file.There:
		c.File = Gone
	case file.Mark.Same(*known):
		c.File = Same
	default:
		c.File = Changed
	}
	switch {
	case redis.There && redis.Mark.SameValue(*known):
		c.Redis = Same
	case redis.There:
		c.Redis = Changed
	case (fleeting || known.Has(base.Brief)) && (c.File != Same || !file.Expires):
		c.Redis = Expired
	default:
		c.Redis = Gone
	}
	c.Open = known.Has(base.Open)
	// A value that was stored anew for another time is a change, too.
	c.Alike = c.Alike && (c.File != Changed || c.Redis != Same)
	return c
}
