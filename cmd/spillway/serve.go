package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/edge"
	"github.com/spillway-live/spillway/workers/router"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// roleFlags are what every role that runs alone has.
type roleFlags struct {
	base
	metrics string
	geo     string
	proxies string
	profile string
}

func (f *roleFlags) register(fs *flag.FlagSet) {
	f.base.register(fs)
	fs.StringVar(&f.metrics, "metrics", "", "`HOST:PORT` for /metrics and /healthz (default: none)")
	fs.StringVar(&f.geo, "geo", "", "MaxMind-format `files`, comma-separated, that place viewers")
	fs.StringVar(&f.proxies, "trusted-proxies", "", trustedProxiesHelp)
	fs.StringVar(&f.profile, "cpuprofile", "", "`file` for a CPU profile of this process, in pprof's form")
}

const trustedProxiesHelp = "`ADDRESSES` or networks, comma-separated, beside loopback, that may say by X-Forwarded-For, X-Spillway-Region and X-Spillway-ISP who and where their clients are"

// serveRole opens the bus, builds roles and runs them until the context ends.
func (c *commands) serveRole(ctx ctx, f *roleFlags, name string, build func(d *deps) ([]role, error)) (err error) {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	stopProfile, err := startCPUProfile(f.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	tuneMemory()
	if slices.Contains(roomyRoles, name) {
		go keepHeadroom(ctx)
	}
	sec, err := loadSecrets(f.runDataDir())
	if err != nil {
		return err
	}
	signer, err := sec.signer()
	if err != nil {
		return err
	}
	nc, js, err := f.connect(ctx, "spillway-"+name, logger)
	if err != nil {
		return err
	}
	defer nc.Close()
	locator, err := openGeo(f.geo, f.proxies)
	if err != nil {
		return err
	}
	defer locator.Close()
	reg := prometheus.NewRegistry()
	d := &deps{js: js, logger: logger, reg: reg, secrets: sec, signer: signer, geo: locator, dataDir: f.runDataDir()}
	g := newGroup(logger, 10*time.Second)
	defer func() { err = errors.Join(err, g.stop()) }()
	if f.metrics != "" {
		l, err := listen("metrics", f.metrics)
		if err != nil {
			return err
		}
		g.start("metrics", func(ctx context.Context) error { return serveHTTP(ctx, l, metricsHandler(reg)) })
		logger.Info("metrics", "url", httpURL(l.Addr())+"/metrics")
	}
	roles, err := build(d)
	if err != nil {
		return err
	}
	for _, r := range roles {
		g.start(r.name, r.run)
	}
	logger.Info("role runs", "role", name)
	return g.wait(ctx)
}

func openGeo(files, proxies string) (*geo.Locator, error) {
	s := geo.Settings{TrustedProxies: geo.Loopback()}
	if files != "" {
		s.Files = strings.Split(files, ",")
	}
	more, err := parseProxies(proxies)
	if err != nil {
		return nil, err
	}
	s.TrustedProxies = append(s.TrustedProxies, more...)
	return geo.Open(s)
}

// parseProxies reads addresses and networks.
func parseProxies(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			a, err := netip.ParseAddr(part)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Errorf("--trusted-proxies: %q is neither an address nor a network such as 10.0.0.0/8", part)
			}
			a = a.Unmap()
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func metricsHandler(reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

// serveHTTP serves until ctx ends; answers under way get a second.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		return srv.Close()
	}
	return nil
}

