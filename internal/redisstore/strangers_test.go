package redisstore

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/strangers"
	"github.com/ngraf/kv/internal/testkit"
)

// strangersRounds are those in which a defect has to show itself.
const strangersRounds = 60

// among has strangers call stores of one client, which may have a defect, until
// the report has something or enough rounds were without.
func among(t *testing.T, defect func(t *testing.T, s *enginetest.Store), found func(r *strangers.Report) bool) *strangers.Report {
	server := redistest.Start(t)
	link := testkit.StartLink(t, server.Addr, 0)
	o := settled("redis://" + link.Addr)
	client, err := Connect(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	spoilt := false
	r := strangers.Run{
		Owners: 200, Patience: time.Second, Servers: []*redistest.Server{server}, Link: link,
		Open: func(namespace string) strangers.Namespace {
			s := enginetest.Wrap(New(client, o, namespace, func() error { return nil }))
			if !spoilt { // The first, whose ways are those of all.
				defect(t, s)
				spoilt = true
			}
			return strangers.Namespace{Store: s, GetMany: s.GetMany}
		},
		Go: func(rounds int, r *strangers.Report) bool { return rounds < strangersRounds && !found(r) },
	}.Do(t)
	t.Log(r)
	return r
}

// The run of strangers can fail: it sees a queue that keeps what was given up,
// commands that do not ask for their caller, and replies that reach another
// caller (reliability.md, known-bad gate).
func TestRedisGateStrangers(t *testing.T) {
	older := func(r *strangers.Report) bool { return len(r.Older()) > 0 }
	wrong := func(r *strangers.Report) bool { return len(r.Wrong()) > 0 }
	t.Run("hoarded", func(t *testing.T) { require.True(t, older(among(t, hoard, older))) })
	t.Run("exchanged", func(t *testing.T) { require.True(t, wrong(among(t, exchange, wrong))) })
	t.Run("forgotten", func(t *testing.T) { require.True(t, older(among(t, forget, older))) })
}

// exchange gives two readers of a group each other's value.
func exchange(_ *testing.T, s *enginetest.Store) {
	c := engineOf(s).way.combiner
	execute := c.execute
	c.execute = func(ctx context.Context, cmds []single) {
		execute(ctx, cmds)
		for _, cmd := range cmds {
			if read, ok := cmd.Cmder.(*valuesCmd); ok && len(read.reply.values) > 1 {
				values := read.reply.values
				values[0], values[1] = values[1], values[0]
			}
		}
	}
}

// forget leaves a write out of each group, which looks as if it had been
// acknowledged.
func forget(_ *testing.T, s *enginetest.Store) {
	c := engineOf(s).way.combiner
	execute := c.execute
	c.execute = func(ctx context.Context, cmds []single) {
		at := slices.IndexFunc(cmds, func(s single) bool { return s.Name() == "set" })
		if at >= 0 && len(cmds) > 1 {
			cmds = slices.Concat(cmds[:at], cmds[at+1:])
		}
		execute(ctx, cmds)
	}
}
