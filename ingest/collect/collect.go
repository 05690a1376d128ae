package collect

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/beacon"
	"github.com/spillway-live/spillway/ingest/collect/sink"
	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/ingest/report"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/token"
)

// HeaderEdgeKey carries the secret that edges share with router and collector.
const HeaderEdgeKey = "X-Spillway-Edge-Key"

// Settings of a Collector.
type Settings struct {
	JS jetstream.JetStream
	// Listener is served by Run; nil when only Handler is used. Run closes it.
	Listener net.Listener
	// SpoolDir is the collector's own directory; required.
	SpoolDir string
	// MaxSpoolBytes bounds the spool; default 1 GiB.
	MaxSpoolBytes int64
	// BatchRows and FlushAfter bound a batch; defaults 4,000 rows and 200 ms.
	BatchRows  int
	FlushAfter time.Duration
	// SpoolAfter is how long the bus may keep a batch waiting; default 1 s.
	SpoolAfter time.Duration
	// Tokens checks session tokens; nil treats every request as one without token.
	Tokens *token.Signer
	// Places says where viewers are; nil knows only what loopback proxies say.
	Places *geo.Locator
	// EdgeKey must be shown with request logs (header X-Spillway-Edge-Key); when
	// empty, logs are taken from trusted proxies (see Places) only.
	EdgeKey string
	// MaxBodyBytes bounds bodies of CMCD and beacons, also once decompressed; default 1 MiB.
	MaxBodyBytes int64
	// MaxRecords bounds the records of one such body; default 2,000.
	MaxRecords int
	// Timeout bounds how long a request may wait for its rows to be durable; default 10 s.
	Timeout    time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock; default time.Now. For tests.
	Now func() time.Time
}

// Collector takes telemetry over HTTP. Safe for concurrent use.
type Collector struct {
	s      Settings
	m      *metrics
	sink   *sink.Sink
	cdns   *registry
	lines  *lineLog
	hops   *hops.Known
	pool   sync.Pool // *[]schemas.Telemetry
	bodies sync.Pool // *bytes.Buffer
	apps   *mirror.Table[*schemas.AppSettings]
	told   atomic.Pointer[report.Reporter] // of events, while Run runs
	id     string                          // random, in events
}

// New makes a Collector. It accepts nothing until Run runs.
func New(s Settings) (*Collector, error) {
	s.MaxBodyBytes = cmp.Or(s.MaxBodyBytes, 1<<20)
	s.MaxRecords = cmp.Or(s.MaxRecords, 2000)
	s.Timeout = cmp.Or(s.Timeout, 10*time.Second)
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Places == nil {
		l, err := geo.Open(geo.Settings{})
		if err != nil {
			return nil, fmt.Errorf("new collector: %w", err)
		}
		s.Places = l
	}
	m, err := newMetrics(s.Registerer)
	if err != nil {
		return nil, fmt.Errorf("new collector: %w", err)
	}
	k, err := sink.New(sink.Settings{
		JS: s.JS, SpoolDir: s.SpoolDir, MaxSpoolBytes: s.MaxSpoolBytes, BatchRows: s.BatchRows, FlushAfter: s.FlushAfter,
		SpoolAfter: s.SpoolAfter, Logger: s.Logger, Registerer: s.Registerer,
	})
	if err != nil {
		return nil, fmt.Errorf("new collector: %w", err)
	}
	c := &Collector{s: s, m: m, sink: k, cdns: newRegistry(s.Logger), lines: newLineLog(), hops: hops.NewKnown(hops.PerCDN), apps: newSettings(s.Logger), id: report.RandomID()}
	c.pool.New = func() any { return new([]schemas.Telemetry) }
	return c, nil
}

// Run serves until ctx ends, then answers what has begun, makes durable what
// was taken, and returns nil. An error means that it could not go on.
func (c *Collector) Run(ctx context.Context) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	sinkDone := make(chan error, 1)
	go func() { sinkDone <- c.sink.Run(inner) }()
	wg.Go(func() { _ = c.apps.Run(inner, c.s.JS) }) // gives nil
	wg.Go(func() { _ = c.cdns.Run(inner, c.s.JS) }) // gives nil
	wg.Go(func() { c.followHops(inner) })
	defer wg.Wait()
	defer stop()
	endReports, err := c.startReports(ctx)
	if err != nil {
		return err
	}
	defer endReports()

	served := make(chan error, 1)
	var srv *http.Server
	if c.s.Listener != nil {
		srv = &http.Server{
			Handler: c.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
			WriteTimeout: c.s.Timeout + 30*time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
			ErrorLog: slog.NewLogLogger(c.s.Logger.Handler(), slog.LevelDebug),
		}
		go func() { served <- srv.Serve(c.s.Listener) }()
		c.s.Logger.Info("collector listens", "addr", c.s.Listener.Addr().String())
	}
	select {
	case <-ctx.Done():
	case e := <-served:
		err = fmt.Errorf("serve telemetry: %w", e)
	}
	if srv != nil {
		// Requests under way get their answers: the sink still runs.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.s.Timeout)
		defer cancel()
		if e := srv.Shutdown(end); e != nil {
			c.s.Logger.Warn("collector stops with requests unanswered", "err", e)
			srv.Close()
		}
	}
	stop()
	return errors.Join(err, <-sinkDone)
}

