package load_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// TestARegionOfACDNFails: a tenth of its viewers are in a region that it does not serve. They leave, new ones
// there do not come, all others stay; and who lies about the region moves nobody.
func TestARegionOfACDNFails(t *testing.T) {
	cdns := []schemas.CDN{{Name: "a", State: schemas.CDNActive}, {Name: "b", State: schemas.CDNActive, Order: 1}, {Name: "c", State: schemas.CDNActive, Order: 2}}
	const viewers, reportEach = 480, 4 // seconds
	type session struct {
		id, cdn string
		place   load.Place
		group   uint8
	}
	for _, x := range []struct {
		name  string
		bad   func(cdn, region string) bool
		liars int // sessions in us and four groups that report a as bad
		usOn  string
	}{
		{"a region of one CDN", func(cdn, region string) bool { return cdn == "a" && region == "us" }, 0, "b"},
		{"a region of two", func(cdn, region string) bool { return cdn != "c" && region == "us" }, 0, "c"},
		{"a region of all", func(_, region string) bool { return region == "us" }, 0, "a"},
		{"liars", func(string, string) bool { return false }, 200, "a"},
	} {
		r := rand.New(rand.NewPCG(3, 4))
		l, now := newTable(cdns...)
		var all []*session
		for i := range viewers + x.liars {
			s := &session{id: "s" + strconv.Itoa(i), cdn: "a", place: load.Place{Region: "eu", ISP: "x"}, group: uint8(r.IntN(16))}
			switch {
			case i >= viewers:
				s.place.Region, s.group = "us", uint8(i%4)
			case i%10 == 0:
				s.place.Region = "us"
			}
			if i < viewers && i%5 == 4 || i < viewers && i%20 == 10 { // others' streams come through other CDNs
				s.cdn = []string{"b", "c"}[i/20%2]
			}
			all = append(all, s)
			l.Answered(&load.Fact{ID: s.id, CDN: s.cdn, Region: s.place.Region, Group: s.group, At: *now})
		}
		where := make([]string, len(all))
		for i, s := range all {
			where[i] = s.cdn
		}
		answer := func(s *session, at int) string {
			in := policy.Input{
				Session: s.id, Region: s.place.Region, ISP: s.place.ISP, PublishCDN: "a", CDNs: cdns, Current: s.cdn, SinceMoveSec: 1e9, Round: int64(at / 10),
				Facts: l.Facts(cdns, s.place, 1e6, *now),
			}
			a, err := policy.Builtin(policy.Affinity).Decide(&in)
			if err != nil {
				t.Fatal(err)
			}
			return a.Chosen
		}
		for at := range 60 {
			*now = now.Add(time.Second)
			for i, s := range all {
				if i%reportEach == at%reportEach {
					slice := schemas.Slice{SessionID: s.id, CDN: s.cdn, Region: s.place.Region, ISP: s.place.ISP, PlayedMs: 1000 * reportEach}
					if at >= 25 && (i >= viewers || x.bad(s.cdn, s.place.Region)) {
						slice.PlayedMs, slice.StalledMs = 0, 1000*reportEach
					}
					l.Served(&slice, *now)
				}
			}
			l.Tick(*now)
			for i, s := range all[:viewers] {
				if i%10 != at%10 { // asks for steering
					continue
				}
				if to := answer(s, at); to != s.cdn {
					s.cdn = to
					l.Answered(&load.Fact{ID: s.id, CDN: to, Region: s.place.Region, Group: s.group, At: *now})
				}
			}
		}
		for i, s := range all[:viewers] {
			want := where[i]
			if s.place.Region == "us" && x.bad(want, "us") {
				want = x.usOn
				if x.usOn == "a" {
					want = where[i] // bad everywhere: all stay
				}
			}
			if s.cdn != want && !(x.usOn != "a" && s.place.Region == "us" && !x.bad(s.cdn, "us")) {
				t.Fatalf("%s: viewer %d of %s, who was on %s, is on %s, not on %s", x.name, i, s.place.Region, where[i], s.cdn, want)
			}
		}
		for region, want := range map[string]string{"us": x.usOn, "eu": "a"} {
			if got := answer(&session{id: "new", place: load.Place{Region: region, ISP: "x"}}, 60); got != want {
				t.Errorf("%s: a new viewer of %s is sent to %s, not to %s", x.name, region, got, want)
			}
		}
		h := l.Health("a", load.Place{}, *now)
		in := l.Health("a", load.Place{Region: "us"}, *now)
		if out := x.usOn != "a"; h.Failing || (len(h.FailingParts) == 1) != out || in.Failing != out || (in.FailingIn == "region") != out {
			t.Errorf("%s: health says %+v of all and %+v of us", x.name, h, in)
		}
	}
}
