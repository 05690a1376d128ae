package session_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// TestStallsByCause: a stall of 3 s is put down to the strongest of what is known of it, as a whole, and to nothing
// where nothing is known.
func TestStallsByCause(t *testing.T) {
	const from, to, past = 20_000, 23_000, 25_000
	type causes struct{ network, cdn, background int64 }
	slow := func(ms, kbps int64) schemas.Telemetry {
		r := report(ms, ms, "t", "")
		r.Seq.OK = false
		r.BitrateKbps, r.ThroughputKbps = schemas.OptInt32{V: 2500, OK: true}, schemas.OptInt32{V: int32(kbps), OK: true}
		return r
	}
	page := func(ms int64, hidden bool) schemas.Telemetry {
		r := report(ms, 0, "background", "")
		r.Source, r.Seq.OK, r.Background = schemas.SourceBeacon, false, schemas.OptBool{V: hidden, OK: true}
		return r
	}
	gone := func(ms int64) schemas.Telemetry {
		r := report(ms, 0, "rr", "")
		r.Seq.OK, r.ResponseCode = false, schemas.OptInt32{OK: true}
		return r
	}
	for _, tc := range []struct {
		name string
		rows []schemas.Telemetry // beside a view that stalls from..to
		want causes
	}{
		{"nothing known", nil, causes{}},
		{"throughput enough", []schemas.Telemetry{slow(from+1000, 2600)}, causes{}},
		{"throughput below bitrate", []schemas.Telemetry{slow(from+1000, 900)}, causes{network: 3000}},
		{"before the stall, within a buffer", []schemas.Telemetry{slow(from-9000, 900)}, causes{network: 3000}},
		{"long before the stall", []schemas.Telemetry{slow(from-11_000, 900), fetch(from-11_000, "a", 503)}, causes{}},
		{"after the stall", []schemas.Telemetry{slow(to+1000, 900), fetch(to+1000, "a", 503)}, causes{}},
		{"requests that the edge failed", []schemas.Telemetry{fetch(from+500, "a", 503)}, causes{cdn: 3000}},
		{"requests without an answer, as the player says", []schemas.Telemetry{gone(from - 100)}, causes{cdn: 3000}},
		{"an answer that was long in coming", []schemas.Telemetry{request(from-2000, 4800, 4900)}, causes{network: 3000}},
		{"an answer that took longer than it brought", []schemas.Telemetry{request(from-2000, 40, 3100)}, causes{network: 3000}},
		{"answers in good time", []schemas.Telemetry{request(from-2000, 40, 2100), request(from, 900, 950)}, causes{}},
		{"both: what fails is slow, too", []schemas.Telemetry{slow(from+1000, 900), fetch(from+2000, "a", 404)}, causes{cdn: 3000}},
		{"page in the background all the time", []schemas.Telemetry{page(from-15_000, true)}, causes{background: 3000}},
		{"and back before the stall", []schemas.Telemetry{page(from-15_000, true), page(from-5000, false)}, causes{}},
		{"page goes to the background in the stall", []schemas.Telemetry{slow(from+1000, 900), page(from+2000, true)}, causes{background: 3000}},
		{"told long after the stall", []schemas.Telemetry{late(fetch(from+500, "a", 503), past)}, causes{cdn: 3000}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var rows []schemas.Telemetry
			for s := int64(0); s < 30; s++ {
				state := "p"
				if ms := s * 1000; ms >= from && ms < to {
					state = "r"
				}
				event := "t"
				if s == 0 || s*1000 == from || s*1000 == to {
					event = "ps"
				}
				rows = append(rows, report(s*1000, s+1, event, state))
			}
			rows = append(rows, tc.rows...)
			all, _ := run(t, byArrival(rows))
			s := total(all)
			if s.StalledMs != 3000 || s.Stalls != 1 {
				t.Fatalf("stalled for %d ms, %d times: the evidence has moved the stall", s.StalledMs, s.Stalls)
			}
			if got := (causes{s.StalledNetworkMs, s.StalledCDNMs, s.StalledBackgroundMs}); got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

// request is one for 2 s of media, as the edge saw it.
func request(ms int64, firstByteMs, lastByteMs int32) schemas.Telemetry {
	r := fetch(ms, "a", 200)
	r.FirstByteMs, r.LastByteMs = schemas.OptInt32{V: firstByteMs, OK: true}, schemas.OptInt32{V: lastByteMs, OK: true}
	r.ObjectDurationMs = schemas.OptInt32{V: 2000, OK: true}
	r.ReceivedUnixUs += int64(lastByteMs) * 1000
	return r
}

// late is the same, told later.
func late(r schemas.Telemetry, ms int64) schemas.Telemetry {
	r.ReceivedUnixUs = (t0 + ms) * 1000
	return r
}

// TestWaitingInASeekHasNoCause: what is no stall is put down to nothing.
func TestWaitingInASeekHasNoCause(t *testing.T) {
	rows := append(watch(5), report(5500, 8, "ps", "k"), fetch(5600, "a", 503), report(5700, 9, "ps", "r"), report(8000, 10, "ps", "p"), report(9000, 11, "ps", "q"))
	all, _ := run(t, byArrival(rows))
	if s := total(all); s.StalledMs != 0 || s.StalledCDNMs != 0 || s.SeekMs != 2500 {
		t.Errorf("%+v", s)
	}
}

// TestFramesAreKnownOrNot: dropped frames count for the time played of who tells them, 0 of them as well.
func TestFramesAreKnownOrNot(t *testing.T) {
	rows := watch(10)
	all, _ := run(t, byArrival(rows))
	if s := total(all); s.FramesWeightMs != 0 {
		t.Errorf("nobody told of frames, and they are known of %d ms", s.FramesWeightMs)
	}
	rows = watch(10)
	rows[6].DroppedFrames = schemas.OptInt64{V: 0, OK: true}
	all, _ = run(t, byArrival(rows))
	if s := total(all); s.FramesWeightMs != s.PlayedMs || s.PlayedMs == 0 || s.DroppedFrames != 0 {
		t.Errorf("frames are known of %d of %d ms, %d dropped", s.FramesWeightMs, s.PlayedMs, s.DroppedFrames)
	}
}

// byArrival orders rows as the bus has them.
func byArrival(rows []schemas.Telemetry) []schemas.Telemetry {
	slices.SortStableFunc(rows, func(a, b schemas.Telemetry) int { return cmp.Compare(a.ReceivedUnixUs, b.ReceivedUnixUs) })
	return rows
}
