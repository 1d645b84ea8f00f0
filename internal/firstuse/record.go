package firstuse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redisstore"
)

// An importRecord says which files have been imported into a namespace.
type importRecord struct {
	Version int        `json:"version"`
	Imports []imported `json:"imports"`           // newest last
	Partial *imported  `json:"partial,omitempty"` // one that is under way, or was cut short
}

const (
	importVersion = 1
	// importStates is how many states of files are remembered. There is more
	// than one where workers on several hosts have directories of their own.
	importStates = 16
)

// An imported is what became of the documents of a namespace's files.
type imported struct {
	State     string     `json:"state"` // of the files, see jsonstore.StateOf
	Total     int        `json:"total"` // places in the files
	Imported  int        `json:"imported"`
	Equal     int        `json:"equal"`     // in Redis with the same value
	Conflicts int        `json:"conflicts"` // in Redis with another value
	Left      int        `json:"left"`      // not JSON, or over the limits
	Expired   int        `json:"expired"`
	Digest    digest.Set `json:"digest"` // of the documents that are not left or expired
	Host      string     `json:"host"`
	Time      time.Time  `json:"time"`

	// Of a partial one: places done, and a sum of what stands in them.
	Position int    `json:"position,omitempty"`
	Check    uint64 `json:"check,omitempty"`
}

func (r importRecord) knows(state string) bool {
	return slices.ContainsFunc(r.Imports, func(i imported) bool { return i.State == state })
}

// add puts an import that is complete in the place of the partial one.
func (r importRecord) add(i imported) importRecord {
	r.Imports = append(slices.Clone(r.Imports), i)
	r.Imports = r.Imports[max(0, len(r.Imports)-importStates):]
	r.Partial = nil
	return r
}

func (r importRecord) encode() []byte {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // Nothing in it can fail.
	}
	return text
}

// read returns the record of the namespace.
func (im *importer) read(ctx context.Context) (importRecord, error) {
	r := importRecord{Version: importVersion}
	text, err := im.Record.Read(ctx)
	if errors.Is(err, fault.ErrNotFound) { // Nothing was ever imported.
		return r, nil
	}
	if err != nil {
		return r, im.explain(err)
	}
	if err = json.Unmarshal(text, &r); err != nil || r.Version < importVersion {
		return r, im.refusing(fmt.Errorf("%w: the key %s does not say what was imported; when it is removed, the next start compares the files with Redis anew", fault.ErrCorrupt, im.Record.Key))
	}
	if r.Version > importVersion {
		return r, im.refusing(fault.Invalidf("the key %s has version %d, and this version of kv knows %d; use the newer kv", im.Record.Key, r.Version, importVersion))
	}
	return r, nil
}

// claim takes the lease, or returns who has it.
func (im *importer) claim(ctx context.Context) (holder string, err error) {
	holder, err = im.Record.Claim(ctx, im.token, im.Life)
	return holder, im.explain(err)
}

// hold renews the lease for the time life, or gives it back if that is 0. It
// writes the record in the same step, unless that is nil. The error is
// errLeaseLost if the lease was not held any more.
func (im *importer) hold(ctx context.Context, life time.Duration, text []byte) error {
	held, err := im.Record.Hold(ctx, im.token, life, text)
	if err == nil && !held {
		return errLeaseLost
	}
	return im.explain(err)
}

// explain adds what to do where rights are missing.
func (im *importer) explain(err error) error {
	if rights := (*redisstore.RightsError)(nil); errors.As(err, &rights) {
		return im.refusing(err)
	}
	return err
}
