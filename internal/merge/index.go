package merge

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/ngraf/kv/internal/base"
	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/engine"
)

// Documents are what files have, part by part; see jsonstore.Source.
type Documents interface {
	Documents(ctx context.Context) iter.Seq2[[]engine.Stored, error]
}

// A FileDoc is what is known of a document of the files after one pass.
type FileDoc struct {
	base.Entry
	Expires int64 // Unix milliseconds, 0 for never
	State   DocState
}

// A DocState is what has come of a document of the files.
type DocState uint8

const (
	Found   DocState = iota
	Refused          // it is not JSON, or over a limit, and stays where it is
	Over             // it has expired since
	Sent             // Redis has it, too, as far as this call knows
	Seen             // and a pass over Redis has found it there
)

// An Index is what a pass over files has found.
type Index struct {
	docs     []FileDoc // sorted by ID
	Sum      digest.Set
	Content  uint64 // tells one content from another
	Expired  int
	Repeated bool     // an id comes twice
	Refused  []string // the ids of the first 1,000
	refused  int
}

// listedIDs bounds the lists of ids in a report.
const listedIDs = 1000

// IndexOf reads files once. What has expired by now, in Unix milliseconds, is
// not in them any more.
func IndexOf(ctx context.Context, files Documents, now, maxValue int64) (*Index, error) {
	x := new(Index)
	var spelling digest.Spelling
	lives := uint64(0)
	for part, err := range files.Documents(ctx) {
		if err != nil {
			return nil, err
		}
		for _, d := range part {
			if d.Expires != 0 && d.Expires <= now {
				x.Expired++
				continue
			}
			doc := FileDoc{Entry: base.Entry{ID: base.IDOf(d.ID)}, Expires: d.Expires}
			if d.Foreign || engine.CheckID(d.ID) != nil || int64(len(d.Value)) > maxValue {
				doc.State = Refused
				if x.refused++; len(x.Refused) < listedIDs {
					x.Refused = append(x.Refused, d.ID)
				}
			} else {
				h := spelling.Hash(d.ID, d.Value)
				x.Sum.Add(h)
				doc.Mark = base.MarkOf(h, d.Expires)
			}
			lives += (doc.ID ^ uint64(doc.Mark)) * 0x9e3779b97f4a7c15
			x.docs = append(x.docs, doc)
		}
	}
	slices.SortFunc(x.docs, func(a, b FileDoc) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	for i := 1; i < len(x.docs); i++ {
		x.Repeated = x.Repeated || x.docs[i-1].ID == x.docs[i].ID
	}
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(x.Sum.String()), lives))
	x.Content = binary.LittleEndian.Uint64(sum[:])
	return x, nil
}

// Find returns what is known of a document, nil if the files do not have it.
func (x *Index) Find(id uint64) *FileDoc {
	at, ok := slices.BinarySearchFunc(x.docs, id, func(d FileDoc, id uint64) int {
		switch {
		case d.ID < id:
			return -1
		case d.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &x.docs[at]
}

// All yields what is known of each document.
func (x *Index) All() iter.Seq[*FileDoc] {
	return func(yield func(*FileDoc) bool) {
		for i := range x.docs {
			if !yield(&x.docs[i]) {
				return
			}
		}
	}
}

// Len returns how many documents there are, those that are refused included.
func (x *Index) Len() int { return len(x.docs) }

// RefusedCount returns how many documents are refused.
func (x *Index) RefusedCount() int { return x.refused }

// Sight is what the files have of a document that Find has returned.
func (d *FileDoc) Sight() Sight {
	if d == nil {
		return Sight{}
	}
	return Sight{There: true, Mark: d.Mark, Expires: d.Expires != 0}
}
