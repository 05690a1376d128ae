package load

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// TestBandwidthIsOfWhoIsThere: what a CDN delivers does not depend on who asks. 100
// viewers of eu play 6 Mbit/s, 300 of us 1 Mbit/s in the mean: 200 of a slow provider 0.5
// Mbit/s, 100 of a quick one 2 Mbit/s.
func TestBandwidthIsOfWhoIsThere(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	cdns := []schemas.CDN{{Name: "a", CapacityBps: 800_000_000, RegionCapacity: map[string]schemas.Capacity{"us": {Bps: 400_000_000}}}}
	l := New(time.Hour, slog.New(slog.DiscardHandler))
	l.CDNs, l.Now = func() []schemas.CDN { return cdns }, func() time.Time { return now }
	for i := range 400 {
		id, x := "s"+strconv.Itoa(i), schemas.Slice{CDN: "a", Region: "us", ISP: "slow", BitrateWeightMs: 10_000, PlayedMs: 10_000}
		kbps := int64(500)
		switch {
		case i%4 == 0:
			x.Region, x.ISP, kbps = "eu", "x", 6000
		case i%2 == 0: // a third of us, more of what is reported there
			x.ISP, kbps = "quick", 2000
		}
		x.SessionID, x.BitrateKbpsMsSum = id, kbps*x.BitrateWeightMs
		l.Answered(&Fact{ID: id, CDN: "a", Region: x.Region, Group: uint8(i / 4 % 16), At: now})
		l.Decided(&Fact{ID: id, CDN: "a", Region: x.Region, Group: uint8(i / 4 % 16), At: now}, now)
		for range 10 {
			l.Served(&x, now)
		}
	}
	now = now.Add(time.Second)
	l.Tick(now)
	wantAll, wantUS := 100*6e6+200*0.5e6+100*2e6, 200*0.5e6+100*2e6
	for _, p := range []Place{{"eu", "x"}, {"us", "slow"}, {"us", "quick"}, {"us", ""}, {"", ""}, {"asia", "nobody"}} {
		f := l.Facts(cdns, p, 3e6, now)[0]
		if math.Abs(f.BandwidthBps/wantAll-1) > 0.1 {
			t.Errorf("%v: %.0f Mbit/s, want about %.0f", p, f.BandwidthBps/1e6, wantAll/1e6)
		}
		if p.Region == "us" && math.Abs(f.RegionBandwidthBps/wantUS-1) > 0.1 {
			t.Errorf("%v: %.0f Mbit/s in us, want about %.0f", p, f.RegionBandwidthBps/1e6, wantUS/1e6)
		}
		if f.Shed == 0 {
			t.Errorf("%v: sheds nobody at %.0f of 800 Mbit/s", p, f.BandwidthBps/1e6)
		}
		h := l.Health("a", p, now)
		if h.BandwidthBps.Value != f.BandwidthBps || h.RegionBandwidthBps.Value != f.RegionBandwidthBps || h.BandwidthBps.SE <= 0 {
			t.Errorf("%v: told %+v and %+v, decided by %.0f and %.0f", p, h.BandwidthBps, h.RegionBandwidthBps, f.BandwidthBps, f.RegionBandwidthBps)
		}
	}
}

// TestBandwidthOfAShiftingCrowd: those who have just come count as those of their region
// do, while what the CDN's reports say is still of those from before.
func TestBandwidthOfAShiftingCrowd(t *testing.T) {
	var c counts
	c.on = map[string]*cdnLoad{}
	for range 10 {
		c.up("a", "us")
	}
	for range 90 {
		c.up("a", "eu")
	}
	on, _ := c.of("a", "")
	mean := map[string]float64{"": 1e6, "us": 1e6, "eu": 6e6}
	if got := c.meanBps(on, func(region string) float64 { return mean[region] }); got != 5.5e6 {
		t.Errorf("mean %.0f bit/s, want 5.5 Mbit/s", got)
	}
	for i := range maxMixed {
		c.up("a", fmt.Sprint("r", i))
	}
	if got := c.meanBps(on, func(region string) float64 { return mean[region] }); got != 1e6 {
		t.Errorf("mean %.0f bit/s of too many regions, want that of all", got)
	}
}
