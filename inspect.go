package kv

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/move"
	"github.com/ngraf/kv/internal/redisstore"
)

// InspectOptions say how closely a namespace is looked at. The zero value
// looks at every document and names none.
type InspectOptions struct {
	// Sample is how many documents are read; 0: all. They are spread over the
	// namespace as Keys lists it, which for a sample is listed, too.
	Sample int
	// Biggest is how many of the biggest documents are named; 0: 10.
	Biggest int
	// ShowIDs names them by their ids in place of a hash.
	ShowIDs bool
	// Expected is the time to live that documents should have, as in
	// Config.TTL; 0: none. Those that live for ever although they should not
	// are counted.
	Expected time.Duration
	// Progress is called after each page with the number of documents looked
	// at; nil: not.
	Progress func(done int)
}

// An Inspection is what a namespace holds.
type Inspection struct {
	Documents int   `json:"documents"` // listed
	Sampled   int   `json:"sampled"`   // of these, looked at
	Bytes     int64 `json:"bytes"`     // ids and values; of a sample, what it says of the whole

	ValueBytes Histogram `json:"value_bytes"` // of those looked at
	TTL        Histogram `json:"ttl_seconds"` // of those that expire

	Permanent  int   `json:"permanent"`  // live for ever
	Unexpected int   `json:"unexpected"` // of these, when InspectOptions.Expected says that they should not
	Corrupt    int   `json:"corrupt"`    // not JSON
	Biggest    []Big `json:"biggest"`    // biggest first
}

// Big is one of the biggest documents.
type Big struct {
	ID    string `json:"id"` // or the first 16 digits of its SHA-256
	Bytes int    `json:"bytes"`
}

// Inspect walks a namespace and says what is in it. It costs a read of every
// document, or of the sample, in pages of about 8 MiB; a done context ends it,
// and what has been seen until then comes with the error. Documents that are
// written or removed meanwhile may or may not be counted.
func Inspect(ctx context.Context, s Store, opts InspectOptions) (Inspection, error) {
	in := inspector{opts: opts, reader: move.NewReader(move.SideOf(s)), result: Inspection{Biggest: []Big{}}}
	in.opts.Biggest = cmp.Or(opts.Biggest, 10)
	err := in.walk(ctx, s)
	if in.result.Sampled > 0 && in.result.Sampled < in.result.Documents {
		in.result.Bytes = int64(float64(in.result.Bytes) / float64(in.result.Sampled) * float64(in.result.Documents))
	}
	in.result.ValueBytes, in.result.TTL = in.sizes.read(1), in.ttls.read(1e-9)
	return in.result, opError("inspect", "", err)
}

type inspector struct {
	opts   InspectOptions
	reader *move.Reader
	result Inspection
	sizes  meter
	ttls   meter
}

func (in *inspector) walk(ctx context.Context, s Store) error {
	every := 1
	if in.opts.Sample > 0 {
		for _, err := range s.Keys(ctx) {
			if err != nil {
				return err
			}
			in.result.Documents++
		}
		every = max(1, in.result.Documents/in.opts.Sample)
		in.result.Documents = 0
	}
	for ids, err := range in.reader.Side.Pages(ctx) {
		if err != nil {
			return err
		}
		if err := in.page(ctx, ids, every); err != nil {
			return err
		}
		if in.opts.Progress != nil {
			in.opts.Progress(in.result.Documents)
		}
	}
	return nil
}

// page looks at each of ids whose number is divided by every.
func (in *inspector) page(ctx context.Context, ids []string, every int) error {
	var chosen []string
	for _, id := range ids {
		if in.result.Documents%every == 0 && (in.opts.Sample == 0 || in.result.Sampled+len(chosen) < in.opts.Sample) {
			chosen = append(chosen, id)
		}
		in.result.Documents++
	}
	for p, err := range in.reader.Read(ctx, chosen) {
		if err != nil {
			return err
		}
		for _, d := range p.Docs {
			in.look(d)
		}
	}
	return nil
}

// look counts a document.
func (in *inspector) look(d move.Moved) {
	switch {
	case errors.Is(d.Err, ErrNotFound):
		in.result.Documents-- // Gone since it was listed.
		return
	case d.Err != nil:
		in.result.Corrupt++
	case d.Expires():
		in.ttls.time(d.TTL)
	default:
		in.result.Permanent++
		if in.opts.Expected > 0 {
			in.result.Unexpected++
		}
	}
	in.result.Sampled++
	if d.Err == nil {
		in.result.Bytes += int64(d.Size())
		in.sizes.number(len(d.Value))
		in.big(d.Item)
	}
}

// big keeps the biggest documents, in order.
func (in *inspector) big(it engine.Item) {
	list := in.result.Biggest
	if len(list) == in.opts.Biggest && it.Size() <= list[len(list)-1].Bytes {
		return
	}
	name := it.ID
	if !in.opts.ShowIDs {
		sum := sha256.Sum256([]byte(it.ID))
		name = hex.EncodeToString(sum[:8])
	}
	b := Big{name, it.Size()}
	at, _ := slices.BinarySearchFunc(list, b, func(a, b Big) int { return cmp.Compare(b.Bytes, a.Bytes) })
	list = slices.Insert(list, at, b)
	in.result.Biggest = list[:min(len(list), in.opts.Biggest)]
}

// Namespaces lists the namespaces that have something stored, sorted: on
// files those that have a document file or a journal, on Redis those that
// have a key. A directory that is missing has none. Nothing is opened, locked
// or imported; on Redis all keys under the prefix are listed, which takes as
// long as [Store].Keys of every namespace together.
//
// The error matches [ErrInvalid] for a registered backend, which cannot be
// asked, and otherwise [ErrUnavailable], [ErrClosed] or that of ctx.
func (f *Factory) Namespaces(ctx context.Context) ([]string, error) {
	f.mu.Lock()
	closed := f.closed
	f.mu.Unlock()
	if closed {
		return nil, &Error{Op: "namespaces", Err: ErrClosed}
	}
	var found []string
	var err error
	switch backend := f.cfg.backend(); backend {
	case "json":
		found, err = jsonstore.Namespaces(f.cfg.workingDir())
	case "redis":
		found, err = f.namespacesOfRedis(ctx)
	default:
		err = fault.Invalidf("the backend %q cannot list its namespaces", backend)
	}
	if err != nil {
		return nil, opError("namespaces", "", err)
	}
	return found, nil
}

func (f *Factory) namespacesOfRedis(ctx context.Context) (found []string, err error) {
	client, o, err := f.acquireRedis(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.client.release()) }()
	return redisstore.Namespaces(ctx, client, o)
}
