package load

import (
	"math"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// Health gives what is known of a CDN for viewers of a place (empty parts: of all).
func (l *Table) Health(cdn string, p Place, now time.Time) schemas.CDNHealth {
	age, asOf := l.AgeMs(now), l.asOf(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.health.Estimate(cdn, p.Region, p.ISP, asOf)
	e.Age(now.Sub(asOf))
	h := schemas.CDNHealth{
		HealthQuery: schemas.HealthQuery{CDN: cdn, Region: p.Region, ISP: p.ISP}, Growth: 1,
		StallRatio: schemas.Measured{Value: e.StallRatio, SE: e.SE.StallRatio}, StartFailRatio: schemas.Measured{Value: e.StartFailRatio, SE: e.SE.StartFailRatio},
		ErrorRatio: schemas.Measured{Value: e.ErrorRatio, SE: e.SE.ErrorRatio}, FirstScreenMs: schemas.Measured{Value: e.FirstScreenMs, SE: e.SE.FirstScreenMs},
		BitrateBps: schemas.Measured{Value: e.BitrateBps, SE: e.SE.BitrateBps}, ThroughputBps: schemas.Measured{Value: e.ThroughputBps, SE: e.SE.ThroughputBps},
		Samples: e.Samples, Cell: e.Cell, AgeSec: e.AgeSec, InputAgeMs: age, InDoubt: l.health.DoubtedUntil(cdn).After(now),
	}
	h.FailingIn, _, _ = l.health.FailingIn(cdn, p.Region, p.ISP, now)
	h.Failing = h.FailingIn != ""
	if !h.Failing && p.ISP == "" {
		h.FailingParts = l.health.FailingParts(cdn, p.Region)
	}
	if on, here := l.counts.of(cdn, p.Region); on != nil {
		h.Viewers, h.Growth = int(on.viewers.Load()), on.trend.Growth(horizon)
		if here != nil {
			h.RegionViewers = int(here.viewers.Load())
		}
	}
	viewers := float64(h.Viewers)
	// Players end and begin unheard of for a while: the count itself is known to about its root.
	h.BandwidthBps = schemas.Measured{Value: viewers * e.BitrateBps, SE: math.Hypot(viewers*e.SE.BitrateBps, math.Sqrt(viewers)*e.BitrateBps)}
	return h
}
