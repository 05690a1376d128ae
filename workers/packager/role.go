package packager

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/keys"
)

// Packager is the role. Several share the work evenly. Fill in the fields and call Run.
//
// It listens to the streams whose parts an origin asks for (schemas/demand), and
// to those whose AppSettings, or whose application's, say PackageAlways; for all others nothing is sent
// to it and nothing done. It keeps nothing that could be lost: a chunk that it
// was given when it died is cut by the origins.
type Packager struct {
	JetStream jetstream.JetStream
	// Always packages every stream, wanted or not.
	Always bool
	// Keys finds the keys of streams that are encrypted; default a ring of its own.
	Keys       *keys.Ring
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// everything matches the chunks of all streams.
const everything = "chunks.>"

// Run works until ctx ends and returns nil, or an error when a setting is wrong.
func (p *Packager) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	if p.Keys == nil {
		p.Keys = &keys.Ring{Logger: p.Logger, Registerer: p.Registerer}
	}
	sealer := keys.NewSealer(p.JetStream, p.Keys)
	defer sealer.Stop()
	live := &workers.Live{JetStream: p.JetStream, Handler: New(sealer), Role: Role, Logger: p.Logger, Registerer: p.Registerer}
	if p.Always {
		return live.Run(ctx, changed, func() []string { return []string{everything} })
	}
	apps := mirror.New(schemas.BucketApps, schemas.ParseAppSettings, p.Logger)
	wanted := demand.ListenParts(p.JetStream.Conn(), func(schemas.StreamKey) { notify() })
	var helpers sync.WaitGroup
	defer helpers.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	helpers.Go(func() { _ = apps.Run(ctx, p.JetStream) }) // gives nil
	helpers.Go(func() {
		if err := wanted.Run(ctx); err != nil {
			p.Logger.Error("packager", "err", err)
		}
	})
	helpers.Go(func() {
		t := time.NewTicker(demand.HoldsFor / 2)
		defer t.Stop()
		changed := apps.Changed()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			case <-changed:
			}
			changed = apps.Changed() // before they are read
			notify()
		}
	})
	return live.Run(ctx, changed, func() []string { return subjects(maps.Collect(apps.All()), wanted.All(time.Now())) })
}

// subjects are what to listen to: none of them matches what another does, or a
// chunk would be packaged twice.
func subjects(apps map[string]*schemas.AppSettings, wanted []schemas.StreamKey) []string {
	var out []string
	for key, s := range apps {
		if !s.PackageAlways {
			continue
		}
		if k, err := schemas.ParseKVKey(key); err == nil {
			if app := apps[k.App]; app == nil || !app.PackageAlways {
				out = append(out, schemas.ChunksFilter(k))
			}
		} else {
			out = append(out, "chunks.*."+key+".>")
		}
	}
	for _, k := range wanted {
		app, stream := apps[k.App], apps[k.KVKey()]
		if (app == nil || !app.PackageAlways) && (stream == nil || !stream.PackageAlways) {
			out = append(out, schemas.ChunksFilter(k))
		}
	}
	return out
}
