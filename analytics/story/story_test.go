package story

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// Every reason that routers give has words of its own.
func TestEveryReasonHasWords(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../workers/router/policy/reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes, said := 0, map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(v.Names[0].Name, "Reason") {
			return true
		}
		code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatalf("%s: %v", v.Names[0].Name, err)
		}
		codes++
		w := words[code]
		if other := said[w]; w == "" || other != "" {
			t.Errorf("reason %q has the words %q, also those of %q", code, w, other)
		}
		said[w] = code
		if text := (&Decision{Chosen: "a", ReasonCode: code}).text(); !strings.Contains(text, w) {
			t.Errorf("reason %q is told as %q", code, text)
		}
		return true
	})
	for tier, w := range map[string]string{"room": "viewers", "failing": ", failing", policy.TierFailingRegion: "failing for viewers of its region", policy.TierFailingISP: "failing for viewers of its provider"} {
		d := Decision{Chosen: "b", Candidates: []Candidate{{CDN: "a", Tier: tier}}}
		if text := d.text(); !strings.Contains(text, w) {
			t.Errorf("tier %q is told as %q", tier, text)
		}
	}
	if codes < 20 || codes != len(words) {
		t.Errorf("%d reasons, %d have words", codes, len(words))
	}
}

func TestStory(t *testing.T) {
	_, conn := tablestest.Start(t)
	at := time.Now().UTC().Add(-time.Hour).Truncate(time.Minute)
	exec := func(q string, a ...any) {
		t.Helper()
		if err := conn.Exec(t.Context(), q, a...); err != nil {
			t.Fatal(err)
		}
	}
	decision := func(sec int, kind, chosen, previous, reason string, p float64) {
		t.Helper()
		exec(`INSERT INTO spillway.decisions (time, kind, id, app, stream, session_id, region, isp, policy, policy_version, chosen, previous, probability,
			reason_code, input_age_ms, candidate_cdns, candidate_scores, candidate_viewers, candidate_excluded,
			candidate_tiers, candidate_loads, candidate_harms, cap_bps, queued_ms) VALUES (fromUnixTimestamp64Micro(?), ?, ?, 'live', 'demo', 's1', 'eu',
			'Kabel', 'quality', '2.1', ?, ?, ?, ?, 40, ['b', 'a', 'c'], [0, -0.1, 0], [10, 20, 0], ['', '', 'off'], ['room', 'full', ''], [0.5, 1, 0], [0, 0.1, 0], 1500000, 2500)`,
			at.Add(time.Duration(sec)*time.Second).UnixMicro(), kind, kind+chosen+time.Duration(sec).String(), chosen, previous, p, reason)
	}
	decision(0, "dispatch", "a", "", "explore", 0.05)
	decision(30, "steering", "b", "a", "better", 1)
	decision(90, "steering", "b", "b", "stay", 1)
	decision(150, "steering", "b", "b", "stay", 1)
	slice := func(sec int, kind, cdn string, startup, played, stalls, stalled int64, end string) {
		t.Helper()
		exec(`INSERT INTO spillway.session_slices (time_ms, kind, session_id, app, stream, cdn, client, end_reason, starts, startup_ms, played_ms, stalls, stalled_ms, latency_ms_sum, latency_weight_ms)
			VALUES (?, ?, 's1', 'live', 'demo', ?, 'hls.js', ?, ?, ?, ?, ?, ?, ?, ?)`,
			at.Add(time.Duration(sec)*time.Second).UnixMilli(), kind, cdn, end, min(startup, 1), startup, played, stalls, stalled, played*1500, played)
	}
	slice(1, "delta", "a", 420, 5000, 0, 0, "")
	slice(10, "delta", "", 0, 5000, 2, 3200, "")
	slice(40, "delta", "b", 0, 60_000, 0, 0, "")
	slice(200, "final", "b", 0, 100_000, 0, 0, "ended")

	got, err := Build(t.Context(), conn, "spillway", "s1")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Decisions) != 2 || got.Decisions[1].Repeated != 2 || len(got.Stays) != 2 || got.Stays[0].Stalls != 2 || got.Stays[1].PlayedMs != 160_000 || got.EndReason != "ended" || got.Stays[1].LatencyMs != 1500 {
		t.Errorf("%+v", got)
	}
	var b strings.Builder
	if err := got.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	last := -1
	for _, want := range []string{
		"Session s1 watched live/demo from eu through Kabel with hls.js.",
		"A router sent it to a: by lot, so that every CDN stays known (dispatch, policy quality 2.1, probability 0.05, what it knew was 40 ms old). It had waited 2.5 s for a place. All was nearly full: it got nothing above 1.50 Mbit/s.",
		"b            score 0          10 viewers, 50 % of its capacity",
		"20 viewers, 100 % of its capacity, 10 % of a view lost, full",
		"c            score 0          0 viewers, out: off",
		"a served it until", "first picture after 420 ms, 10s played, 2 stalls of 3.2s together, 1.5s behind live.",
		"A router moved it from a to b: it had become better than the one it was on",
		"said again 2 times",
		"From here on b served it until", "2m40s played, no stall",
		"It ended: ended.",
	} {
		i := strings.Index(text, want)
		if i < 0 || i < last {
			t.Errorf("%q is missing or out of place in\n%s", want, text)
		}
		last = max(last, i)
	}
	// Two weeks on, the player's reports are gone: states are put together from slices.
	line, err := BuildTimeline(t.Context(), conn, "spillway", "s1")
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, x := range line.States {
		states = append(states, x.State)
	}
	if got := strings.Join(states, " "); line.Exact || got != "starting playing stalled playing" {
		t.Errorf("exact %v: %s", line.Exact, got)
	}
	report := func(sec int, state string, buffer any) {
		t.Helper()
		exec(`INSERT INTO spillway.telemetry (received_us, ts_ms, source, session_id, app, stream, state, buffer_ms) VALUES (?, ?, 'cmcd_event', 's1', 'live', 'demo', ?, ?)`,
			at.Add(time.Duration(sec)*time.Second).UnixMicro(), at.Add(time.Duration(sec)*time.Second).UnixMilli()-3_600_000, state, buffer) // its clock is an hour late
	}
	for i, state := range []string{"s", "r", "p", "p", "r", "p", "e"} {
		report(10*i, state, 100*i)
	}
	report(65, "", 50)
	if line, err = BuildTimeline(t.Context(), conn, "spillway", "s1"); err != nil {
		t.Fatal(err)
	}
	states = nil
	for _, x := range line.States {
		states = append(states, fmt.Sprint(x.State, " ", x.To.Sub(x.From).Seconds()))
	}
	if got := strings.Join(states, ", "); !line.Exact || got != "starting 20, playing 20, stalled 10, playing 10, ended 5" || !line.States[0].From.Equal(at) || len(line.Samples) != 8 {
		t.Errorf("exact %v from %v: %s; %d samples", line.Exact, line.States[0].From, got, len(line.Samples))
	}
	var unknown *ErrUnknown
	if _, err := Build(t.Context(), conn, "spillway", "'; DROP TABLE x"); !errors.As(err, &unknown) {
		t.Errorf("unknown session: %v", err)
	}
}
