package toxic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
)

const (
	patience = 200 * time.Millisecond // of a caller; every toxic holds a reply up for longer
	late     = 100 * time.Millisecond // how much later a call may return
	docSize  = 8 << 10
)

// toxics are Toxiproxy's kinds with their attributes. "down" is the proxy
// disabled.
var toxics = map[string]string{
	"latency":    `{"latency":30000}`,
	"bandwidth":  `{"rate":1}`,
	"slow_close": `{"delay":30000}`,
	"timeout":    `{"timeout":0}`,
	"slicer":     `{"average_size":1,"size_variation":0,"delay":20000}`,
	"limit_data": `{"bytes":10}`,
	"reset_peer": `{"timeout":0}`,
	"down":       "",
}

// A trial is one call of one store with a toxic in one direction.
type trial struct {
	toxic, direction, op string
	alone                bool // without auto-pipelining
	network              *network
	store, direct        kv.Store
	outcome              string
}

func (x *trial) String() string {
	return fmt.Sprintf("%s %s, %s, alone %t", x.toxic, x.direction, x.op, x.alone)
}

// calls do one operation on documents of their own and say whether it was
// acknowledged. Their error is a wrong answer; failed is what the call said.
var calls = map[string]func(ctx context.Context, s kv.Store, id string) (acknowledged bool, failed, wrong error){
	"get": func(ctx context.Context, s kv.Store, id string) (bool, error, error) {
		value, err := s.Get(ctx, id)
		if err == nil && !bytes.Equal(value, doc(id, 1, docSize)) {
			return false, nil, errors.New("another value")
		}
		return false, err, nil
	},
	"getmany": func(ctx context.Context, s kv.Store, id string) (bool, error, error) {
		values, err := s.GetMany(ctx, []string{id, "absent", id})
		if err == nil && (values[1] != nil || !bytes.Equal(values[0], doc(id, 1, docSize)) || !bytes.Equal(values[0], values[2])) {
			return false, nil, errors.New("other values")
		}
		return false, err, nil
	},
	"upsert": func(ctx context.Context, s kv.Store, id string) (bool, error, error) {
		err := s.Upsert(ctx, items(id, 2, docSize))
		return err == nil, err, nil
	},
	"insert": func(ctx context.Context, s kv.Store, id string) (bool, error, error) {
		n, err := insert(ctx, s, items(id+"-new", 2, docSize))
		if err == nil && n != 1 {
			return false, nil, fmt.Errorf("inserted %d", n)
		}
		return err == nil, err, nil
	},
	"delete": func(ctx context.Context, s kv.Store, id string) (bool, error, error) {
		n, err := s.Delete(ctx, id)
		if err == nil && n != 1 {
			return false, nil, fmt.Errorf("deleted %d", n)
		}
		return err == nil, err, nil
	},
}

// Every toxic, in both directions, on every kind of call, with and without
// auto-pipelining: no call outlives its deadline, its answer is right or an
// error of the documented class, what was acknowledged is there afterwards,
// and the store works again (reliability.md: cancel or deadline at any point).
func TestToxics(t *testing.T) {
	server := redistest.Start(t)
	direct := open(t, server.Addr)
	var mu sync.Mutex
	outcomes := make(map[string]map[string]int)
	var wg sync.WaitGroup
	turn := make(chan struct{}, 16)
	n := 0
	for toxic := range toxics {
		for _, direction := range []string{"upstream", "downstream"} {
			for op := range calls {
				for _, alone := range []bool{false, true} {
					n++
					var opts []kv.Option
					if alone {
						opts = append(opts, kv.WithoutAutoPipelining())
					}
					net := newNetwork(t, server)
					x := &trial{toxic: toxic, direction: direction, op: op, alone: alone, network: net, store: open(t, net.addr, opts...), direct: direct}
					wg.Go(func() {
						turn <- struct{}{}
						defer func() { <-turn }()
						if err := x.run(t.Context()); err != nil {
							t.Errorf("%v: %v", x, err)
						}
						mu.Lock()
						defer mu.Unlock()
						if outcomes[x.toxic] == nil {
							outcomes[x.toxic] = make(map[string]int)
						}
						outcomes[x.toxic][x.outcome]++
					})
				}
			}
		}
	}
	wg.Wait()
	require.Equal(t, 2*80, n)
	for toxic, by := range outcomes {
		t.Log(toxic, by)
		require.Equal(t, toxic == "slow_close", by["answered"] == 20, "every toxic but slow_close harms calls")
	}
}

