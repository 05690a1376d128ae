package reach_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
	"github.com/spillway-live/spillway/workers/router/reach"
)

var begin = time.Unix(1_800_000_000, 0)

// one is a report about one transport of CDN a.
func one(id int, group uint8, p reach.Place, failed bool, ms float64) *reach.Report {
	return &reach.Report{ID: strconv.Itoa(id), Place: p, Group: group, Results: []schemas.ProbeResult{{CDN: "a", Transport: "srt", Failed: failed, FirstByteMs: ms, TotalMs: ms}}}
}

// TestFewDoNotSpeakForMany: however many reports fewer than half of the groups
// send, the others' median holds.
func TestFewDoNotSpeakForMany(t *testing.T) {
	tab := reach.New()
	place := reach.Place{Region: "eu", ISP: "x"}
	if m := tab.Of("a", "srt", place, begin); m != nil {
		t.Fatalf("known before anything was said: %+v", m)
	}
	now, id := begin, 0
	for range 5 {
		for g := range uint8(health.Groups) {
			liar := g < 7
			n := 1
			if liar {
				n = 150
			}
			for range n {
				id++
				tab.Add(one(id, g, place, liar, 20), now)
			}
		}
		now = now.Add(reach.Every + time.Second)
	}
	for _, p := range []reach.Place{place, {Region: "eu"}, {}, {Region: "eu", ISP: "another"}} {
		if m := tab.Of("a", "srt", p, now); m == nil || m.FailedShare != 0 || m.RTTMs != 20 || m.Reports != 5*(7*150+9) {
			t.Errorf("at %+v: %+v", p, m)
		}
	}
	if m := tab.Of("a", "rtmp", place, now); m != nil {
		t.Errorf("another transport: %+v", m)
	}
	if m := tab.Of("a", "srt", place, now.Add(time.Hour)); m != nil {
		t.Errorf("an hour later: %+v", m)
	}
}

// TestThinCells: a cell with few groups is told by the one around it; what is said later replaces what was said.
func TestThinCells(t *testing.T) {
	tab := reach.New()
	here, there := reach.Place{Region: "eu", ISP: "x"}, reach.Place{Region: "us"}
	tab.Add(one(1, 0, here, true, 0), begin)
	if m := tab.Of("a", "srt", here, begin); m == nil || m.FailedShare != 1 || m.RTTMs != 0 || m.Reports != 1 {
		t.Errorf("one report alone: %+v", m)
	}
	for i := range 4 {
		tab.Add(one(10+i, uint8(1+i), there, false, 30), begin)
	}
	if m := tab.Of("a", "srt", here, begin); m == nil || m.FailedShare != 0 || m.RTTMs != 30 {
		t.Errorf("one group beside four elsewhere: %+v", m)
	}
	for i := range 3 {
		tab.Add(one(20+i, uint8(8+i), here, true, 0), begin.Add(time.Second))
	}
	if m := tab.Of("a", "srt", here, begin.Add(3*time.Second)); m == nil || m.FailedShare != 1 || m.Reports != 4 || m.AgeSec != 2 {
		t.Errorf("four groups here: %+v", m)
	}
}

func TestTooManyReports(t *testing.T) {
	tab := reach.New()
	for _, c := range []struct {
		id    int
		group uint8
		after time.Duration
		want  bool
	}{
		{1, 0, 0, true}, {1, 0, time.Second, false}, {2, 0, time.Second, true}, {1, 3, reach.Every - 1, false},
		{2, 0, reach.Every + 500*time.Millisecond, false}, // it reported a second later than the first
		{1, 0, reach.Every + time.Second, true}, {2, 0, reach.Every + 2*time.Second, true},
	} {
		if got := tab.Add(one(c.id, c.group, reach.Place{}, false, 1), begin.Add(c.after)); got != c.want {
			t.Errorf("publisher %d after %s: %v", c.id, c.after, got)
		}
	}
	at, taken := begin.Add(time.Hour), 0
	for i := range 1000 {
		if tab.Add(one(100+i, 5, reach.Place{}, false, 1), at) {
			taken++
		}
	}
	if taken != 200 || !tab.Add(one(5000, 6, reach.Place{}, false, 1), at) {
		t.Errorf("%d reports of one group count", taken)
	}
}

// candidates are written CDN[:score] transport=measured.. : ms, x (fails) or ? (not known).
func candidates(texts ...string) (out []schemas.DispatchCandidate) {
	for _, text := range texts {
		f := strings.Fields(text)
		name, score, _ := strings.Cut(f[0], ":")
		c := schemas.DispatchCandidate{CDN: name, Tier: "room"}
		c.Score, _ = strconv.ParseFloat(score, 64)
		for _, x := range f[1:] {
			transport, ms, _ := strings.Cut(x, "=")
			d := schemas.DispatchTransport{Name: transport}
			if v, err := strconv.ParseFloat(ms, 64); err == nil {
				d.Measured = &schemas.TransportMeasured{RTTMs: v, Reports: 1}
			} else if ms == "x" {
				d.Measured = &schemas.TransportMeasured{FailedShare: 1, Reports: 1}
			}
			c.Transports = append(c.Transports, d)
		}
		out = append(out, c)
	}
	return out
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []string
		want string
	}{
		{"nothing known", []string{"a srt=? rtmp=?", "b srt=?"}, "a(srt rtmp) b(srt)"},
		{"what fails is last", []string{"a srt=x rtmp=20"}, "a(rtmp srt)"},
		{"what fails is behind what is not known", []string{"a srt=x rtmp=?"}, "a(rtmp srt)"},
		{"a little quicker is no reason", []string{"a srt=60 rtmp=30"}, "a(srt rtmp)"},
		{"much quicker is", []string{"a srt=200 rtmps=190 rtmp=30"}, "a(rtmp srt rtmps)"},
		{"equals by round trip", []string{"a srt=80", "b srt=20", "c srt=50"}, "b(srt) c(srt) a(srt)"},
		{"noise moves nobody", []string{"a srt=14", "b srt=11"}, "a(srt) b(srt)"},
		{"who is not known keeps its place", []string{"a srt=80", "b srt=?", "c srt=20"}, "c(srt) b(srt) a(srt)"},
		{"out of reach is last", []string{"a srt=x rtmp=x", "b srt=?", "c srt=90"}, "b(srt) c(srt) a(srt rtmp)"},
		{"UDP blocked at both: by what works", []string{"a srt=x rtmp=40", "b srt=x rtmp=10"}, "b(rtmp srt) a(rtmp srt)"},
		{"scores come first", []string{"a:2 srt=90", "b:1 srt=10", "c:1 srt=x"}, "a(srt) b(srt) c(srt)"},
		{"also before reach", []string{"a:2 srt=x", "b:1 srt=10"}, "a(srt) b(srt)"},
		{"without transports", []string{"a", "b"}, "a() b()"},
	} {
		all := candidates(c.in...)
		var got []string
		for i := range all {
			reach.Transports(all[i].Transports)
		}
		reach.Candidates(all, func(a, b *schemas.DispatchCandidate) bool { return a.Tier == b.Tier && a.Score == b.Score })
		for _, x := range all {
			var names []string
			for _, y := range x.Transports {
				names = append(names, y.Name)
			}
			got = append(got, x.CDN+"("+strings.Join(names, " ")+")")
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}
