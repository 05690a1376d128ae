// Package telemetry measures what a telemetry event costs on its way from a
// POST to a queryable row, and how long that takes: collector, bus, sessioniser,
// loader and ClickHouse with every roll-up, beside the same rows sent to
// ClickHouse alone as JSONEachRow.
//
// It promises that load generator and servers are different processes, that CPU
// time is the kernel's account of whole processes, that every event counted was
// answered 204 and was afterwards found in the raw table and in the roll-up, and
// that ClickHouse's merges of what was measured are waited for and counted. It
// leaves out judging, and machines that do other work meanwhile.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

// Settings say what to measure. The servers run already.
type Settings struct {
	// CollectorURL is where reports are posted. Required.
	CollectorURL string
	// Sign makes session tokens that the collector takes. Required.
	Sign func(token.Session) (string, error)
	// ClickHouse may read the tables of Spillway and make and drop one of its own. Required.
	ClickHouse driver.Conn
	// ClickHouseHTTP is the HTTP interface with user and password, for the comparison; empty leaves it out.
	ClickHouseHTTP string
	// ServerPID is the process of collector, bus, sessioniser and loader, ClickHousePID that of ClickHouse.
	ServerPID, ClickHousePID int
	// EventsPerSecond is the load; default 80,000. PerPost is the events of a POST; default 20.
	EventsPerSecond, PerPost int
	// Sessions is the number of playback sessions that post in turn; default 40,000, so that at the default
	// load each posts every 10 s, as CMCD's default interval is.
	Sessions int
	// Conns is the number of connections, each of which waits for an answer before its next POST; default 1,000.
	Conns int
	// Window is how long the load lasts; default 60 s.
	Window time.Duration
	// Explain says where ClickHouse's CPU time goes. Its logs must be on, which costs it some itself.
	Explain bool
	// Logger is told how far it is; default discards.
	Logger *slog.Logger
}

// Report is what came out.
type Report struct {
	Bench   string    `json:"bench"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`

	Offered  int   `json:"offered_events_per_s"`
	PerPost  int   `json:"events_per_post"`
	Sessions int   `json:"sessions"`
	Accepted int64 `json:"accepted_events"`
	Refused  int64 `json:"refused_posts"`
	Late     int64 `json:"posts_over_1s_late"`
	// AcceptedPerSecond over the window.
	AcceptedPerSecond float64 `json:"accepted_events_per_s"`

	// RawRows and RollupReports are what ClickHouse holds afterwards; Exact: both are what was accepted.
	RawRows       int64 `json:"raw_rows"`
	RollupReports int64 `json:"rollup_reports"`
	SliceRows     int64 `json:"slice_rows"`
	Exact         bool  `json:"exact"`
	// Columns is how many columns of the raw rows have a value in an average row.
	Columns float64 `json:"columns_with_values"`

	// CPU microseconds an accepted event: our processes, ClickHouse, both. Merges are in.
	ServerCPUUs     float64 `json:"server_cpu_us_per_event"`
	ClickHouseCPUUs float64 `json:"clickhouse_cpu_us_per_event"`
	CPUUs           float64 `json:"cpu_us_per_event"`
	// ClickHouseParts is where ClickHouse's went, if asked for.
	ClickHouseParts []Part `json:"clickhouse_parts,omitempty"`
	// DrainMs is how long after the last 204 the roll-up had everything.
	DrainMs int64 `json:"drain_ms"`
	// Lag is how far the roll-up was behind in the course of the load; the mean of its first, middle and last third
	// tells whether it grows.
	LagStartSeconds  float64 `json:"lag_start_s"`
	LagMiddleSeconds float64 `json:"lag_middle_s"`
	LagEndSeconds    float64 `json:"lag_end_s"`
	Lag              []Lag   `json:"lag"`
	// Visible: from a report's 204 to its row in a roll-up.
	VisibleSamples int   `json:"visible_samples"`
	VisibleP50Ms   int64 `json:"visible_p50_ms"`
	VisibleP99Ms   int64 `json:"visible_p99_ms"`
	VisibleMaxMs   int64 `json:"visible_max_ms"`
	VisibleLost    int   `json:"visible_not_seen_in_window"`

	ServerPeakRSSBytes     int64 `json:"server_peak_rss_bytes"`
	ClickHousePeakRSSBytes int64 `json:"clickhouse_peak_rss_bytes"`

	// JSONEachRow: the same rows into an equal table without views, ClickHouse's CPU alone.
	JSONEachRow []Insert `json:"json_each_row,omitempty"`
}

// Insert is one comparison.
type Insert struct {
	BatchRows       int     `json:"batch_rows"`
	Rows            int64   `json:"rows"`
	ClickHouseCPUUs float64 `json:"clickhouse_cpu_us_per_row"`
	// Ratio is our whole cost an event to this.
	Ratio float64 `json:"ours_to_this"`
}

