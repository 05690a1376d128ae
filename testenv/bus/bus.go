// Package bus runs a NATS server with JetStream inside the process and opens
// connections to it or to an outside one.
//
// It promises that acknowledged messages are in the file store when the server
// is stopped cleanly or the process is killed (an operating system crash may
// cost up to SyncInterval), and that after its disk was full it takes messages
// again when there is room (see mend.go); it does not cluster. "spillway up" and
// tests use the same code.
package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// Options of an embedded server.
type Options struct {
	// DataDir holds the JetStream store and the generated password; required.
	DataDir string
	// Host to listen on; default 127.0.0.1.
	Host string
	// Port to listen on; 0 takes a free one.
	Port int
	// MaxStoreBytes caps the file store; default 32 GiB.
	MaxStoreBytes int64
	// SyncInterval is how often the store is flushed to the disk itself; default 2 s.
	SyncInterval time.Duration
	// Region, if set, makes the server one of several that are joined by leaf node connections.
	Region RegionOptions
	Logger *slog.Logger
}

// Server is a running embedded NATS server.
type Server struct {
	o        Options
	password string
	review   string // the password of review operators
	addr     string

	mu   sync.Mutex
	ns   *server.Server // another one after the disk was full
	hurt chan struct{}  // the store cannot be written
	stop context.CancelFunc
	done chan struct{} // closed when nothing is mended any more
}

const user = "spillway"

// Start runs a server and waits until it takes connections. The data of an
// earlier run in the same DataDir is there again.
func Start(o Options) (*Server, error) {
	if o.DataDir == "" {
		return nil, errors.New("start embedded NATS: DataDir is empty")
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.MaxStoreBytes == 0 {
		o.MaxStoreBytes = 32 << 30
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("start embedded NATS: %w", err)
	}
	if err := o.Region.check(); err != nil {
		return nil, fmt.Errorf("start embedded NATS: %w", err)
	}
	pw, err := password(filepath.Join(o.DataDir, "password"))
	if err != nil {
		return nil, fmt.Errorf("start embedded NATS: %w", err)
	}
	// The server would say only "not ready"; a busy port deserves plain words.
	if o.Port != 0 {
		l, err := net.Listen("tcp", net.JoinHostPort(o.Host, strconv.Itoa(o.Port)))
		if err != nil {
			return nil, fmt.Errorf("start embedded NATS: port %d is not free (%w): stop what uses it, or choose another port, 0 for any", o.Port, err)
		}
		l.Close()
	}
	review, err := password(filepath.Join(o.DataDir, "review-password"))
	if err != nil {
		return nil, fmt.Errorf("start embedded NATS: %w", err)
	}
	s := &Server{o: o, password: pw, review: review, hurt: make(chan struct{}, 1), done: make(chan struct{})}
	if s.ns, err = s.run(); err != nil {
		return nil, err
	}
	s.addr = s.ns.Addr().String()
	if s.o.Port == 0 {
		s.o.Port = s.ns.Addr().(*net.TCPAddr).Port
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	go func() { defer close(s.done); s.mend(ctx) }()
	return s, nil
}

// run starts a server and waits until it takes connections.
func (s *Server) run() (*server.Server, error) {
	o := s.o
	port := o.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	opts := &server.Options{
		ServerName: "spillway", Host: o.Host, Port: port,
		Username: user, Password: s.password,
		JetStream: true, StoreDir: o.DataDir, JetStreamMaxStore: o.MaxStoreBytes, JetStreamMaxMemory: 256 << 20,
		SyncInterval: o.SyncInterval,
		MaxPayload:   schemas.MaxBusPayload,
		MaxPending:   256 << 20,
		NoSigs:       true, NoLog: false, DisableJetStreamBanner: true,
	}
	s.users(opts)
	o.Region.apply(opts)
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start embedded NATS: %w", err)
	}
	ns.SetLoggerV2(natsLog{o.Logger, s.noteHurt}, false, false, false)
	go ns.Start()
	if !ns.ReadyForConnections(30 * time.Second) {
		ns.Shutdown()
		return nil, fmt.Errorf("start embedded NATS: not ready after 30 s; data in %s", o.DataDir)
	}
	if !ns.JetStreamEnabled() {
		ns.Shutdown()
		return nil, fmt.Errorf("start embedded NATS: JetStream could not start; is another spillway using %s?", o.DataDir)
	}
	if o.Region.Listen != "" { // the same port when the server is started again
		s.o.Region.Listen = net.JoinHostPort(opts.LeafNode.Host, strconv.Itoa(opts.LeafNode.Port))
	}
	return ns, nil
}

func password(path string) (string, error) {
	if b, err := os.ReadFile(path); err == nil && len(b) >= 32 {
		return string(b), nil
	}
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	pw := hex.EncodeToString(b[:])
	return pw, os.WriteFile(path, []byte(pw), 0o600)
}

// URL is the address with credentials, for other processes.
func (s *Server) URL() string {
	return (&url.URL{Scheme: "nats", User: url.UserPassword(user, s.password), Host: s.addr}).String()
}

// ReviewURL is the address with the credentials of review operators, who may
// look at pictures and publish verdicts, and nothing else.
func (s *Server) ReviewURL() string {
	return (&url.URL{Scheme: "nats", User: url.UserPassword(schemas.ReviewUser, s.review), Host: s.addr}).String()
}

// users names who may connect: ourselves, and review operators with their rights.
func (s *Server) users(o *server.Options) {
	pub, sub := schemas.ReviewAllows()
	// With users the server looks at nothing else, so its own is one of them.
	own := &server.User{Username: o.Username, Password: o.Password, AllowedConnectionTypes: kinds(jwt.ConnectionTypeStandard, jwt.ConnectionTypeInProcess)}
	o.Users = []*server.User{own, {
		Username: schemas.ReviewUser, Password: s.review, AllowedConnectionTypes: kinds(jwt.ConnectionTypeStandard),
		Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: pub}, Subscribe: &server.SubjectPermission{Allow: sub}},
	}}
	o.Username, o.Password = "", ""
}

