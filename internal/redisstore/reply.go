package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// A valuesCmd is a GET or an MGET.
type valuesCmd struct {
	redis.RawWriteToCmd
	reply valuesReply
	get   struct { // all that a GET has, in one piece of memory
		key   string
		args  [2]any
		value [1]json.RawMessage
	}
}

// newValuesCmd returns a command whose values go to the given slice.
func newValuesCmd(ctx context.Context, values []json.RawMessage, args ...any) *valuesCmd {
	clear(values) // An attempt before this one may have filled some.
	c := &valuesCmd{reply: valuesReply{values: values}}
	c.RawWriteToCmd = *redis.NewRawWriteToCmd(ctx, &c.reply, args...)
	return c
}

// Err also returns what the server said instead of values: go-redis does not
// look into this kind of reply.
func (c *valuesCmd) Err() error {
	if err := c.RawWriteToCmd.Err(); err != nil {
		return err
	}
	return c.reply.result()
}

// newGet returns a GET.
func newGet(ctx context.Context, key string) *valuesCmd {
	c := new(valuesCmd)
	c.get.key, c.get.args = key, [...]any{"get", &c.get.key}
	c.reply.values = c.get.value[:]
	c.RawWriteToCmd = *redis.NewRawWriteToCmd(ctx, &c.reply, c.get.args[:]...)
	return c
}

// stored returns what a GET was answered with.
func (c *valuesCmd) stored() (json.RawMessage, error) {
	value := c.reply.values[0]
	if value == nil {
		return nil, fault.ErrNotFound
	}
	return value, checkStored(value)
}

// A valuesReply is the reply to a GET or an MGET as it comes from the
// connection: go-redis writes to it what it reads ([redis.RawWriteToCmd]), and
// each value goes from the socket's buffer into memory of its own, of its
// exact size. Nothing else of it is ever in memory. A large one gets its memory
// as it comes: what a server announces is not yet there.
//
// The reply is RESP 2 or 3: "$5\r\nvalue\r\n" or one of "$-1\r\n" and "_\r\n"
// for what is not there, for an MGET behind "*2\r\n", or "-ERR text\r\n".
type valuesReply struct {
	values  []json.RawMessage // nil where the server has no string, or a corrupt one
	check   bool              // that values are JSON, while they are in the processor's cache
	corrupt []corruptValue    // what is not
	err     error             // of the server, instead of values

	few   [2]byte  // the end of a value, as it comes
	line  [64]byte // the header that is coming, without its end
	n     int      // bytes of it
	value []byte   // that is coming; it grows to its size
	size  int      // that the server announced
	at    int      // bytes of it that have come
	skip  int      // bytes of the end of a value
	seen  int      // values that have come, or will never
	array bool     // the header of an MGET has come
}

var _ io.ReaderFrom = (*valuesReply)(nil)

// serverError is what a server says instead of values. It is a redis.Error.
type serverError string

func (e serverError) Error() string { return string(e) }
func (serverError) RedisError()     {}

// firstBytes is the memory that a value gets before any of it has come.
const firstBytes = 1 << 20

var errNotValues = errors.New("the reply is not one to GET or MGET")

type corruptValue struct {
	at  int
	err error
}

// Write takes a part of the reply.
func (r *valuesReply) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var taken int
		switch {
		case r.value != nil && r.at < len(r.value):
			taken = copy(r.value[r.at:], p[n:])
			r.filled(taken)
		case r.skip > 0:
			taken = min(r.skip, len(p)-n)
			r.skip -= taken
		default:
			taken = 1
			err = r.header(p[n])
		}
		n += taken
	}
	return n, err
}

// ReadFrom takes a part of the reply, a value straight into its place.
func (r *valuesReply) ReadFrom(src io.Reader) (n int64, err error) {
	for err == nil {
		var taken int
		if r.value != nil && r.at < len(r.value) {
			taken, err = src.Read(r.value[r.at:])
			r.filled(taken)
		} else {
			taken, err = src.Read(r.few[:])
			if _, bad := r.Write(r.few[:taken]); bad != nil {
				err = bad
			}
		}
		n += int64(taken)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// filled notes that n more bytes of a value have come.
func (r *valuesReply) filled(n int) {
	r.at += n
	switch {
	case r.at < len(r.value):
	case r.at < r.size:
		more := make([]byte, min(2*r.at, r.size))
		copy(more, r.value)
		r.value = more
	default:
		var bad error
		if r.check {
			bad = checkStored(r.value)
		}
		if bad != nil {
			r.corrupt = append(r.corrupt, corruptValue{r.seen, bad})
		} else {
			r.values[r.seen] = r.value
		}
		r.value = nil
		r.seen++
	}
}

// header takes a byte of a header.
func (r *valuesReply) header(c byte) error {
	switch {
	case c == '\n':
		line := r.line[:r.n]
		r.n = 0
		return r.headed(line)
	case c == '\r':
	case r.n < len(r.line):
		r.line[r.n] = c
		r.n++
	}
	return nil // An error's text may be cut; its beginning tells what it is.
}

// headed takes a header. One that comes after an error is that of the reply of
// another node of a Cluster, to which the error has pointed.
func (r *valuesReply) headed(line []byte) error {
	r.err = nil
	if len(line) == 0 {
		return errNotValues
	}
	size, err := strconv.Atoi(string(line[1:]))
	switch {
	case line[0] == '-' && !r.array:
		r.err = serverError(line[1:])
		return r.err // For go-redis to see what it is.
	case line[0] == '*' && err == nil && !r.array && r.seen == 0 && size == len(r.values):
		r.array = true
		return nil
	case r.seen == len(r.values), size > engine.LimitMaxValueBytes:
		return errNotValues
	case line[0] == '$' && err == nil && size >= 0:
		r.value, r.size, r.at, r.skip = make([]byte, min(size, firstBytes)), size, 0, len("\r\n")
		r.filled(0) // An empty one is there.
		return nil
	case line[0] == '$' && size == -1, len(line) == 1 && line[0] == '_':
		r.seen++
		return nil
	}
	return fmt.Errorf("%w: it begins with %q", errNotValues, line[0])
}

// corruption returns why the value at an index is not JSON, or nil.
func (r *valuesReply) corruption(at int) error {
	for _, bad := range r.corrupt {
		if bad.at == at {
			return bad.err
		}
	}
	return nil
}

// result is the server's error, or one that says that values are lacking.
func (r *valuesReply) result() error {
	if r.err == nil && r.seen < len(r.values) {
		return errNotValues
	}
	return r.err
}
