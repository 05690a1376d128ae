package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/peers"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

// Starter makes a server to be measured, new for every run.
type Starter struct {
	// Name in the report.
	Name string
	// LowLatency servers have LL-HLS, which readers can follow; others are measured without readers only.
	LowLatency bool
	// Start returns when the server takes publishers.
	Start func(ctx context.Context) (Server, error)
}

// Server is one that runs.
type Server interface {
	Version() string
	// PublishURL and PlayURL are of a stream: where to push it, and its multivariant (or only) playlist.
	PublishURL(stream string) string
	PlayURL(stream string) string
	PID() int
	// Done is closed when the server has ended.
	Done() <-chan struct{}
	// Output is the end of what the server printed.
	Output() string
	// Stop ends it and removes its files.
	Stop()
}

// partCounter is a server that can tell what it packaged before anybody reads.
type partCounter interface {
	// countParts listens for a while and gives how many of the streams had at least so many parts of either track
	// packaged, and the parts of all.
	countParts(ctx context.Context, streams []string, listen time.Duration, atLeast int) (packaged int, parts int64, err error)
}

type peer struct{ *peers.Server }

func (p peer) Version() string { return p.Server.Version }

// MediaMTX measures a MediaMTX binary that packages every stream, as Spillway does.
func MediaMTX(binary string) Starter {
	return Starter{Name: "mediamtx", LowLatency: true, Start: func(ctx context.Context) (Server, error) {
		s, err := peers.MediaMTX{Binary: binary}.Start(ctx)
		if err != nil {
			return nil, err
		}
		return peer{s}, nil
	}}
}

// NginxRTMP measures nginx with its RTMP module: plain HLS, which is less work.
func NginxRTMP(binary string) Starter {
	return Starter{Name: "nginx-rtmp", Start: func(ctx context.Context) (Server, error) {
		s, err := peers.NginxRTMP{Binary: binary}.Start(ctx)
		if err != nil {
			return nil, err
		}
		return peer{s}, nil
	}}
}

// Spillway is how to run our own server: ingest, durable bus, packager and origin in one process.
type Spillway struct {
	// Binary is the path of the program. Required.
	Binary string
	// Release is what to call its version; "unknown" when empty.
	Release string
	// TempDir is where its store is put; the system's when empty. It should be on the disk that production
	// would use: the bus is durable.
	TempDir string
	// CPUProfile is a file for a profile of the server, in pprof's form; none when empty. It costs a little
	// CPU time itself, and every run replaces it.
	CPUProfile string
	// Watched leaves it to viewers which streams are packaged; otherwise all are, as its peers do.
	Watched bool
	// Edge puts a router and one CDN edge before the origin; PlayURL is then that of the edge.
	Edge bool
	// CDNs are the names of the edges, with commas, where Edge is set; one when empty.
	CDNs string
	// Telemetry runs collector and sessioniser as well, so that routers know how CDNs serve.
	Telemetry bool
}

const (
	ownApplication  = "live"
	ownEdge         = "a"
	ownStartTimeout = 30 * time.Second
	// ownStopGrace is above the five seconds in which "spillway up" promises to stop.
	ownStopGrace = 8 * time.Second
)

// Starter makes it one of the servers to measure.
func (s Spillway) Starter() Starter {
	return Starter{Name: "spillway", LowLatency: true, Start: func(ctx context.Context) (Server, error) {
		return s.Start(ctx)
	}}
}

// OwnServer tells more than its peers do.
type OwnServer interface {
	Server
	// OriginURL is where the origin answers, BusURL where the bus does.
	OriginURL() string
	BusURL() string
	// RouterURL is where the router answers; empty without Edge.
	RouterURL() string
	// CPUSeconds is what the server has used, and its sessioniser, which is a process of its own.
	CPUSeconds() (server, sessioniser float64, err error)
}

// Start runs it until ctx ends or Stop is called.
func (s Spillway) Start(ctx context.Context) (OwnServer, error) {
	srv, err := s.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("start spillway: %w", err)
	}
	return srv, nil
}

func (o *own) OriginURL() string { return o.ready.Origin }
func (o *own) BusURL() string    { return o.ready.NATS }
func (o *own) RouterURL() string { return o.ready.Router }

func (o *own) CPUSeconds() (server, sessioniser float64, err error) {
	u, err := procstat.Tree(o.process.PID())
	if err != nil || o.sessioniser == nil {
		return u.CPUSeconds, 0, err
	}
	s, err := procstat.Tree(o.sessioniser.PID())
	return u.CPUSeconds, s.CPUSeconds, err
}

