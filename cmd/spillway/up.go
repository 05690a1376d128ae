package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/edge"
	"github.com/spillway-live/spillway/testenv/geodb"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/workers/store"
)

// The parts of "spillway up", in the order in which they start. They stop in
// reverse, so nothing that was accepted is lost on the way down:
//
//	bus ─ ClickHouse ─ loader ─ sessioniser ─ collector ─ ingest ─ puller ─ packager ─ recorder ─ transcoder ─ origin
//	   ─ router ─ screenshot ─ console ─ edges a, b, c ─ demo publisher ─ viewers
const (
	demoApp    = "live"
	demoStream = "demo"
)

// upFlags are the settings of "spillway up".
type upFlags struct {
	base
	noDemo  bool
	input   string
	asJSON  bool
	only    string
	viewers int
	openPub bool
	cdns    string
	store   string
	geo     string
	profile string
	ladder  string
	tls     encryptedFlags
	media   mediaFlags

	srt  srtFlags
	whip whipFlags

	rtmp, srtPort, whipPort, whipUDP, console, router, collector, origin, natsPort, chTCP, chHTTP port
}

func (f *upFlags) register(fs *flag.FlagSet) {
	f.base.register(fs)
	fs.BoolVar(&f.noDemo, "no-demo", false, "no demo publisher and no viewers")
	fs.StringVar(&f.input, "input", "", "media `file` to publish in a loop instead of the test card")
	fs.BoolVar(&f.asJSON, "json", false, "print one line of JSON on standard output when ready")
	fs.StringVar(&f.only, "only", "", "run only these `roles`, comma-separated, e.g. ingest,packager,origin")
	fs.StringVar(&f.ladder, "ladder", "", "renditions of streams of the demo application, `480p:900k,240p:300k`, made while they are watched (default: as \"spillway app set\" left it)")
	fs.IntVar(&f.viewers, "viewers", 5, "demo viewers on every CDN")
	f.media.registerPackager(fs)
	f.media.registerOrigin(fs)
	fs.BoolVar(&f.openPub, "open-publish", true, "let publishers on this machine push without a key")
	fs.StringVar(&f.geo, "geo", "", "MaxMind-format `files`, comma-separated, that place viewers")
	fs.StringVar(&f.store, "store", "", "`URL` of the object store of what viewers may seek back to: file:///PATH or s3://BUCKET/PREFIX?endpoint=https://HOST&region=R (default: a folder of the data directory)")
	fs.StringVar(&f.cdns, "cdns", "a,b,c", "`names` of the CDN edges to run")
	f.tls.register(fs)
	f.srt.register(fs)
	f.whip.register(fs)
	fs.StringVar(&f.profile, "cpuprofile", "", "`file` for a CPU profile of this process, in pprof's form")
	f.srtPort.udp, f.srtPort.optional = true, true
	f.whipPort.optional, f.whipUDP.udp = true, true
	for _, p := range []struct {
		port               *port
		flag, prefer, what string
	}{
		{&f.rtmp, "rtmp", "1935", "RTMP publishers"},
		{&f.srtPort, "srt", "8890", "SRT publishers (UDP), off: none"},
		{&f.whipPort, "whip", "8889", "WebRTC publishers (WHIP over HTTP), off: none"},
		{&f.whipUDP, "whip-udp", "8189", "media of WebRTC publishers (UDP)"},
		{&f.console, "console", "8080", "console and play page"},
		{&f.router, "router", "0", "router"},
		{&f.collector, "collector", "0", "telemetry"},
		{&f.origin, "origin", "0", "origin"},
		{&f.natsPort, "nats-port", "0", "embedded NATS"},
		{&f.chTCP, "clickhouse-port", "0", "embedded ClickHouse, native protocol"},
		{&f.chHTTP, "clickhouse-http-port", "0", "embedded ClickHouse, HTTP"},
	} {
		p.port.prefer = p.prefer
		fs.Var(p.port, p.flag, "`[HOST:]PORT` for "+p.what+", 0 takes a free one (default: "+p.prefer+" if free)")
	}
}

