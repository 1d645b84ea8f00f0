package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/once"
)

// A Typed reads and writes documents of one Go type in a [Store], by way of
// encoding/json.
type Typed[T any] struct {
	store   Store
	options ComputeOptions[T]
	own     *once.Flights // of a store that has none
}

// For returns a typed view of s.
func For[T any](s Store) Typed[T] { return Typed[T]{store: s, own: foreignFlights(s)} }

// Get returns the document with this id. Beside the errors of Store.Get there
// is one that matches [ErrCorrupt], for a document that does not fit T.
func (t Typed[T]) Get(ctx context.Context, id string) (T, error) {
	var v T
	raw, err := t.store.Get(ctx, id)
	if err != nil {
		return v, err
	}
	if err := decode(raw, &v); err != nil {
		var zero T
		return zero, &Error{Op: "get", ID: id, Err: err}
	}
	return v, nil
}

// GetMany returns the documents with these ids that are present. If some are
// corrupt or do not fit T, the error matches [ErrCorrupt] and the map has the
// others.
func (t Typed[T]) GetMany(ctx context.Context, ids ...string) (map[string]T, error) {
	raws, err := t.store.GetMany(ctx, ids)
	if raws == nil {
		return nil, err
	}
	found := make(map[string]T, len(raws))
	for i, raw := range raws {
		if raw == nil {
			continue
		}
		var v T
		if bad := decode(raw, &v); bad != nil {
			if err == nil {
				err = &Error{Op: "getmany", ID: ids[i], Err: bad}
			}
			continue
		}
		found[ids[i]] = v
	}
	return found, err
}

// Upsert stores every item. All are encoded before any is written; a value
// that encoding/json cannot encode without loss, such as a string that is not
// UTF-8, is an error that matches [ErrInvalid].
func (t Typed[T]) Upsert(ctx context.Context, items map[string]T) error {
	raws := make(map[string]json.RawMessage, len(items))
	for id, v := range items {
		raw, err := encode(v)
		if err != nil {
			return &Error{Op: "upsert", ID: id, Err: err}
		}
		raws[id] = raw
	}
	return t.store.Upsert(ctx, raws)
}

// decode hides the text of encoding/json's errors, which may quote a value.
func decode(raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt,
			fault.Veil(fmt.Sprintf("the stored document does not fit %T", v), err))
	}
	return nil
}

// encode is json.Marshal without its escaping for HTML, which would change
// raw messages inside v, and without its silent repair of strings.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, fault.Veil(fmt.Sprintf("a %T cannot be encoded as JSON", v), err))
	}
	raw := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	// The escape stands for a string that is not UTF-8, or it was in a raw
	// message and means what it says.
	if bytes.Contains(raw, []byte(`\ufffd`)) && !allUTF8(reflect.ValueOf(v)) {
		return nil, fault.Invalidf("a %T has a string that is not valid UTF-8", v)
	}
	return raw, nil
}

// allUTF8 reports whether every string reachable from v is valid.
func allUTF8(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || allUTF8(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if !allUTF8(v.Field(i)) {
				return false
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if !allUTF8(it.Key()) || !allUTF8(it.Value()) {
				return false
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return true
		}
		for i := range v.Len() {
			if !allUTF8(v.Index(i)) {
				return false
			}
		}
	}
	return true
}
