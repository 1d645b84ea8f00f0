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

// A question is what a script is asked about a document.
type question struct {
	id   string
	keys [2]string // of the document and the lease, in one slot
	args []any
}

// What was said to a question.
type said struct {
	reply []any
	fate  fate // if it failed, over all attempts
	err   error
}

// A scriptError is one that a script has caught.
type scriptError string

func (e scriptError) Error() string { return string(e) }
func (scriptError) RedisError()     {}

func (s said) number(i int) int64 {
	if i >= len(s.reply) {
		return 0
	}
	n, _ := s.reply[i].(int64)
	return n
}

func (s said) text(i int) string {
	if i >= len(s.reply) {
		return ""
	}
	text, _ := s.reply[i].(string)
	return text
}

// value returns a document, or nil if there is none.
func (s said) value(i int) (json.RawMessage, error) {
	if i >= len(s.reply) || s.reply[i] == nil {
		return nil, nil
	}
	return stored(redis.NewStringResult(s.text(i), nil))
}

// run asks the questions, with the arguments head before theirs.
func (s *script) run(ctx context.Context, w *way, again []fate, head []any, list []question) []said {
	size := len(list)
	if w.cluster() != nil {
		size = 1
	}
	parts := slices.Collect(slices.Chunk(list, size))
	if len(list) > 1 { // Others would have to wait for it.
		apart := *w
		apart.together = nil
		w = &apart
	}
	answers := make([]said, 0, len(list))
	for i, r := range s.send(ctx, w, again, s.sent.Load(), head, parts) {
		if server := redis.Error(nil); errors.As(r.err, &server) && strings.HasPrefix(server.Error(), "NOSCRIPT") {
			r = s.send(ctx, w, again, false, head, parts[i:i+1])[0]
		}
		for at := range parts[i] {
			a := said{fate: r.fate, err: r.err}
			if r.err == nil {
				s.sent.Store(true)
				a.reply, _ = r.cmd.Val()[at].([]any)
			}
			answers = append(answers, a)
		}
	}
	return answers
}

// send makes a command of each part. Of a call that was cut short nothing is
// known.
func (s *script) send(ctx context.Context, w *way, again []fate, known bool, head []any, parts [][]question) []reply[*redis.SliceCmd] {
	replies, err := pipeline(ctx, w, again, len(parts), func(i int) *redis.SliceCmd {
		args := []any{"eval", s.text, 2 * len(parts[i])}
		if known {
			args = []any{"evalsha", s.sha, 2 * len(parts[i])}
		}
		for _, q := range parts[i] {
			args = append(args, q.keys[0], q.keys[1])
		}
		args = append(args, head...)
		for _, q := range parts[i] {
			args = append(args, q.args...)
		}
		return redis.NewSliceCmd(ctx, args...)
	})
	if err != nil {
		replies = make([]reply[*redis.SliceCmd], len(parts))
		for i := range replies {
			replies[i].fate, replies[i].err = lost, err
		}
	}
	return replies
}