func (c *commands) upCommand() *ffcli.Command {
	var f upFlags
	return c.command("up", "", "run everything on this machine, with a demo stream and viewers", 0, f.register, func(ctx ctx, _ []string) error {
		return c.up(ctx, &f)
	})
}

// stopDeadline bounds the way down; "Ctrl-C stops everything within five seconds".
const stopDeadline = 4500 * time.Millisecond

// system is what "spillway up" has running.
type system struct {
	c      *commands
	f      *upFlags
	d      *deps
	g      *group
	logger *slog.Logger
	run    runFile
	nc     *nats.Conn
	reg    *prometheus.Registry
	edges  []*edge.Edge
	ingest *ingestServers // nil when it does not run here
	ch     *clickhouse.Server
}

func (c *commands) up(ctx ctx, f *upFlags) (err error) {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	tuneMemory()
	dir := f.dataDir()
	release, err := lockDataDir(dir)
	if err != nil {
		return err
	}
	defer release()
	stopProfile, err := startCPUProfile(f.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	if !f.noDemo || f.runs("screenshot") {
		if err := checkFFmpeg(f); err != nil {
			return err
		}
	}
	s := &system{c: c, f: f, logger: logger, g: newGroup(logger, stopDeadline), reg: prometheus.NewRegistry()}
	s.run.PID = os.Getpid()
	defer func() { err = errors.Join(err, s.g.stop()) }()
	if err := s.start(ctx, dir); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while starting
		}
		return err
	}
	removeRun, err := writeRun(dir, &s.run)
	if err != nil {
		return err
	}
	defer removeRun()
	if err := s.announce(ctx); err != nil {
		return err
	}
	return s.g.wait(ctx)
}

// upRoles are what --only chooses from.
const upRoles = "loader sessioniser collector ingest puller packager recorder transcoder origin router screenshot console edge demo"

// check refuses settings that would quietly leave something out.
func (f *upFlags) check() error {
	if f.only == "" {
		return nil
	}
	for _, r := range strings.Split(f.only, ",") {
		if !slices.Contains(strings.Fields(upRoles), strings.TrimSpace(r)) {
			return fmt.Errorf("--only: there is no role %q: choose from %s, separated by commas", strings.TrimSpace(r), upRoles)
		}
	}
	return nil
}

// runs tells whether a role is among those asked for.
func (f *upFlags) runs(role string) bool {
	if f.only == "" {
		return true
	}
	for _, r := range strings.Split(f.only, ",") {
		if strings.TrimSpace(r) == role {
			return true
		}
	}
	return false
}

func checkFFmpeg(f *upFlags) error {
	if _, err := exec.LookPath("ffmpeg"); err == nil {
		return nil
	}
	if f.noDemo || f.only != "" {
		return nil // screenshots say themselves that they cannot be made
	}
	return errors.New("ffmpeg is not installed, and the demo publisher needs it: install it (apt-get install ffmpeg), or run with --no-demo")
}

