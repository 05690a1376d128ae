package relay

import (
	"cmp"
	"slices"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// offer is a neighbour's way to a stream.
type offer struct {
	from string
	rtt  time.Duration
	loc  *schemas.Location
}

// nearest is how far the nearest region that has the stream is through the neighbour.
func (o *offer) nearest() time.Duration {
	return o.rtt/2 + time.Duration(o.loc.NearestUs)*time.Microsecond
}

func (o *offer) delay() time.Duration {
	return o.rtt/2 + time.Duration(o.loc.DelayUs)*time.Microsecond
}

// stays is how much nearer another way must be for a stream to leave the one it has.
func stays(d time.Duration) time.Duration { return d + d/4 + 5*time.Millisecond }

// choose gives a region's best way to a stream and the neighbour it leads
// through, empty where the stream is published here; nil where there is no way.
//
// The highest epoch is the stream. Of those who offer it, the one through whom
// the nearest region that has it is reached is taken; a way that is in use is
// left only for one that is clearly nearer. A way that leads through this region
// already is none, so there are no loops.
func choose(self string, local *schemas.Location, offers []offer, current string) (*schemas.Location, string) {
	epoch := uint32(0)
	if local != nil {
		epoch = local.State.Epoch.Epoch
	}
	usable := slices.DeleteFunc(slices.Clone(offers), func(o offer) bool {
		return slices.Contains(o.loc.Path, self) || len(o.loc.Path) >= schemas.MaxRegionHops || o.loc.Region() != o.from
	})
	for _, o := range usable {
		epoch = max(epoch, o.loc.State.Epoch.Epoch)
	}
	if local != nil && local.State.Epoch.Epoch == epoch {
		return local, ""
	}
	usable = slices.DeleteFunc(usable, func(o offer) bool { return o.loc.State.Epoch.Epoch != epoch })
	if len(usable) == 0 {
		return nil, ""
	}
	slices.SortFunc(usable, func(a, b offer) int {
		return cmp.Or(cmp.Compare(a.nearest(), b.nearest()), cmp.Compare(a.delay(), b.delay()), cmp.Compare(len(a.loc.Path), len(b.loc.Path)), cmp.Compare(a.from, b.from))
	})
	if i := slices.IndexFunc(usable, func(o offer) bool { return o.from == current }); i > 0 && usable[i].nearest() <= stays(usable[0].nearest()) {
		o := usable[i]
		usable = slices.Insert(slices.Delete(usable, i, i+1), 0, o)
	}
	return through(self, usable), usable[0].from
}

// through is this region's location of a stream that the first offer leads to.
func through(self string, offers []offer) *schemas.Location {
	o := offers[0]
	l := *o.loc
	l.Path = append(slices.Clone(l.Path), self)
	l.DelayUs, l.NearestUs = o.delay().Microseconds(), o.nearest().Microseconds()
	l.Held, l.Offers = false, nil
	l.State.Region = l.Home()
	for _, o := range offers[:min(len(offers), schemas.MaxRegionHops)] {
		l.Offers = append(l.Offers, schemas.RegionOffer{
			Region: o.from, Held: o.loc.Held, RTTUs: o.rtt.Microseconds(), DelayUs: o.delay().Microseconds(),
			Hops: len(o.loc.Path), Epoch: o.loc.State.Epoch.Epoch,
		})
	}
	return &l
}

// want is what a region that gets streams from here said last.
type want struct {
	watching, viewers int
	until             time.Time
}

// watchers are in how many regions a stream is watched, and at least by how many sessions.
type watchers struct{ regions, viewers int }

// hot tells whether a stream is pulled ahead of any viewer here. A limit of 0 is none.
func (r *Relay) hot(loc *schemas.Location) bool {
	return loc.State.Live && (r.HotRegions > 0 && loc.Watching >= r.HotRegions || r.HotViewers > 0 && loc.Viewers >= r.HotViewers)
}

// wanted tells whether a stream is wanted in this region, and who watches it in
// the regions that get it here, this one included: in here, where own sessions do.
//
// What the region wants through which the stream comes does not count: that
// would be a loop. Decisions go up to the parent, so own may have sessions of
// those regions too: the larger number is what is known.
func wanted(via string, here bool, own int, wants map[string]want, now time.Time) (yes bool, w watchers) {
	if here {
		yes, w.regions = true, 1
	}
	for region, x := range wants {
		if region == via || !now.Before(x.until) {
			continue
		}
		yes, w.regions, w.viewers = true, w.regions+x.watching, w.viewers+x.viewers
	}
	w.viewers = max(w.viewers, own)
	return yes, w
}
