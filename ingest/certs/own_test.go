package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/certs"
)

func TestOwnCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	read := func() (cert, key string, pem []byte) {
		t.Helper()
		cert, key, err := certs.Own(dir)
		if err != nil {
			t.Fatal(err)
		}
		if pem, err = os.ReadFile(cert); err != nil {
			t.Fatal(err)
		}
		return cert, key, pem
	}
	cert, key, first := read()
	if _, _, again := read(); string(again) != string(first) {
		t.Error("made anew at each start: whoever trusts it would have to be told again")
	}
	verify(t, cert, key, first)
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", st.Mode(), err)
	}
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, second := read()
	if string(second) == string(first) {
		t.Error("a pair that cannot be used was left")
	}
	if err := certs.WriteSelfSigned(cert, key, "old", 30*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	_, _, third := read()
	verify(t, cert, key, third)
	if c, err := tls.LoadX509KeyPair(cert, key); err != nil || c.Leaf.Subject.CommonName == "old" {
		t.Errorf("a certificate that ends soon was left (%v)", err)
	}
}

// verify connects as a client that trusts the certificate does.
func verify(t *testing.T, cert, key string, pem []byte) {
	t.Helper()
	files, err := certs.Open(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the file")
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		ours, theirs := net.Pipe()
		go tls.Server(ours, files.Config()).Handshake()
		if err := tls.Client(theirs, &tls.Config{RootCAs: roots, ServerName: name}).Handshake(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		ours.Close()
		theirs.Close()
	}
}