// Handler serves the collector's paths:
//
//	POST /v1/cmcd    event bodies; GET, HEAD with CMCD query or headers
//	POST /v1/beacon  schemas.Beacon: an object, an array, or several objects
//	POST /v1/cdnlog  schemas.CDNLogLine, NDJSON, from edges
//	GET  /v1/clock   schemas.ClockAnswer
//	POST /v1/publisher  schemas.PublisherReport; the answer may be a schemas.PublisherAnswer
//	GET  /v1/beacon.js  the script that posts beacons from a web page
func (c *Collector) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := c.s.Now()
		path, h := "other", c.notFound
		switch r.URL.Path {
		case "/v1/cmcd":
			path, h = r.URL.Path, c.cmcd
		case "/v1/beacon":
			path, h = r.URL.Path, c.beacon
		case "/v1/cdnlog":
			path, h = r.URL.Path, c.cdnlog
		case "/v1/publisher":
			path, h = r.URL.Path, c.publisher
		case "/v1/clock":
			path, h = r.URL.Path, c.clock
		case beacon.Path:
			path, h = r.URL.Path, c.script
		}
		cors(w.Header(), r)
		if r.Method == http.MethodOptions {
			preflight(w, r)
			c.m.request(path, http.StatusNoContent)
			return
		}
		c.m.request(path, h(w, r, now))
	})
}

// script serves the page's beacon script.
func (c *Collector) script(w http.ResponseWriter, r *http.Request, _ time.Time) int {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(w, "GET, HEAD, OPTIONS")
	}
	beacon.Serve(w, r)
	return http.StatusOK
}

func (c *Collector) notFound(w http.ResponseWriter, _ *http.Request, _ time.Time) int {
	return refuse(w, http.StatusNotFound, "there is nothing here: the paths are /v1/cmcd, /v1/beacon, /v1/beacon.js, /v1/cdnlog, /v1/publisher and /v1/clock")
}

// refuse answers with the reason in words.
func refuse(w http.ResponseWriter, code int, format string, a ...any) int {
	b, err := json.Marshal(schemas.ErrorAnswer{Error: fmt.Sprintf(format, a...)})
	if err != nil {
		b = nil
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // nobody to tell
	return code
}

// rowBuffer lends an empty slice of rows.
func (c *Collector) rowBuffer() *[]schemas.Telemetry { return c.pool.Get().(*[]schemas.Telemetry) }

func (c *Collector) giveBack(rows *[]schemas.Telemetry) {
	clear(*rows)
	if *rows = (*rows)[:0]; cap(*rows) <= 4096 {
		c.pool.Put(rows)
	}
}

// withoutResponses leaves out what players tell of single answers (event rr), in
// place: the most frequent event, and the one that no session hangs on.
func withoutResponses(rows []schemas.Telemetry) []schemas.Telemetry {
	return slices.DeleteFunc(rows, func(t schemas.Telemetry) bool {
		return t.Source == schemas.SourceCMCDEvent && t.Event == "rr"
	})
}

// accept makes rows durable and answers.
func (c *Collector) accept(w http.ResponseWriter, r *http.Request, rows []schemas.Telemetry) int {
	shed := 0
	if c.sink.Pressed() {
		n := len(rows)
		rows = withoutResponses(rows)
		shed = n - len(rows)
		c.m.shedRows(shed)
	}
	if len(rows) > 0 {
		// A client that goes away changes nothing: its rows are taken.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), c.s.Timeout)
		defer cancel()
		if err := c.sink.Put(ctx, rows); errors.Is(err, sink.ErrClosed) {
			// Like a server that is gone: players keep their reports and send them again.
			panic(http.ErrAbortHandler)
		} else if err != nil {
			c.m.shedRows(len(rows))
			c.s.Logger.Debug("telemetry was not accepted", "rows", len(rows), "err", err)
			return refuse(w, http.StatusOK, "nothing was accepted: the collector has no room; players need not send it again")
		}
		hops.Say(c.s.JS.Conn(), c.s.Logger, rows)
		n := 0
		for i := range rows {
			if i+1 == len(rows) || rows[i+1].Source != rows[i].Source {
				c.m.accepted(rows[i].Source, i+1-n)
				n = i + 1
			}
		}
	}
	if shed > 0 {
		return refuse(w, http.StatusOK, "%d records of responses were not accepted, all others were: the collector has little room; players need not send them again", shed)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

// fromEdge reports whether the request may bring request logs.
func (c *Collector) fromEdge(r *http.Request) bool {
	if c.s.EdgeKey != "" {
		return subtle.ConstantTimeCompare([]byte(r.Header.Get(HeaderEdgeKey)), []byte(c.s.EdgeKey)) == 1
	}
	return c.s.Places.Trusted(peer(r))
}
