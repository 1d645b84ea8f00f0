package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certs are the certificates of a throwaway authority, in files of PEM.
type Certs struct {
	// CAFile is the certificate of the authority.
	CAFile string
	// CertFile and KeyFile are the client's certificate and key.
	CertFile, KeyFile string

	tb                    testing.TB
	serverCert, serverKey string
}

// Config returns a configuration for clients that trusts the authority and,
// if withCert, has the client's certificate.
func (c *Certs) Config(withCert bool) *tls.Config {
	c.tb.Helper()
	ca, err := os.ReadFile(c.CAFile)
	if err != nil {
		c.tb.Fatal(err)
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	cfg.RootCAs.AppendCertsFromPEM(ca)
	if withCert {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			c.tb.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg
}

// lines returns the settings of a server that has TLS on its port.
func (c *Certs) lines(port, clients string) []string {
	return []string{
		line("port", "0"),
		line("tls-port", port),
		line("tls-ca-cert-file", c.CAFile),
		line("tls-cert-file", c.serverCert),
		line("tls-key-file", c.serverKey),
		line("tls-auth-clients", clients),
		line("tls-replication", "yes"),
	}
}

// newCerts makes an authority and its certificates in dir.
func newCerts(tb testing.TB, dir string) *Certs {
	tb.Helper()
	c := &Certs{
		CAFile:     filepath.Join(dir, "ca.crt"),
		CertFile:   filepath.Join(dir, "client.crt"),
		KeyFile:    filepath.Join(dir, "client.key"),
		tb:         tb,
		serverCert: filepath.Join(dir, "server.crt"),
		serverKey:  filepath.Join(dir, "server.key"),
	}
	ca := template("redistest authority")
	ca.IsCA = true
	ca.BasicConstraintsValid = true
	ca.KeyUsage = x509.KeyUsageCertSign
	a := &authority{tb: tb, cert: ca}
	a.key = a.issue(ca, c.CAFile, filepath.Join(dir, "ca.key"))

	server := template("redistest server")
	server.DNSNames = []string{"localhost"}
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	// Servers are clients of each other in clusters and for replication.
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	a.issue(server, c.serverCert, c.serverKey)

	client := template("redistest client")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	a.issue(client, c.CertFile, c.KeyFile)
	return c
}

// template returns a certificate to fill in.
func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte(rand.Text())[:16]),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// An authority signs certificates. Without a key, they sign themselves.
type authority struct {
	tb   testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue writes a certificate and its new key to files, and returns the key.
func (a *authority) issue(cert *x509.Certificate, certFile, keyFile string) *ecdsa.PrivateKey {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.tb.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), signer)
	if err != nil {
		a.tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.tb.Fatal(err)
	}
	a.write(certFile, "CERTIFICATE", der)
	a.write(keyFile, "PRIVATE KEY", keyDER)
	return key
}

func (a *authority) write(file, typ string, der []byte) {
	a.tb.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	if err := os.WriteFile(file, b, 0o600); err != nil {
		a.tb.Fatal(err)
	}
}
