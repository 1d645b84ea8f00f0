package kv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/wal"
)

// importPrefix begins the names of the keys that say what was imported. No
// document can have such a key: a namespace does not begin with a brace.
const importPrefix = "kv-import:"

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
	State     string    `json:"state"` // of the files, see stateOf
	Total     int       `json:"total"` // places in the files
	Imported  int       `json:"imported"`
	Equal     int       `json:"equal"`     // in Redis with the same value
	Conflicts int       `json:"conflicts"` // in Redis with another value
	Left      int       `json:"left"`      // not JSON, or over the limits
	Expired   int       `json:"expired"`
	Digest    setDigest `json:"digest"` // of the documents that are not left or expired
	Host      string    `json:"host"`
	Time      time.Time `json:"time"`

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
	cmd, _, err := run(ctx, im.redis.client, repeatable, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "get", im.record)
	})
	if err != nil {
		return r, im.explain(err)
	}
	text, err := cmd.Bytes()
	if errors.Is(err, redis.Nil) { // Nothing was ever imported.
		return r, nil
	}
	if err = errors.Join(err, json.Unmarshal(text, &r)); err != nil || r.Version < importVersion {
		return r, refusing(im.cfg, fmt.Errorf("%w: the key %s does not say what was imported; when it is removed, the next start compares the files with Redis anew", ErrCorrupt, im.record))
	}
	if r.Version > importVersion {
		return r, refusing(im.cfg, invalidf("the key %s has version %d, and this version of kv knows %d; use the newer kv", im.record, r.Version, importVersion))
	}
	return r, nil
}

// importClaim: KEYS lease; ARGV token, life in ms. It returns who else has
// the lease.
const importClaim = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''`

// importHold: KEYS lease, record; ARGV token, life in ms or 0 to give the
// lease back, and the record or nothing. It returns 0 if the lease is not held. It
// may run twice.
const importHold = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3]) end
if ARGV[2] == '0' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1`

// claim takes the lease, or returns who has it.
func (im *importer) claim(ctx context.Context) (holder string, err error) {
	cmd, _, err := run(ctx, im.redis.client, repeatable, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "eval", importClaim, 1, im.lease, im.token, ms(im.life))
	})
	if err != nil {
		return "", im.explain(err)
	}
	return cmd.Val(), nil
}

// hold renews the lease for the time life, or gives it back if that is 0. It
// writes the record in the same step, unless that is nil. The error is
// errLeaseLost if the lease was not held any more: then nothing was written,
// or it was by a first attempt whose reply was lost.
func (im *importer) hold(ctx context.Context, life time.Duration, record []byte) error {
	cmd, _, err := run(ctx, im.redis.client, repeatable, func() *redis.IntCmd {
		return redis.NewIntCmd(ctx, "eval", importHold, 2, im.lease, im.record, im.token, ms(life), record)
	})
	if err != nil {
		return im.explain(err)
	}
	if cmd.Val() != 1 {
		return errLeaseLost
	}
	return nil
}

// explain adds what to do where rights are missing.
func (im *importer) explain(err error) error {
	server := redis.Error(nil)
	if !errors.As(err, &server) || !strings.Contains(server.Error(), "NOPERM") && !strings.Contains(server.Error(), "ACL failure") {
		return err
	}
	return refusing(im.cfg, fmt.Errorf("the user of Redis needs ~%s* ~%s* +eval for it: %w", importPrefix, leasePrefix, err))
}

// stateOf tells one state of a namespace's files from another, at the cost of
// reading the ends of each. It is empty if there is nothing to import.
func stateOf(path string, names jsonNames) (string, error) {
	dir, err := fsys.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	defer func() { _ = dir.Close() }()
	there, err := dir.List()
	if err != nil {
		return "", fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	var mine []string
	for _, generation := range names.journals(there) {
		mine = append(mine, names.journal(generation))
	}
	if slices.Contains(there, names.document()) {
		mine = append(mine, names.document())
	}
	if len(mine) == 0 {
		return "", nil
	}
	sum := sha256.New()
	for _, name := range append(mine, names.ttl()) {
		if err := addState(sum, dir, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// addState adds the name, size, time and ends of a file.
func addState(w io.Writer, dir fsys.FS, name string) error {
	file, err := dir.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	var sums [2]uint32
	for i, at := range []int64{0, max(0, info.Size()-int64(len(buf)))} {
		n, err := file.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sums[i] = wal.Sum(buf[:n])
	}
	_, err = fmt.Fprintf(w, "%q %d %d %08x\n", name, info.Size(), info.ModTime().UnixNano(), sums)
	return err
}
