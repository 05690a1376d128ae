// Package router measures what answers of a router cost: dispatch and steering
// over HTTP, with a registry of many CDNs and viewers in many places.
//
// It promises: real requests over kept connections, of sessions that were opened
// before and are in telemetry meanwhile; the router's CPU is that of its own
// process, and what it takes to fold telemetry is told apart from what answers
// take; CPU of the generator and of the bus beside it; latency at a given rate,
// from when a request was due. It leaves out players and media.
package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bench"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

// Settings of a run.
type Settings struct {
	// URL of the router, PID of its process.
	URL string
	PID int
	// App and Stream are asked for; it is live.
	App, Stream string
	// CDNs are in its registry; Cells of region and provider are asked from.
	CDNs, Cells int
	// Sessions are opened first, under Policy "weighted" so that they are on all
	// CDNs; Policy sets that of App, and returns once routers have had the time to hear of it.
	Sessions int
	Policy   func(ctx context.Context, name string) error
	// Connections ask at once; Window is how long each measurement lasts.
	Connections int
	Window      time.Duration
	// Rate is that at which latency is measured, answers a second.
	Rate int
	// Slices a second are on the bus meanwhile, of the sessions that were opened;
	// Publish puts them there.
	Slices  int
	Publish func(context.Context, []schemas.Slice) error
	// Stored gives the decisions that the router has published so far.
	Stored func(context.Context) (float64, error)
}

// Report is what was measured.
type Report struct {
	Bench    string        `json:"bench"`
	Began    time.Time     `json:"began"`
	Machine  bench.Machine `json:"machine"`
	CDNs     int           `json:"cdns"`
	Cells    int           `json:"cells"`
	Sessions int           `json:"sessions"`
	Slices   int           `json:"slices_per_second"`
	// SliceCPUMicrosEach is what the router's process takes for a slice, bus included, while nobody asks it.
	SliceCPUMicrosEach float64 `json:"slice_cpu_us_each,omitempty"`
	Dispatch           Figures `json:"dispatch"`
	Steering           Figures `json:"steering"`
}

// Figures of one kind of answer.
type Figures struct {
	// Full: answers given as fast as the connections ask. AtRate: at a rate.
	Full   Load `json:"full"`
	AtRate Load `json:"at_rate"`
	// AnswersPerCPUSecond is answers to a second of the router's CPU at full load, all it does included.
	AnswersPerCPUSecond float64 `json:"answers_per_cpu_second"`
	Rate                int     `json:"rate"`
	// Latency at the rate, milliseconds from when each answer was due.
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
	MaxMs float64 `json:"max_ms"`
}

// Load is one run of requests and what it cost, microseconds of CPU an answer.
type Load struct {
	Answers int64 `json:"answers"`
	// RouterCPUMicrosEach is of the router's process, SlicesCPUMicrosEach how much of
	// it slices take, by what they take while nobody asks.
	RouterCPUMicrosEach float64 `json:"cpu_us_each"`
	SlicesCPUMicrosEach float64 `json:"of_that_slices_us_each"`
	// GeneratorCPUMicrosEach is of the thread that asks, BusCPUMicrosEach of the
	// embedded bus and of who puts slices on it.
	GeneratorCPUMicrosEach float64 `json:"generator_cpu_us_each"`
	BusCPUMicrosEach       float64 `json:"bus_cpu_us_each"`
	// StoredShare is decisions published, by answers.
	StoredShare float64 `json:"stored_share"`
	// LoopMs is the CPU that one and the same loop took before and after, milliseconds: the
	// same work costs more while others use the core that a virtual CPU is a part of.
	LoopMs [2]float64 `json:"loop_ms"`
}

// loop is what LoopMs measures: arithmetic that depends on itself, without memory.
func loop() (ms float64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	from, err := threadCPU()
	if err != nil {
		return 0, err
	}
	x := uint64(1)
	for range 20_000_000 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	runtime.KeepAlive(x)
	to, err := threadCPU()
	return float64((to - from).Nanoseconds()) / 1e6, err
}

