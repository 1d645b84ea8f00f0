package kv

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ngraf/kv/internal/fault"
)

// A settledRedis is a RedisConfig with the defaults and the options of its
// URL filled in: all that a client is made from.
type settledRedis struct {
	RedisConfig
	addrs                []string // host:port, or the path of one unix socket
	db                   int
	tls                  bool
	insecure             bool // ssl_cert_reqs=none
	cluster              bool
	masterName           string // not empty: the addresses are Sentinels
	sentinelUser         string
	sentinelPass         Secret
	clientName           string
	protocol             int
	warnings             []string
	setByURL             []string // variables that an option of the URL decided
	urlUser, urlPassword string
}

func (c RedisConfig) url() RedisURL { return cmp.Or(c.URL, defaultRedisURL) }

// settle reads the URL and merges it with the fields. Its errors match
// ErrInvalid and never hold a part of the URL that could be secret: url.Error
// and go-redis's ParseURL would print the password of a malformed one.
func (c RedisConfig) settle() (settledRedis, error) {
	s := settledRedis{RedisConfig: c}
	u, err := url.Parse(string(c.url()))
	broken := err != nil
	if err == nil {
		err = s.readAddress(u)
	}
	if err == nil {
		err = s.readOptions(u.RawQuery)
	}
	switch {
	case broken || err != nil && atBehindHost(u):
		return s, fault.Invalidf("REDIS_URL: not a URL such as redis://user:password@host:6379/0; " +
			"write @ / ? # %% in a password as %%40 %%2F %%3F %%23 %%25, or give it as REDIS_PASSWORD")
	case err != nil:
		return s, fault.Invalidf("REDIS_URL: %v", err)
	}
	if s.MaxConnections > limitMaxConns {
		return s, fault.Invalidf("REDIS_URL: max_connections: %d is not between 1 and %d", s.MaxConnections, limitMaxConns)
	}
	s.mergeLogin()
	s.fillDefaults()
	return s, s.checkTogether()
}

// atBehindHost reports whether what was taken for the path, the options or the
// fragment may be a password with an unescaped / ? or #, and the host its
// beginning.
func atBehindHost(u *url.URL) bool {
	return strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@")
}

// Format prints the exported part: fmt does not ask fields that are not
// exported how they want to be printed.
func (s settledRedis) Format(f fmt.State, verb rune) {
	fmt.Fprintf(f, fmt.FormatString(f, verb), s.RedisConfig)
}

// readAddress reads everything of the URL but its query.
func (s *settledRedis) readAddress(u *url.URL) error {
	if u.User != nil {
		s.urlUser = u.User.Username()
		s.urlPassword, _ = u.User.Password()
	}
	switch u.Scheme {
	case "unix":
		if u.Path == "" || u.Host != "" {
			return errors.New("unix:// takes an absolute path, as in unix:///run/redis.sock?db=0")
		}
		s.addrs = []string{u.Path}
		return nil
	case "rediss":
		s.tls = true
	case "redis":
	default:
		return errors.New("the scheme must be redis://, rediss:// or unix://")
	}
	if u.Opaque != "" || u.Fragment != "" {
		return errors.New("not of the form redis://user:password@host:6379/0; write a # in a password as %23")
	}
	addr, err := hostPort(u.Host)
	if err != nil {
		return err
	}
	s.addrs = []string{addr}
	if path := strings.Trim(u.Path, "/"); path != "" {
		if s.db, err = database(path); err != nil {
			return err
		}
	}
	return nil
}

// hostPort completes an address with redis-py's defaults.
func hostPort(text string) (string, error) {
	if strings.ContainsAny(text, "@/?# ") {
		return "", errors.New("an address must be of the form host:port")
	}
	u := url.URL{Host: text}
	bracketed := strings.HasPrefix(text, "[")
	_, notIP := netip.ParseAddr(u.Hostname())
	if bracketed && notIP != nil || !bracketed && strings.Count(text, ":") > 1 {
		return "", errors.New("an address with several colons must be IPv6 in brackets, as in [::1]:6379")
	}
	port := cmp.Or(u.Port(), "6379")
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", errors.New("the port must be a number between 1 and 65535")
	}
	return net.JoinHostPort(cmp.Or(u.Hostname(), "localhost"), port), nil
}

