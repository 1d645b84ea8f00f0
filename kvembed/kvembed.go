// Package kvembed keeps embeddings in a [kv.Store], so that each text is paid
// for once, by all processes that share the store:
//
//	embed := kvembed.Cached(store, "text-embedding-3-small", 1536, provider)
//	vectors, err := embed(ctx, texts)
//
// A vector is a document like any other. Its id is the digest of model,
// dimensions and text, see [ID], and its value is
//
//	{"model":"text-embedding-3-small","vector":"AACAPw..."}
//
// with the components as little-endian IEEE 754 binary32, one behind the
// other, in base64 (RFC 4648, section 4): bit-exact, and 8.2 KB for 1,536
// dimensions. docs/python.md reads it in Python.
package kvembed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ngraf/kv"
)

// A Func returns the vectors of texts, in their order. Beside an error it may
// return those that it has, with nil for the others; a slice that is shorter
// than the texts has those of the first.
type Func func(ctx context.Context, texts []string) ([][]float32, error)

// Options say how a cached Func works. The zero value is what most want.
type Options struct {
	// Batch is how many texts to ask the provider for in one call, at most,
	// and how many to read from the store. 0 is 1,000; OpenAI takes 2,048.
	Batch int

	// TTL is the time to live of what is stored. 0 is the namespace's.
	TTL time.Duration

	// Limit bounds one call of the provider, see [kv.ComputeOptions]. 0 is 10
	// min.
	Limit time.Duration
}

const defaultBatch = 1000

// Cached returns a Func that asks f only for vectors that s does not have, and
// stores them. It is Options{}.Cached.
func Cached(s kv.Store, model string, dims int, f Func) Func {
	return Options{}.Cached(s, model, dims, f)
}

// Cached returns a Func that asks f only for vectors that s does not have, and
// stores them. Order is kept; a text that is there twice is asked for once;
// what is missing goes into one call of f, up to Batch texts. Of processes that
// ask for the same text at once, one calls f, and the others wait for it, as
// [kv.Typed.Compute] says.
//
// Beside an error it returns the vectors that could be had, with nil for the
// others. What f returned beside an error is stored, too, and batches that were
// done before stay: nothing that was paid for is asked for again. After an
// error f is not called again. The errors are those of f, as they are, those
// of the store, one that matches [kv.ErrCorrupt] if a stored value is not such
// a vector, and one that says that f returned what does not fit: then
// nothing of that batch is stored.
//
// Beside the result it holds about two batches in memory. A model without a
// name, and less than one dimension, are errors that match [kv.ErrInvalid].
func (o Options) Cached(s kv.Store, model string, dims int, f Func) Func {
	if o.Batch == 0 {
		o.Batch = defaultBatch
	}
	c := &cache{
		store: s, model: model, dims: dims, batch: o.Batch, f: f,
		view: kv.For[json.RawMessage](s).With(kv.ComputeOptions[json.RawMessage]{TTL: o.TTL, Limit: o.Limit}),
	}
	return c.embed
}

type cache struct {
	store kv.Store
	view  kv.Typed[json.RawMessage]
	model string
	dims  int
	batch int
	f     Func
}

// ID returns the id of a vector: "emb-" and the SHA-256, in hexadecimal, of
// the model's length in bytes, a colon, the model, a comma, the dimensions, a
// comma, and the text.
func ID(model string, dims int, text string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s,%d,%s", len(model), model, dims, text)
	return "emb-" + hex.EncodeToString(h.Sum(nil))
}

// A call is one call of a cached Func.
type call struct {
	*cache
	texts   []string
	vectors [][]float32
	missing []string         // ids, in the order of their first appearance
	places  map[string][]int // of each in texts
}

func (c *cache) embed(ctx context.Context, texts []string) ([][]float32, error) {
	if c.model == "" || c.dims < 1 || c.batch < 1 {
		return nil, fmt.Errorf("kvembed: %w: a model, at least one dimension and a batch of at least one text are needed", kv.ErrInvalid)
	}
	r := &call{cache: c, texts: texts, vectors: make([][]float32, len(texts)), places: make(map[string][]int)}
	for from := 0; from < len(texts); from += c.batch {
		if err := r.read(ctx, from, min(from+c.batch, len(texts))); err != nil {
			return r.vectors, err
		}
		if len(r.missing) >= c.batch {
			if err := r.compute(ctx, c.batch); err != nil {
				return r.vectors, err
			}
		}
	}
	return r.vectors, r.compute(ctx, len(r.missing))
}

