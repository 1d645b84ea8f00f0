package toxic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
)

const (
	reads = 1_000_000 / stride
	docs  = 500
)

// No reply ever reaches another caller: a million reads, each of a value that
// names its id, through connections that are reset again and again, by callers
// that give up at any moment (reliability.md: that connection is never handed
// to anybody with a reply pending).
func TestNoStrangersReply(t *testing.T) {
	server := redistest.Start(t)
	for name, opts := range map[string][]kv.Option{"shared": nil, "alone": {kv.WithoutAutoPipelining()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			net := newNetwork(t, server)
			s := open(t, net.addr, opts...)
			for i := range docs {
				require.NoError(t, s.Upsert(t.Context(), items(fmt.Sprint(i), 1, 10)))
			}
			r := reader{store: s}
			done := make(chan struct{})
			var wg sync.WaitGroup
			for range 32 {
				wg.Go(func() { r.read(t, reads/2) })
			}
			go func() { wg.Wait(); close(done) }()
			resets := reset(t, net, done)
			statser, _ := kv.As[kv.Statser](s)
			stats, err := statser.Stats(t.Context())
			require.NoError(t, err)
			t.Logf("%d reads in %d calls, %d gave up, %d resets, %d retries, %d in vain",
				r.right.Load(), r.calls.Load(), r.gaveUp.Load(), resets, stats.Redis.Retries, r.broken.Load())
			require.Greater(t, r.gaveUp.Load(), int64(1000/stride))
			require.Greater(t, stats.Redis.Retries, int64(1000/stride))
		})
	}
}

// reset lets the connections be reset now and then until done, in either
// direction, and says how often.
func reset(t *testing.T, net *network, done <-chan struct{}) int {
	for n := 0; ; n++ {
		select {
		case <-done:
			return n
		case <-time.After(rand.N(40 * time.Millisecond)):
		}
		err := net.add("reset_peer", []string{"upstream", "downstream"}[n%2], `{"timeout":0}`)
		if err == nil {
			time.Sleep(rand.N(2 * time.Millisecond)) // The length of a disturbance.
			err = net.remove(t.Context())
		}
		if errors.Is(err, errStuck) {
			t.Log(err)
			err = net.heal()
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// A reader counts what became of reads.
type reader struct {
	store                        kv.Store
	right, calls, gaveUp, broken atomic.Int64
}

// read goes on until so many reads by all readers were right.
func (r *reader) read(t *testing.T, enough int64) {
	for i := 0; r.right.Load() < enough && !t.Failed(); i++ {
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		switch patience := rand.N(3 * time.Millisecond); i % 4 {
		case 0:
			ctx, cancel = context.WithTimeout(ctx, patience)
		case 1:
			ctx, cancel = context.WithCancel(ctx)
			time.AfterFunc(patience, cancel)
		}
		if i%3 == 0 {
			r.many(ctx, t)
		} else {
			id := fmt.Sprint(rand.N(docs))
			value, err := r.store.Get(ctx, id)
			r.count(t, id, value, err)
		}
		r.calls.Add(1)
		cancel()
	}
}

// many reads up to a hundred documents, of which one in ten is absent.
func (r *reader) many(ctx context.Context, t *testing.T) {
	ids := make([]string, 1+rand.N(100))
	for i := range ids {
		ids[i] = fmt.Sprint(rand.N(docs))
		if rand.N(10) == 0 {
			ids[i] = "absent-" + ids[i]
		}
	}
	values, err := r.store.GetMany(ctx, ids)
	if err != nil {
		r.count(t, "", nil, err)
		return
	}
	for i, id := range ids {
		if strings.HasPrefix(id, "absent") {
			if values[i] != nil {
				t.Errorf("%s is %s", id, values[i])
			}
			continue
		}
		r.count(t, id, values[i], nil)
	}
}

func (r *reader) count(t *testing.T, id string, value []byte, err error) {
	switch {
	case err == nil && string(value) == string(doc(id, 1, 10)):
		r.right.Add(1)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		r.gaveUp.Add(1)
	case errors.Is(err, kv.ErrUnavailable):
		r.broken.Add(1)
	default:
		t.Errorf("%s is %s, %v", id, value, err)
	}
}
