package toxic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
)

func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // Toxics write to a logger of their own.
	os.Exit(m.Run())
}

// A network is a proxy in front of a server.
type network struct {
	*toxiproxy.Proxy
	addr, server string
}

func newNetwork(t *testing.T, server *redistest.Server) *network {
	t.Helper()
	n := &network{addr: "127.0.0.1:0", server: server.Addr}
	require.NoError(t, n.start())
	t.Cleanup(n.stop)
	return n
}

func (n *network) start() error {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n.Proxy = toxiproxy.NewProxy(api, "", n.addr, n.server)
	err := n.Proxy.Start()
	n.addr = n.Proxy.Listen
	return err
}

// stop breaks all connections. Toxiproxy may wait for itself if a toxic came or
// went in the moment in which a connection ended; it is left behind then.
func (n *network) stop() {
	proxy := n.Proxy
	_ = patiently(func() error { proxy.Stop(); return nil })
}

// heal puts a proxy without toxics in the place of the old one.
func (n *network) heal() (err error) {
	n.stop()
	for range 1000 {
		if err = n.start(); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// add adds a toxic in one direction, upstream being that of the requests. Its
// attributes are JSON.
func (n *network) add(kind, direction, attributes string) error {
	toxics := n.Toxics
	return patiently(func() error {
		_, err := toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name":"toxic","type":%q,"stream":%q,"attributes":%s}`, kind, direction, attributes)))
		return err
	})
}

// remove takes the toxic away and leaves connections as they are.
func (n *network) remove(ctx context.Context) error {
	toxics := n.Toxics
	return patiently(func() error { return toxics.RemoveToxic(ctx, "toxic") })
}

var errStuck = errors.New("toxiproxy waits for itself")

// patiently calls f and leaves it behind if it takes too long.
func patiently(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(2 * time.Second):
		return errStuck
	}
}

// open opens a store at an address.
func open(t *testing.T, addr string, opts ...kv.Option) kv.Store {
	t.Helper()
	s, err := kv.Open(t.Context(), kv.Config{Backend: "redis", Redis: kv.RedisConfig{
		URL:            kv.RedisURL("redis://" + addr),
		SocketTimeout:  30 * time.Second, // The callers' own deadlines have to do.
		MaxConnections: 8,
	}}, "docs", opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// doc is a document that names its id and version, of a size.
func doc(id string, version, size int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"id":%q,"version":%d,"pad":%q}`, id, version, strings.Repeat("x", size)))
}

func items(id string, version, size int) map[string]json.RawMessage {
	return map[string]json.RawMessage{id: doc(id, version, size)}
}

func insert(ctx context.Context, s kv.Store, items map[string]json.RawMessage) (int, error) {
	i, _ := kv.As[kv.Inserter](s)
	return i.Insert(ctx, items)
}
