// Package viewer simulates viewers that really watch: they ask the dispatch
// service, fetch playlists (with blocking reloads), parts and segments over
// HTTP, keep a playback buffer in media time that stalls when it runs empty,
// follow content steering, leave failing pathways when hls.js 1.7.4 would, and report as a good player
// would: CMCD v2 events and a beacon at the end of the view.
//
// It promises that what a viewer reports is what it measured, and that Report
// tells the same from inside, so that computed metrics can be held against it.
// Moments are exact to the moment at which data was there, however late the
// simulation wakes up. Media is downloaded and thrown away: nothing is decoded,
// there is no adaptation, and one rendition is played.
package viewer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
)

// Client is the name by which simulated viewers are known in telemetry.
const Client = "spillway-viewer"

// Config of one view. Either Dispatch or Multivariant is required.
type Config struct {
	// Dispatch is the router's base URL or its /v1/dispatch.
	Dispatch string
	// Multivariant is a playlist to play without dispatch; nothing is reported
	// unless Telemetry and Beacon are given.
	Multivariant string
	App, Stream  string
	// Viewer is what the application calls the viewer; may be empty.
	Viewer string
	// PlayKey opens a private stream.
	PlayKey string
	// CDN pins the view: it starts there, ignores steering and never leaves.
	CDN string
	// NoSteering: it knows the pathways and asks no steering server.
	NoSteering bool
	// Region and ISP are claimed by trusted headers (loopback only).
	Region, ISP string
	// AccessBps is what the viewer's own network carries for each request of media, bits per second; 0 is unlimited.
	AccessBps int64
	// Device, OS and Network go into the beacon.
	Device, OS, Network string
	// Telemetry and Beacon override the targets of the dispatch answer.
	Telemetry, Beacon string

	// WholeSegments plays segments from HOLD-BACK on instead of parts: a tenth of the requests.
	WholeSegments bool
	// StartAhead and ResumeAhead are the buffer needed to start and to go on
	// after a stall; default 300 ms and 500 ms.
	StartAhead, ResumeAhead time.Duration
	// LiveSync is how far behind the edge to play; default: the arm's
	// live_sync_duration_s, or else the playlist's hold-back.
	LiveSync time.Duration
	// MaxBehind is how far behind the edge the playhead may fall before the
	// viewer jumps forward; default LiveSync + 14 s, about when hls.js falls out of the playlist.
	MaxBehind time.Duration
	// ReportEvery is the interval of t events; default 2 s.
	ReportEvery time.Duration
	// SampleResponses is the share of media responses reported as rr, 0 to 1.
	SampleResponses float64
	// RequestCMCD adds a CMCD query to media requests.
	RequestCMCD bool
	// Penalty keeps a failed pathway out of use; default 300 s, as hls.js.
	Penalty time.Duration
	// GiveUp ends the view when nothing could be fetched for so long; default 60 s.
	GiveUp time.Duration

	// OnState is told of every new state of the playback and since when it holds; nil: nobody is. It must not block.
	OnState func(state cmcd.State, at time.Time)
	// OnServed is told of every media response and the pathway it came from; nil: nobody is. It must not block.
	OnServed func(pathway string, at time.Time)
	// Seed makes random choices repeatable; 0 is random.
	Seed       uint64
	HTTPClient *http.Client // default: its own
	Logger     *slog.Logger
}

func (c *Config) defaults() {
	d := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	d(&c.StartAhead, 300*time.Millisecond)
	d(&c.ResumeAhead, 500*time.Millisecond)
	d(&c.ReportEvery, 2*time.Second)
	d(&c.Penalty, 300*time.Second)
	d(&c.GiveUp, 60*time.Second)
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// NewTransport is a transport for many viewers at once.
func NewTransport() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 512, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
}

// Report is what a view measured from inside.
type Report struct {
	SessionID string
	Arms      string
	// Started: the first frame was reached, Startup after the view began.
	Started bool
	Startup time.Duration
	Played  time.Duration
	Stalled time.Duration
	Stalls  int
	// Seeking is the time waited after jumps towards the live edge, Seeks their number.
	Seeking time.Duration
	Seeks   int
	// Latency is wall-clock minus program date time at the playhead, one sample a second of playing.
	Latency []time.Duration
	// Served counts media responses by pathway.
	Served map[string]int
	// Switches of pathway, by steering or after errors.
	Switches             int
	Requests, Errors     int
	Bytes                int64
	Events, EventsFailed int
	// End is quit, ended or failed.
	End string
	// Ahead is what was loaded and not yet played at the end: a player that fails still plays it.
	Ahead time.Duration
}

