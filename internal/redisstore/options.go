package redisstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ngraf/kv/internal/fault"
)

// Options are all that a client and its engines are made from. They are
// settled: nothing in them stands for a default.
type Options struct {
	Addrs          []string // host:port, or the path of one unix socket
	DB             int
	TLS            bool
	Insecure       bool // the server's certificate is not verified
	Cluster        bool
	MasterName     string // not empty: the addresses are Sentinels
	ClientName     string
	Protocol       int
	MaxConnections int

	Username, Password         string
	PasswordFile               string // read at every new connection
	SentinelUser, SentinelPass string

	CAFile, CertFile, KeyFile, ServerName string

	ConnectionTimeout, SocketTimeout time.Duration
	HealthCheckInterval              time.Duration // negative: for ever
	CircuitFailures                  int           // 0: no circuit
	CircuitCooldown                  time.Duration
	ClientCache                      int64 // bytes; 0: none
	Maint                            maintnotifications.Mode
	WaitReplicas                     int // allReplicas: every one

	KeyPrefix   string // without its colon
	SaveOnFlush bool
	ReadOnly    bool // nothing will be written
	Unshared    bool // every command has a round trip of its own

	Logger *slog.Logger
	States *slog.Logger // of what is said each time, however often

	Given redis.UniversalClient // in place of all about connections; nil: none
}

// allReplicas as WaitReplicas waits for every replica that a master has.
const allReplicas = -1

// Format keeps passwords out of every print.
func (o Options) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "redisstore.Options{%v}", o.Addrs) }

// universal are go-redis's options. They are the only place where a setting
// becomes behaviour of the client.
func (o Options) universal() (*redis.UniversalOptions, error) {
	tlsConfig, err := o.tlsConfig()
	if err != nil {
		return nil, err
	}
	u := &redis.UniversalOptions{
		Addrs:            o.Addrs,
		DB:               o.DB,
		IsClusterMode:    o.Cluster,
		MasterName:       o.MasterName,
		ClientName:       o.ClientName,
		Protocol:         o.Protocol,
		Username:         o.Username,
		Password:         o.Password,
		SentinelUsername: o.SentinelUser,
		SentinelPassword: o.SentinelPass,

		DialTimeout:           o.ConnectionTimeout,
		ReadTimeout:           o.SocketTimeout,
		WriteTimeout:          o.SocketTimeout,
		ContextTimeoutEnabled: true,
		Dialer:                dialer(o.ConnectionTimeout, tlsConfig),
		DialerRetries:         1,
		MaxRetries:            -1, // Ours know whether a command may have run; see retry.

		// One pool whose size is exact: go-redis's own for pipelines would
		// come on top.
		PoolSize:         o.MaxConnections,
		MaxActiveConns:   o.MaxConnections,
		PipelinePoolSize: -1,
		PoolTimeout:      poolWait,
		ConnMaxIdleTime:  o.HealthCheckInterval,
		TLSConfig:        tlsConfig,

		// Old and managed servers refuse both. Each client makes a Config of its
		// own from this one, in which it notes what the server refused.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: cmp.Or(o.Maint, maintnotifications.ModeDisabled)},
	}
	if u.ConnMaxIdleTime < 0 {
		u.ConnMaxIdleTime = -1 // go-redis's word for never.
	}
	if file := o.PasswordFile; file != "" {
		user := o.Username
		u.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := readSecret(file)
			return user, password, err
		}
	}
	return u, nil
}

// trustFor is how long a cached document is trusted where connections are
// trusted for ever.
const trustFor = 30 * time.Second

// cache plugs the cache in.
func (o Options) cache(u *redis.UniversalOptions) *docCache {
	if o.ClientCache == 0 {
		return nil
	}
	trust := o.HealthCheckInterval
	if trust <= 0 {
		trust = trustFor
	}
	cache := newDocCache(o.ClientCache, trust)
	u.ClientSideCache = cache
	return cache
}

// dialer dials within the context, TLS handshake included, which go-redis's
// own does not. Its errors are dialErrors.
func dialer(timeout time.Duration, tlsConfig *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout}
	dial := plain.DialContext
	if tlsConfig != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: tlsConfig}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		if raw, ok := conn.(syscall.Conn); ok { // Not one with TLS.
			return &freshConn{Conn: conn, raw: raw}, nil
		}
		return conn, nil
	}
}

// A dialError tells that there was no connection to send anything on, whatever
// went wrong.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// tlsConfig verifies with the system's roots unless a setting says otherwise.
func (o Options) tlsConfig() (*tls.Config, error) {
	if !o.TLS {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName, InsecureSkipVerify: o.Insecure}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("REDIS_CA_FILE: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.Invalidf("REDIS_CA_FILE: no PEM certificate in %s", o.CAFile)
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("REDIS_CERT_FILE, REDIS_KEY_FILE: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func readSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", &loginError{fmt.Errorf("REDIS_PASSWORD_FILE: %w", err)}
	}
	return strings.TrimRight(string(text), " \t\r\n"), nil
}

// A loginError keeps an unreadable password file from looking like a server
// that does not answer.
type loginError struct{ cause error }

func (e *loginError) Error() string { return e.cause.Error() }
func (e *loginError) Unwrap() error { return e.cause }