// roleCommands are the roles that run alone; starting more of one shares its work.
func (c *commands) roleCommands() []*ffcli.Command {
	var out []*ffcli.Command
	add := func(name, help string, setUp func(fs *flag.FlagSet), build func(d *deps) ([]role, error)) {
		f := &roleFlags{}
		out = append(out, c.command(name, "", help, 0, func(fs *flag.FlagSet) {
			f.register(fs)
			if setUp != nil {
				setUp(fs)
			}
		}, func(ctx ctx, _ []string) error { return c.serveRole(ctx, f, name, build) }))
	}
	addr := func(p *string, what, def string) func(fs *flag.FlagSet) {
		return func(fs *flag.FlagSet) { fs.StringVar(p, "listen", def, "`HOST:PORT` for "+what) }
	}
	one := func(r role, err error) ([]role, error) { return []role{r}, err }

	var in ingestFlags
	add("ingest", "take publishers and cut their media into chunks", in.register, func(d *deps) ([]role, error) {
		ctx, cancel := context.WithTimeout(context.Background(), busTimeout)
		defer cancel()
		r, _, err := d.ingestRole(ctx, in)
		return one(r, err)
	})
	add("puller", "pull cameras (RTSP), on demand or always; see spillway source", nil, func(d *deps) ([]role, error) {
		ctx, cancel := context.WithTimeout(context.Background(), busTimeout)
		defer cancel()
		r, err := d.pullerRole(ctx, nil)
		return one(r, err)
	})
	var pushCA string
	add("pusher", "push streams to CDNs and services by RTMP; see spillway push", func(fs *flag.FlagSet) { registerPushCA(fs, &pushCA) }, func(d *deps) ([]role, error) { return one(d.pushRole(pushCA)) })
	var probes probeFlags
	add("probe", "pull live streams through every CDN at a low rate, so that a CDN without viewers is known", probes.register, func(d *deps) ([]role, error) { return one(d.probeRole(probes), nil) })
	var media mediaFlags
	add("packager", "make parts of chunks", media.registerPackager, func(d *deps) ([]role, error) { return one(d.packagerRole(media)) })
	const storeHelp = "`URL` of the object store of what viewers may seek back to: file:///PATH or s3://BUCKET/PREFIX?endpoint=https://HOST&region=R (credentials: environment or ~/.aws/credentials)"
	var transcoder transcoderFlags
	add("transcoder", "make the renditions of streams that are watched", transcoder.register, func(d *deps) ([]role, error) {
		return one(d.transcoderRole(&transcoder), nil)
	})
	var originAddr, edgeNetworks, originStore, recorderStore, pictureStore, reviewStore string
	add("origin", "serve playlists, parts and segments", func(fs *flag.FlagSet) {
		addr(&originAddr, "HTTP", "127.0.0.1:8090")(fs)
		media.registerOrigin(fs)
		fs.StringVar(&edgeNetworks, "edge-networks", "", "`networks` of edges that bring no key, comma-separated, e.g. 192.0.2.0/24: private streams are given to edges only")
		fs.StringVar(&originStore, "store", "", storeHelp)
	}, func(d *deps) ([]role, error) {
		objects, err := openStore(context.Background(), originStore)
		if err != nil {
			return nil, err
		}
		r, u, err := d.originRole(originAddr, edgeNetworks, objects, media)
		if err == nil {
			d.logger.Info("origin", "url", u)
		}
		return one(r, err)
	})
	add("recorder", "keep what streams were, so that viewers can seek back", func(fs *flag.FlagSet) {
		fs.StringVar(&recorderStore, "store", "", storeHelp)
	}, func(d *deps) ([]role, error) {
		objects, err := openStore(context.Background(), recorderStore)
		if err != nil {
			return nil, err
		}
		if objects == nil {
			return nil, errors.New("--store is missing: a recorder needs an object store, file:///PATH or s3://BUCKET/PREFIX?endpoint=https://HOST")
		}
		return one(d.recorderRole(objects), nil)
	})
	var routerClearKey bool
	var routerOrigins string
	var rs router.Settings
	add("router", "answer dispatch, multivariant playlists and steering", func(fs *flag.FlagSet) {
		addr(&rs.Addr, "HTTP", "127.0.0.1:8091")(fs)
		fs.StringVar(&rs.PublicURL, "public-url", "", "`URL` where players reach it (default: the address listened on)")
		fs.StringVar(&rs.Collector, "collector-url", "", "base `URL` of the collector as players reach it")
		fs.StringVar(&rs.PublishURL, "publish-url", "", "templates of publish `URL`s, with {app}, {stream} and {cdn}, separated by blanks: rtmp, rtmps, srt, http(s) for WHIP")
		fs.StringVar(&rs.PublishProbeURL, "publish-probe-url", "", "template of the `URL` that publishers measure a CDN by, with {cdn} (default: the collector's clock)")
		fs.StringVar(&rs.PublishSTUN, "publish-stun", "", "template of where media published by WHIP goes, `HOST:PORT` (UDP, ingest's --whip-udp) with {cdn}, for publishers to measure (default: they measure the WHIP endpoint over HTTP, which says nothing of UDP)")
		fs.BoolVar(&routerClearKey, "clearkey", false, "give sessions of encrypted streams their keys, in the clear (ClearKey): needs the key files or service")
		registerSessions(fs, &rs.TokenTTL)
		fs.StringVar(&routerOrigins, "origins", "", "base `URL`s of origins, separated by commas: without them there is no DASH")
		fs.StringVar(&rs.Policy, "policy", policy.Affinity, "routing `policy` where neither an experiment nor a stream's settings name one (spillway policy list)")
		registerSteeringTTL(fs, &rs.SteeringTTL)
	}, func(d *deps) ([]role, error) {
		rs.Origins = splitList(routerOrigins)
		r, _, err := d.routerRole(rs, routerClearKey)
		return one(r, err)
	})
	var pic pictureFlags
	add("screenshot", "make a picture of every live stream at an interval", func(fs *flag.FlagSet) {
		pic.register(fs)
		fs.StringVar(&pictureStore, "store", "", "`URL` of the object store that pictures are kept in for streams whose settings say how long (default: none are)")
	}, func(d *deps) ([]role, error) {
		objects, err := openStore(context.Background(), pictureStore)
		if err != nil || objects == nil {
			return []role{d.screenshotRole(pic)}, err
		}
		return []role{d.screenshotRole(pic), d.keeperRole(objects)}, nil
	})
	add("hotlist", "keep the list of streams that are worth showing: not in the background, black, frozen or hidden", nil, func(d *deps) ([]role, error) {
		return one(d.hotListRole(), nil)
	})
	add("reviewer", "do what verdicts on pictures ask for: hide, alert, mark; see spillway review", func(fs *flag.FlagSet) {
		fs.StringVar(&reviewStore, "store", "", "`URL` of the object store of recordings, to mark them (default: none are marked)")
	}, func(d *deps) ([]role, error) {
		objects, err := openStore(context.Background(), reviewStore)
		if err != nil {
			return nil, err
		}
		return one(d.reviewerRole(objects), nil)
	})
	var collectorAddr string
	var clockOffset time.Duration
	add("collector", "take telemetry over HTTP", func(fs *flag.FlagSet) {
		addr(&collectorAddr, "HTTP", "127.0.0.1:8092")(fs)
		fs.DurationVar(&clockOffset, "clock-offset", 0, "shift this process's clock, to see what a wrong one does")
	}, func(d *deps) ([]role, error) {
		d.clockOffset = clockOffset
		r, u, err := d.collectorRole(collectorAddr)
		if err == nil {
			d.logger.Info("collector", "url", u)
		}
		return one(r, err)
	})
	var snapshotEvery time.Duration
	add("sessioniser", "turn telemetry into session slices", func(fs *flag.FlagSet) {
		fs.DurationVar(&snapshotEvery, "snapshot-every", 30*time.Second, "time between snapshots of open sessions: what came since is read again at a takeover")
	}, func(d *deps) ([]role, error) {
		if snapshotEvery <= 0 {
			return nil, fmt.Errorf("--snapshot-every %s: give a time above 0", snapshotEvery)
		}
		return one(d.sessioniserRole(snapshotEvery), nil)
	})
	add("usage", "count what each CDN delivers by month, for prices and commitments", nil, func(d *deps) ([]role, error) { return one(d.usageRole(), nil) })
	out = append(out, c.loaderCommand(), c.eraserCommand(), c.experimenterCommand(), c.alertsCommand(), c.edgeCommand(), c.consoleCommand(), c.relayCommand())
	return out
}

