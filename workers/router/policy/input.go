package policy

import (
	"math"

	"github.com/spillway-live/spillway/schemas"
)

// Input is everything a decision rests on. Equal inputs give equal answers in
// every router: what looks like chance is drawn from the session's id.
type Input struct {
	// Session is the session's id, from which lots are drawn.
	Session string
	App     string
	Stream  string
	// Pinned is the CDN the session asked for; empty if none.
	Pinned string
	// Current is the CDN the session is on; empty for a new session.
	Current string
	// SinceMoveSec is how long the session has been on Current, seconds.
	SinceMoveSec float64
	// Round numbers the rounds of steering answers: in each, other sessions are
	// drawn to leave a CDN that is over its capacity.
	Round int64
	// Avoid names CDNs that the session's player has put into its own penalty box:
	// it would not go there, or has just found them dead. They come last.
	Avoid []string
	// Test is the share of sessions such as this one, in play and with a buffer
	// deep enough, that try a failing CDN; 0: none. Trying is the failing CDN that
	// the session was sent to for that; it stays there while that is tested.
	Test   float64
	Trying string
	// Region and ISP are the viewer's.
	Region, ISP string
	// OverflowAt is the share of its capacity from which on a CDN takes this session
	// only when no other has room; 0: as the registry and the policy say.
	OverflowAt float64
	// PublishCDN is the CDN that the stream's publisher came through; empty if unknown.
	PublishCDN string
	CDNs       []schemas.CDN
	// Facts of the CDNs, one for each of CDNs in its order, as they are for a viewer
	// in Region with ISP; shorter: nothing is known of the others. See [FactsOf].
	Facts []Facts
}

// unknown are the facts of a CDN of which nothing is known.
var unknown Facts

// facts gives what is known of CDNs[i].
func (in *Input) facts(i int) *Facts {
	if i < len(in.Facts) {
		return &in.Facts[i]
	}
	return &unknown
}

// FactsOf puts facts by name into the order of the CDNs.
func FactsOf(cdns []schemas.CDN, byName map[string]Facts) []Facts {
	out := make([]Facts, len(cdns))
	for i := range cdns {
		out[i] = byName[cdns[i].Name]
	}
	return out
}

// Facts are what is known of a CDN at the moment of a decision.
type Facts struct {
	// Viewers counts the sessions on the CDN, this one included where it is;
	// RegionViewers those of the session's region.
	Viewers, RegionViewers int
	// StreamViewers counts those of the session's stream; 0 where the CDN does not limit them.
	StreamViewers int
	// BandwidthBps is what it delivers now, RegionBandwidthBps to the session's region.
	BandwidthBps, RegionBandwidthBps float64
	// Growth is by what factor viewers and bandwidth are forecast to change within
	// a control horizon, RegionGrowth the same for the session's region; 0 is not
	// known and counts as 1.
	Growth, RegionGrowth float64
	// StreamGrowth and StreamSoon are Growth and Soon of StreamViewers.
	StreamGrowth, StreamSoon float64
	// GrowthAhead is by what factor viewers and bandwidth are forecast to change in 1, 3
	// and 5 minutes, below 1 where they fall; 0 is not known and counts as 1.
	GrowthAhead [3]float64
	// MonthGB is what it has delivered in this month so far.
	MonthGB float64
	// MonthShare is the part of the month that has passed, 0 to 1.
	MonthShare float64
	// StallRatio, StartFailRatio, ErrorRatio and FirstScreenMs are estimates,
	// already drawn towards coarser cells where the samples are few; NaN or absent
	// (Samples 0) is not known.
	StallRatio, StartFailRatio, ErrorRatio, FirstScreenMs float64
	// BitrateBps is the mean bitrate its viewers play; 0 is not known.
	BitrateBps float64
	// ThroughputBps is the mean of what they measure while they load; 0 is not known.
	ThroughputBps float64
	// Soon is by what factor viewers and bandwidth are forecast to change within the
	// next tens of seconds, at least 1, RegionSoon the same for the session's region;
	// 0 is not known and counts as 1.
	Soon, RegionSoon float64
	// Warm: its caches hold the session's stream, for the session's region.
	Warm bool
	// Samples is the number of sessions behind the estimates.
	Samples float64
	// AgeSec is how old the newest of them is.
	AgeSec float64
	// Failing: it does not serve. It takes only probes while another serves.
	Failing bool
	// FailingIn is what of it fails: "cdn", or the viewer's "region" or "isp" there alone.
	FailingIn string
	// Probe is the share of sessions that may try a failing CDN to see whether it is back.
	Probe float64
	// Shed is the share of the sessions on it that must leave, 0 to 1; Trial of those
	// that leave to learn how others serve, since it loses much and nobody is there.
	Shed, Trial float64
}

// Harm is the share of a one-minute view that is lost on the CDN: stalls, starts
// that fail, and waiting for the first screen. 0 where nothing is known.
func (f *Facts) Harm() float64 {
	if f.Samples <= 0 {
		return 0
	}
	h := known(f.StallRatio) + known(f.StartFailRatio) + known(f.FirstScreenMs)/60_000
	return min(h, 1)
}

