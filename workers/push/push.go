package push

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/lease"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Role is the pusher's name in leases, metrics and logs.
const Role = "push"

// Pusher is the service. Fill in the fields and call Run.
type Pusher struct {
	JetStream jetstream.JetStream // required
	// RetryFirst and RetryMost are the first and the longest pause before a target is tried again; defaults 1 s and 30 s.
	RetryFirst, RetryMost time.Duration
	// ConnectTimeout bounds connecting, WriteTimeout how long the target may take no byte; defaults 10 s and 5 s.
	ConnectTimeout, WriteTimeout time.Duration
	LeaseTTL                     time.Duration // a silent process is dead after this; default 3 s
	// MaxPushes bounds the pushes of this process; default 200.
	MaxPushes  int
	TLS        *tls.Config           // for rtmps; default: the system's roots
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: none

	id      string
	m       *metrics
	states  jetstream.KeyValue
	inits   jetstream.KeyValue
	targets *mirror.Table[*schemas.PushTarget]
	streams *mirror.Table[*schemas.StreamState]
	recent  *mirror.Recent[*schemas.StreamState]
}

// Run pushes until ctx ends, and then returns nil.
func (p *Pusher) Run(ctx context.Context) error {
	if p.JetStream == nil {
		return errors.New("push: JetStream is nil")
	}
	p.RetryFirst, p.RetryMost = cmp.Or(p.RetryFirst, time.Second), cmp.Or(p.RetryMost, 30*time.Second)
	p.ConnectTimeout, p.WriteTimeout = cmp.Or(p.ConnectTimeout, 10*time.Second), cmp.Or(p.WriteTimeout, 5*time.Second)
	p.MaxPushes = cmp.Or(p.MaxPushes, 200)
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	p.id = rand.Text()
	var err error
	if p.m, err = newMetrics(p.Registerer); err != nil {
		return err
	}
	for bucket, kv := range map[string]*jetstream.KeyValue{schemas.BucketPushStates: &p.states, schemas.BucketInits: &p.inits} {
		if *kv, err = p.JetStream.KeyValue(ctx, bucket); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("push: open bucket %s: %w", bucket, err)
		}
	}
	p.targets = mirror.New(schemas.BucketPushes, schemas.ParsePushTarget, p.Logger)
	p.streams = mirror.New(schemas.BucketStreams, schemas.ParseStreamState, p.Logger)
	p.recent = mirror.Recently(p.streams)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.targets.Run(ctx, p.JetStream) })
	g.Go(func() error { return p.streams.Run(ctx, p.JetStream) })
	g.Go(func() error {
		return lease.Pool{
			KV: p.states, Conn: p.JetStream.Conn(), Role: Role, NamesNow: p.wanted, Max: p.MaxPushes,
			TTL: p.LeaseTTL, ID: p.id, Logger: p.Logger, Work: p.work,
		}.Run(ctx)
	})
	return g.Wait()
}

// endedAfter: a stream whose state was not written for so long has no publisher.
const endedAfter = 15 * time.Second

// wanted names every push there should be now: <target>.<app>.<stream>.
func (p *Pusher) wanted() []string {
	var out []string
	now := time.Now()
	past := func(_ string, s *schemas.StreamState) bool {
		return !s.Live || now.Sub(time.UnixMicro(s.UpdatedUnixUs)) > endedAfter
	}
	for _, s := range p.recent.All(past) {
		for name, t := range p.targets.All() {
			if t.Takes(s.Key()) {
				out = append(out, name+"."+s.Key().KVKey())
			}
		}
	}
	return out
}

// work pushes one stream to one target while the lease is held.
func (p *Pusher) work(ctx context.Context, name string) error {
	target, kv, _ := strings.Cut(name, ".")
	k, err := schemas.ParseKVKey(kv)
	if err != nil {
		return err
	}
	j := &job{p: p, target: target, key: k, log: p.Logger.With("target", target, "stream", k.String()), kick: make(chan struct{}, 1)}
	return j.run(ctx)
}
