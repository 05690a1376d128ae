package bus

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/spillway-live/spillway/ingest/certs/certstest"
	"github.com/spillway-live/spillway/testenv/await"
)

// said is a log that is written and read at once.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) has(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.b.String(), what)
}

// A region does not talk to one whose certificate it does not trust, and its log
// says why and what to do; with the authority named it does.
func TestRegionRefusesUntrustedCertificate(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := certstest.Write(t, dir, "region a")
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	begin := func(o Options) *Server {
		t.Helper()
		o.DataDir = t.TempDir()
		s, err := Start(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		return s
	}
	const password = "password of sixteen"
	a := begin(Options{Region: RegionOptions{
		Name: "a", Listen: "127.0.0.1:0", Neighbours: []Neighbour{{Region: "b", Password: password}, {Region: "c", Password: password}},
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}},
	}})
	to := func(name string, roots *x509.CertPool) (*Server, *said) {
		log := &said{}
		return begin(Options{Logger: slog.New(slog.NewTextHandler(log, nil)), Region: RegionOptions{
			Name: name, Remotes: []Remote{{Region: "a", URL: "tls://" + name + ":" + strings.ReplaceAll(password, " ", "%20") + "@" + a.LeafAddr()}},
			RemoteTLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		}}), log
	}
	b, log := to("b", x509.NewCertPool())
	await.True(t, "the log of region b names the certificate", func() bool {
		return log.has("level=ERROR") && log.has("x509: certificate signed by unknown authority") && log.has("tls_ca")
	})
	if n := b.server().NumLeafNodes() + a.server().NumLeafNodes(); n != 0 {
		t.Errorf("%d links although region b does not trust region a", n)
	}
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c, _ := to("c", roots)
	await.True(t, "region c, which trusts it, is joined", func() bool { return c.server().NumLeafNodes() == 1 && a.server().NumLeafNodes() == 1 })
}

// The log says what is wrong with links that form a ring of three; a ring of four in which two regions open both
// of their links stands.
func TestRingsOfRegions(t *testing.T) {
	const password = "password-of-sixteen"
	log := &said{}
	begin := func(name string, toward []*Server, from ...string) *Server {
		t.Helper()
		o := Options{DataDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(log, nil)), Region: RegionOptions{Name: name}}
		for _, n := range from {
			o.Region.Listen = "127.0.0.1:0"
			o.Region.Neighbours = append(o.Region.Neighbours, Neighbour{Region: n, Password: password})
		}
		for _, s := range toward {
			o.Region.Remotes = append(o.Region.Remotes, Remote{Region: s.o.Region.Name, URL: "nats-leaf://" + name + ":" + password + "@" + s.LeafAddr()})
		}
		s, err := Start(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		return s
	}
	four := []*Server{begin("a", nil, "c", "d"), begin("b", nil, "c", "d")}
	four = append(four, begin("c", four), begin("d", four[:2]))
	await.True(t, "four regions are joined in a ring", func() bool {
		for _, s := range four {
			if s.server().NumLeafNodes() != 2 {
				return false
			}
		}
		return true
	})
	if log.has("Loop detected") {
		t.Error("a ring of four is refused")
	}
	a := begin("e", nil, "f", "g")
	b := begin("f", []*Server{a}, "g")
	begin("g", []*Server{a, b})
	await.True(t, "the log says what is wrong with three", func() bool { return log.has("Loop detected") && log.has("no three regions are joined each to each") })
}
