package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/fault"
)

// What is known of a command that failed.
type fate int8

const (
	refused fate = iota // it was not executed, and repeating it now is pointless
	passing             // it was not executed; repeating it later may work
	lost                // it may have been executed
	alone               // it was executed, but too few replicas are known to have it
)

// passingCodes are the states of a server that pass. None of them comes from
// a command that was executed.
var passingCodes = []struct{ prefix, remedy string }{
	{"LOADING", "the server is loading its data; wait"},
	{"READONLY", "the server is a replica; a failover may be under way"},
	{"MASTERDOWN", "the replica has lost its master"},
	{"CLUSTERDOWN", "the cluster has lost a part of its slots"},
	{"TRYAGAIN", "a slot is being moved"},
	{"MOVED", "a slot goes from server to server"},
	{"ASK", "a slot is being moved"},
	{"BUSY", "the server runs a long script"},
	{"NOREPLICAS", "too few replicas for min-replicas-to-write"},
	{maxClients, "raise maxclients or lower REDIS_MAX_CONNECTIONS"},
}

// fullCodes are errors of a server that wants its operator. They are not
// repeated: hammering it does not help.
var fullCodes = []struct{ prefix, remedy string }{
	{"OOM", "the server is at maxmemory; raise it or remove documents"},
	{"MISCONF", "the server cannot save to its disk and refuses writes"},
}

var loginCodes = []struct{ prefix, remedy string }{
	{"NOAUTH", "the server wants a password: set REDIS_PASSWORD"},
	{"WRONGPASS", "wrong user or password: check REDIS_URL, REDIS_USERNAME and REDIS_PASSWORD"},
	{"ERR AUTH", "the server refused the login: check REDIS_URL, REDIS_USERNAME and REDIS_PASSWORD"},
	{"ERR invalid password", "wrong password: check REDIS_URL and REDIS_PASSWORD"},
}

// classify translates an error of go-redis and says what is known of the
// command. It returns nil for nil.
func (w *way) classify(ctx context.Context, err error) (fate, error) {
	if err == nil {
		return refused, nil
	}
	if cause := fault.ContextError(ctx); cause != nil {
		return lost, cause
	}
	if wait := (*waitError)(nil); errors.As(err, &wait) {
		return wait.fate, wait.error
	}
	if errors.Is(err, redis.Nil) { // Not the reply, which notNil has dropped, but that of a Sentinel.
		return passing, fmt.Errorf("%w: no Sentinel of %s knows the master_name of REDIS_URL: %w", fault.ErrUnavailable, w.where, err)
	}
	if isMaint(err) {
		return refused, fmt.Errorf("%w: REDIS_MAINT_NOTIFICATIONS=on, but %s has none, or not for this user; use auto or off: %w",
			fault.ErrInvalid, w.where, fault.Veil("it refused CLIENT MAINT_NOTIFICATIONS", err))
	}
	if server := redis.Error(nil); errors.As(err, &server) {
		return classifyReply(err, server.Error())
	}
	var op *net.OpError
	var login *loginError
	var unready *unreadyError
	switch {
	case errors.Is(err, redis.ErrClosed) && w.cluster() != nil && !w.calls.ended():
		return passing, fault.Unavailablef("a node has left the cluster of %s: %w", w.where, err)
	case errors.Is(err, redis.ErrClosed):
		return refused, fmt.Errorf("%w: %w", fault.ErrClosed, err)
	case errors.Is(err, net.ErrClosed) && w.calls.ended(): // In flight when it was closed.
		return lost, fmt.Errorf("%w: %w", fault.ErrClosed, err)
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return refused, fmt.Errorf("%w: all connections to %s are busy; raise REDIS_MAX_CONNECTIONS: %w", fault.ErrUnavailable, w.where, err)
	case errors.As(err, &unready) && w.calls.ended():
		return refused, fmt.Errorf("%w: %w", fault.ErrClosed, unready.cause)
	case errors.As(err, &unready):
		return passing, fmt.Errorf("%w: %s broke the connection before it was ready: %w", fault.ErrUnavailable, w.where, unready.cause)
	case errors.Is(err, errMaxClients):
		return classifyReply(err, maxClients)
	case errors.As(err, &login):
		return refused, login.cause
	case errors.As(err, &op) && op.Op == "dial":
		where := w.where
		if op.Addr != nil { // The one of several that failed.
			where = op.Addr.String()
		}
		return passing, fmt.Errorf("%w: cannot connect to %s: %w", fault.ErrUnavailable, where, op.Err)
	case precedesCommand(err):
		return passing, fmt.Errorf("%w: cannot use %s: %w", fault.ErrUnavailable, w.where, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isNetwork(err):
		return lost, fmt.Errorf("%w: the connection to %s broke: %w", fault.ErrUnavailable, w.where, err)
	}
	// What is left is most likely a reply that cannot be read, and go-redis
	// quotes it.
	return lost, fmt.Errorf("%w: %w", fault.ErrUnavailable, fault.Veil("the reply of "+w.where+" is not one that Redis gives", err))
}

// isMaint reports whether a connection was given up because there are no
// maintenance notifications. Nothing but its greeting asks for them; only the
// text tells, of which go-redis takes its own part off sometimes.
func isMaint(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.HasPrefix(text, "failed to enable maintnotifications") || strings.Contains(text, "maint_notifications")
}

// precedesCommand reports whether an error is known to come from the making of
// a connection. That of the Sentinels is go-redis's, and only its text tells.
func precedesCommand(err error) bool {
	var dial *dialError
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	if errors.As(err, &dial) || errors.As(err, &certificate) || errors.As(err, &header) {
		return true
	}
	return strings.HasPrefix(err.Error(), "redis: all sentinels specified in configuration are unreachable")
}

func isNetwork(err error) bool {
	var n net.Error
	return errors.As(err, &n)
}

// classifyReply handles what the server itself said. Its text may quote the
// arguments of a command, so only known texts are passed on.
func classifyReply(err error, text string) (fate, error) {
	for _, code := range passingCodes {
		if strings.HasPrefix(text, code.prefix) {
			return passing, fmt.Errorf("%w: %w", fault.ErrUnavailable, fault.Veil(code.prefix+": "+code.remedy, err))
		}
	}
	for _, code := range fullCodes {
		if strings.HasPrefix(text, code.prefix) {
			return refused, fmt.Errorf("%w: %w", fault.ErrUnavailable, fault.Veil(code.prefix+": "+code.remedy, err))
		}
	}
	for _, code := range loginCodes {
		if strings.HasPrefix(text, code.prefix) {
			return refused, fault.Veil(code.remedy, err)
		}
	}
	switch {
	case strings.HasPrefix(text, "NOPERM"):
		return refused, fault.Veil("the user may not do this: grant what docs/configuration.md lists ("+firstClause(text)+")", err)
	case strings.HasPrefix(text, "WRONGTYPE"):
		return refused, fmt.Errorf("%w: %w", fault.ErrCorrupt, fault.Veil("the key holds no string; another program writes under this prefix", err))
	}
	return refused, fault.Veil("the server refused: "+firstClause(text), err)
}

// firstClause cuts off what may quote arguments.
func firstClause(text string) string {
	for _, sep := range []string{", with args", "'", "`", "\""} {
		text, _, _ = strings.Cut(text, sep)
	}
	return strings.TrimSpace(text)
}
