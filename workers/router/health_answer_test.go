package router_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// TestHealthIsTold: what a router knows of a CDN in a place, with errors, from slices on the bus.
func TestHealthIsTold(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	var rows []schemas.Slice
	for range 20 {
		d := r.dispatch(t, "", "X-Spillway-Region", "eu", "X-Spillway-ISP", "x")
		rows = append(rows, schemas.Slice{
			TimeUnixMs: time.Now().UnixMilli(), Kind: schemas.SliceDelta, SessionID: d.SessionID, App: "live", Stream: "demo", CDN: "a", Region: "eu", ISP: "x",
			PlayedMs: 9000, StalledMs: 1000, Attempts: 1, Starts: 1, StartupMs: 700, BitrateKbpsMsSum: 2000 * 9000, BitrateWeightMs: 9000, ThroughputKbpsSum: 2 * 6000, ThroughputReports: 2,
		})
	}
	data, err := schemas.EncodeSlices(rows)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.JS.Publish(t.Context(), schemas.SlicesSubject(0), data); err != nil {
		t.Fatal(err)
	}
	var h struct {
		schemas.CDNHealth
		Error string `json:"error"`
	}
	ask := func(q string) {
		t.Helper()
		m, err := b.Conn.Request(schemas.SubjectRouterHealth, []byte(q), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		h.Error = ""
		if err := json.Unmarshal(m.Data, &h); err != nil {
			t.Fatal(err)
		}
	}
	await.True(t, "slices are counted", func() bool { ask(`{"cdn":"a","region":"eu","isp":"x"}`); return h.Cell == "isp" })
	near := func(x schemas.Measured, want float64) bool {
		return x.Value > want*0.99 && x.Value < want*1.01 && x.SE >= 0 && x.SE <= want*2
	}
	if !near(h.StallRatio, 0.1) || !near(h.FirstScreenMs, 700) || !near(h.BitrateBps, 2e6) || !near(h.ThroughputBps, 6e6) ||
		h.Viewers != 20 || h.RegionViewers != 20 || !near(h.BandwidthBps, 20*2e6) || h.Samples < 1 || h.Failing || h.InputAgeMs < 0 ||
		len(h.Forecast) != 3 || h.Forecast[2].AheadSec != 300 || h.Forecast[2].Viewers.Value <= 0 || h.Forecast[2].Viewers.SE <= 0 {
		t.Errorf("%+v", h)
	}
	if ask(`{"cdn":"z"}`); h.Error == "" {
		t.Error("a CDN that is none is known")
	}
	if ask(`{"cdn":"/"}`); h.Error == "" {
		t.Error("a name that is none is taken")
	}
}