// Run measures.
func Run(ctx context.Context, s Settings) (rep *Report, err error) {
	if s.CDNs < 1 || s.Cells < 1 || s.Connections < 1 || s.Window < time.Second || s.Rate < 1 || s.Sessions < s.Cells {
		return nil, fmt.Errorf("CDNs %d, cells %d, connections %d, window %s, rate %d, sessions %d: all must be above 0, the window a second, sessions as many as cells at least", s.CDNs, s.Cells, s.Connections, s.Window, s.Rate, s.Sessions)
	}
	m := measurement{Settings: s}
	if m.addr, err = address(s.URL); err != nil {
		return nil, err
	}
	// The generator's thread must not wait for the bus's.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1))
	rep = &Report{Bench: "router", Began: time.Now().UTC().Truncate(time.Second), Machine: bench.ThisMachine(), CDNs: s.CDNs, Cells: s.Cells, Sessions: s.Sessions, Slices: s.Slices}
	if err := m.openSessions(ctx); err != nil {
		return nil, fmt.Errorf("open sessions: %w", err)
	}
	stop := m.feed(ctx)
	defer func() { err = errors.Join(err, stop()) }()
	if rep.SliceCPUMicrosEach, err = m.sliceCost(ctx); err != nil {
		return nil, err
	}
	if rep.Dispatch, err = m.measure(ctx, m.dispatch(10)); err != nil {
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	if rep.Steering, err = m.measure(ctx, m.steering()); err != nil {
		return nil, fmt.Errorf("steering: %w", err)
	}
	return rep, nil
}

// address of a URL on this machine.
func address(base string) (netip.AddrPort, error) {
	u, err := url.Parse(base)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(u.Host)
}

type measurement struct {
	Settings
	addr      netip.AddrPort
	sessions  []session
	sliceCPUs float64 // seconds for each
}

// sliceCost measures what slices take while nobody asks.
func (m *measurement) sliceCost(ctx context.Context) (us float64, err error) {
	if m.Slices == 0 {
		return 0, nil
	}
	wait := func(d time.Duration) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	if err := wait(time.Second); err != nil {
		return 0, err
	}
	before, err := procstat.CPUSeconds(m.PID)
	if err != nil {
		return 0, err
	}
	if err := wait(m.Window); err != nil {
		return 0, err
	}
	after, err := procstat.CPUSeconds(m.PID)
	m.sliceCPUs = (after - before) / (float64(m.Slices) * m.Window.Seconds())
	return m.sliceCPUs * 1e6, err
}

func (m *measurement) measure(ctx context.Context, requests [][]byte) (Figures, error) {
	f := Figures{Rate: m.Rate}
	if _, _, err := m.load(ctx, requests, 0, time.Second); err != nil { // warm
		return f, err
	}
	var err error
	if f.Full, _, err = m.load(ctx, requests, 0, m.Window); err != nil {
		return f, err
	}
	f.AnswersPerCPUSecond = 1e6 / f.Full.RouterCPUMicrosEach
	var waits []time.Duration
	if f.AtRate, waits, err = m.load(ctx, requests, m.Rate, m.Window); err != nil {
		return f, err
	}
	slices.Sort(waits)
	at := func(share float64) float64 {
		return float64(waits[int(share*float64(len(waits)-1))]) / float64(time.Millisecond)
	}
	f.P50Ms, f.P99Ms, f.MaxMs = at(0.5), at(0.99), at(1)
	return f, nil
}

// load asks over all connections, at a rate in all or, at 0, as fast as answers come.
func (m *measurement) load(ctx context.Context, requests [][]byte, rate int, window time.Duration) (Load, []time.Duration, error) {
	g := generator{requests: requests, rate: rate, window: window}
	loopBefore, err := loop()
	if err != nil {
		return Load{}, nil, err
	}
	before, err := m.spent(ctx)
	if err != nil {
		return Load{}, nil, err
	}
	begin := time.Now()
	waits, asking, err := g.run(ctx, m.addr, m.Connections)
	if err != nil {
		return Load{}, nil, err
	}
	took := time.Since(begin).Seconds()
	after, err := m.spent(ctx)
	if err != nil {
		return Load{}, nil, err
	}
	if len(waits) == 0 {
		return Load{}, nil, errors.New("no answer at all")
	}
	loopAfter, err := loop()
	if err != nil {
		return Load{}, nil, err
	}
	n := float64(len(waits))
	each := func(seconds float64) float64 { return seconds * 1e6 / n }
	return Load{
		Answers: int64(len(waits)), RouterCPUMicrosEach: each(after.router - before.router),
		SlicesCPUMicrosEach: each(m.sliceCPUs * float64(m.Slices) * took), GeneratorCPUMicrosEach: each(asking.Seconds()),
		BusCPUMicrosEach: each(max(after.here-before.here-asking.Seconds(), 0)), StoredShare: (after.stored - before.stored) / n, LoopMs: [2]float64{loopBefore, loopAfter},
	}, waits, nil
}

// spent is CPU so far, seconds, of the router's process and of this one, and the decisions published.
type spent struct{ router, here, stored float64 }

func (m *measurement) spent(ctx context.Context) (s spent, err error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return s, err
	}
	s.here = time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	if s.router, err = procstat.CPUSeconds(m.PID); err != nil {
		return s, err
	}
	s.stored, err = m.Stored(ctx)
	return s, err
}
