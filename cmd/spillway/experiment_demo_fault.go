package main

import (
	"fmt"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// What the fault is to do to all viewers, half of whom CDN b serves: enough to be seen in minutes. Where those of b lose
// more than a tenth for some seconds routers may take it for failing and send everybody elsewhere, which saves the harmful arm.
const (
	demoLeastStall, demoMostStall = 0.008, 0.025
	demoSettle, demoMeasure       = 15 * time.Second, 12 * time.Second
)

// harm narrows CDN b step by step until it does to viewers what the fault is to do: how much that takes depends on the machine.
func (d *demoRun) harm(ctx ctx) error {
	rate := 1.35 * d.needBps // viewers who come load more than they play
	for range 8 {
		if err := d.put(ctx, schemas.BucketFaults, "b", schemas.Fault{RateBps: int64(rate)}); err != nil {
			return err
		}
		if err := pause(ctx, demoSettle); err != nil {
			return err
		}
		before := d.crowd.Stats()
		if err := pause(ctx, demoMeasure); err != nil {
			return err
		}
		after := d.crowd.Stats()
		played, stalled := (after.Played - before.Played).Seconds(), (after.Stalled - before.Stalled).Seconds()
		share := stalled / max(played+stalled, 1)
		routers, failing := d.routersSay(ctx)
		fmt.Fprintf(d.c.stdout, "fault: CDN b delivers %.1f Mbit/s; in %d views viewers stalled for %.1f %% of the time; %s\n", rate/1e6, after.Views-before.Views, 100*share, routers)
		switch {
		case failing:
			rate *= 1.1
		case share < demoLeastStall/4:
			rate *= 0.9
		case share < demoLeastStall:
			rate *= 0.95
		case share > demoMostStall:
			rate *= 1.05
		default:
			return nil
		}
	}
	return fmt.Errorf("no rate of CDN b was found with which viewers stall for %.1f to %.1f %%: is the machine busy?", 100*demoLeastStall, 100*demoMostStall)
}

// routersSay is what routers know of both CDNs, and whether they take b for failing.
func (d *demoRun) routersSay(ctx ctx) (text string, failing bool) {
	b := base{data: d.f.data}
	text = "routers see"
	for _, cdn := range []string{"a", "b"} {
		h, why := b.routerHealth(ctx, schemas.HealthQuery{CDN: cdn})
		if why != "" {
			return "routers: " + why, false
		}
		text += fmt.Sprintf(" %.1f %% of %d viewers' time on %s", 100*h.StallRatio.Value, h.Viewers, cdn)
		if h.Failing {
			text += " (failing)"
			failing = failing || cdn == "b"
		}
	}
	return text, failing
}
