// Package console serves the operator's web page: live streams with their
// latest pictures, CDNs side by side, and each stream on a page of its own,
// refreshed by server-sent events. Over HTTP it answers
//
//	GET /  /pictures  /cdns  /streams/<app>/<stream>   pages
//	GET /v1/live                               server-sent events
//	GET /walls /walls/<uid>                    the walls, as in Grafana
//	GET /sessions/<id>  /alerts  /settings     one playback; alerts; the registry of CDNs
//	GET /v1/streams  /v1/cdns  /v1/pushes  /v1/alerts   JSON
//	GET /v1/streams/<app>/<stream>/<part>      publisher, hops, sessions or events of one stream
//	GET /v1/sessions/<id>                      the story of one playback
//	GET /v1/walls/<uid>/<panel>?range=1h&cdn=a rows of a panel
//	GET /<app>/<stream>/picture.jpg            latest picture
//	GET /v1/pictures/<app>/<stream>?from=&to=  history (JSON), /<seq>.jpg one picture
//	GET /v1/settings/<bucket>                  all entries, without passwords: cdns, policies, apps, sources, pushes, shares
//	GET, PUT, PATCH, DELETE /v1/settings/<bucket>/<key>   one entry, as in the bucket
//	GET /v1/settings/<bucket>/<key>/history    its versions
//	PUT /v1/cdns/<name>/state                  {"state":"draining"}
//	GET /experiments  /experiments/<name>      pages
//	GET /v1/experiments/<name>/report.json     and .html; experiments are changed below /v1/settings/experiments
//	PUT, DELETE /v1/picture-access             this browser may see pictures of private streams, or no more
//	GET /healthz  /metrics
//
// with the admin token (Authorization: Bearer) for settings and states,
//
// and whatever the play page's handler serves under /play and /assets/player/.
//
// It promises: ClickHouse and the bus are asked once for all browsers together,
// and not at all while nobody looks; what is stale is said, with since when,
// and heals without a reload; names and labels never become markup or SQL.
//
// It leaves out authentication of readers: whoever reaches the port may look.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas/access"
)

// Settings of a Console. JetStream and ClickHouse are required.
type Settings struct {
	// Listener to serve on; it is closed at the end. Nil: New listens on Addr.
	Listener net.Listener
	// Addr to listen on; default 127.0.0.1:0.
	Addr string
	// JetStream is the bus; its streams and buckets exist (schemas.EnsureBus).
	JetStream jetstream.JetStream
	// ClickHouse is the address that answers as the analyst:
	// clickhouse://analyst@host:9000/spillway (native) or http://...
	ClickHouse string
	// RouterURL is where players reach the router; shown as the address to play.
	RouterURL string
	// Player serves /play and /assets/player/; nil: those answer 404.
	Player http.Handler
	// Metrics serves /metrics; nil: it answers 404.
	Metrics http.Handler
	// Experiments shows and changes experiments; nil: there are no such pages.
	Experiments Experiments
	// AdminToken allows changes; empty: none are.
	AdminToken string
	// Story tells what became of a session, as JSON encodes it; nil without error: nothing is stored of it. Nil: the
	// page of a session says that it cannot.
	Story func(ctx context.Context, session string) (any, error)
	// Thresholds colour values; nil: the defaults.
	Thresholds *queries.Thresholds
	// PollInterval is how often ClickHouse is asked while somebody looks; default 2 s.
	PollInterval time.Duration
	// MaxLive is the largest number of browsers kept up to date at once; default 256.
	MaxLive    int
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Console is the service. Make it with New, then Run it.
type Console struct {
	s    Settings
	ln   net.Listener
	db   driver.Conn
	st   *store
	hub  *hub
	pics *pictures
	// access tells which streams are private.
	access *access.Table
	m      *metrics
	asked  *asked
	// lateAfter is readLate, and shorter in tests.
	lateAfter time.Duration
}

// New checks the settings and starts to listen, so that URL is known.
func New(s Settings) (*Console, error) {
	if s.JetStream == nil || s.ClickHouse == "" {
		return nil, errors.New("console: JetStream and ClickHouse are required")
	}
	if s.Addr == "" {
		s.Addr = "127.0.0.1:0"
	}
	if s.PollInterval <= 0 {
		s.PollInterval = 2 * time.Second
	}
	if s.MaxLive <= 0 {
		s.MaxLive = 256
	}
	if s.Thresholds == nil {
		th := queries.DefaultThresholds()
		s.Thresholds = &th
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	s.RouterURL = strings.TrimSuffix(s.RouterURL, "/")
	o, err := clickhouse.ParseDSN(s.ClickHouse)
	if err != nil {
		return nil, fmt.Errorf("console: ClickHouse address: %w: give clickhouse://user@host:9000/database", err)
	}
	if o.Auth.Database == "" || o.Auth.Database == "default" {
		o.Auth.Database = "spillway"
	}
	o.DialTimeout, o.ReadTimeout = 2*time.Second, queryTimeout
	o.MaxOpenConns, o.MaxIdleConns = 4, 4
	db, err := clickhouse.Open(o) // connects when first asked
	if err != nil {
		return nil, fmt.Errorf("console: ClickHouse address: %w", err)
	}
	m, err := newMetrics(s.Registerer)
	if err != nil {
		return nil, fmt.Errorf("console: register metrics: %w", err)
	}
	ln := s.Listener
	if ln == nil {
		if ln, err = net.Listen("tcp", s.Addr); err != nil {
			return nil, fmt.Errorf("console: listen: %w: choose another address; port 0 takes a free one", err)
		}
	}
	c := &Console{s: s, ln: ln, db: db, st: newStore(s.Logger), m: m, pics: newPictures(s.JetStream), access: access.New(s.Logger), asked: newAsked(), lateAfter: readLate}
	c.hub = newHub(s.MaxLive, m)
	return c, nil
}

// URL is where browsers reach the console.
func (c *Console) URL() string { return "http://" + c.ln.Addr().String() }

// Run serves until ctx ends.
func (c *Console) Run(ctx context.Context) error {
	defer c.db.Close()
	g, ctx := errgroup.WithContext(ctx)
	srv := &http.Server{
		Handler: c.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(c.s.Logger.Handler(), slog.LevelDebug),
	}
	g.Go(func() error { c.watchBus(ctx); return nil })
	if x := c.s.Experiments; x != nil {
		g.Go(func() error { return x.Run(ctx) })
	}
	g.Go(func() error { return c.access.Run(ctx, c.s.JetStream) })
	g.Go(func() error { c.poll(ctx); return nil })
	g.Go(func() error { c.refresh(ctx); return nil })
	g.Go(func() error {
		if err := srv.Serve(c.ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve console: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			return srv.Close()
		}
		return nil
	})
	return g.Wait()
}
