package router

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/access"
	"github.com/spillway-live/spillway/schemas/jsonout"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/renditions"
	"github.com/spillway-live/spillway/schemas/token/scheme"
)

// tables are the buckets the router answers from, followed as they change.
type tables struct {
	access      *access.Table
	apps        *mirror.Table[*schemas.AppSettings]
	sources     *mirror.Table[*schemas.Source]
	pulls       *mirror.Table[*schemas.PullState]
	made        *renditions.Table
	registry    *mirror.Table[*schemas.CDN]
	experiments *mirror.Table[*schemas.Experiment]
	streams     *mirror.Table[*schemas.StreamState]
	recent      *mirror.Recent[*schemas.StreamState] // those of streams that were live of late
	usage       *mirror.Table[*schemas.Usage]
	hot         *mirror.Table[*schemas.HotState]

	cdns    *mirror.Derived[*cdnList]
	running *mirror.Derived[[]*schemas.Experiment] // by name
}

// cdnList are the CDNs that may be answered with: in order of their names, and by name.
type cdnList struct {
	all    []schemas.CDN
	byName map[string]*listedCDN
}

// listedCDN is one of them with what the addresses of all its sessions begin with:
// before is all before the session's token; empty where the CDN signs in its own way.
type listedCDN struct {
	schemas.CDN
	before string
}

func newCDNList(all []schemas.CDN) *cdnList {
	l := &cdnList{all, make(map[string]*listedCDN, len(all))}
	for i := range all {
		l.byName[all[i].Name] = &listedCDN{all[i], before(&all[i])}
	}
	return l
}

// before gives what stands before the session's token in addresses of a CDN, where
// they are that, the token, and the path.
func before(c *schemas.CDN) string {
	const token = "T0"
	if c.TokenScheme != "" && c.TokenScheme != (scheme.Spillway{}).Name() {
		return ""
	}
	base, err := scheme.Base(scheme.Spillway{}, c.BaseURL, scheme.Grant{Dir: "/a/b/", Session: token}, nil)
	b, ok := strings.CutSuffix(base, token)
	if err != nil || !ok || !jsonout.Plain(b) {
		return ""
	}
	return b
}

// newTables makes the tables; usable leaves out CDNs that cannot be answered with.
func newTables(logger *slog.Logger, usable func([]schemas.CDN) []schemas.CDN) *tables {
	t := &tables{
		access:      access.New(logger),
		apps:        mirror.New(schemas.BucketApps, schemas.ParseAppSettings, logger),
		sources:     mirror.New(schemas.BucketSources, schemas.ParseSource, logger),
		pulls:       mirror.New(schemas.BucketPulls, schemas.ParsePullState, logger),
		made:        renditions.New(logger),
		registry:    mirror.New(schemas.BucketCDNs, schemas.ParseCDN, logger),
		experiments: mirror.New(schemas.BucketExperiments, schemas.ParseExperiment, logger),
		streams:     mirror.New(schemas.BucketStreams, schemas.ParseStreamState, logger),
		usage:       mirror.New(schemas.BucketUsage, schemas.ParseUsage, logger),
		hot:         mirror.New(schemas.BucketHot, schemas.ParseHotState, logger),
	}
	t.recent = mirror.Recently(t.streams)
	t.cdns = mirror.Derive(t.registry, func(all iter.Seq2[string, *schemas.CDN]) *cdnList {
		var list []schemas.CDN
		for _, c := range all {
			list = append(list, *c)
		}
		slices.SortFunc(list, func(a, b schemas.CDN) int { return cmp.Compare(a.Name, b.Name) })
		return newCDNList(usable(list))
	})
	t.running = mirror.Derive(t.experiments, func(all iter.Seq2[string, *schemas.Experiment]) []*schemas.Experiment {
		var list []*schemas.Experiment
		for _, x := range all {
			if x.Status == schemas.ExperimentRunning {
				list = append(list, x)
			}
		}
		slices.SortFunc(list, func(a, b *schemas.Experiment) int { return cmp.Compare(a.Name, b.Name) })
		return list
	})
	return t
}

// stream gives what is known of a stream; nil: nothing.
func (t *tables) stream(k schemas.StreamKey) *schemas.StreamState {
	s, _ := t.streams.Get(k.KVKey())
	return s
}

// used gives what CDNs delivered; nil: nothing is known.
func (t *tables) used() *schemas.Usage {
	u, _ := t.usage.Get(schemas.UsageKey)
	return u
}

// list gives the CDNs that may be answered with. It is one slice until the registry changes.
func (t *tables) list() []schemas.CDN { return t.cdns.Get().all }

// cdn gives a CDN that may be answered with; nil: there is none of the name.
func (t *tables) cdn(name string) *schemas.CDN {
	if c := t.cdns.Get().byName[name]; c != nil {
		return &c.CDN
	}
	return nil
}

// run follows the buckets; loaded is called once what no answer can do without
// has been read: nobody may be answered before it is known what is private.
func (t *tables) run(ctx context.Context, js jetstream.JetStream, loaded func()) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, follow := range []func(context.Context, jetstream.JetStream) error{
		t.registry.Run, t.experiments.Run, t.streams.Run, t.access.Run, t.apps.Run, t.sources.Run, t.pulls.Run, t.made.Run, t.usage.Run, t.hot.Run,
	} {
		g.Go(func() error { return follow(ctx, js) })
	}
	g.Go(func() error {
		for _, ready := range []<-chan struct{}{t.registry.Ready(), t.experiments.Ready(), t.streams.Ready(), t.sources.Ready(), t.hot.Ready(), t.apps.Ready(), t.made.Ready()} {
			select {
			case <-ready:
			case <-ctx.Done():
				return nil
			}
		}
		if t.access.Wait(ctx) == nil {
			loaded()
		}
		return nil
	})
	return g.Wait()
}
