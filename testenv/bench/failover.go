package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
	"github.com/spillway-live/spillway/testenv/publisher"
)

// Modes of a failover run: what the viewers have to find another CDN with.
const (
	ModeSteered  = "steered"     // pathways and content steering
	ModePlain    = "plain"       // pathways, no steering: hls.js alone
	ModeStatic   = "round_robin" // one CDN each, in turn; a page that failed begins anew with the next
	failedCDN    = "a"
	failoverCDNs = "a,b,c"
)

// Faults of the CDN that goes down, by name.
var Faults = map[string]schemas.Fault{
	"down":   {Down: true},         // connections are closed without an answer
	"silent": {LatencyMs: 600_000}, // connections are taken and nothing is answered
	"errors": {ErrorRate: 1},       // everything is answered 503
	"slow":   {RateBps: 5_000_000}, // what is served is far too little
}

// FailoverSettings say how to measure what viewers feel of a CDN that goes down.
type FailoverSettings struct {
	Spillway Spillway
	// Viewers in all, LowLatency of them reading parts; 2000 and 100 when 0.
	Viewers, LowLatency int
	// BitrateKbps of the stream, video alone; 300 when 0.
	BitrateKbps int
	// Fault is a name of Faults; down when empty.
	Fault string
	// Modes in order; all when empty.
	Modes []string
	// Join is over which viewers come, Settle how long they then play, After how
	// long they are watched from the fault on; 20, 15 and 45 s when 0.
	Join, Settle, After time.Duration
	Logger              *slog.Logger
}

func (s *FailoverSettings) check() error {
	set(&s.Viewers, 2000)
	set(&s.LowLatency, min(100, s.Viewers))
	set(&s.BitrateKbps, 300)
	set(&s.Fault, "down")
	set(&s.Join, 20*time.Second)
	set(&s.Settle, 15*time.Second)
	set(&s.After, 45*time.Second)
	if len(s.Modes) == 0 {
		s.Modes = []string{ModeSteered, ModePlain, ModeStatic}
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if _, ok := Faults[s.Fault]; !ok {
		return fmt.Errorf("fault %q is not known: down, silent, errors or slow", s.Fault)
	}
	for _, m := range s.Modes {
		if !slices.Contains([]string{ModeSteered, ModePlain, ModeStatic}, m) {
			return fmt.Errorf("mode %q is not known: %s, %s or %s", m, ModeSteered, ModePlain, ModeStatic)
		}
	}
	if s.Viewers < 3 || s.Viewers > 100_000 || s.LowLatency > s.Viewers {
		return fmt.Errorf("%d viewers, %d of them with low latency: choose 3 to 100,000", s.Viewers, s.LowLatency)
	}
	return nil
}

// RunFailover measures each mode with a server of its own. A report of the modes
// before an error comes with it.
func RunFailover(ctx context.Context, s FailoverSettings) (*FailoverReport, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	// Two thousand viewers have many small stacks: collecting them as often as a server's would be a fifth of what they cost.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	rep := &FailoverReport{
		Bench: "failover", Began: time.Now().UTC().Truncate(time.Second), Machine: machine(), Viewers: s.Viewers, LowLatency: s.LowLatency,
		BitrateKbps: s.BitrateKbps, Fault: s.Fault, TTLSeconds: 10, AfterSeconds: s.After.Seconds(),
	}
	for _, mode := range s.Modes {
		m, err := s.mode(ctx, mode)
		if err != nil {
			return rep, fmt.Errorf("%s: %w", mode, err)
		}
		rep.Modes = append(rep.Modes, *m)
		s.Logger.Info("measured", "mode", mode, "moved_in_15s", m.MovedWithin15s, "stall_p50_ms", m.StallMsP50, "stall_p95_ms", m.StallMsP95)
	}
	return rep, nil
}

func (s *FailoverSettings) mode(ctx context.Context, mode string) (*FailoverMode, error) {
	own := s.Spillway
	own.Edge, own.Telemetry, own.Watched, own.CDNs = true, true, true, failoverCDNs
	srv, err := own.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer srv.Stop()
	js, stop, err := openBus(srv.BusURL())
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := evenly(ctx, js); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	card := &publisher.Publisher{URL: srv.PublishURL(viewStream), BitrateKbps: s.BitrateKbps, Width: 320, Height: 180, NoAudio: true, Logger: s.Logger}
	g.Go(func() error { return card.Run(gctx) })
	if err := waitPlayable(gctx, srv); err != nil {
		return nil, errors.Join(err, gctx.Err())
	}
	a := newAudience(s, srv.RouterURL(), mode)
	g.Go(func() error { a.run(gctx); return nil })
	if err := nap.For(gctx, s.Join+s.Settle); err != nil {
		return nil, err
	}
	before, err := cpuNow(srv)
	if err != nil {
		return nil, err
	}
	if err := putJSON(ctx, js, schemas.BucketFaults, failedCDN, Faults[s.Fault]); err != nil {
		return nil, err
	}
	fault := time.Now()
	if err := nap.For(gctx, s.After); err != nil {
		return nil, err
	}
	m := a.report(fault, time.Now())
	after, err := cpuNow(srv)
	if err != nil {
		return nil, err
	}
	m.MachineCPUSeconds, m.ServerCPUSeconds = after.machine-before.machine, after.server-before.server
	m.SessionsCPUSeconds, m.ViewersCPUSeconds = after.sessions-before.sessions, after.own-before.own
	cancel()
	_ = g.Wait() // everybody was told to stop
	return m, nil
}

// cpu is what was used so far, seconds.
type cpu struct{ machine, server, sessions, own float64 }

func cpuNow(srv OwnServer) (c cpu, err error) {
	if c.machine, err = BusyCPUSeconds(); err != nil {
		return c, err
	}
	if c.server, c.sessions, err = srv.CPUSeconds(); err != nil {
		return c, err
	}
	u, err := procstat.Tree(os.Getpid())
	// The server is a child of ours.
	c.own = u.CPUSeconds - c.server - c.sessions
	return c, err
}

func openBus(url string) (jetstream.JetStream, func(), error) {
	nc, err := bus.Connect(url, "bench", nil)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return js, nc.Close, nil
}

// evenly makes the router draw CDNs evenly, none of them with a limit.
func evenly(ctx context.Context, js jetstream.JetStream) error {
	kv, err := js.KeyValue(ctx, schemas.BucketCDNs)
	if err != nil {
		return err
	}
	weights := map[string]float64{}
	for _, name := range []string{"a", "b", "c"} {
		e, err := kv.Get(ctx, name)
		if err != nil {
			return fmt.Errorf("CDN %s: %w", name, err)
		}
		c, err := schemas.ParseCDN(name, e.Value())
		if err != nil {
			return err
		}
		c.CapacityViewers, c.CapacityBps, weights[name] = 0, 0, 1
		if err := putJSON(ctx, js, schemas.BucketCDNs, name, c); err != nil {
			return err
		}
	}
	if err := putJSON(ctx, js, schemas.BucketPolicies, "even", schemas.Policy{Name: "even", Version: 1, Kind: schemas.PolicyWeighted, Weights: weights}); err != nil {
		return err
	}
	return putJSON(ctx, js, schemas.BucketApps, ownApplication, schemas.AppSettings{Policy: "even"})
}

func putJSON(ctx context.Context, js jetstream.JetStream, bucket, key string, v any) error {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", bucket, err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, key, b)
	return err
}