func known(x float64) float64 {
	if math.IsNaN(x) || x < 0 {
		return 0
	}
	return x
}

// Load is the share of its capacity that a CDN uses, the highest of viewers and
// bandwidth, in all and in the session's region, and of what one stream may have, as forecast; 0 without limits.
func Load(c *schemas.CDN, f *Facts, region string) float64 {
	return ahead(c, f, c.RegionCapacity[region], Limit(c))
}

// ahead is Load for the capacity of the session's region and a limit of viewers.
func ahead(c *schemas.CDN, f *Facts, r schemas.Capacity, viewers int) float64 {
	all, here := used(c, f, r, viewers)
	return max(all*factor(f.Growth), here*factor(f.RegionGrowth), ofStream(c, f)*factor(f.StreamGrowth))
}

// load is [Load], but by what the CDN can serve where the session has a threshold
// of its own: that stands in the place of where the CDN begins to spill.
func (in *Input) load(c *candidate) float64 {
	viewers := Limit(c.cdn)
	if in.OverflowAt > 0 && c.cdn.CapacityViewers > 0 {
		viewers = c.cdn.CapacityViewers
	}
	return ahead(c.cdn, c.facts, c.here, viewers)
}

// spillAt is the load from which on a CDN counts as full for this session.
func (in *Input) spillAt() float64 {
	if in.OverflowAt > 0 {
		return in.OverflowAt
	}
	return 1
}

func factor(growth float64) float64 {
	if growth > 0 {
		return growth
	}
	return 1
}

// Overload is the share of its capacity that a CDN uses now, by what it can
// serve and not by where it begins to spill: above 1, sessions must leave. New
// ones are kept off by forecast long before (Load).
func Overload(c *schemas.CDN, f *Facts, region string) float64 {
	all, here := used(c, f, c.RegionCapacity[region], c.CapacityViewers)
	return max(all, here, ofStream(c, f))
}

// ofStream is the share in use of the viewers that the session's stream may have on a CDN.
func ofStream(c *schemas.CDN, f *Facts) float64 {
	return share(float64(f.StreamViewers), float64(c.StreamViewers))
}

// used gives the highest share in use now of the limits in all, and of those of the region.
func used(c *schemas.CDN, f *Facts, r schemas.Capacity, viewers int) (all, here float64) {
	all = max(share(float64(f.Viewers), float64(viewers)), share(f.BandwidthBps, float64(c.CapacityBps)))
	return all, max(share(float64(f.RegionViewers), float64(r.Viewers)), share(f.RegionBandwidthBps, float64(r.Bps)))
}

// share of a limit in use; 0 without a limit.
func share(value, limit float64) float64 {
	if limit <= 0 {
		return 0
	}
	return value / limit
}

// Limit is the number of viewers from which on a CDN takes no new ones while
// another has room: the lower of SpillViewers and CapacityViewers; 0 is never.
func Limit(c *schemas.CDN) int {
	if c.SpillViewers > 0 && (c.CapacityViewers == 0 || c.SpillViewers < c.CapacityViewers) {
		return c.SpillViewers
	}
	return c.CapacityViewers
}

// commitAhead is how far ahead of the month a commitment may be used at less than its price:
// a day's part of it, so that price follows the days and not the hour.
const commitAhead = 1.0 / 30

// PriceUSDPerGB is what the next gigabyte costs: the price of the tier that the month's
// volume has reached. Of a commitment, which is paid for in any case, it is nothing while less is
// used than of the month has passed, and rises to that price by commitAhead. So a
// commitment is used up by the end of the month, and goes where it is worth most: a step from
// nothing to the price would give it to whoever comes first.
func PriceUSDPerGB(c *schemas.CDN, f *Facts) float64 {
	price := c.PricePerGBMicroUSD
	for _, t := range c.PriceTiers { // rising by FromGB
		if f.MonthGB >= float64(t.FromGB) {
			price = t.PerGBMicroUSD
		}
	}
	return float64(price) / 1e6 * charged(float64(c.CommitGB), f)
}

// charged is the part of its price at which a gigabyte counts.
func charged(commitGB float64, f *Facts) float64 {
	passed := min(max(f.MonthShare, 0), 1)
	ahead := f.MonthGB - commitGB*passed
	switch {
	case f.MonthGB >= commitGB:
		return 1
	case ahead < 0:
		return 0
	}
	return min(ahead/(commitGB*min(commitAhead, 1-passed)), 1) // with less than the commitment, and that is ahead: passed is below 1
}

// strong says whether the CDN is registered as good for the viewer's region or provider.
func strong(c *schemas.CDN, region, isp string) bool {
	for _, s := range c.StrongIn {
		if s != "" && (s == region || s == isp || region != "" && isp != "" && s == region+"/"+isp) {
			return true
		}
	}
	return false
}
