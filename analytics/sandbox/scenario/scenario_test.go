package scenario

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/analytics/sandbox"
)

// TestFlash: also a small crowd overruns no CDN, nobody is lost on the way, and
// the report says so in text and JSON.
func TestFlash(t *testing.T) {
	r, err := Flash(Settings{Seed: 3, Viewers: 250, Routers: 4, Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range r.Runs {
		if x.Sessions != 250 || x.Ended+x.Open != 250 || x.Refused != 0 {
			t.Errorf("%s: %d sessions, %d ended, %d open, %d refused", name, x.Sessions, x.Ended, x.Open, x.Refused)
		}
		last := x.Series[len(x.Series)-1]
		sum := 0
		for _, n := range last.Viewers {
			sum += n
		}
		if sum != x.Open {
			t.Errorf("%s: %d viewers on CDNs, %d open", name, sum, x.Open)
		}
		for _, c := range x.CDNs {
			if c.OverSec > 1 {
				t.Errorf("%s: CDN %s is above its capacity for %v s", name, c.Name, c.OverSec)
			}
		}
	}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil || !strings.Contains(b.String(), "affinity") || !strings.Contains(b.String(), "Taken for granted") {
		t.Errorf("text: %v\n%s", err, b.String())
	}
	if data, err := json.Marshal(r); err != nil || len(data) < 1000 {
		t.Errorf("JSON: %d bytes, %v", len(data), err)
	}
	if len(r.Charts) != len(r.Runs) {
		t.Errorf("%d charts", len(r.Charts))
	}
}

// TestOutage: players with steering or fallbacks leave a CDN that refuses, those
// with one CDN cannot.
func TestOutage(t *testing.T) {
	r, err := Outage(Settings{Seed: 3, Viewers: 30, Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if !c.OK && !strings.HasPrefix(c.Name, "slow") { // of which 30 viewers tell too little, too late
			t.Errorf("%s: %s, wanted %s", c.Name, c.Got, c.Want)
		}
	}
	for _, row := range r.Tables[0].Rows {
		if strings.HasPrefix(row[0], "static") && row[3] != "0.00 %" {
			t.Errorf("players with one CDN have left it: %v", row)
		}
	}
}

// TestSlowCDN: 500 viewers of a CDN that gives 2 % of the rate are elsewhere within 15 s.
func TestSlowCDN(t *testing.T) {
	w := outageWorld(Settings{Seed: 3, Viewers: 500, Routers: 1}, "", 10, true)
	slow := outageKinds[2].episode
	slow.CDN, slow.FromSec, slow.ToSec = "a", outageFrom, outageTo
	w.Episodes, w.Seconds = []sandbox.Episode{slow}, outageFrom+15
	r, err := sandbox.Run(w)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range r.MoveSec {
		if at < outageFrom {
			t.Errorf("a move at %v s, when all was well", at)
		}
	}
	if r.Moves < 475 {
		t.Errorf("%d of 500 have left it", r.Moves)
	}
}

// TestNoise: no session moves twice in ten minutes.
func TestNoise(t *testing.T) {
	r, err := Noise(Settings{Seed: 3, Viewers: 16, Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed() {
		t.Errorf("%+v", r.Checks)
	}
	if r.Runs["quality-eager"].Moves == 0 {
		t.Error("nobody was moved: nothing was tried")
	}
}

// TestWeekShape: the audience's mean is what Week says, or bills are not.
func TestWeekShape(t *testing.T) {
	sum, n, most := 0.0, 0, 0.0
	for at := 0.0; at < week; at += 60 {
		x := weekShape(at)
		sum += x
		most = max(most, x)
		n++
	}
	if mean := sum / float64(n); mean < 0.95 || mean > 1.05 || most > 3 {
		t.Errorf("mean %v, highest %v", mean, most)
	}
}

// TestStops: progress that says no ends a simulation.
func TestStops(t *testing.T) {
	if _, err := Noise(Settings{Viewers: 20, Progress: func(float64) bool { return false }}); err == nil {
		t.Error("it went on")
	}
}

// TestAttack: as many liars as viewers, from as many groups of addresses as may lie,
// take no more new sessions off the CDN they accuse than the stated bound.
func TestAttack(t *testing.T) {
	s := Settings{Seed: 3, Viewers: 250, Routers: 2}
	share := func(liars float64, groups int) float64 {
		var n [2]float64
		w := attackWorld(s, liars, groups)
		w.Each, w.Seconds = underAttack(&n), attackFrom+500
		if _, err := sandbox.Run(w); err != nil {
			t.Fatal(err)
		}
		if n[1] < 300 {
			t.Fatalf("%v honest sessions began under attack", n[1])
		}
		return n[0] / n[1]
	}
	calm, lies, half := share(0, 0), share(1, attackGroups), share(1, 8)
	t.Logf("%.1f %% of new sessions on the best CDN, %.1f %% while it is accused, %.1f %% by half of the groups", 100*calm, 100*lies, 100*half)
	if half > calm-attackBound {
		t.Errorf("half of the groups take %.1f points: there are no lies to withstand", 100*(calm-half))
	}
	if calm < 0.8 {
		t.Errorf("without liars %.1f %% are on the best CDN: there is nothing to take", 100*calm)
	}
	if lies < calm-attackBound {
		t.Errorf("liars take %.1f points off the accused CDN, the bound is %.0f", 100*(calm-lies), 100*attackBound)
	}
}