// run does the call up to three times: one that is late each time waits for
// the toxic, and not for the machine.
func (x *trial) run(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		id := fmt.Sprintf("%v, %d", x, attempt)
		if err := x.direct.Upsert(ctx, items(id, 1, docSize)); err != nil {
			return err
		}
		if _, err := x.store.Get(ctx, id); err != nil {
			return fmt.Errorf("before the toxic: %w", err)
		}
		if err := x.poison(); err != nil {
			return err
		}
		acknowledged, lateness, failed, wrong := x.call(id)
		x.outcome = outcome(failed)
		switch {
		case wrong != nil:
			return wrong
		case failed != nil && !documented(failed, x.op):
			return fmt.Errorf("an error of no documented class: %w", failed)
		}
		if err := x.network.heal(); err != nil {
			return err
		}
		if err := x.holds(ctx, id, acknowledged); err != nil {
			return err
		}
		if err := await(func() error { _, err := x.store.Get(ctx, "absent"); return err }); !errors.Is(err, kv.ErrNotFound) {
			return fmt.Errorf("after the toxic: %w", err)
		}
		if lateness <= late {
			return nil
		} else if attempt == 3 {
			return fmt.Errorf("returned %v after its deadline", lateness)
		}
	}
}

// call returns also how much later than another goroutine that waits for the
// same deadline it came back.
func (x *trial) call(id string) (acknowledged bool, lateness time.Duration, failed, wrong error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	control := make(chan time.Duration, 1)
	go func() { <-ctx.Done(); control <- time.Since(began) }()
	acknowledged, failed, wrong = calls[x.op](ctx, x.store, id)
	took := time.Since(began)
	if took > patience {
		lateness = took - max(patience, <-control)
	}
	return acknowledged, lateness, failed, wrong
}

func (x *trial) poison() error {
	if x.toxic == "down" {
		x.network.stop()
		return nil
	}
	return x.network.add(x.toxic, x.direction, toxics[x.toxic])
}

// outcome is the class of what a call said.
func outcome(err error) string {
	switch {
	case err == nil:
		return "answered"
	case errors.Is(err, context.DeadlineExceeded):
		return "ended"
	}
	return "unavailable"
}

// documented reports whether an error is one of those that the contract has
// for a server that does not answer in time.
func documented(err error, op string) bool {
	ended, away := errors.Is(err, context.DeadlineExceeded), errors.Is(err, kv.ErrUnavailable)
	var e *kv.Error
	return errors.As(err, &e) && e.Op == op && ended != away &&
		(!errors.Is(err, kv.ErrOutcomeUnknown) || op == "insert" || op == "delete")
}

// holds checks on a connection of its own that what was acknowledged is so,
// and that what was not is old or new.
func (x *trial) holds(ctx context.Context, id string, acknowledged bool) error {
	want, before := doc(id, 1, docSize), doc(id, 1, docSize)
	switch x.op {
	case "upsert":
		want = doc(id, 2, docSize)
	case "insert":
		id += "-new"
		want, before = doc(id, 2, docSize), nil
	case "delete":
		want = nil
	}
	value, err := x.direct.Get(ctx, id)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	allowed := [][]byte{want, before}
	if acknowledged {
		allowed = allowed[:1]
	}
	if !slices.ContainsFunc(allowed, func(v []byte) bool { return bytes.Equal(v, value) }) {
		return fmt.Errorf("acknowledged %t, and there are %d bytes", acknowledged, len(value))
	}
	return nil
}

// await calls until the server is found to answer, or for ten seconds.
func await(call func() error) (err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err = call(); !errors.Is(err, kv.ErrUnavailable) {
			return err
		}
	}
	return err
}
