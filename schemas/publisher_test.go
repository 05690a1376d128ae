package schemas_test

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

func TestPublisherPolicy(t *testing.T) {
	policy := &schemas.PublisherPolicy{BehindShare: 0.3, WindowSec: 20, LowerPercent: 40, MinBitrateBps: 500_000, MinFPS: 15}
	if err := policy.Check(); err != nil {
		t.Fatal(err)
	}
	var s schemas.PublisherState
	now := time.UnixMilli(1_795_167_643_634)
	sn, bitrate, fps := int64(0), int64(1_000_000), 30.0
	report := func(stalled int64) *schemas.PublisherCommand {
		t.Helper()
		now = now.Add(5 * time.Second)
		r := &schemas.PublisherReport{App: "a", Stream: "b", Seq: sn, IntervalMs: 5000, StalledMs: stalled, BitrateBps: &bitrate, FPS: &fps}
		sn++
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		if !s.Report(r, now, policy.WindowSec) || s.Report(r, now, policy.WindowSec) {
			t.Fatalf("report %d: a repeat must not count, a new one must", r.Seq)
		}
		return s.Decide(policy, "id", now)
	}
	quiet := func(n int, stalled int64) {
		t.Helper()
		for range n {
			if c := report(stalled); c != nil {
				t.Fatalf("command %+v at sn %d", c, sn)
			}
		}
	}
	quiet(6, 1400)    // 28 %
	quiet(1, 1500)    // 28.5 %
	c := report(3000) // 36.5 %
	if c == nil || c.BitrateBps != 600_000 || c.By != "policy" || s.Pending(now) != c {
		t.Fatalf("command %+v", c)
	}
	quiet(3, 5000) // one waits, and the window fills anew
	s.Ended, bitrate = "obeyed", 600_000
	if c = report(5000); c == nil || c.BitrateBps != 500_000 {
		t.Fatalf("command %+v", c)
	}
	now = now.Add(50 * time.Second) // it expires unobeyed
	bitrate = 500_000
	quiet(3, 5000)
	if c = report(5000); c == nil || c.FPS != 15 || c.BitrateBps != 0 {
		t.Fatalf("command %+v", c)
	}
	s.Ended, fps = "obeyed", 15
	quiet(9, 5000) // it cannot send less
	sn, bitrate = 0, 2_000_000
	quiet(3, 5000) // a new publication: the window begins anew
	if c = report(5000); c == nil || c.BitrateBps != 1_200_000 {
		t.Fatalf("command %+v", c)
	}
}

func TestPublisherChecks(t *testing.T) {
	good := schemas.PublisherReport{App: "a", Stream: "b", IntervalMs: 5000}
	for name, spoil := range map[string]func(*schemas.PublisherReport){
		"app": func(r *schemas.PublisherReport) { r.App = "" }, "sn": func(r *schemas.PublisherReport) { r.Seq = -1 },
		"interval_ms": func(r *schemas.PublisherReport) { r.IntervalMs = 0 }, "stalled_ms": func(r *schemas.PublisherReport) { r.StalledMs = 5001 },
		"fps": func(r *schemas.PublisherReport) { v := -1.0; r.FPS = &v }, "width": func(r *schemas.PublisherReport) { v := int32(-1); r.Width = &v },
		"bitrate":     func(r *schemas.PublisherReport) { v := int64(-1); r.BitrateBps = &v },
		"encoder":     func(r *schemas.PublisherReport) { r.Encoder = string(make([]byte, 129)) },
		"app_version": func(r *schemas.PublisherReport) { r.AppVersion = string(make([]byte, 129)) },
	} {
		r := good
		if spoil(&r); r.Check() == nil || good.Check() != nil {
			t.Errorf("%s: a bad value was taken", name)
		}
	}
	for _, bad := range []string{`{"last_sn":1,"last_ms":1,"command":{"id":"x","by":"hand","expires_ms":5}}`, `{"nonsense":1}`, `{`,
		`{"last_sn":1,"last_ms":1,"command":{"id":"x","by":"hand","fps":0.5,"expires_ms":5}}`} {
		if _, err := schemas.ParsePublisherState("a.b", []byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
