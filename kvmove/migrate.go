package kvmove

import (
	"context"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/move"
)

// An OnConflict says what Migrate does with a document that the destination
// has under the same id, but with another value.
type OnConflict int

// What Migrate does with conflicts.
const (
	Skip      OnConflict = iota // leave the destination's document alone
	Overwrite                   // replace it
	Fail                        // stop there; what was copied before stays
	Keep                        // leave the destination's document alone, and let it be no conflict any more
)

// Options say how [Migrate] copies. The zero value leaves everything
// alone that the destination has, and verifies.
type Options struct {
	OnConflict OnConflict

	// Mirror makes the destination have what the source has, and nothing
	// else: conflicts are overwritten, and documents that the source has not
	// are removed. An empty source is refused. What is corrupt on either side
	// stays as it is in the destination.
	//
	// If the destination is a store of the json backend itself, not a wrapper
	// of one, all changes take effect in one atomic step: a migration that is
	// killed or fails leaves the old documents, all of them. The document
	// file of before is kept beside the new one, as
	// kv_store_<namespace>.json.previous-<time>, until somebody removes it.
	Mirror bool

	// Delete removes from Redis what was removed from the files since both had
	// something in common, unless it was changed in Redis.
	Delete bool

	DryRun     bool // write nothing, and report what would be done
	SkipVerify bool // do not compare the two stores in the end

	// TTL is for documents that live for ever in the source, such as a file
	// that Python wrote. 0 means for ever. It is not given to documents that
	// the destination has already with some time of their own.
	TTL time.Duration

	// Progress, if not nil, is called after each page of documents, by the
	// goroutine that called Migrate.
	Progress func(Progress)
}

// Progress says how far a migration has come.
type Progress struct {
	Verifying bool  // the copying is done, and the figures count the comparison
	Documents int   // of the source that have been dealt with
	Bytes     int64 // of their values; 0 while verifying
	Total     int   // documents of the source, or 0 if that is not known
}

// A Report says what Migrate did, or would do in a dry run. Every
// document of the source is counted in one of Copied, Same, Skipped,
// Overwritten, Expired, Refused and AheadInRedis.
type Report struct {
	Namespace   string `json:"namespace"`
	DryRun      bool   `json:"dry_run,omitempty"`
	Copied      int    `json:"copied"`      // stored where there was none
	Same        int    `json:"same"`        // there already with an equal value
	Skipped     int    `json:"skipped"`     // conflicts that were left
	Overwritten int    `json:"overwritten"` // replaced, as the value or the time to live was another
	Removed     int    `json:"removed"`     // from the destination, as the source had removed them, or by Mirror
	Expired     int    `json:"expired"`     // gone between being listed and being copied
	Refused     int    `json:"refused"`     // corrupt in the source, and left behind
	TTLKept     int    `json:"ttl_kept"`    // those of Same that were left with another time to live

	// Of the files and the keys of one namespace, which remember what they last
	// had in common: what was written or removed on one side since, and stays
	// as it is on both.
	AheadInFile  int  `json:"ahead_in_file,omitempty"`
	AheadInRedis int  `json:"ahead_in_redis,omitempty"`
	Older        bool `json:"older,omitempty"` // the files are an older copy, and changed nothing

	SkippedIDs []string `json:"skipped_ids,omitempty"` // the first 1,000
	RefusedIDs []string `json:"refused_ids,omitempty"` // the first 1,000

	// Previous is the file with the documents of before, after a Mirror into
	// json files that changed some.
	Previous string `json:"previous,omitempty"`

	Bytes    int64         `json:"bytes"`       // of the values written, in compact form
	Duration time.Duration `json:"duration_ns"` // of the whole call

	// Verified says that the comparison found no other differences than those
	// counted above. The two sums are of everything that it saw.
	Verified    bool     `json:"verified"`
	Source      Contents `json:"source,omitzero"`
	Destination Contents `json:"destination,omitzero"`
}

// Migrate copies the documents of src to dst, which may be of any kind, with
// the time that each has left to live. It copies one namespace: that which
// the stores are of.
//
// Between the files and the keys of one namespace, both stores being those of the
// built-in backends, it is remembered what both last had in common. Then what
// only one side has written or removed since goes from src to dst, and what dst
// has is not undone; docs/migration.md has the table. OnConflict is for what
// both have changed.
//
// Documents that dst has with an equal value (see [Verify]) are not written
// again, so a call that was cut short is resumed by making it once more; if dst
// is of the json backend and has no documents, it gets all of them in one step
// or, when the call is cut short, none, and the next begins anew. Their
// time to live is left alone, too, unless conflicts are overwritten: then a
// difference of more than a second counts as one. Presence and storing are
// one atomic step per id if dst is of a built-in backend. In the end
// dst is flushed, and both are compared as by [Verify].
//
// Both stores may be in use. What is written to src while Migrate runs may be
// copied or not, in its old or its new state; each document that is copied is
// one that src had. The comparison then reports differences, and another call
// copies them, with Overwrite if they are of documents copied before. What
// others write to dst is treated as if it had been there before; with Mirror
// into json files, it makes the call fail with [kv.ErrUnavailable].
//
// Memory is bounded by some pages of about 8 MiB, or a few values where they
// are larger; Mirror into json files also holds all ids.
//
// An error is a [*kv.Error] with the Op "migrate". The report says what was done
// before it. If the comparison finds differences, the error matches none of
// the kinds of failure.
func Migrate(ctx context.Context, dst, src kv.Store, opts Options) (Report, error) {
	o := move.Options{
		Conflict:   move.ConflictRule(opts.OnConflict),
		Mirror:     opts.Mirror,
		Delete:     opts.Delete,
		DryRun:     opts.DryRun,
		SkipVerify: opts.SkipVerify,
		TTL:        opts.TTL,
	}
	if opts.Progress != nil {
		o.Progress = func(p move.Progress) { opts.Progress(Progress(p)) }
	}
	r, err := move.Migrate(ctx, sideOf(dst), sideOf(src), o)
	return migrated(r), failed("migrate", r.Namespace, err)
}

// migrated is the report of a migration as callers know it.
func migrated(r move.Report) Report {
	return Report{
		Namespace:   r.Namespace,
		DryRun:      r.DryRun,
		Copied:      r.Copied,
		Same:        r.Same,
		Skipped:     r.Skipped,
		Overwritten: r.Overwritten,
		Removed:     r.Removed,
		Expired:     r.Expired,
		Refused:     r.Refused,
		TTLKept:     r.TTLKept,
		AheadInFile: r.AheadInFile, AheadInRedis: r.AheadInRedis, Older: r.Older,
		SkippedIDs:  r.SkippedIDs,
		RefusedIDs:  r.RefusedIDs,
		Previous:    r.Previous,
		Bytes:       r.Bytes,
		Duration:    r.Duration,
		Verified:    r.Verified,
		Source:      Contents(r.Source),
		Destination: Contents(r.Destination),
	}
}
