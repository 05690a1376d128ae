package certs_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/certs"
	"github.com/spillway-live/spillway/ingest/certs/certstest"
	"github.com/spillway-live/spillway/testenv/await"
)

// served gives the common name that a listener with this configuration shows.
func served(t *testing.T, c *tls.Config, max uint16) (string, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true, MaxVersion: max}}
	nc, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer nc.Close()
	return nc.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	return len(p), nil
}

func (l *logBuffer) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b)
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := certstest.Write(t, dir, "first")
	var log logBuffer
	f, err := certs.Open(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	is := func(want string) {
		t.Helper()
		await.Text(t, "the certificate of "+want+" is served", func() string {
			if got, err := served(t, f.Config(), 0); err != nil || got != want {
				return fmt.Sprintf("%q is (%v)", got, err)
			}
			return ""
		})
	}
	is("first")
	certstest.Write(t, dir, "second")
	is("second")
	// Rubbish leaves the last one; the next good one is taken.
	if err := os.WriteFile(cert, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the log tells of the bad certificate", func() bool {
		is("second")
		return bytes.Contains(log.Bytes(), []byte("not taken"))
	})
	is("second")
	certstest.Write(t, dir, "third")
	is("third")
}

func TestOldTLSIsRefused(t *testing.T) {
	cert, key := certstest.Write(t, t.TempDir(), "a")
	f, err := certs.Open(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := served(t, f.Config(), tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	if _, err := served(t, f.Config(), tls.VersionTLS12); err != nil {
		t.Error(err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	cert, key := certstest.Write(t, dir, "a")
	_, otherKey := certstest.Write(t, t.TempDir(), "b")
	for _, files := range [][2]string{{cert, otherKey}, {key, cert}, {cert, dir + "/none"}} {
		if _, err := certs.Open(files[0], files[1], nil); err == nil {
			t.Errorf("%v was taken", files)
		}
	}
}
