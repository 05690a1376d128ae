package report

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas"
)

// segmented makes arms of 64 clusters by region and by CDN: the second arm stalls so many times as much in each.
func segmented(factors map[string]float64) map[string]map[string]arms {
	r := rand.New(rand.NewPCG(3, 4))
	out := map[string]map[string]arms{"region": {}, "cdn": {}}
	for place, factor := range factors {
		a := arms{}
		for _, arm := range []string{"control", "low"} {
			for range 64 {
				c := newCluster()
				stalled := 10_000 * (1 + 0.2*r.NormFloat64())
				if arm == "low" {
					stalled *= factor
				}
				c.sums[columnIndex["sessions"]], c.sums[columnIndex["stalled_ms"]], c.sums[columnIndex["played_ms"]] = 20, int64(stalled), 1_000_000
				a[arm] = append(a[arm], c)
			}
		}
		out["region"][place], out["cdn"][place] = a, a
	}
	return out
}

func segmentReport(x *schemas.Experiment, factors map[string]float64) *Report {
	r := &Report{Experiment: *x, Alpha: 0.05, Segments: segmentsOf(x, segmented(factors), 0.05)}
	r.Findings, r.Compared = r.findings()
	return r
}

// Who is hurt is found among many segments, said in plain words, and nobody else is named.
func TestSegmentsSayWhoIsHurt(t *testing.T) {
	x := experiment("segments")
	x.PrimaryMetric = "stall_ratio"
	factors := map[string]float64{"af": 1.5, "us": 0.6}
	for i := range maxValues - 2 {
		factors[fmt.Sprintf("r%d", i)] = 1
	}
	r := segmentReport(x, factors)
	if len(r.Findings) != 4 || len(r.Hurt()) != 2 { // by region and, with a caution, by CDN
		t.Fatalf("findings %+v", r.Findings)
	}
	for i, f := range r.Findings {
		want, word := "af", "stall ratio of arm low is worse"
		if i >= 2 {
			want, word = "us", "stall ratio of arm low is better"
		}
		if f.Value != want || f.Arm != "low" || f.Metric != "stall_ratio" || f.P >= 0.05 || !strings.Contains(f.Text, word) || !strings.Contains(f.Text, want+":") {
			t.Errorf("finding %+v, want %s in %s", f, word, want)
		}
	}
	var tests, least int
	for _, s := range r.Segments {
		for _, v := range s.Values {
			for _, m := range v.Metrics {
				for _, c := range m.Comparisons {
					if c.P.Undefined == "" {
						tests++
					}
					if c.P.Undefined == "" && c.Holm.Value < c.P.Value {
						least++
					}
				}
			}
		}
	}
	if tests != 2*maxValues || r.Compared != tests || least > 0 {
		t.Errorf("%d comparisons, the report says %d; %d were made surer by counting all of them", tests, r.Compared, least)
	}
	if cdn := r.Segments[0]; cdn.Dimension != "cdn" || cdn.Caution == "" || cdn.After != "" {
		t.Errorf("by CDN: %+v", cdn)
	}
	if !strings.Contains(r.SegmentsText(), "Somebody is hurt: 2 of 16") {
		t.Errorf("said: %s", r.SegmentsText())
	}
	// Arms that route decide themselves who is on which CDN.
	x.Arms[1].Params = map[string]string{schemas.ParamPolicy: "mine"}
	r = segmentReport(x, factors)
	if cdn := r.Segments[0]; cdn.After == "" || cdn.Values[0].Metrics[0].Comparisons != nil || r.Compared != maxValues || len(r.Hurt()) != 1 {
		t.Errorf("by CDN, where arms route: %+v; findings %+v of %d", cdn, r.Findings, r.Compared)
	}
}

// Where all segments are alike nobody is named, and so little data says so.
func TestSegmentsOfEqualArms(t *testing.T) {
	x := experiment("equal")
	r := segmentReport(x, map[string]float64{"eu": 1, "us": 1, "ap": 1})
	if len(r.Findings) != 0 || r.Compared == 0 || !strings.Contains(r.SegmentsText(), "Nobody is shown to be hurt") {
		t.Errorf("findings %+v, said: %s", r.Findings, r.SegmentsText())
	}
	r = segmentReport(x, nil)
	if r.Compared != 0 || !strings.Contains(r.SegmentsText(), "enough") {
		t.Errorf("without data: %s", r.SegmentsText())
	}
}

