package leaks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvtest"
)

// limit is small enough for the suite to try it.
const limit = 1 << 20

// harnessOf opens each namespace by a factory of its own, since a factory has
// one time to live for it, with a context of the harness. All that is said of its stores is told to o.
func harnessOf(ctx context.Context, t *testing.T, o *telling, cfg kv.Config, opts ...kv.Option) kvtest.Harness {
	cfg.MaxValueBytes = limit
	opts = append(opts, kv.WithLogger(o.Logger()))
	var mu sync.Mutex
	factories := make(map[string]*kv.Factory)
	open := func(namespace string, ttl time.Duration) (kv.Store, error) {
		mu.Lock()
		defer mu.Unlock()
		f := factories[namespace]
		if f == nil {
			cfg := cfg
			cfg.TTL = map[string]time.Duration{namespace: ttl}
			var err error
			if f, err = kv.NewFactory(cfg, opts...); err != nil {
				return nil, err
			}
			t.Cleanup(func() { _ = f.Close() })
			factories[namespace] = f
		}
		s, err := f.Open(ctx, namespace)
		if err != nil {
			return nil, err
		}
		return o.wrap(t, s), nil
	}
	return kvtest.Harness{Open: open, Persistent: true, MaxValueBytes: limit}
}

// plantFile writes a document file with values that are not JSON. Only those
// can stand in one whose end can be told, such as Python's NaN.
func plantFile(dir, namespace string, raw map[string][]byte) error {
	var b bytes.Buffer
	sep := "{"
	for id, value := range raw {
		numbers := strings.NewReplacer("-Infinity", "0", "Infinity", "0", "NaN", "0").Replace(string(value))
		if !json.Valid([]byte(numbers)) {
			return errors.ErrUnsupported
		}
		name, err := json.Marshal(id)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s%s: %s", sep, name, value)
		sep = ", "
	}
	b.WriteString("}")
	return os.WriteFile(filepath.Join(dir, "kv_store_"+namespace+".json"), b.Bytes(), 0o600)
}

func plantKeys(t *testing.T, server *redistest.Server, namespace string, raw map[string][]byte) error {
	for id, value := range raw {
		if err := server.Client().Set(t.Context(), "nano_graphrag:"+namespace+":"+id, value, 0).Err(); err != nil {
			return err
		}
	}
	return nil
}
