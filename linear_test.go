package kv_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redistest"
)

// registers are the documents of a history, each by itself: "" stands for none.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byID := make(map[string][]porcupine.Operation)
		for _, op := range history {
			id := op.Input.(registerOp).id
			byID[id] = append(byID[id], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byID {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, op := state.(string), input.(registerOp)
		switch op.kind {
		case "get":
			return output == now, now
		case "upsert":
			return true, op.value
		case "insert":
			if now == "" {
				return output == "1", op.value
			}
			return output == "0", now
		default: // delete
			if now == "" {
				return output == "0", ""
			}
			return output == "1", ""
		}
	},
}

type registerOp struct{ kind, id, value string }

func (op registerOp) call(t *testing.T, s builtin) (string, error) {
	items := map[string]json.RawMessage{op.id: json.RawMessage(op.value)}
	switch op.kind {
	case "get":
		value, err := s.Get(t.Context(), op.id)
		if errors.Is(err, kv.ErrNotFound) {
			return "", nil
		}
		return string(value), err
	case "upsert":
		return "", s.Upsert(t.Context(), items)
	case "insert":
		n, err := s.Insert(t.Context(), items)
		return strconv.Itoa(n), err
	default:
		n, err := s.Delete(t.Context(), op.id)
		return strconv.Itoa(n), err
	}
}

// Get, Upsert, Insert and Delete of 32 clients on 10 ids are linearizable:
// each takes effect at one moment between its call and its return.
func TestLinearizableJSON(t *testing.T) {
	t.Parallel()
	s, err := kv.Open(jsonstore.WithCompactAt(t.Context(), 16<<10), kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	defer s.Close()
	testLinearizable(t, s.(builtin))
	require.Positive(t, figures(t, s.(builtin)).JSON.Compactions, "the files change under the clients")
}

func TestLinearizableRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	testLinearizable(t, openRedisStore(t, redisCfg(server.URL()), "docs"))
}

func testLinearizable(t *testing.T, s builtin) {
	for range 20 {
		require.NoError(t, s.Drop(t.Context()))
		var mu sync.Mutex
		var history []porcupine.Operation
		began := time.Now()
		var clients sync.WaitGroup
		for c := range 32 {
			clients.Go(func() {
				for i := range 40 {
					op := registerOp{
						kind:  []string{"get", "get", "upsert", "insert", "delete"}[rand.IntN(5)],
						id:    fmt.Sprint("id", rand.IntN(10)),
						value: fmt.Sprint(c*1000 + i + 1),
					}
					call := time.Since(began)
					out, err := op.call(t, s)
					returned := time.Since(began)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					history = append(history, porcupine.Operation{ClientId: c, Input: op, Call: int64(call), Output: out, Return: int64(returned)})
					mu.Unlock()
				}
			})
		}
		clients.Wait()
		require.Equal(t, porcupine.Ok, porcupine.CheckOperationsTimeout(registers, history, time.Minute))
	}
}
