package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/workers/router"
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
	// sessions is how long a view may last.
	sessions time.Duration
	// steeringTTL is how soon players ask again where to go.
	steeringTTL time.Duration
	cdns        string
	store       string
	geo         string
	proxies     string
	profile     string
	region      string // file
	pushCA      string // file
	ladder      string
	tls         encryptedFlags
	media       mediaFlags

	// consoleURL is how people reach the console; empty: as it listens.
	consoleURL string

	// thresholds colour the console.
	thresholds queries.Thresholds

	srt  srtFlags
	whip whipFlags

	rtmp, rtmpsPort, srtPort, whipPort, whipUDP, console, router, collector, origin, natsPort, chTCP, chHTTP port
}

func (f *upFlags) register(fs *flag.FlagSet) {
	f.base.register(fs)
	f.base.registerCluster(fs)
	fs.BoolVar(&f.noDemo, "no-demo", false, "no demo publisher and no viewers")
	fs.StringVar(&f.input, "input", "", "media `file` to publish in a loop instead of the test card")
	fs.BoolVar(&f.asJSON, "json", false, "print one line of JSON on standard output when ready")
	fs.StringVar(&f.only, "only", "", "run only these `roles`, comma-separated, e.g. ingest,packager,origin")
	fs.StringVar(&f.ladder, "ladder", "", "renditions of streams of the demo application, `480p:900k,240p:300k`, made while they are watched (default: as \"spillway app set\" left it)")
	fs.IntVar(&f.viewers, "viewers", 5, "demo viewers on every CDN")
	f.media.registerPackager(fs)
	f.media.registerOrigin(fs)
	fs.BoolVar(&f.openPub, "open-publish", true, "let publishers on this machine push without a key")
	registerSessions(fs, &f.sessions)
	registerSteeringTTL(fs, &f.steeringTTL)
	fs.StringVar(&f.geo, "geo", "", "MaxMind-format `files`, comma-separated, that place viewers")
	fs.StringVar(&f.proxies, "trusted-proxies", "", trustedProxiesHelp)
	fs.StringVar(&f.store, "store", "", "`URL` of the object store of what viewers may seek back to: file:///PATH or s3://BUCKET/PREFIX?endpoint=https://HOST&region=R (default: a folder of the data directory)")
	fs.StringVar(&f.cdns, "cdns", "a,b,c", "`names` of the CDN edges to run")
	fs.StringVar(&f.consoleURL, "console-url", "", consoleURLHelp)
	registerThresholds(fs, &f.thresholds)
	f.tls.registerFiles(fs)
	registerPushCA(fs, &f.pushCA)
	f.srt.register(fs)
	f.whip.register(fs)
	fs.StringVar(&f.region, "region-config", "", "`file` that makes this one of several regions: its name, its links, their passwords")
	fs.StringVar(&f.profile, "cpuprofile", "", "`file` for a CPU profile of this process, in pprof's form")
	f.registerPorts(fs)
}

// registerSessions adds how long a view may last.
func registerSessions(fs *flag.FlagSet, d *time.Duration) {
	fs.DurationVar(d, "session-length", 12*time.Hour, fmt.Sprintf("how long a view may last, at most %v; its player then begins a new one", router.MaxTokenTTL))
}

// registerSteeringTTL adds how soon players ask again where to go.
func registerSteeringTTL(fs *flag.FlagSet, d *time.Duration) {
	fs.DurationVar(d, "steering-ttl", 10*time.Second, "how soon players ask again where to go")
}

// registerPorts adds where the parts listen: as documented where that port is
// free, elsewhere where it is not and nobody asked for it.
func (f *upFlags) registerPorts(fs *flag.FlagSet) {
	f.rtmpsPort.optional, f.srtPort.udp, f.srtPort.optional = true, true, true
	f.whipPort.optional, f.whipUDP.udp = true, true
	for _, p := range []struct {
		port               *port
		flag, prefer, what string
	}{
		{&f.rtmp, "rtmp", "1935", "RTMP publishers"},
		{&f.rtmpsPort, "rtmps", "1936", "RTMP publishers over TLS, with a self-signed certificate unless --tls-cert says another, off: none"},
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

// check refuses settings that would quietly leave something out.
func (f *upFlags) check() error {
	var known []string
	for _, s := range upSteps() {
		known = append(known, s.roles...)
	}
	for _, r := range splitList(f.only) {
		if !slices.Contains(known, r) {
			return fmt.Errorf("--only: there is no role %q: choose from %s, separated by commas", r, strings.Join(known, " "))
		}
	}
	return checkConsoleURL(f.consoleURL)
}

// runs tells whether a role is among those asked for.
func (f *upFlags) runs(role string) bool {
	return f.only == "" || slices.Contains(splitList(f.only), role)
}
