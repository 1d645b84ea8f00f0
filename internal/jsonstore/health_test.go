//go:build unix

package jsonstore

import (
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/health"
	"github.com/ngraf/kv/internal/testkit"
)

// A smallDisk has as much room as it is told.
type smallDisk struct {
	*crashfs.FS
	free int64
}

func (d *smallDisk) Free() (int64, error) { return d.free, nil }

// A patient is an engine that something is done to.
type patient struct {
	*testing.T
	engine *Engine
	store  *enginetest.Store
	disk   *smallDisk
}

// planted stands in ids and values, and must not be in a finding.
const planted = "GEHEIM"

// codes are what a check finds.
func (p *patient) codes() (codes []string) {
	p.Helper()
	r := &health.Report{Namespace: "t", Now: time.Now}
	p.engine.Check(p.Context(), r)
	for _, f := range r.Findings() {
		codes = append(codes, f.Code)
		require.Equal(p, "dir", f.Where)
		require.Equal(p, "t", f.Namespace)
		require.Regexp(p, `^[A-Z][^\n]*[^.]\.$`, f.Text)
		require.NotContains(p, fmt.Sprintf("%+v", f), planted)
	}
	return codes
}

func (p *patient) upsert(value string) error {
	return p.store.Upsert(p.Context(), testkit.One(planted, `"`+value+`"`))
}

// What is done to an engine and its disk, and what Check says of it.
func TestJSONCheckOfTheEngine(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		harm func(p *patient)
		want []string
	}{
		"good":   {func(*patient) {}, nil},
		"full":   {func(p *patient) { p.disk.free = 10 << 10 }, []string{"json-disk-full"}},
		"nearly": {func(p *patient) { p.disk.free = 1500 + 64<<10 }, []string{"json-disk-low"}},
		"stopped": {func(p *patient) {
			require.NoError(p, p.upsert("x"))
			p.disk.SetHook(func(op crashfs.Op) error {
				if op.Kind == "sync" {
					return syscall.EIO
				}
				return nil
			})
			require.ErrorIs(p, p.upsert("x"), syscall.EIO)
			p.disk.SetHook(nil)
		}, []string{"json-stopped"}},
		"held": {func(p *patient) {
			p.Cleanup(p.engine.HoldCompaction())
			require.NoError(p, p.upsert(strings.Repeat("x", 1500)))
		}, nil},
		"outgrown": {func(p *patient) {
			p.Cleanup(p.engine.HoldCompaction())
			require.NoError(p, p.upsert(strings.Repeat("x", 3000)))
		}, []string{"json-journal-outgrown"}},
		"compaction fails": {func(p *patient) {
			p.disk.SetHook(func(op crashfs.Op) error {
				if writesDocument(op) {
					return syscall.ENOSPC
				}
				return nil
			})
			require.NoError(p, p.upsert(strings.Repeat("x", 1500)))
			p.engine.auto.running.Wait()
		}, []string{"json-journal-outgrown"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &patient{T: t, disk: &smallDisk{FS: crashfs.New(), free: 1 << 40}}
			p.disk.Put(documentName, []byte(`{"`+planted+`": "`+planted+`"}`))
			var err error
			p.engine, err = Open(t.Context(), Options{
				Dir: "dir", Namespace: "t", Files: p.disk, Policy: policyAlways, CompactAt: 1000, Logger: slog.New(slog.DiscardHandler),
			})
			require.NoError(t, err)
			p.store = enginetest.Wrap(p.engine)
			require.Empty(t, p.codes(), "before")
			tt.harm(p)
			require.Equal(t, tt.want, p.codes())
			p.disk.SetHook(nil)
			require.NoError(t, p.store.Close())
		})
	}
}
