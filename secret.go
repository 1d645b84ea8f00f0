package kv

import (
	"fmt"
	"net/url"
	"strings"
)

const mask = "***"

// A Secret is a string that prints, logs and marshals as ***. string(s) is its
// content.
//
// This holds for every verb of fmt but two that are wrong for it: of %p, which
// is for pointers, and %w, which is for errors, fmt says so and prints the
// content, without asking the type. go vet finds %w. It also holds within
// slices, maps and exported fields. fmt does not ask fields that are not
// exported, nor, under verbs that pointers do not have such as %s, what is
// behind pointers to structs within a slice or map.
type Secret string

// String returns *** or, for the empty secret, nothing.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format makes every verb but %p and %w print what String returns.
func (s Secret) Format(f fmt.State, verb rune) { formatMasked(f, verb, s.String()) }

// MarshalText keeps the content out of JSON and of structured logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A RedisURL is the address of a Redis server, Sentinel or Cluster, which may
// hold a password. It prints, logs and marshals with *** in the password's
// place, as a [Secret] does. string(u) is its content.
type RedisURL string

// String returns the URL with passwords masked, and *** for what is not a URL.
func (u RedisURL) String() string {
	if u == "" {
		return ""
	}
	parsed, err := url.Parse(string(u))
	if err != nil || parsed.Opaque != "" || parsed.Scheme == "" || atBehindHost(parsed) {
		return mask
	}
	var b strings.Builder
	b.WriteString(parsed.Scheme + "://")
	if parsed.User != nil {
		// A lone user name is, as often as not, a password without its colon.
		if _, ok := parsed.User.Password(); ok {
			b.WriteString(url.PathEscape(parsed.User.Username()) + ":")
		}
		b.WriteString(mask + "@")
	}
	b.WriteString(parsed.Host + parsed.EscapedPath())
	if parsed.RawQuery != "" {
		b.WriteString("?" + maskQuery(parsed.RawQuery))
	}
	if parsed.Fragment != "" {
		b.WriteString("#" + mask)
	}
	return b.String()
}

// Format makes every verb but %p and %w print what String returns.
func (u RedisURL) Format(f fmt.State, verb rune) { formatMasked(f, verb, u.String()) }

// MarshalText keeps passwords out of JSON and of structured logs.
func (u RedisURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

func formatMasked(f fmt.State, verb rune, text string) {
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		fmt.Fprintf(f, "%q", text)
		return
	}
	_, _ = f.Write([]byte(text))
}

// maskQuery masks every option that is not known to be harmless.
func maskQuery(raw string) string {
	parts := strings.Split(raw, "&")
	for i, part := range parts {
		name, _, ok := strings.Cut(part, "=")
		if !ok {
			parts[i] = mask // An unescaped & in a password ends up here.
			continue
		}
		if option, known := urlOptions[name]; !known || option.secret {
			parts[i] = name + "=" + mask
		}
	}
	return strings.Join(parts, "&")
}
