package loop

import (
	"strings"
	"testing"

	"github.com/spillway-live/spillway/analytics/experiments/report"
)

// What a report says of stopping, and a guardrail that cannot be judged, keep a ramp where it is; no news lets it go on.
func TestRampWaits(t *testing.T) {
	open := report.GuardrailState{Metric: "stall_ratio", Arm: "test", State: report.GuardOpen}
	unknown := open
	unknown.Reason = "12 units an arm are too few"
	for _, c := range []struct {
		d    report.Decision
		want string
	}{
		{report.Decision{Verdict: report.Stop, Arm: "test", Why: []string{"arm test: played is worse"}, Guardrails: []report.GuardrailState{open}}, "played is worse"},
		{report.Decision{Verdict: report.KeepRunning, Guardrails: []report.GuardrailState{open, unknown}}, "stall_ratio of arm test is not known: 12 units"},
		{report.Decision{Verdict: report.KeepRunning, Guardrails: []report.GuardrailState{open}}, ""},
		{report.Decision{Verdict: report.Ship}, ""},
	} {
		if got := waits(&c.d); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: it waits for %q, want %q", c.d, got, c.want)
		}
	}
}
