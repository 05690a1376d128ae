package load

import "time"

// maxMixed is for how many regions a CDN's mean bitrate is made of theirs.
const maxMixed = 500

// each are the mean bitrates of a CDN's viewers, of all and of those of the asker's
// region; 0: not known. A viewer's own region and provider say nothing of the others'.
type each struct{ allBps, hereBps float64 }

// mean gives that of all viewers of a CDN, made once in the round. l.mu is held.
func (l *Table) mean(on *cdnLoad, cdn string, round int64, asOf time.Time) float64 {
	if on.meanOf != round {
		on.meanOf = round
		on.meanBps = l.counts.meanBps(on, func(region string) float64 { return l.health.RegionIn(round, cdn, region, asOf).BitrateBps })
	}
	return on.meanBps
}

// meanBps gives the mean bitrate of a CDN's viewers from those of its regions
// (empty: of all), each by how many are there now, so that those who came within
// the minute that estimates are of count as what they are.
func (c *counts) meanBps(on *cdnLoad, of func(region string) float64) float64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(on.byRegion) > maxMixed {
		return of("")
	}
	var viewers, kbps int64 // whole numbers: the sum is the same in any order
	for region, here := range on.byRegion {
		n := max(here.viewers.Load(), 0)
		viewers, kbps = viewers+n, kbps+n*int64(of(region)/1000+0.5)
	}
	if viewers == 0 {
		return of("")
	}
	return float64(kbps) * 1000 / float64(viewers)
}