func database(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, errors.New("the database must be a whole number, as in redis://host:6379/0")
	}
	return n, nil
}

// A urlOption is one option of a URL's query.
type urlOption struct {
	variable string // that it decides instead of
	secret   bool
	read     func(s *settledRedis, text string) error
}

// urlOptions are redis-py's options, since the same REDIS_URL may serve Python
// workers, and ours for Sentinel and Cluster. Those without a read function
// are about Python's types and sockets, and have no meaning here.
var urlOptions = map[string]urlOption{
	"db":                     {read: func(s *settledRedis, t string) (err error) { s.db, err = database(t); return err }},
	"username":               {read: func(s *settledRedis, t string) error { s.urlUser = t; return nil }},
	"password":               {secret: true, read: func(s *settledRedis, t string) error { s.urlPassword = t; return nil }},
	"socket_timeout":         {variable: "REDIS_SOCKET_TIMEOUT", read: func(s *settledRedis, t string) error { return readTimeout(&s.SocketTimeout, t) }},
	"socket_connect_timeout": {variable: "REDIS_CONNECTION_TIMEOUT", read: func(s *settledRedis, t string) error { return readTimeout(&s.ConnectionTimeout, t) }},
	"max_connections":        {variable: "REDIS_MAX_CONNECTIONS", read: func(s *settledRedis, t string) error { return readWhole(&s.MaxConnections, t) }},
	"health_check_interval":  {variable: "REDIS_HEALTH_CHECK_INTERVAL", read: func(s *settledRedis, t string) error { return readInterval(&s.HealthCheckInterval, t) }},
	"ssl_ca_certs":           {variable: "REDIS_CA_FILE", read: func(s *settledRedis, t string) error { s.CAFile = t; return nil }},
	"ssl_certfile":           {variable: "REDIS_CERT_FILE", read: func(s *settledRedis, t string) error { s.CertFile = t; return nil }},
	"ssl_keyfile":            {variable: "REDIS_KEY_FILE", read: func(s *settledRedis, t string) error { s.KeyFile = t; return nil }},
	"ssl_cert_reqs":          {read: (*settledRedis).readCertReqs},
	"ssl_check_hostname":     {read: (*settledRedis).readCheckHostname},
	"client_name":            {read: func(s *settledRedis, t string) error { s.clientName = t; return nil }},
	"protocol":               {read: (*settledRedis).readProtocol},
	"addr":                   {read: (*settledRedis).readAddr},
	"cluster":                {read: func(s *settledRedis, t string) error { return readBool(&s.cluster, t) }},
	"master_name":            {read: func(s *settledRedis, t string) error { s.masterName = t; return nil }},
	"sentinel_username":      {read: func(s *settledRedis, t string) error { s.sentinelUser = t; return nil }},
	"sentinel_password":      {secret: true, read: func(s *settledRedis, t string) error { s.sentinelPass = Secret(t); return nil }},

	"decode_responses": {}, "encoding": {}, "encoding_errors": {}, "retry_on_timeout": {},
	"socket_keepalive": {}, "socket_read_size": {}, "socket_type": {}, "timeout": {},
}

