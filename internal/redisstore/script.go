package redisstore

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// perScript is about how many documents a script is asked at a time: the server
// does nothing else meanwhile.
const perScript = 200

// A script answers a question about each of many documents. It is sent as text
// for the first time, and by its digest from then on; a server that does not
// know it, after a restart or in a Cluster, gets the text again.
type script struct {
	text, sha string
	sent      atomic.Bool
}

func newScript(text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{text: text, sha: hex.EncodeToString(sum[:])}
}

// command makes one of parts of a command.
func (s *script) command(ctx context.Context, known bool, keys, args []any) *redis.SliceCmd {
	all := []any{"eval", s.text, len(keys)}
	if known {
		all = []any{"evalsha", s.sha, len(keys)}
	}
	return redis.NewSliceCmd(ctx, slices.Concat(all, keys, args)...)
}

// What a script said of one document. If it begins with -1, it is an error
// that the script has met there.
type said struct {
	reply []any
	fate  fate // if it failed, over all attempts
	err   error
}

// A scriptError is one that a script has met.
type scriptError string

func (e scriptError) Error() string { return string(e) }
func (scriptError) RedisError()     {}

func (s said) at(i int) any {
	if i < len(s.reply) {
		return s.reply[i]
	}
	return nil
}

func (s said) number(i int) int64 { n, _ := s.at(i).(int64); return n }
func (s said) text(i int) string  { text, _ := s.at(i).(string); return text }

// value returns a document, or nil if there is none.
func (s said) value(i int) (json.RawMessage, error) {
	if s.at(i) == nil {
		return nil, nil
	}
	return stored(redis.NewStringResult(s.text(i), nil))
}

// ask puts a question to a script about each of n documents, in one pipeline. A
// command is about many, except in a Cluster. The arguments head are before
// the others.
func (r *leases) ask(ctx context.Context, w *way, again []fate, s *script, head []any, n int, question func(i int) (id string, args []any)) []said {
	size := perScript
	if w.cluster() != nil {
		size = 1
	}
	if n > 1 { // Others would have to wait for it.
		apart := *w
		apart.together = nil
		w = &apart
	}
	known := s.sent.Load()
	build := func(part int) *redis.SliceCmd {
		var keys []any
		args := slices.Clone(head)
		for i := part * size; i < min((part+1)*size, n); i++ {
			id, more := question(i)
			key := r.engine.key(id)
			keys, args = append(keys, key, leaseKey(key)), append(args, more...)
		}
		return s.command(ctx, known, keys, args)
	}
	replies, err := pipeline(ctx, w, again, (n+size-1)/size, build)
	if err != nil { // It was cut short, and nothing is known.
		return slices.Repeat([]said{{fate: lost, err: err}}, n)
	}
	answers := make([]said, n)
	for part, reply := range replies {
		if server := redis.Error(nil); errors.As(reply.err, &server) && strings.HasPrefix(server.Error(), "NOSCRIPT") {
			known = false
			reply.cmd, reply.fate, reply.err = share(ctx, w, again, func() *redis.SliceCmd { return build(part) })
		}
		for i := range min(size, n-part*size) {
			a := &answers[part*size+i]
			if a.fate, a.err = reply.fate, reply.err; a.err != nil {
				continue
			}
			s.sent.Store(true)
			if a.reply, _ = reply.cmd.Val()[i].([]any); a.number(0) == -1 {
				a.fate, a.err = classifyReply(scriptError(a.text(1)), a.text(1))
				a.reply = nil
			}
		}
	}
	return answers
}