type own struct {
	process *child.Process
	// sessioniser is nil without Spillway.Telemetry.
	sessioniser *child.Process
	output      *child.Tail
	dir         string
	version     string
	ready       struct {
		Push   string            `json:"push"`
		Origin string            `json:"origin"`
		Router string            `json:"router"`
		NATS   string            `json:"nats"`
		HLS    map[string]string `json:"hls"`
	}
}

func (s Spillway) start(ctx context.Context) (_ *own, err error) {
	o := &own{output: &child.Tail{}, version: s.Release}
	set(&o.version, "unknown")
	if o.dir, err = os.MkdirTemp(s.TempDir, "spillway-bench-"); err != nil {
		return nil, fmt.Errorf("create its directory: %w", err)
	}
	defer func() {
		if err != nil {
			o.Stop()
		}
	}()
	roles := "ingest,packager,origin"
	if s.Edge {
		roles += ",router,edge"
	}
	if s.Telemetry {
		roles += ",collector"
	}
	set(&s.CDNs, ownEdge)
	packaging := "always"
	if s.Watched {
		packaging = "watched"
	}
	args := []string{"up", "--no-demo", "--only", roles, "--package", packaging, "--cdns", s.CDNs, "--data", o.dir + "/data", "--json", "--log-level", "warn"}
	for _, port := range []string{"rtmp", "console", "router", "collector", "origin", "nats-port"} {
		args = append(args, "--"+port, "0")
	}
	if s.CPUProfile != "" {
		args = append(args, "--cpuprofile", s.CPUProfile)
	}
	cmd := exec.Command(s.Binary, args...)
	// Settings of the caller's own Spillway must not reach this one, nor the other way round.
	cmd.Env = append(child.Environ("SPILLWAY_", "XDG_CACHE_HOME="), "XDG_CACHE_HOME="+o.dir+"/cache")
	cmd.Stderr = o.output
	if o.process, err = child.StartJSON(ctx, cmd, &o.ready, ownStartTimeout); err != nil {
		return nil, err
	}
	if o.ready.Push == "" || o.ready.Origin == "" || o.ready.NATS == "" {
		return nil, errors.New("its line of JSON lacks push, origin or nats")
	}
	if s.Telemetry { // a process of its own: within "up" ClickHouse would come with it
		sessions := exec.Command(s.Binary, "sessioniser", "--nats", o.ready.NATS, "--data", o.dir+"/data", "--log-level", "warn")
		sessions.Env, sessions.Stderr = cmd.Env, o.output
		if o.sessioniser, err = child.Start(sessions); err != nil {
			return nil, err
		}
	}
	context.AfterFunc(ctx, o.end)
	return o, nil
}

func (o *own) Version() string                 { return o.version }
func (o *own) PublishURL(stream string) string { return o.ready.Push + "/" + stream }
func (o *own) PlayURL(stream string) string {
	base := o.ready.Origin
	if u, err := url.Parse(o.ready.HLS[ownEdge]); err == nil && u.Host != "" {
		base = u.Scheme + "://" + u.Host
	}
	return base + "/" + ownApplication + "/" + stream + "/multivariant.m3u8"
}
func (o *own) PID() int              { return o.process.PID() }
func (o *own) Done() <-chan struct{} { return o.process.Done() }
func (o *own) Output() string        { return o.output.String() }

func (o *own) end() {
	for _, p := range []*child.Process{o.sessioniser, o.process} {
		if p != nil {
			p.Stop(ownStopGrace)
		}
	}
}

func (o *own) Stop() {
	o.end()
	_ = os.RemoveAll(o.dir)
}

// countParts listens to what the packager sends, which is before and apart from the origin.
func (o *own) countParts(ctx context.Context, streams []string, listen time.Duration, atLeast int) (packaged int, parts int64, err error) {
	nc, err := bus.Connect(o.ready.NATS, "bench", nil)
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	var mu sync.Mutex
	seen := map[string]int{}
	if _, err := nc.Subscribe("parts.>", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		seen[m.Subject]++
	}); err != nil {
		return 0, 0, err
	}
	select {
	case <-time.After(listen):
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range streams {
		k := schemas.StreamKey{App: ownApplication, Stream: name}
		video := seen[schemas.PartSubject(k, schemas.SourceRendition, schemas.Video)]
		audio := seen[schemas.PartSubject(k, schemas.SourceRendition, schemas.Audio)]
		parts += int64(video + audio)
		if min(video, audio) >= atLeast {
			packaged++
		}
	}
	return packaged, parts, nil
}