// read fills in what the store has, and notes what it has not.
func (r *call) read(ctx context.Context, from, to int) error {
	ids := make([]string, to-from)
	for i := range ids {
		ids[i] = ID(r.model, r.dims, r.texts[from+i])
	}
	values, err := r.store.GetMany(ctx, ids)
	if err != nil {
		return err
	}
	for i, value := range values {
		at := from + i
		if value == nil {
			if r.places[ids[i]] == nil {
				r.missing = append(r.missing, ids[i])
			}
			r.places[ids[i]] = append(r.places[ids[i]], at)
		} else if r.vectors[at], err = decode(value, r.dims); err != nil {
			return err
		}
	}
	return nil
}

// compute has the first n of the missing computed.
func (r *call) compute(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	ids := r.missing[:n]
	r.missing = slices.Clone(r.missing[n:])
	texts := make(map[string]string, n) // The call of f may outlast this one.
	for _, id := range ids {
		texts[id] = r.texts[r.places[id][0]]
	}
	found, err := r.view.ComputeMany(ctx, ids, func(ctx context.Context, ids []string) (map[string]json.RawMessage, error) {
		asked := make([]string, len(ids))
		for i, id := range ids {
			asked[i] = texts[id]
		}
		return r.ask(ctx, ids, asked)
	})
	for _, id := range ids {
		for _, at := range r.places[id] {
			value, ok := found[id]
			if !ok {
				break // There is an error then.
			}
			vector, bad := decode(value, r.dims) // Each place has its own.
			if r.vectors[at] = vector; err == nil {
				err = bad
			}
		}
		delete(r.places, id)
	}
	return err
}

// ask calls f, and checks what it returns.
func (c *cache) ask(ctx context.Context, ids, texts []string) (map[string]json.RawMessage, error) {
	vectors, err := c.f(ctx, texts)
	if len(vectors) > len(texts) || len(vectors) < len(texts) && err == nil { // Which belongs to which?
		return nil, fmt.Errorf("kvembed: the function returned %d vectors for %d texts", len(vectors), len(texts))
	}
	values := make(map[string]json.RawMessage, len(vectors))
	for i, v := range vectors {
		if v == nil && err != nil {
			continue
		}
		if len(v) != c.dims {
			return nil, fmt.Errorf("kvembed: the function returned a vector of %d dimensions where %d are expected", len(v), c.dims)
		}
		values[ids[i]] = encode(c.model, v)
	}
	return values, err
}

const vectorKey = `"vector":"`

// encode returns the value of a vector.
func encode(model string, vector []float32) json.RawMessage {
	raw := make([]byte, 0, 4*len(vector))
	for _, x := range vector {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	name, _ := json.Marshal(model) // A string has a JSON text.
	value := slices.Concat([]byte(`{"model":`), name, []byte(`,`+vectorKey))
	value = base64.StdEncoding.AppendEncode(value, raw)
	return append(value, `"}`...)
}

// decode is encode's other way. As a value is found in most cases, it is read
// without a look at the rest; one that was laid out, as in a document file, or
// that another program wrote, is read as JSON.
func decode(value json.RawMessage, dims int) ([]float32, error) {
	text, ok := bytes.CutSuffix(value, []byte(`"}`))
	if at := bytes.Index(text, []byte(vectorKey)); ok && at >= 0 {
		if vector := components(text[at+len(vectorKey):], dims); vector != nil {
			return vector, nil
		}
	}
	var v struct {
		Vector *string `json:"vector"`
	}
	if json.Unmarshal(value, &v) == nil && v.Vector != nil {
		if vector := components([]byte(*v.Vector), dims); vector != nil {
			return vector, nil
		}
	}
	return nil, fmt.Errorf("kvembed: %w: a stored value is not a vector of %d dimensions; delete it, or use a namespace of its own", kv.ErrCorrupt, dims)
}

// components returns nil if the text is not base64 of so many.
func components(text []byte, dims int) []float32 {
	if len(text) != base64.StdEncoding.EncodedLen(4*dims) {
		return nil
	}
	raw, err := base64.StdEncoding.AppendDecode(make([]byte, 0, 4*dims+2), text)
	if err != nil || len(raw) != 4*dims {
		return nil
	}
	vector := make([]float32, dims)
	for i := range vector {
		vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return vector
}
