package router_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/router"
)

// publishOrder is CDN(transport ..) of an answer to a publisher.
func publishOrder(d *schemas.Dispatch) string {
	var out []string
	for _, c := range d.Candidates {
		var names []string
		for _, x := range c.Transports {
			names = append(names, x.Name)
		}
		out = append(out, c.CDN+"("+strings.Join(names, " ")+")")
	}
	return strings.Join(out, " ")
}

func (r instance) publish(t *testing.T, query string) (d schemas.Dispatch) {
	t.Helper()
	a := r.get(t, "/v1/dispatch?publish=1&app=live&stream="+query)
	if err := json.Unmarshal([]byte(a.body), &d); err != nil || a.status != 200 {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return d
}

// TestPublishersProbe: a publisher is told how to measure each transport of each
// CDN; what it tells orders its own answer and the next publishers', at this router
// and at others, where the policy holds CDNs for equal, and is no viewer's.
func TestPublishersProbe(t *testing.T) {
	b := world(t)
	urls := func(s *router.Settings) {
		s.PublishURL = "srt://in-{cdn}:8890?streamid=#!::r={app}/{stream} rtmp://in-{cdn}/{app}/{stream} rtmps://[2001:db8::1]:1443/{app}/{stream} https://in-{cdn}/whip/{app}/{stream}"
		s.PublishSTUN = "in-{cdn}:8189"
	}
	r, other := start(t, b.JS, urls), start(t, b.JS, urls)
	d := r.publish(t, "new")
	if got := publishOrder(&d); got != "a(srt rtmp rtmps whip) b(srt rtmp rtmps whip) c(srt rtmp rtmps whip)" || !strings.HasPrefix(d.Probes, r.URL()+"/v1/probes?p=") {
		t.Fatalf("%s, probes %q", got, d.Probes)
	}
	for i, want := range []schemas.TransportProbe{
		{Method: schemas.ProbeSRT, Over: "udp", Address: "in-b:8890"}, {Method: schemas.ProbeRTMP, Over: "tcp", Address: "in-b:1935"},
		{Method: schemas.ProbeRTMPS, Over: "tcp", Address: "[2001:db8::1]:1443"}, {Method: schemas.ProbeSTUN, Over: "udp", Address: "in-b:8189"},
	} {
		want.TimeoutMs = schemas.ProbeTimeoutMs
		if x := d.Candidates[1].Transports[i]; x.Probe == nil || *x.Probe != want || x.Measured != nil {
			t.Errorf("%s is measured by %+v, want %+v; known: %+v", x.Name, x.Probe, want, x.Measured)
		}
	}

	// From here UDP reaches nobody, TCP reaches c soonest, and a not at all.
	var results []schemas.ProbeResult
	for cdn, ms := range map[string]float64{"a": 0, "b": 40, "c": 15} {
		for _, transport := range []string{"srt", "whip"} {
			results = append(results, schemas.ProbeResult{CDN: cdn, Transport: transport, Failed: true})
		}
		for _, transport := range []string{"rtmp", "rtmps"} {
			results = append(results, schemas.ProbeResult{CDN: cdn, Transport: transport, Failed: ms == 0, FirstByteMs: ms, TotalMs: 2 * ms})
		}
	}
	report := schemas.ProbeReport{Results: append(results, schemas.ProbeResult{CDN: "nowhere", Transport: "srt"})}
	a := r.post(t, d.Probes, report)
	var again schemas.Dispatch
	if err := json.Unmarshal([]byte(a.body), &again); err != nil || again.Probes == "" {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	const order = "c(rtmp rtmps srt whip) b(rtmp rtmps srt whip) a(srt rtmp rtmps whip)"
	if got := publishOrder(&again); got != order || again.Candidates[2].Tier != "penalised" || again.Candidates[0].URL != "rtmp://in-c/live/new" {
		t.Errorf("the publisher's own answer: %s, %+v", got, again.Candidates)
	}
	for name, x := range map[string]instance{"the same router": r, "another": other} {
		await.True(t, name+" orders the next publisher's by it", func() bool {
			next := x.publish(t, "next")
			return publishOrder(&next) == order && next.Candidates[2].Tier == "room"
		})
	}
	next := r.publish(t, "next")
	if m := next.Candidates[0].Transports; m[0].Measured == nil || m[0].Measured.RTTMs != 15 || m[0].Measured.FailedShare != 0 || m[2].Measured == nil || m[2].Measured.FailedShare != 1 || m[2].Measured.Reports != 1 {
		t.Errorf("the next answer shows %+v, %+v", m[0].Measured, m[2].Measured)
	}
	// What the policy does not hold for equal stays: the pin, a score.
	if pinned := r.publish(t, "next&pin=b"); pinned.Candidates[0].CDN != "b" {
		t.Errorf("pinned to b: %s", publishOrder(&pinned))
	}
	if viewer := r.dispatch(t, ""); viewer.Candidates[0].CDN != "a" || viewer.Candidates[0].Tier != "room" {
		t.Errorf("a viewer is sent elsewhere for what a publisher measured: %+v", viewer.Candidates)
	}
	await.True(t, "the decision says why", func() bool {
		return slices.ContainsFunc(decisions(t, b.JS, schemas.DecisionPublish), func(x schemas.Decision) bool {
			return x.Stream == "new" && x.Chosen == "c" && x.Previous == "a" && x.ReasonCode == "probed"
		})
	})

	if a := r.post(t, again.Probes, report); a.status != 200 { // answered, and not counted a second time
		t.Errorf("twice: %d %s", a.status, a.body)
	}
	if m := r.publish(t, "x").Candidates[0].Transports[0].Measured; m == nil || m.Reports != 1 {
		t.Errorf("told twice within its interval: %+v", m)
	}
	player := r.dispatch(t, "")
	for _, c := range []struct {
		name, address string
		body          any
		status        int
		says          string
	}{
		{"a player's token", strings.Replace(player.Probes, "?s=", "?p=", 1), report, 403, "another purpose"},
		{"a publisher's token", strings.Replace(d.Probes, "?p=", "?s=", 1), report, 403, "another purpose"},
		{"a player's report by transport", player.Probes, report, 400, "results[0].transport"},
		{"without transport", d.Probes, schemas.ProbeReport{Results: []schemas.ProbeResult{{CDN: "a"}}}, 400, "results[0].transport"},
		{"transport", d.Probes, schemas.ProbeReport{Results: []schemas.ProbeResult{{CDN: "a", Transport: "quic"}}}, 400, "results[0].transport"},
		{"twice", d.Probes, schemas.ProbeReport{Results: []schemas.ProbeResult{{CDN: "a", Transport: "srt"}, {CDN: "a", Transport: "srt"}}}, 400, "twice"},
		{"too long", d.Probes, `{"results":[` + strings.Repeat(" ", 17000) + `]}`, 413, "16384 bytes"},
	} {
		if a := r.post(t, c.address, c.body); a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
}
