package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/qoe/loader"
	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/hotlist"
	keyring "github.com/spillway-live/spillway/workers/keys"
	"github.com/spillway-live/spillway/workers/origin"
	"github.com/spillway-live/spillway/workers/packager"
	"github.com/spillway-live/spillway/workers/recorder"
	"github.com/spillway-live/spillway/workers/reviewer"
	"github.com/spillway-live/spillway/workers/router"
	"github.com/spillway-live/spillway/workers/screenshot"
	"github.com/spillway-live/spillway/workers/store"
	"github.com/spillway-live/spillway/workers/usage"
)

// deps is what roles are built from: an open bus, secrets, where to log and count.
type deps struct {
	js      jetstream.JetStream
	logger  *slog.Logger
	reg     prometheus.Registerer
	secrets *secrets
	signer  *token.Signer
	geo     *geo.Locator
	dataDir string
	// clockOffset shifts the collector's clock.
	clockOffset time.Duration
}

// now is the collector's clock.
func (d *deps) now() time.Time { return time.Now().Add(d.clockOffset) }

// role is a named part of the system that runs until its context ends.
type role struct {
	name string
	run  func(ctx context.Context) error
}

func (d *deps) log(role string) *slog.Logger { return d.logger.With("role", role) }

// listen takes a TCP address; a busy port is said with the remedy.
func listen(what, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s cannot listen on %s: %w: stop what uses the port, or choose another (0 takes a free one)", what, addr, err)
	}
	return l, nil
}

func httpURL(a net.Addr) string { return "http://" + a.String() }

// packagerRole makes parts of streams whose parts are asked for, or of all.
func (d *deps) packagerRole(f mediaFlags) (role, error) {
	always, err := f.always()
	p := &packager.Packager{JetStream: d.js, Always: always, Logger: d.log("packager"), Registerer: d.reg}
	return role{"packager", p.Run}, err
}

// openStore opens the object store that --store names; empty: none.
func openStore(ctx context.Context, address string) (store.Objects, error) {
	if address == "" {
		return nil, nil
	}
	o, err := store.OpenURL(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	return o, nil
}

// recorderRole keeps what the streams whose settings want it were.
func (d *deps) recorderRole(o store.Objects) role {
	r := &recorder.Recorder{JetStream: d.js, Store: o, Logger: d.log("recorder"), Registerer: d.reg}
	return role{"recorder", r.Run}
}

func (d *deps) originRole(addr, edgeNetworks string, objects store.Objects, f mediaFlags) (role, string, error) {
	packagers, err := f.packagers()
	if err != nil {
		return role{}, "", err
	}
	var edges []netip.Prefix
	for _, n := range splitList(edgeNetworks) {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return role{}, "", fmt.Errorf("--edge-networks: %q is not a network such as 192.0.2.0/24", n)
		}
		edges = append(edges, p)
	}
	l, err := listen("origin", addr)
	if err != nil {
		return role{}, "", err
	}
	o := &origin.Origin{JetStream: d.js, Listener: l, UsePackagers: packagers, EdgeKey: d.secrets.EdgeKey, EdgeNetworks: edges, Store: objects, Logger: d.log("origin"), Registerer: d.reg}
	return role{"origin", o.Run}, httpURL(l.Addr()), nil
}

// routerRole completes the settings that say where and how it answers.
func (d *deps) routerRole(s router.Settings, clearKey bool) (role, *router.Router, error) {
	if clearKey {
		s.Keys = &keyring.Ring{Logger: d.log("router"), Registerer: d.reg}
	}
	s.JS, s.Signer, s.EdgeKey, s.ViewerSalt = d.js, d.signer, d.secrets.EdgeKey, d.secrets.ViewerSalt
	s.CDNKeys, s.Geo = d.secrets.cdnKeys(os.Environ()), d.geo
	s.Logger, s.Registerer = d.log("router"), d.reg
	r, err := router.New(s)
	if err != nil {
		return role{}, nil, err
	}
	return role{"router", r.Run}, r, nil
}

// screenshotRole makes pictures with ffmpeg; without ffmpeg it says so once and makes none.
func (d *deps) screenshotRole(p pictureFlags) role {
	return role{screenshot.Role, func(ctx context.Context) error {
		return screenshot.Run(ctx, d.js, screenshot.Settings{
			Interval: p.interval, Width: p.width, AtOnce: p.decoders, Decoder: &screenshot.Pool{Processes: p.decoders},
			Logger: d.log(screenshot.Role), Registerer: d.reg,
		})
	}}
}

// keeperRole keeps pictures of the streams whose settings want it.
func (d *deps) keeperRole(o store.Objects) role {
	k := &screenshot.Keeper{JetStream: d.js, Store: o, Logger: d.log(screenshot.KeeperRole), Registerer: d.reg}
	return role{screenshot.KeeperRole, k.Run}
}

// hotListRole keeps the list of streams that are worth showing.
func (d *deps) hotListRole() role {
	l := &hotlist.List{JetStream: d.js, Logger: d.log(hotlist.Role), Registerer: d.reg}
	return role{hotlist.Role, l.Run}
}

// reviewerRole does what verdicts on pictures ask for; without a store it marks no recordings.
func (d *deps) reviewerRole(o store.Objects) role {
	r := &reviewer.Reviewer{JetStream: d.js, Store: o, Logger: d.log(reviewer.Role), Registerer: d.reg}
	return role{reviewer.Role, r.Run}
}

// sessioniserRole takes 0 for the default time between snapshots.
func (d *deps) sessioniserRole(snapshotEvery time.Duration) role {
	return role{"sessioniser", func(ctx context.Context) error {
		return sessioniser.Run(ctx, sessioniser.Settings{JetStream: d.js, Logger: d.logger, Registerer: d.reg, SnapshotEvery: snapshotEvery})
	}}
}

// usageRole counts what CDNs deliver by month.
func (d *deps) usageRole() role {
	u := &usage.Counter{JetStream: d.js, Signer: d.signer, Logger: d.log("usage"), Registerer: d.reg}
	return role{"usage", u.Run}
}

// loaderRole writes the bus into ClickHouse at dsn.
func (d *deps) loaderRole(dsn string) (role, error) {
	o, err := parseDSN(dsn)
	if err != nil {
		return role{}, err
	}
	s := loader.Settings{
		JetStream:  d.js,
		ClickHouse: loader.ClickHouse{Addr: o.Addr[0], User: o.Auth.Username, Password: o.Auth.Password},
		Logger:     d.logger, Registerer: d.reg,
	}
	return role{"loader", func(ctx context.Context) error { return loader.Run(ctx, s) }}, nil
}
