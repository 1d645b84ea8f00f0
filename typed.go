package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"sync"
	"time"
	"unicode/utf8"
	"weak"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
	"github.com/ngraf/kv/internal/once"
)

// A Typed reads and writes documents of one Go type in a [Store], by way of
// encoding/json.
type Typed[T any] struct {
	store   Store
	options ComputeOptions[T]

	// For Compute.
	flights *once.Flights // of the built-in store, or of store
	built   *store        // nil: there is none
	mappers []IDMapper    // from store down to it
}

// For returns a typed view of s. It costs little; views of one store, made at
// any time, share what they compute.
func For[T any](s Store) Typed[T] {
	t := Typed[T]{store: s}
	if t.built, t.mappers = builtBelow(s); t.built != nil {
		t.flights = t.built.flights
	} else {
		t.flights = foreignFlights(s)
	}
	return t
}

// builtBelow returns the built-in store that Compute works on, and how to get
// there; nil if it works on the methods of s alone.
func builtBelow(s Store) (*store, []IDMapper) {
	var mappers []IDMapper
	for {
		if built, ok := s.(*store); ok {
			return built, mappers
		}
		m, ok := s.(IDMapper)
		if !ok {
			return nil, nil
		}
		mappers = append(mappers, m)
		s = m.Unwrap()
	}
}

// foreign has the flights of stores that are not built in, as long as there is
// a view of them, or a call under way.
var foreign = struct {
	sync.Mutex
	flights map[Store]weak.Pointer[once.Flights]
}{flights: make(map[Store]weak.Pointer[once.Flights])}

// foreignFlights are the same for all views of a store, if it can be compared.
func foreignFlights(s Store) *once.Flights {
	foreign.Lock()
	defer foreign.Unlock()
	same := s != nil && reflect.ValueOf(s).Comparable()
	if same {
		if g := foreign.flights[s].Value(); g != nil {
			return g
		}
	}
	g := once.New(&lease.Local{
		Get: func(ctx context.Context, id string) (json.RawMessage, error) { return s.Get(ctx, id) },
		Insert: func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error) {
			return insertForeign(ctx, s, id, value, ttl)
		},
	}, nil, slog.Default())
	if same {
		w := weak.Make(g)
		foreign.flights[s] = w
		runtime.AddCleanup(g, func(s Store) {
			foreign.Lock()
			defer foreign.Unlock()
			if foreign.flights[s] == w { // Else there are others by now.
				delete(foreign.flights, s)
			}
		}, s)
	}
	return g
}

// insertForeign stores a document if there is none, and reports whether it did.
func insertForeign(ctx context.Context, s Store, id string, value json.RawMessage, ttl time.Duration) (bool, error) {
	items := map[string]json.RawMessage{id: value}
	if in, ok := s.(Inserter); ok && ttl == 0 {
		n, err := in.Insert(ctx, items)
		return n > 0, err
	}
	write := s.Upsert
	if ttl > 0 {
		e, ok := s.(Expirer)
		if !ok {
			return false, fault.Invalidf("ComputeOptions.TTL: the store has no UpsertTTL")
		}
		write = func(ctx context.Context, items map[string]json.RawMessage) error { return e.UpsertTTL(ctx, items, ttl) }
	}
	if _, err := s.Get(ctx, id); !errors.Is(err, ErrNotFound) {
		return false, err
	}
	err := write(ctx, items)
	return err == nil, err
}

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
