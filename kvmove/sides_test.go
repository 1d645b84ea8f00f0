package kvmove

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

type wrapper struct{ kv.Store }

func (w wrapper) Unwrap() kv.Store { return w.Store }

// A built-in store is reached by its engine. A wrapper is asked by the nine
// methods alone, and only for its namespace and times to live is it looked
// through; a store of others has what it shows.
func TestSides(t *testing.T) {
	t.Parallel()
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	defer s.Close()
	own := sideOf(s)
	require.NotNil(t, own.Engine)
	require.NotNil(t, own.Begin)
	require.NotNil(t, own.Fill)
	require.NotNil(t, own.Fail)
	require.Equal(t, "docs", own.Namespace)
	require.Positive(t, own.MaxValue)

	wrapped := sideOf(wrapper{wrapper{s}})
	require.Nil(t, wrapped.Engine)
	require.Nil(t, wrapped.Fill)
	require.NotNil(t, wrapped.Expirer)
	require.Equal(t, "docs", wrapped.Namespace)

	hidden := sideOf(struct{ kv.Store }{s})
	require.Nil(t, hidden.Engine)
	require.Nil(t, hidden.Expirer)
	require.Empty(t, hidden.Namespace)

	require.Nil(t, sideOf(nil))
	require.Nil(t, sideOf(wrapper{nil}).Expirer)
}

// An error is a *kv.Error with the call's own Op, names the namespace and
// matches its cause, whichever call of a store has failed.
func TestErrorsNameTheCall(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, err := kv.NewFactory(kv.Config{WorkingDir: t.TempDir()})
	require.NoError(t, err)
	s, err := f.Open(ctx, "docs")
	require.NoError(t, err)
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"a": json.RawMessage("1")}))
	var stream bytes.Buffer
	_, err = Export(ctx, &stream, f.Open, "docs")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	closed := func(context.Context, string) (kv.Store, error) { return s, nil }

	_, exporting := Export(ctx, new(bytes.Buffer), closed, "docs")
	_, opening := Export(ctx, new(bytes.Buffer), f.Open, "docs")
	_, importing := Import(ctx, bytes.NewReader(stream.Bytes()), closed, Merge)
	_, looking := Import(ctx, bytes.NewReader(stream.Bytes()), f.Open, IfEmpty)
	_, python := ImportPython(ctx, bytes.NewReader([]byte(`{"a":1}`)), s, "docs", MergeOver)
	_, migrating := Migrate(ctx, s, wrapper{s}, Options{})
	_, verifying := Verify(ctx, s, wrapper{s})
	for _, c := range []struct {
		op  string
		err error
	}{
		{"export", exporting}, {"export", opening}, {"import", importing}, {"import", looking}, {"import", python},
		{"migrate", migrating}, {"verify", verifying},
	} {
		var e *kv.Error
		require.ErrorAs(t, c.err, &e)
		require.Equal(t, c.op, e.Op)
		require.ErrorIs(t, c.err, kv.ErrClosed)
		require.Equal(t, "docs", e.Namespace)
		require.Equal(t, 1, bytes.Count([]byte(c.err.Error()), []byte("docs")), c.err.Error())
	}
	_, err = Status(ctx, s, wrapper{s})
	var e *kv.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "status", e.Op)
	require.ErrorIs(t, err, kv.ErrInvalid)
	require.ErrorContains(t, err, "kv: status docs: ")
	_, err = VerifyExport(ctx, bytes.NewReader(nil))
	require.ErrorContains(t, err, "kv: import: corrupt data: line 1: ")
	require.True(t, errors.Is(err, kv.ErrCorrupt))
}
