package demo

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// serverName is whom the certificate is for.
const serverName = "server.example"

// TLS returns configurations for a server and for a client that trusts it, for
// the given application protocols. The certificate is made from a key that is no
// secret and is the same in every process, so that a client started elsewhere
// trusts it too: it is for examples only.
func TLS(protocols ...string) (server, client *tls.Config, err error) {
	key := ed25519.NewKeyFromSeed([]byte("not a secret, for examples only."))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: serverName},
		DNSNames:     []string{serverName},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:         true, BasicConstraintsValid: true, // it vouches for itself
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: protocols}
	client = &tls.Config{RootCAs: pool, ServerName: serverName, NextProtos: protocols}
	return server, client, nil
}