// The terminal compares the curves where the control's reach known shares.
func TestCurvesInText(t *testing.T) {
	r := made("plain")
	r.Distributions[0].Arms = []ArmDistribution{
		{Arm: "plain", Points: []CDFPoint{{100, 0.2, 0.1, 0.3}, {200, 0.6, 0.5, 0.7}, {400, 0.92, 0.9, 0.94}}},
		{Arm: "bplain", Points: []CDFPoint{{150, 0.5, 0.4, 0.6}, {300, 1, 0.9, 1}}},
	}
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PLAIN: SHARE OF VALUES UP TO  100 ms", "400 ms", "60.0 % [50.0, 70.0]", "50.0 % [40.0, 60.0]", "0 %"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, b.String())
		}
	}
	page := (&curveView{Distribution: r.Distributions[0]}).Sentence()
	if want := "plain: half within 200 ms, nine in ten within 400 ms; bplain: half within 150 ms, nine in ten within 300 ms"; page != want {
		t.Errorf("said: %s, want: %s", page, want)
	}
}

// What is delivered twice is counted once, in units, sums, segments and over each unit.
func deliveredTwice(t *testing.T, conn driver.Conn) {
	x := experiment("twice")
	x.PrimaryMetric, x.Guardrails = "stall_ratio", []schemas.Guardrail{{Metric: "played_per_unit", Margin: 0.1}}
	once := experiment("once")
	once.PrimaryMetric, once.Guardrails = x.PrimaryMetric, x.Guardrails
	at := stamp(time.UnixMicro(x.StartedUnixUs).Add(30 * time.Minute))
	for name, times := range map[string]int{"twice": 2, "once": 1} {
		for range times {
			// The loader repeats a block with the same token.
			ctx := chgo.Context(t.Context(), chgo.WithSettings(chgo.Settings{"insert_deduplication_token": name, "deduplicate_blocks_in_dependent_materialized_views": 1, "async_insert": 0}))
			for _, insert := range []string{
				`INSERT INTO spillway.exposures (time, id, experiment, salt, unit, unit_kind, session_id, viewer_id, arm, propensity, reason)
					SELECT '%[2]s', toString(number), '%[1]s', 'p1', 'u' || toString(number), 'viewer', 's' || toString(number), 'u' || toString(number), ['control', 'low'][1 + number %% 2], 0.5, 'assigned' FROM numbers(600)`,
				`INSERT INTO spillway.session_slices (time_ms, session_id, viewer_id, app, stream, cdn, region, arms, sessions, played_ms, stalled_ms)
					SELECT toUnixTimestamp64Milli(toDateTime64('%[2]s', 3, 'UTC')), 's' || toString(number), 'u' || toString(number), 'live', 'demo', 'a', 'eu', '%[1]s=' || ['control', 'low'][1 + number %% 2], 1, 60000, 100 + number * 37 %% 500 FROM numbers(600)`,
			} {
				if err := conn.Exec(ctx, fmt.Sprintf(insert, name, at)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var said [2]string
	for i, one := range []*schemas.Experiment{x, once} {
		r, err := Build(t.Context(), conn, one, Options{Exact: true})
		if err != nil {
			t.Fatal(err)
		}
		said[i] = fmt.Sprintf("%+v %+v %+v %+v", r.Arms, r.primary().Arms, r.primary().Comparisons[0].Difference, r.Segments)
		if r.Arms[0].Exposed+r.Arms[1].Exposed != 600 || r.Arms[0].Sessions+r.Arms[1].Sessions != 600 {
			t.Errorf("experiment %s: %+v, want 600 units and sessions", one.Name, r.Arms)
		}
	}
	if said[0] != said[1] {
		t.Errorf("twice: %s\nonce: %s", said[0], said[1])
	}
}
