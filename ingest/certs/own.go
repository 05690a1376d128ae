package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// validFor is how long a certificate of our own is: longer, and some clients refuse it.
	validFor = 397 * 24 * time.Hour
	// renewWithin is how long before its end it is made anew.
	renewWithin = 90 * 24 * time.Hour
)

// Own gives the files of a certificate of our own in dir, for publishers on this
// machine: self-signed, for localhost, 127.0.0.1 and ::1. It is made when it is not
// there, cannot be used, or ends within 90 days; clients that verify must be told
// to trust certFile.
func Own(dir string) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, "rtmps-cert.pem"), filepath.Join(dir, "rtmps-key.pem")
	if lasts(certFile, keyFile, time.Now().Add(renewWithin)) {
		return certFile, keyFile, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	return certFile, keyFile, WriteSelfSigned(certFile, keyFile, "Spillway on this machine", validFor)
}

// lasts tells whether the files hold a pair that is still good at t.
func lasts(certFile, keyFile string, t time.Time) bool {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return false
	}
	c, err := x509.ParseCertificate(pair.Certificate[0])
	return err == nil && t.Before(c.NotAfter)
}

// WriteSelfSigned writes a new certificate for localhost, 127.0.0.1 and ::1 with
// this common name, and its key, over what is there; only their owner can read them.
func WriteSelfSigned(certFile, keyFile, name string, valid time.Duration) error {
	cert, key, err := selfSigned(name, valid)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	// The key first: a pair that does not fit is made anew.
	for _, f := range []struct {
		path, kind string
		der        []byte
	}{{keyFile, "PRIVATE KEY", key}, {certFile, "CERTIFICATE", cert}} {
		if err := os.WriteFile(f.path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			return fmt.Errorf("write a certificate: %w", err)
		}
	}
	return nil
}

func selfSigned(name string, valid time.Duration) (cert, pkcs8 []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(valid),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	if cert, err = x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key); err != nil {
		return nil, nil, err
	}
	pkcs8, err = x509.MarshalPKCS8PrivateKey(key)
	return cert, pkcs8, err
}