func (s *Settings) defaults() error {
	set := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	set(&s.EventsPerSecond, 80_000)
	set(&s.PerPost, 20)
	set(&s.Sessions, 40_000)
	set(&s.Conns, 1000)
	if s.Window == 0 {
		s.Window = time.Minute
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Sign == nil || s.ClickHouse == nil || s.ServerPID <= 0 || s.ClickHousePID <= 0 {
		return errors.New("settings lack Sign, ClickHouse or a process id")
	}
	if s.EventsPerSecond < s.PerPost || s.PerPost < 1 || s.PerPost > 1000 || s.Sessions < s.Conns || s.Conns < 1 || s.Window < time.Second {
		return errors.New("give at least one POST a second, 1 to 1000 events a POST, a session for each connection, and a second of load")
	}
	return nil
}

// usage is what our processes and ClickHouse have used, CPU seconds.
type usage struct{ server, clickhouse float64 }

func (s *Settings) usage() (u usage, err error) {
	a, err := procstat.Tree(s.ServerPID)
	if err != nil {
		return u, fmt.Errorf("read the server's CPU time: %w", err)
	}
	b, err := procstat.Tree(s.ClickHousePID)
	if err != nil {
		return u, fmt.Errorf("read ClickHouse's CPU time: %w", err)
	}
	return usage{a.CPUSeconds + a.EndedChildrenCPUSeconds, b.CPUSeconds + b.EndedChildrenCPUSeconds}, nil
}

// Run measures.
func Run(ctx context.Context, s Settings) (*Report, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	u, err := url.Parse(s.CollectorURL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("collector %q is not a URL", s.CollectorURL)
	}
	l := &load{addr: u.Host, path: u.Path, sign: s.Sign, sessions: s.Sessions, perPost: s.PerPost, rate: s.EventsPerSecond, conns: s.Conns}
	rep := &Report{
		Bench: "telemetry", Began: time.Now().UTC().Truncate(time.Second), Seconds: s.Window.Seconds(),
		Offered: s.EventsPerSecond, PerPost: s.PerPost, Sessions: s.Sessions,
	}
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	p := &probe{l: l, conn: s.ClickHouse}
	if rep.Lag, err = s.push(ctx, l, p); err != nil {
		return nil, err
	}
	rep.LagStartSeconds, rep.LagMiddleSeconds, rep.LagEndSeconds = lagOf(rep.Lag)
	rep.Accepted, rep.Refused, rep.Late = l.accepted.Load(), l.refused.Load(), l.late.Load()
	rep.AcceptedPerSecond = float64(rep.Accepted) / s.Window.Seconds()
	ended := time.Now()
	s.Logger.Info("the load has ended; waiting for the rows", "accepted", rep.Accepted)
	if err := s.drain(ctx, rep); err != nil {
		return rep, err
	}
	rep.DrainMs = time.Since(ended).Milliseconds()
	if err := s.settle(ctx); err != nil {
		return rep, err
	}
	after, err := s.usage()
	if err != nil {
		return rep, err
	}
	n := float64(max(rep.Accepted, 1))
	rep.ServerCPUUs = (after.server - before.server) * 1e6 / n
	rep.ClickHouseCPUUs = (after.clickhouse - before.clickhouse) * 1e6 / n
	rep.CPUUs = rep.ServerCPUUs + rep.ClickHouseCPUUs
	rep.VisibleSamples, rep.VisibleLost = len(p.wait), p.lost
	rep.VisibleP50Ms, rep.VisibleP99Ms, rep.VisibleMaxMs = percentileMs(p.wait, 0.5), percentileMs(p.wait, 0.99), percentileMs(p.wait, 1)
	if rep.ServerPeakRSSBytes, err = procstat.PeakRSS(s.ServerPID); err != nil {
		return rep, err
	}
	if rep.ClickHousePeakRSSBytes, err = procstat.PeakRSS(s.ClickHousePID); err != nil {
		return rep, err
	}
	if err := s.explain(ctx, rep); err != nil {
		return rep, err
	}
	if err := s.columns(ctx, rep); err != nil {
		return rep, err
	}
	return rep, s.compare(ctx, rep)
}

// push runs load and probe for the window, and follows how far behind the roll-up is.
func (s *Settings) push(ctx context.Context, l *load, p *probe) (lag []Lag, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Window)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.run(ctx) })
	g.Go(func() error { return p.run(ctx) })
	g.Go(func() (err error) { lag, err = s.followLag(ctx, l); return err })
	g.Go(func() error {
		t := time.NewTicker(10 * time.Second)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
				s.Logger.Info("posting", "accepted", l.accepted.Load(), "refused_posts", l.refused.Load(), "late_posts", l.late.Load())
			}
		}
	})
	err = g.Wait()
	return lag, err
}

const counted = `SELECT
	toInt64((SELECT count() FROM telemetry WHERE app = 'bench')),
	toInt64((SELECT sum(reports) FROM rollup_minute WHERE app = 'bench')),
	toInt64((SELECT count() FROM session_slices WHERE app = 'bench'))`

// drain waits until the roll-up has what was accepted.
func (s *Settings) drain(ctx context.Context, rep *Report) error {
	deadline := time.Now().Add(2*time.Minute + s.Window)
	for {
		if err := s.ClickHouse.QueryRow(ctx, counted).Scan(&rep.RawRows, &rep.RollupReports, &rep.SliceRows); err != nil {
			return fmt.Errorf("count rows: %w", err)
		}
		// A POST whose answer was cut off by the end of the window may be in.
		if rep.Exact = rep.RawRows == rep.RollupReports && rep.RawRows >= rep.Accepted; rep.Exact {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d events were accepted, but ClickHouse has %d rows and %d reports in the roll-up", rep.Accepted, rep.RawRows, rep.RollupReports)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle waits until no merge has run for two seconds.
func (s *Settings) settle(ctx context.Context) error {
	deadline := time.Now().Add(3 * time.Minute)
	quiet := time.Now()
	for time.Since(quiet) < 2*time.Second && time.Now().Before(deadline) {
		var n uint64
		if err := s.ClickHouse.QueryRow(ctx, "SELECT count() FROM system.merges").Scan(&n); err != nil {
			return fmt.Errorf("look for merges: %w", err)
		}
		if n > 0 {
			quiet = time.Now()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