// Run watches until ctx ends (the viewer quits), the stream ends, or playback
// fails, which is an error. The Report is valid in every case.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.HTTPClient == nil {
		tr := NewTransport()
		defer tr.CloseIdleConnections()
		c.HTTPClient = &http.Client{Transport: tr}
	}
	c.defaults()
	v := &view{c: c, log: c.Logger, rnd: rand.New(rand.NewPCG(c.Seed, 1)), penalty: map[string]time.Time{}, served: map[string]int{}}
	v.begun = time.Now()
	if err := v.dispatch(ctx); err != nil {
		return Report{End: "failed"}, err
	}
	return v.run(ctx)
}

// dispatch asks for a session.
func (v *view) dispatch(ctx context.Context) error {
	if v.c.Dispatch == "" {
		if v.c.Multivariant == "" {
			return errors.New("viewer: neither Dispatch nor Multivariant is given")
		}
		v.d = schemas.Dispatch{URL: v.c.Multivariant, App: v.c.App, Stream: v.c.Stream, ContentID: v.c.App + "/" + v.c.Stream}
		v.d.Telemetry, v.d.Beacon = v.c.Telemetry, v.c.Beacon
		v.d.SessionID = fmt.Sprintf("v%016x%016x", v.rnd.Uint64(), v.rnd.Uint64())
		return nil
	}
	var err error
	if v.d, err = ask(ctx, &v.c); err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	if v.c.Telemetry != "" {
		v.d.Telemetry = v.c.Telemetry
	}
	if v.c.Beacon != "" {
		v.d.Beacon = v.c.Beacon
	}
	if v.c.CDN != "" {
		for _, x := range v.d.Candidates {
			if x.CDN == v.c.CDN {
				v.d.URL = x.URL // through the edge itself, as a page without a router would
			}
		}
	}
	return nil
}

func (c *Config) headers(h http.Header) {
	if c.Region != "" {
		h.Set(geo.HeaderRegion, c.Region)
	}
	if c.ISP != "" {
		h.Set(geo.HeaderISP, c.ISP)
	}
	h.Set("User-Agent", c.agent())
}

// agent names the program and what it runs on, in the words that tell a browser's
// device, so that it is known from the first report on as it is of browsers.
func (c *Config) agent() string {
	on := map[string]string{"phone": " (iPhone)", "tablet": " (iPad)", "tv": " (SmartTV; Linux)", "desktop": " (X11; Linux)"}
	return Client + "/1" + on[c.Device]
}

// record is a CMCD record with what every report carries.
func (v *view) record(e cmcd.Event, at time.Time) *cmcd.Record {
	r := &cmcd.Record{
		Version: 2, Mode: cmcd.ModeEvent, Event: e, SessionID: v.d.SessionID, ContentID: v.d.ContentID, TimeUnixMs: at.UnixMilli(),
		Format: cmcd.FormatHLS, StreamType: cmcd.StreamLowLatency, State: v.p.state,
	}
	if v.c.WholeSegments {
		r.StreamType = cmcd.StreamLive
	}
	r.Put(cmcd.V, cmcd.E, cmcd.SID, cmcd.CID, cmcd.TS, cmcd.SF, cmcd.ST, cmcd.STA)
	r.SetCustom(cmcd.CustomValue{Key: cmcd.PlayerKey, Value: Client, Kind: cmcd.CustomString})
	if v.path != nil {
		r.CDN, r.Host = v.path.id, v.path.host
		r.Put(cmcd.H)
		if r.CDN != "." {
			r.Put(cmcd.CDN)
		}
		if v.path.kbps > 0 {
			r.BitrateKbps = cmcd.Any(v.path.kbps)
			r.Put(cmcd.BR)
		}
	}
	r.BufferMs = cmcd.Any(v.p.ahead().Milliseconds())
	r.Put(cmcd.BL)
	if v.throughput > 0 {
		r.ThroughputKbps = cmcd.Any(int64(v.throughput))
		r.Put(cmcd.MTP)
	}
	if v.p.rate != 1 {
		r.Rate = v.p.rate
		r.Put(cmcd.PR)
	}
	if w, ok := v.p.wall(); ok && v.p.state == cmcd.StatePlaying {
		r.PlayheadMs = w.UnixMilli()
		r.LatencyMs = at.Add(v.clock).Sub(w).Milliseconds()
		r.Put(cmcd.PT, cmcd.LTC)
	}
	if v.p.state == cmcd.StatePlaying && !v.saidDelay {
		v.saidDelay = true
		r.StartDelayMs = v.p.startup.Milliseconds()
		r.Put(cmcd.MSD)
	}
	return r
}
