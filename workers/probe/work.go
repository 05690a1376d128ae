package probe

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
)

// maxUnanswered bounds the probes of one slot that wait for an answer; each ends
// after two requests' Timeout at the latest.
const maxUnanswered = 32

// lateAfter is how long a probe may take before routers are told that it is late.
const lateAfter = 1500 * time.Millisecond

// work probes the pairs of one slot, the one that was asked longest ago first.
func (p *Prober) work(ctx context.Context, slot string) error {
	const requests = 2 // of one probe
	t := time.NewTicker(time.Duration(float64(time.Second) * requests * slots / p.RequestsPerSec))
	defer t.Stop()
	var g errgroup.Group
	g.SetLimit(maxUnanswered)
	defer func() { _ = g.Wait() }()
	waiting := map[pair]bool{}
	answered := make(chan pair, maxUnanswered)
	asked := map[pair]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-answered:
			delete(waiting, x)
			continue
		case <-t.C:
		}
		now := time.Now()
		all, latest := p.pairs(slot, now)
		maps.DeleteFunc(asked, func(x pair, _ time.Time) bool { return len(asked) > 2*len(all) && !slices.Contains(all, x) })
		next, ok := due(all, asked, waiting, latest)
		if !ok {
			continue
		}
		c, ok := p.cdns.Get(next.cdn)
		if !ok {
			continue
		}
		// One that waits delays no other; where too many do, this one's turn passes.
		if g.TryGo(func() error {
			p.once(ctx, c, next.key)
			select {
			case answered <- next:
			case <-ctx.Done():
			}
			return nil
		}) {
			asked[next], waiting[next] = now, true
		}
	}
}

// due gives the pair that was asked longest ago, not later than latest; those that
// wait for an answer are not asked again.
func due(all []pair, asked map[pair]time.Time, waiting map[pair]bool, latest time.Time) (pair, bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(x pair) bool { return waiting[x] || asked[x].After(latest) })
	if len(all) == 0 {
		return pair{}, false
	}
	return slices.MinFunc(all, func(a, b pair) int {
		return cmp.Or(asked[a].Compare(asked[b]), strings.Compare(a.cdn+a.key.String(), b.cdn+b.key.String()))
	}), true
}

// once probes a pair and tells what it found.
func (p *Prober) once(ctx context.Context, c *schemas.CDN, k schemas.StreamKey) {
	late := time.AfterFunc(lateAfter, func() { // routers need not wait for the time-out
		hops.SayProbe(p.JetStream.Conn(), p.Logger, &schemas.Telemetry{
			Source: schemas.SourceProbe, Hop: schemas.HopProbe, CDN: c.Name, ErrorCode: hops.Late, TsUnixMs: time.Now().UnixMilli(),
		})
	})
	row := p.probe(ctx, c, k)
	late.Stop()
	if ctx.Err() != nil {
		return
	}
	outcome := "ok"
	if row.ErrorCode != "" {
		outcome = "failed"
	}
	p.count.WithLabelValues(c.Name, outcome).Inc()
	p.report.Tell(row)
	hops.SayProbe(p.JetStream.Conn(), p.Logger, &row)
}
