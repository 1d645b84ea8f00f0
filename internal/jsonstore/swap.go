package jsonstore

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

var _ engine.Swapper = (*Engine)(nil)

// Swap looks at the document in the turn of its own write, when no other is
// under way.
func (e *Engine) Swap(ctx context.Context, it engine.Item, same func(value json.RawMessage) bool) (swapped bool, err error) {
	err = e.commit(ctx, &write{alone: func() error {
		if e.closing() {
			return fault.ErrClosed
		}
		value, err := e.Get(ctx, it.ID)
		if errors.Is(err, fault.ErrNotFound) {
			return nil
		}
		if err != nil || !same(value) {
			return err
		}
		err = e.append([]*write{{op: opUpsert, items: []engine.Item{it}}})
		swapped = err == nil
		return err
	}})
	return swapped, err
}
