package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/schemas"
)

const (
	// demoAccessBps is what each viewer's own network carries: several times the stream.
	demoAccessBps = 1_500_000
	// demoFaultShare of the stream's video is what the way from CDN b to viewers in demoFaultRegion carries at most: they
	// stall for a tenth to a quarter of their time, so that routers, which judge a CDN by region, too, do not take b for failing there
	// (30 %) and save the harmful arm. It is each connection's own limit: it depends neither on how many watch nor on the machine.
	demoFaultShare  = 0.9
	demoFaultRegion = "us"
	// demoStepBps is what players round throughput to when they tell it (CTA-5004, mtp).
	demoStepBps = 100_000
)

var demoRegions = []string{"eu", demoFaultRegion}

// harm narrows the way from CDN b into one region, before anybody watches.
func (d *demoRun) harm(ctx ctx) error {
	f := schemas.Fault{ConnectionRateBps: int64(demoFaultShare*float64(d.videoBps)) / demoStepBps * demoStepBps, Region: demoFaultRegion}
	if f.ConnectionRateBps == 0 {
		return fmt.Errorf("the demo stream's video has %d bit/s: at least %.0f are needed, or players cannot tell how slow the way is", d.videoBps, demoStepBps/demoFaultShare)
	}
	if err := d.put(ctx, schemas.BucketFaults, "b", f); err != nil {
		return err
	}
	d.say("the fault: to viewers in region %s CDN b delivers %.2f Mbit/s a connection; their accesses carry %.1f Mbit/s, the video is %.2f Mbit/s",
		f.Region, float64(f.ConnectionRateBps)/1e6, demoAccessBps/1e6, float64(d.videoBps)/1e6)
	return nil
}

// What the fault must have done to those who meet it, as a share of their time, for the rest to mean anything.
const demoLeastStall, demoMostStall = 0.05, 0.3

// harmed prints what the recorded sessions met by CDN and region, and says why that is not the fault that was made.
func (d *demoRun) harmed(rec *predict.Recording) error {
	type group struct {
		sessions        int
		played, stalled float64
	}
	groups := map[string]*group{}
	for _, s := range rec.Sessions {
		at := s.CDN + " in " + s.Region
		if groups[at] == nil {
			groups[at] = &group{}
		}
		g := groups[at]
		g.sessions++
		g.played += s.PlayedSec
		g.stalled += s.StalledSec
	}
	var err error
	for _, cdn := range []string{"a", "b"} {
		for _, region := range slices.Sorted(slices.Values(demoRegions)) {
			at := cdn + " in " + region
			g := groups[at]
			if g == nil {
				return fmt.Errorf("no session on CDN %s was recorded: both CDNs must have viewers in both regions", at)
			}
			share := g.stalled / max(g.played+g.stalled, 1)
			d.say("CDN %s: %d sessions stalled for %.2f %% of their time", at, g.sessions, 100*share)
			switch {
			case at != "b in "+demoFaultRegion && share > demoLeastStall/2:
				err = fmt.Errorf("viewers on CDN %s stalled for %.1f %% of their time though nothing is wrong there: the machine is too busy for %d viewers; give fewer --viewers", at, 100*share, d.f.viewers)
			case at == "b in "+demoFaultRegion && (share < demoLeastStall || share > demoMostStall):
				err = fmt.Errorf("viewers on CDN %s stalled for %.1f %% of their time, not for %.0f to %.0f %%: the fault is not what it should be", at, 100*share, 100*demoLeastStall, 100*demoMostStall)
			}
		}
	}
	return err
}

// routersSay is what routers know of both CDNs.
func (d *demoRun) routersSay(ctx ctx) string {
	b := base{data: d.f.data}
	text := "routers see"
	for _, cdn := range []string{"a", "b"} {
		h, why := b.routerHealth(ctx, schemas.HealthQuery{CDN: cdn})
		if why != "" {
			return "routers: " + why
		}
		text += fmt.Sprintf(" %.1f %% of %d viewers' time stalled on %s", 100*h.StallRatio.Value, h.Viewers, cdn)
		if h.Failing {
			text += " (failing)"
		}
	}
	return text
}

// say prints one line with the time since the demonstration began.
func (d *demoRun) say(format string, a ...any) {
	fmt.Fprintf(d.c.stdout, "%4.0f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, a...))
}

// step prints a heading.
func (d *demoRun) step(format string, a ...any) {
	fmt.Fprintf(d.c.stdout, "\n%s\n", fmt.Sprintf(format, a...))
}