// start brings the parts up in order.
func (s *system) start(ctx ctx, dir string) error {
	sec, err := loadSecrets(dir)
	if err != nil {
		return err
	}
	if replaced, err := renewSalts(dir, sec, time.Now()); err != nil {
		return err
	} else if replaced {
		s.logger.Info("viewer ids are hashed with a new salt from now on; the old one is kept for erasing", "old_salts", len(sec.OldViewerSalts))
	}
	signer, err := sec.signer()
	if err != nil {
		return err
	}
	s.d = &deps{logger: s.logger, reg: s.reg, secrets: sec, signer: signer, dataDir: dir}
	if err := s.startBus(ctx, dir); err != nil {
		return err
	}
	if s.d.geo, err = s.openGeo(dir); err != nil {
		return err
	}
	if !s.f.noDemo {
		if err := s.ensureDemoExperiment(ctx); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		roles string
		start func(ctx context.Context) error
	}{
		{"loader sessioniser", s.startAnalytics},
		{"collector", s.startCollector},
		{"ingest", s.startIngest},
		{"puller", s.startPuller},
		{"packager", func(context.Context) error {
			r, err := s.d.packagerRole(s.f.media)
			if err == nil {
				s.add(r)
			}
			return err
		}},
		{"recorder", s.startRecorder},
		{"transcoder", s.startTranscoder},
		{"origin", s.startOrigin},
		{"router", s.startRouter},
		{"screenshot", s.startScreenshot},
		{"console", s.startConsole},
		{"edge", s.startEdges},
		{"demo", s.startDemo},
	} {
		wanted := false
		for _, r := range strings.Fields(step.roles) {
			wanted = wanted || s.f.runs(r)
		}
		if !wanted {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openGeo places viewers by the operator's databases or, for the demo, by a
// small one of ranges that no real viewer has (127.1.0.0 and up among them).
func (s *system) openGeo(dir string) (*geo.Locator, error) {
	files := s.f.geo
	if files == "" && !s.f.noDemo {
		files = filepath.Join(dir, "demo.mmdb")
		if err := geodb.Write(files, geodb.Default()); err != nil {
			return nil, err
		}
	}
	return openGeo(files)
}

func (s *system) add(r role) { s.g.start(r.name, r.run) }

func (s *system) startBus(ctx ctx, dir string) error {
	var err error
	if s.f.nats != "" {
		s.nc, err = bus.Connect(s.f.nats, "spillway", s.logger)
		s.run.NATS = s.f.nats
		if err == nil {
			s.g.start("bus connection", func(ctx context.Context) error { <-ctx.Done(); s.nc.Close(); return nil })
		}
	} else {
		var addr string
		if addr, err = s.f.natsPort.choose("NATS", s.logger); err != nil {
			return err
		}
		var srv *bus.Server
		if srv, err = bus.Start(bus.Options{DataDir: filepath.Join(dir, "nats"), Port: number(addr), Logger: s.logger}); err != nil {
			return err
		}
		s.run.NATS = srv.URL()
		s.nc, err = srv.Connect("spillway", s.logger)
		s.g.start("bus", func(ctx context.Context) error {
			<-ctx.Done()
			if s.nc != nil {
				s.nc.Close()
			}
			srv.Stop()
			return nil
		})
	}
	if err != nil {
		return err
	}
	s.d.js, err = bus.JetStream(ctx, s.nc, schemas.BusSettings{})
	return err
}

func (s *system) startIngest(ctx ctx) error {
	addr, err := s.f.rtmp.choose("ingest (RTMP)", s.logger)
	if err != nil {
		return err
	}
	overSRT := s.f.srt
	if overSRT.listen, err = s.f.srtPort.choose("ingest (SRT)", s.logger); err != nil {
		return err
	}
	overWHIP := s.f.whip
	if overWHIP.listen, err = s.f.whipPort.choose("ingest (WHIP)", s.logger); err != nil {
		return err
	}
	if overWHIP.listen != portOff {
		if overWHIP.udp, err = s.f.whipUDP.choose("ingest (WebRTC media)", s.logger); err != nil {
			return err
		}
	}
	r, in, err := s.d.ingestRole(ctx, ingestFlags{rtmp: addr, open: s.f.openPub, encryptedFlags: s.f.tls, srt: overSRT, whip: overWHIP})
	if err != nil {
		return err
	}
	s.add(r)
	s.ingest = in
	if err := s.waitFor(ctx, "ingest (RTMP)", in.rtmp.Ready()); err != nil {
		return err
	}
	s.run.Push = "rtmp://" + in.rtmp.Addr().String() + "/" + demoApp
	if in.srt != nil {
		if err := s.waitFor(ctx, "ingest (SRT)", in.srt.Ready()); err != nil {
			return err
		}
		s.run.PushSRT = "srt://" + in.srt.Addr().String() + "?streamid=" + demoApp
	}
	if in.whip != nil {
		if err := s.waitFor(ctx, "ingest (WHIP)", in.whip.Ready()); err != nil {
			return err
		}
		s.run.PushWHIP = in.whip.URL() + demoApp
	}
	return nil
}

func (s *system) startScreenshot(ctx) error {
	r, err := s.d.screenshotRole(pictureFlags{interval: 5 * time.Second, width: 320})
	if err != nil {
		return err
	}
	s.add(r)
	return nil
}

// objects opens the store of what viewers may seek back to, under the data
// directory unless --store says otherwise.
func (s *system) objects(ctx ctx) (store.Objects, error) {
	address := s.f.store
	if address == "" {
		dir, err := filepath.Abs(filepath.Join(s.d.dataDir, "store"))
		if err != nil {
			return nil, fmt.Errorf("find the data directory: %w", err)
		}
		address = (&url.URL{Scheme: "file", Path: dir}).String()
	}
	return openStore(ctx, address)
}

// startRecorder costs nothing until a stream's settings ask for it.
func (s *system) startRecorder(ctx ctx) error {
	o, err := s.objects(ctx)
	if err != nil {
		return err
	}
	s.add(s.d.recorderRole(o))
	return nil
}

func (s *system) startOrigin(ctx ctx) error {
	objects, err := s.objects(ctx)
	if err != nil {
		return err
	}
	addr, err := s.f.origin.choose("origin", s.logger)
	if err != nil {
		return err
	}
	r, u, err := s.d.originRole(addr, "", objects, s.f.media)
	if err != nil {
		return err
	}
	s.run.Origins = u
	s.add(r)
	return nil
}

func (s *system) startRouter(ctx ctx) error {
	addr, err := s.f.router.choose("router", s.logger)
	if err != nil {
		return err
	}
	publish := ""
	if s.run.Push != "" {
		publish = strings.TrimSuffix(s.run.Push, "/"+demoApp) + "/{app}/{stream}?cdn={cdn}"
	}
	r, srv, err := s.d.routerRole(addr, "", strings.TrimSuffix(s.run.Collector, collectorPath), publish, splitList(s.run.Origins), true)
	if err != nil {
		return err
	}
	s.run.Router = srv.URL()
	s.add(r)
	return s.waitFor(ctx, "router", srv.Ready())
}

func (s *system) waitFor(ctx ctx, what string, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%s is not ready after 20 s", what)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// edgeKinds give the demo's CDNs different sizes and prices.
var edgeKinds = []struct {
	region          string
	capacityViewers int
	capacityBps     int64
	price           int64
}{
	{"eu", 2000, 10e9, 8000},
	{"us", 1000, 5e9, 5000},
	{"asia", 500, 2e9, 3000},
}

func (s *system) startEdges(ctx ctx) error {
	faults, err := s.d.js.KeyValue(ctx, schemas.BucketFaults)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketFaults, err)
	}
	if s.run.Origins == "" {
		return errors.New("edges need an origin: add origin to --only")
	}
	s.run.HLS = map[string]string{}
	var routers []string
	if s.run.Router != "" {
		routers = []string{s.run.Router}
	}
	for i, name := range strings.Split(s.f.cdns, ",") {
		name = strings.TrimSpace(name)
		kind := edgeKinds[i%len(edgeKinds)]
		// A fault of an earlier run is over.
		if err := faults.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("heal CDN %s: %w", name, err)
		}
		e, err := edge.New(edge.Settings{
			Name: name, Region: kind.region, Origins: []string{s.run.Origins}, Routers: routers,
			Collector: strings.TrimSuffix(s.run.Collector, collectorPath), EdgeKey: s.d.secrets.EdgeKey, Signer: s.d.signer, Geo: s.d.geo,
			CapacityBps: kind.capacityBps, CapacityViewers: kind.capacityViewers, PricePerGBMicroUSD: kind.price, Order: i,
			Faults: faults, Logger: s.d.log("edge-" + name), Registerer: s.reg,
		})
		if err != nil {
			return err
		}
		s.add(role{"edge " + name, e.Run})
		if err := registerCDN(ctx, s.d.js, e.Record()); err != nil {
			return err
		}
		s.edges = append(s.edges, e)
		s.run.HLS[name] = e.URL() + "/" + demoApp + "/" + demoStream + "/multivariant.m3u8"
	}
	return nil
}

// startDemo pushes the demo stream and lets viewers watch it.
func (s *system) startDemo(ctx ctx) error {
	if s.f.noDemo || s.run.Push == "" {
		return nil
	}
	push := s.run.Push + "/" + demoStream
	if !s.f.openPub { // the demo needs a key like everybody else
		key, err := s.d.signer.SignPublish(token.Publish{App: demoApp, Stream: demoStream, ExpiresUnix: time.Now().AddDate(1, 0, 0).Unix()})
		if err != nil {
			return fmt.Errorf("key of the demo publisher: %w", err)
		}
		push += "?key=" + key
	}
	p := &publisher.Publisher{
		URL: push, Name: demoApp + "/" + demoStream, Input: s.f.input, Logger: s.d.log("demo-publisher"),
	}
	s.add(role{"demo publisher", p.Run})
	if err := s.waitLive(ctx, schemas.StreamKey{App: demoApp, Stream: demoStream}, 30*time.Second); err != nil {
		return err
	}
	if len(s.edges) == 0 {
		return nil
	}
	if err := s.waitPlayable(ctx, 20*time.Second); err != nil {
		return err
	}
	return s.startViewers(ctx)
}

// waitLive blocks until the stream's state says that it is live.
func (s *system) waitLive(ctx ctx, k schemas.StreamKey, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	kv, err := s.d.js.KeyValue(ctx, schemas.BucketStreams)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketStreams, err)
	}
	began := time.Now().UnixMicro()
	w, err := kv.Watch(ctx, k.KVKey())
	if err != nil {
		return fmt.Errorf("watch %s: %w", k, err)
	}
	defer w.Stop()
	for {
		select {
		case e := <-w.Updates():
			var st schemas.StreamState
			if e != nil && json.Unmarshal(e.Value(), &st) == nil && st.Live && st.UpdatedUnixUs > began {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("the demo stream %s is not live after %s: see the log above for what the publisher and ingest say", k, limit)
		}
	}
}

