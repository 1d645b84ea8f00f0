package strangers

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// inject does one thing after another to the servers and the way to them.
func (run Run) inject(t *testing.T, r *Report, end time.Time) {
	for time.Now().Before(end) {
		server := run.Servers[rand.N(len(run.Servers))]
		left := time.Until(end)
		switch rand.N(5) {
		case 0:
			r.Kills.Add(1)
			if err := testkit.KillTCP(t.Context(), server); err != nil {
				t.Errorf("%v", err)
			}
		case 1:
			r.Kills.Add(1)
			if err := killSome(t.Context(), server); err != nil {
				t.Errorf("%v", err)
			}
		case 2, 3:
			r.Stops.Add(1)
			server.Pause()
			time.Sleep(min(left, rand.N(stopped)))
			server.Resume()
		case 4:
			run.strain(r, left)
		}
		time.Sleep(min(max(time.Until(end), 0), rand.N(patience)))
	}
	if run.Link != nil {
		run.Link.SetRate(0)
	}
}

// strain makes the link slow for a while, or cuts it.
func (run Run) strain(r *Report, left time.Duration) {
	switch {
	case run.Link == nil:
	case rand.N(4) == 0:
		r.Cuts.Add(1)
		run.Link.Cut()
	default:
		r.Spells.Add(1)
		run.Link.SetRate(256<<10 + rand.N(4<<20)) // Bytes a second.
		time.Sleep(min(left, rand.N(2*stopped)))
		run.Link.SetRate(0)
	}
}

// killSome ends a third of the TCP connections.
func killSome(ctx context.Context, server *redistest.Server) error {
	list, err := server.Client().ClientList(ctx).Result()
	if err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " laddr="+server.Addr+" ") || rand.N(3) > 0 {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
		if err := server.Client().ClientKillByFilter(ctx, "ID", id).Err(); err != nil {
			return err
		}
	}
	return nil
}
