// Package certstest makes certificates for tests.
package certstest

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/certs"
)

// Write puts a self-signed certificate for 127.0.0.1 and localhost, with this
// common name, into dir, over what is there. It gives the files' paths.
func Write(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := certs.WriteSelfSigned(certFile, keyFile, name, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}
