package cmcd

import (
	"iter"
	"math/bits"
)

// Fix is one correction of a record: a value was dropped because the player is
// known to get it wrong, or because no viewer can have it. Its String is a
// metric label.
type Fix uint8

// Corrections by player (hls.js 1.7.4, dash.js 5.2.1, shaka 5.2.12, measured), then plausibility gates.
const (
	FixDashStartDelay  Fix = iota // dash.js msd counts from the manifest request: 1 to 13 ms
	FixDashFirstByte              // dash.js ttfb is a Unix time
	FixDashErrorCode              // dash.js repeats ec in every later report
	FixDashStarved                // dash.js bs and bsd follow one media type's buffer, not the screen
	FixShakaStreamType            // shaka says st=v in events of live streams
	FixHLSBuffer                  // hls.js bl in ps and t is old while rebuffering
	FixHLSAudio                   // hls.js audio requests carry the video's br and nor
	FixInitDuration               // d=0 with init segments
	GateFirstByte                 // ttfb or ttfbb above ttlb or 1,000 s
	GateLastByte                  // ttlb above 1,000 s
	GateStartDelay                // msd below 20 ms
	GateLatency                   // ltc below -1 s or above 10 min
	GateBuffer                    // bl above 1 h
	GateThroughput                // mtp above 10 Gbit/s
	GateBitrate                   // br, pb or tb above 10 Gbit/s
	GateRate                      // pr outside 0 to 16
	GateTime                      // ts more than 24 h from the time of receipt
	numFixes
)

var fixNames = [numFixes]string{
	"dashjs_msd", "dashjs_ttfb", "dashjs_ec", "dashjs_bs", "shaka_st", "hlsjs_bl", "hlsjs_audio", "init_d",
	"ttfb", "ttlb", "msd", "ltc", "bl", "mtp", "br", "pr", "ts",
}

func (f Fix) String() string {
	if f < numFixes {
		return fixNames[f]
	}
	return "other"
}

// Fixes is a set of corrections.
type Fixes uint32

// All gives the corrections in order.
func (s Fixes) All() iter.Seq[Fix] {
	return func(yield func(Fix) bool) {
		for s != 0 {
			if !yield(Fix(bits.TrailingZeros32(uint32(s)))) {
				return
			}
			s &= s - 1
		}
	}
}

// AppendNames appends the names joined by "|".
func (s Fixes) AppendNames(dst []byte) []byte {
	for f := range s.All() {
		if len(dst) > 0 {
			dst = append(dst, '|')
		}
		dst = append(dst, f.String()...)
	}
	return dst
}

// Bounds of the plausibility gates.
const (
	maxTransferMs   = 1_000_000
	minStartDelayMs = 20
	minLatencyMs    = -1000
	maxLatencyMs    = 10 * 60 * 1000
	maxBufferMs     = 60 * 60 * 1000
	maxKbps         = 10_000_000
	maxRate         = 16
	maxClockMs      = 24 * 60 * 60 * 1000
)

// Correct drops what is known to be wrong and gives the set of what it did.
// recvUnixMs is when the record was received, Unix ms; 0 skips the check of ts.
// When Player is unknown it is detected first.
//
// What needs the records around it is left to whoever orders a session: shaka's
// f that is not terminal, r during start-up or after a seek.
func (r *Record) Correct(recvUnixMs int64) Fixes {
	if r.Player == PlayerUnknown {
		r.Player = r.Detect()
	}
	return r.correctPlayer() | r.gate(recvUnixMs)
}

func (r *Record) correctPlayer() (s Fixes) {
	drop := func(f Fix, ks KeySet) {
		if r.Has.Any(ks) {
			r.Has &^= ks
			s |= 1 << f
		}
	}
	switch r.Player {
	case PlayerDashJS:
		drop(FixDashStartDelay, 1<<MSD)
		drop(FixDashFirstByte, 1<<TTFB)
		drop(FixDashStarved, 1<<BS|1<<BSD)
		if r.Mode == ModeEvent && r.Event != EventError {
			drop(FixDashErrorCode, 1<<EC)
		}
	case PlayerShaka:
		if r.Mode == ModeEvent {
			drop(FixShakaStreamType, 1<<ST)
		}
	case PlayerHLSJS:
		if r.State == StateRebuffering && (r.Event == EventState || r.Event == EventTime) {
			drop(FixHLSBuffer, 1<<BL)
		}
		if r.Mode == ModeRequest && r.Object == ObjectAudio {
			drop(FixHLSAudio, 1<<BR|1<<NOR)
		}
	}
	if r.Object == ObjectInit && r.ObjectMs == 0 {
		drop(FixInitDuration, 1<<D)
	}
	return s
}

func (r *Record) gate(recvUnixMs int64) (s Fixes) {
	gate := func(f Fix, k Key, bad bool) {
		if bad && r.Has.Has(k) {
			r.Has &^= 1 << k
			s |= 1 << f
		}
	}
	if r.Has.Any(1<<TTFB | 1<<TTFBB | 1<<TTLB) {
		gate(GateLastByte, TTLB, r.LastByteMs > maxTransferMs)
		late := func(v int64) bool { return v > maxTransferMs || r.Has.Has(TTLB) && v > r.LastByteMs }
		gate(GateFirstByte, TTFB, late(r.FirstByteMs))
		gate(GateFirstByte, TTFBB, late(r.FirstBodyByteMs))
	}
	gate(GateStartDelay, MSD, r.StartDelayMs < minStartDelayMs)
	gate(GateLatency, LTC, r.LatencyMs < minLatencyMs || r.LatencyMs > maxLatencyMs)
	gate(GateRate, PR, !(r.Rate >= 0 && r.Rate <= maxRate))
	gate(GateBuffer, BL, above(r.BufferMs, maxBufferMs))
	gate(GateThroughput, MTP, above(r.ThroughputKbps, maxKbps))
	gate(GateBitrate, BR, above(r.BitrateKbps, maxKbps))
	gate(GateBitrate, PB, above(r.PlayheadKbps, maxKbps))
	gate(GateBitrate, TB, above(r.TopKbps, maxKbps))
	if recvUnixMs != 0 {
		d := r.TimeUnixMs - recvUnixMs
		gate(GateTime, TS, d > maxClockMs || d < -maxClockMs)
	}
	return s
}

func above(t ByType, limit int64) bool {
	v, ok := t.Max()
	return ok && v > limit
}
