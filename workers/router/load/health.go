package load

import (
	"math"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
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
	region, all := l.health.Estimate(cdn, p.Region, "", asOf), l.health.Estimate(cdn, "", "", asOf)
	if on, here := l.counts.of(cdn, p.Region); on != nil {
		h.Viewers, h.Growth = int(on.viewers.Load()), on.trend.Growth(horizon)
		h.BandwidthBps = bandwidth(h.Viewers, l.counts.meanBps(on, func(region string) float64 { return l.health.Estimate(cdn, region, "", asOf).BitrateBps }), all.SE.BitrateBps)
		h.FlashCrowd = on.trend.Rush()
		for i, x := range on.ahead.Forecasts() {
			h.Forecast = append(h.Forecast, forecast(health.Horizons[i], &x, h.Viewers, h.BandwidthBps.Value))
		}
		if here != nil {
			h.RegionViewers = int(here.viewers.Load())
			h.RegionBandwidthBps = bandwidth(h.RegionViewers, region.BitrateBps, region.SE.BitrateBps)
		}
	}
	return h
}

// forecast of viewers and of their bandwidth, which is taken to change as they do.
func forecast(ahead time.Duration, f *health.Forecast, viewers int, bps float64) schemas.CDNForecast {
	n, b := float64(viewers)*f.Growth, bps*f.Growth
	return schemas.CDNForecast{AheadSec: int(ahead.Seconds()), Viewers: schemas.Measured{Value: n, SE: n * f.Error}, BandwidthBps: schemas.Measured{Value: b, SE: b * f.Error}}
}

// bandwidth of viewers whose mean bitrate is known with an error.
func bandwidth(viewers int, meanBps, seBps float64) schemas.Measured {
	n := float64(viewers)
	// Players end and begin unheard of for a while: the count itself is known to about its root.
	return schemas.Measured{Value: n * meanBps, SE: math.Hypot(n*seBps, math.Sqrt(n)*meanBps)}
}