func (s *settledRedis) readOptions(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the options behind ? are not of the form name=value&name=value")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		option, known := urlOptions[name]
		if !known && strings.Contains(query, "password=") {
			return errors.New("unknown option, or a part of a password; write & in a password as %26")
		}
		if !known {
			return fmt.Errorf("unknown option %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(urlOptions)), ", "))
		}
		if err := s.twice(name, len(values[name])); err != nil {
			return err
		}
		if option.read == nil {
			continue
		}
		given := s.RedisConfig
		for _, text := range values[name] {
			if err := option.read(s, text); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if option.variable == "" {
			continue
		}
		s.setByURL = append(s.setByURL, option.variable)
		if overridden(given, s.RedisConfig) {
			s.warnings = append(s.warnings, fmt.Sprintf("%s is set, but the option %s of REDIS_URL says otherwise and wins", option.variable, name))
		}
	}
	return nil
}

// twice refuses what the URL says more than once: redis-py takes the first of
// several options, and a login before the host rather than in an option, so
// that workers in Go and in Python might use different databases.
func (s *settledRedis) twice(name string, times int) error {
	switch {
	case name == "addr": // Each of which is a server.
		return nil
	case times > 1:
		return fmt.Errorf("the option %s is given more than once; keep one", name)
	case name == "username" && s.urlUser != "", name == "password" && s.urlPassword != "":
		return fmt.Errorf("the option %s is given, and stands before the host, too; keep one", name)
	}
	return nil
}

// overridden reports whether a field that was set has another value now.
func overridden(before, after RedisConfig) bool {
	return before.SocketTimeout != 0 && before.SocketTimeout != after.SocketTimeout ||
		before.ConnectionTimeout != 0 && before.ConnectionTimeout != after.ConnectionTimeout ||
		before.MaxConnections != 0 && before.MaxConnections != after.MaxConnections ||
		before.HealthCheckInterval != 0 && before.HealthCheckInterval != after.HealthCheckInterval ||
		before.CAFile != "" && before.CAFile != after.CAFile ||
		before.CertFile != "" && before.CertFile != after.CertFile ||
		before.KeyFile != "" && before.KeyFile != after.KeyFile
}

func (s *settledRedis) readCertReqs(text string) error {
	switch text {
	case "required", "optional": // For a client the two are the same.
		s.insecure = false
	case "none":
		s.insecure = true
		s.warnings = append(s.warnings, "REDIS_URL: ssl_cert_reqs=none; the server's certificate is not verified, "+
			"so that anybody on the way can read and change everything")
	default:
		return errors.New("not one of required, optional, none")
	}
	return nil
}

// readCheckHostname accepts only what is done anyway: crypto/tls has no
// verification without the name, and inventing one is not ours.
func (s *settledRedis) readCheckHostname(text string) error {
	var check bool
	if err := readBool(&check, text); err != nil {
		return err
	}
	if !check {
		return errors.New("the host name is always checked; set REDIS_TLS_SERVER_NAME to the name in the certificate")
	}
	return nil
}

func (s *settledRedis) readProtocol(text string) error {
	if text != "2" && text != "3" {
		return errors.New("not 2 or 3")
	}
	s.protocol = int(text[0] - '0')
	return nil
}

func (s *settledRedis) readAddr(text string) error {
	addr, err := hostPort(text)
	if err == nil && !slices.Contains(s.addrs, addr) {
		s.addrs = append(s.addrs, addr)
	}
	return err
}

// mergeLogin lets the URL win, as redis-py does.
func (s *settledRedis) mergeLogin() {
	if s.urlUser != "" {
		if s.Username != "" && s.Username != s.urlUser {
			s.warnings = append(s.warnings, "REDIS_USERNAME is set, but REDIS_URL names another user and wins")
		}
		s.Username = s.urlUser
		s.setByURL = append(s.setByURL, "REDIS_USERNAME")
	}
	if s.urlPassword != "" {
		if s.Password != "" && string(s.Password) != s.urlPassword || s.PasswordFile != "" {
			s.warnings = append(s.warnings, "REDIS_PASSWORD or REDIS_PASSWORD_FILE is set, but REDIS_URL has a password, which wins")
		}
		s.Password, s.PasswordFile = Secret(s.urlPassword), ""
		s.setByURL = append(s.setByURL, "REDIS_PASSWORD")
	}
}

// shownUser masks a user in the URL that has no password there, for it may be
// one that lacks its colon.
func (s *settledRedis) shownUser() string {
	if s.urlUser != "" && s.urlPassword == "" {
		return mask
	}
	return s.Username
}

func (s *settledRedis) fillDefaults() {
	s.KeyPrefix = cmp.Or(s.KeyPrefix, defaultKeyPrefix)
	s.MaxConnections = cmp.Or(s.MaxConnections, defaultMaxConns)
	s.ConnectionTimeout = cmp.Or(s.ConnectionTimeout, defaultTimeout)
	s.SocketTimeout = cmp.Or(s.SocketTimeout, defaultTimeout)
	s.HealthCheckInterval = cmp.Or(s.HealthCheckInterval, defaultHealth)
	s.CircuitCooldown = cmp.Or(s.CircuitCooldown, defaultCooldown)
	s.MaintNotifications = cmp.Or(s.MaintNotifications, MaintOff)
	s.protocol = cmp.Or(s.protocol, 3)
	if len(s.addrs) > 1 && s.masterName == "" {
		s.cluster = true
	}
}

// checkTogether refuses settings that would have no effect on each other's
// account.
func (s *settledRedis) checkTogether() error {
	tlsFields := s.CAFile != "" || s.CertFile != "" || s.KeyFile != "" || s.ServerName != "" || s.insecure
	unix := strings.HasPrefix(s.addrs[0], "/")
	switch {
	case tlsFields && !s.tls:
		return fault.Invalidf("REDIS_URL: TLS settings (REDIS_CA_FILE, REDIS_CERT_FILE, REDIS_KEY_FILE, REDIS_TLS_SERVER_NAME, ssl_*) need a rediss:// URL")
	case (s.CertFile == "") != (s.KeyFile == ""):
		return fault.Invalidf("REDIS_CERT_FILE and REDIS_KEY_FILE go together")
	case unix && (s.cluster || s.masterName != ""):
		return fault.Invalidf("REDIS_URL: a unix socket is one server, not a Sentinel or Cluster")
	case s.cluster && s.masterName != "":
		return fault.Invalidf("REDIS_URL: cluster=true and master_name= exclude each other")
	case s.cluster && s.db != 0:
		return fault.Invalidf("REDIS_URL: a Cluster has only database 0")
	case s.masterName == "" && (s.sentinelUser != "" || s.sentinelPass != ""):
		return fault.Invalidf("REDIS_URL: sentinel_username and sentinel_password need master_name=")
	case s.MaintNotifications != MaintOff && s.protocol != 3:
		return fault.Invalidf("REDIS_MAINT_NOTIFICATIONS need RESP3, but REDIS_URL says protocol=2")
	case s.MaintNotifications != MaintOff && s.masterName != "":
		return fault.Invalidf("REDIS_MAINT_NOTIFICATIONS: go-redis knows none behind Sentinels; set it to off")
	case s.Username != "" && s.Password == "" && s.PasswordFile == "":
		return fault.Invalidf("REDIS_USERNAME or the user in REDIS_URL needs a password: set REDIS_PASSWORD or REDIS_PASSWORD_FILE")
	}
	return s.cacheProblem()
}

// cacheProblem says why the settings leave no room for a client-side cache.
// go-redis would go without one, and say so in its log.
func (s settledRedis) cacheProblem() error {
	if s.ClientCache == 0 {
		return nil
	}
	var why string
	switch {
	case s.cluster:
		why = "REDIS_URL names a Cluster"
	case s.masterName != "":
		why = "REDIS_URL names Sentinels"
	case s.db != 0:
		why = fmt.Sprintf("REDIS_URL names database %d, not 0", s.db)
	case s.protocol != 3:
		why = "REDIS_URL says protocol=2"
	case s.PasswordFile != "":
		why = "REDIS_PASSWORD_FILE is set; use REDIS_PASSWORD"
	default:
		return nil
	}
	return fault.Invalidf("REDIS_CLIENT_CACHE: go-redis has no client-side cache here: %s", why)
}