// waitPlayable blocks until every edge has a multivariant playlist of the demo stream.
func (s *system) waitPlayable(ctx ctx, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for name, u := range s.run.HLS {
		for {
			code, err := get(ctx, u)
			if err == nil && code == http.StatusOK {
				break
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("CDN %s has no playlist of the demo stream after %s: last answer %d, %v", name, limit, code, err)
			}
		}
	}
	return nil
}

func get(ctx ctx, u string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return 0, err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	r.Body.Close()
	return r.StatusCode, nil
}

// announce says where everything is.
func (s *system) announce(ctx) error {
	if s.f.asJSON {
		b, err := json.Marshal(&s.run)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.c.stdout, "%s\n", b)
		return err
	}
	var b strings.Builder
	b.WriteString("\nSpillway is up.\n\n")
	line := func(what, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-11s%s\n", what, value)
		}
	}
	line("watch", s.run.Watch)
	line("console", s.run.Console)
	if s.run.Push != "" {
		line("push", s.run.Push+"/<stream>   (RTMP, H.264 and AAC)")
	}
	if s.run.PushSRT != "" {
		line("or", s.run.PushSRT+"/<stream>   (SRT, MPEG-TS)")
	}
	if s.run.PushWHIP != "" {
		line("or", s.run.PushWHIP+"/<stream>   (WHIP, H.264 and Opus)")
	}
	for _, e := range s.edges {
		r := e.Record()
		line("CDN "+r.Name, s.run.HLS[r.Name])
	}
	line("telemetry", s.run.Collector)
	if strings.HasPrefix(s.run.ClickHouse, "http") { // a server of your own is known by its native address
		line("query", "curl '"+s.run.ClickHouse+"' --data 'SELECT * FROM spillway.v_cdn_minute ORDER BY minute DESC LIMIT 9 FORMAT PrettyCompact'")
	}
	line("bus", redactURL(s.run.NATS))
	line("data", s.d.dataDir)
	b.WriteString("\n  spillway cdn fault b --rate 300kbps   makes CDN b bad; spillway cdn heal b ends it\n  Ctrl-C stops everything.\n\n")
	_, err := fmt.Fprint(s.c.stderr, b.String())
	return err
}
