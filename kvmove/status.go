package kvmove

import (
	"context"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/move"
)

// A State says how the files of a namespace and its keys in Redis stand to each
// other, by what they last had in common.
type State struct {
	Namespace string    `json:"namespace"`
	Base      time.Time `json:"base,omitzero"` // when they had it; zero: never yet
	Files     int       `json:"files"`         // documents that are JSON
	Redis     int       `json:"redis"`         // likewise
	Alike     int       `json:"alike"`         // documents that both have with one value

	// Documents that only one side has written or removed since: Migrate
	// carries them, and only one way each.
	FilesAhead int `json:"files_ahead"`
	RedisAhead int `json:"redis_ahead"`

	// Documents that both sides have written or removed since, or that differ
	// without ever having been in common. They stay until Options.OnConflict
	// says which side is right.
	Conflicts int `json:"conflicts"`

	// Older: the files are a copy of what they were before, such as a backup
	// that was put back, and change nothing in Redis unless they are told to.
	Older bool `json:"older,omitempty"`
}

// Level reports whether neither side has anything that the other lacks.
func (s State) Level() bool { return s.FilesAhead+s.RedisAhead+s.Conflicts == 0 && !s.Older }

// Status reads both sides of a namespace, and says what Migrate would find. It
// changes nothing. Both stores are those of the built-in backends, not wrappers
// of them; others have no last common state, and the error matches
// [kv.ErrInvalid]. Documents that are written meanwhile may or may not be seen.
//
// An error is a [*kv.Error] with the Op "status".
func Status(ctx context.Context, files, redis kv.Store) (State, error) {
	inRedis := sideOf(redis)
	r, err := move.Status(ctx, sideOf(files), inRedis)
	return State{
		Namespace:  inRedis.Namespace,
		Base:       r.Time,
		Files:      r.Files,
		Redis:      r.Redis,
		Alike:      r.Alike,
		FilesAhead: r.AheadInFile,
		RedisAhead: r.AheadInRedis,
		Conflicts:  r.Conflicts,
		Older:      r.Older,
	}, failed("status", inRedis.Namespace, err)
}