// pictureFlags are the settings of screenshots.
type pictureFlags struct {
	interval time.Duration
	width    int
	decoders int
}

func (p *pictureFlags) register(fs *flag.FlagSet) {
	fs.DurationVar(&p.interval, "interval", 5*time.Second, "time between pictures of a stream")
	fs.IntVar(&p.width, "width", 320, "width of pictures, pixels")
	fs.IntVar(&p.decoders, "decoders", 2, "ffmpeg processes for each of H.264, H.265 and AV1, and pictures made at once")
}

func (c *commands) loaderCommand() *ffcli.Command {
	f := &roleFlags{}
	return c.command("loader", "", "write telemetry, slices, decisions and events into ClickHouse", 0, f.register, func(ctx ctx, _ []string) error {
		dsn, err := f.clickhouseURL()
		if err != nil {
			return err
		}
		return c.serveRole(ctx, f, "loader", func(d *deps) ([]role, error) {
			r, err := d.loaderRole(dsn)
			return []role{r}, err
		})
	})
}

func (c *commands) edgeCommand() *ffcli.Command {
	f := &roleFlags{}
	var s edge.Settings
	var origins, routers string
	return c.command("edge", "", "run a caching CDN edge for tests and small set-ups", 0, func(fs *flag.FlagSet) {
		f.register(fs)
		fs.StringVar(&s.Name, "name", "", "the CDN's name")
		fs.StringVar(&s.Region, "region", "", "region it is in")
		fs.StringVar(&s.Addr, "listen", "127.0.0.1:0", "`HOST:PORT` for viewers")
		fs.StringVar(&s.PublicURL, "public-url", "", "`URL` where viewers reach it (default: the address listened on)")
		fs.StringVar(&origins, "origins", "", "base `URLs` of origins, comma-separated")
		fs.StringVar(&routers, "routers", "", "base `URLs` of routers, comma-separated")
		fs.StringVar(&s.Collector, "collector-url", "", "base `URL` of the collector")
		fs.IntVar(&s.CapacityViewers, "capacity-viewers", 0, "viewers it can serve, told to the registry")
		fs.Int64Var(&s.CapacityBps, "capacity-bps", 0, "bit/s it can serve, enforced; 0 is no limit")
		fs.IntVar(&s.SpillViewers, "spill-viewers", 0, "new sessions go elsewhere above this many viewers; 0 is never")
	}, func(ctx ctx, _ []string) error {
		return c.serveRole(ctx, f, "edge", func(d *deps) ([]role, error) {
			faults, err := d.js.KeyValue(ctx, schemas.BucketFaults)
			if err != nil {
				return nil, fmt.Errorf("open bucket %s: %w", schemas.BucketFaults, err)
			}
			s.Faults, s.EdgeKey, s.Signer, s.Geo = faults, d.secrets.EdgeKey, d.signer, d.geo
			s.Logger, s.Registerer = d.log("edge"), d.reg
			s.Origins, s.Routers = splitList(origins), splitList(routers)
			e, err := edge.New(s)
			if err != nil {
				return nil, err
			}
			d.logger.Info("edge", "name", s.Name, "url", e.URL())
			return []role{{"edge", e.Run}}, registerCDN(ctx, d.js, e.Record())
		})
	})
}

// splitList takes a comma-separated flag apart; empty: none.
func splitList(s string) []string {
	if s == "" {
		return nil
	}
	list := strings.Split(s, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}