// Connect opens an in-process connection: no socket, no copy through the kernel.
func (s *Server) Connect(name string, logger *slog.Logger) (*nats.Conn, error) {
	return connect(s.URL(), name, logger, nats.InProcessServer(s))
}

// ConnectRegion is Connect for the relay of a region: answers to it come on a
// subject that neighbouring regions may send to, and no other.
func (s *Server) ConnectRegion(name, region string, logger *slog.Logger) (*nats.Conn, error) {
	return connect(s.URL(), name, logger, nats.InProcessServer(s), nats.CustomInboxPrefix(schemas.RegionInbox(region)))
}

// ConnectRegion is Connect for the relay of a region, see [Server.ConnectRegion].
func ConnectRegion(url, name, region string, logger *slog.Logger) (*nats.Conn, error) {
	return connect(url, name, logger, nats.CustomInboxPrefix(schemas.RegionInbox(region)))
}

// InProcessConn is for [nats.InProcessServer].
func (s *Server) InProcessConn() (net.Conn, error) { return s.server().InProcessConn() }

func (s *Server) server() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ns
}

// Stop shuts the server down and waits until its store is closed.
func (s *Server) Stop() {
	s.stop()
	<-s.done
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// Connect opens a connection to the server at url that reconnects for ever;
// loss and return are logged once each.
func Connect(url, name string, logger *slog.Logger) (*nats.Conn, error) {
	return connect(url, name, logger)
}

func connect(url, name string, logger *slog.Logger, extra ...nats.Option) (*nats.Conn, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	opts := append([]nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(64 << 20), nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("bus connection lost; reconnecting", "name", name, "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { logger.Info("bus connection is back", "name", name) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			logger.Warn("bus connection", "name", name, "subject", subject, "err", err)
		}),
	}, extra...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", redact(url), err)
	}
	return nc, nil
}

// JetStream gives the JetStream client of nc after making sure that every
// stream and bucket exists.
func JetStream(ctx context.Context, nc *nats.Conn, s schemas.BusSettings) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	if err := schemas.EnsureBus(ctx, js, s); err != nil {
		return nil, err
	}
	return js, nil
}

func redact(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "the given URL"
	}
	return u.Redacted()
}

// natsLog carries the server's warnings and errors into slog.
type natsLog struct {
	l    *slog.Logger
	hurt func(text string)
}

func (n natsLog) Noticef(f string, a ...any) { n.l.Debug("nats: " + fmt.Sprintf(f, a...)) }
func (n natsLog) Warnf(f string, a ...any) {
	// The password is random, made at start, and only ever sent over loopback.
	if strings.HasPrefix(f, "Plaintext passwords") {
		return
	}
	n.l.Warn("nats: " + clean(f, a))
}
func (n natsLog) Fatalf(f string, a ...any) { n.l.Error("nats: " + clean(f, a)) }
func (n natsLog) Errorf(f string, a ...any) {
	text := clean(f, a)
	if strings.Contains(text, "x509: ") { // only links to other regions are encrypted
		text += ": the other region's certificate is not trusted and there is no link to it; name the authority that signed it as tls_ca in --region-config"
	}
	if strings.Contains(text, "Loop detected") {
		text += ": there is no link meanwhile; of the regions of each ring of links two must open both of theirs (remotes), so no three regions are joined each to each"
	}
	n.l.Error("nats: " + text)
	n.hurt(f)
}
func (n natsLog) Debugf(string, ...any) {}
func (n natsLog) Tracef(string, ...any) {}

func clean(f string, a []any) string { return strings.TrimSpace(fmt.Sprintf(f, a...)) }
