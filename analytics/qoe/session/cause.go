package session

import "github.com/spillway-live/spillway/schemas"

// Why a session stalls, where its reports let us know; the higher outranks the lower.
const (
	causeUnknown uint8 = iota
	causeNetwork       // media comes too slowly: throughput below the bitrate, or answers that are long in coming
	causeCDN           // requests of its media are refused, fail or get no answer
	causeHidden        // the page is in the background, where browsers hold its work back
)

// causeBeforeMs is how long before a stall what explains it may have happened: about the buffer of a live player.
const causeBeforeMs = 10_000

// causeEveryMs: of the same evidence one event in this time is enough.
const causeEveryMs = 1000

// stall is the one that goes on, or was the last, and what is known that may explain it.
type stall struct {
	FromMs    int64 // client time at which it began; 0: none did
	CountedMs int64 // how much of it is counted
	Cause     uint8
	SlowMs    int64 // client time of the last evidence of each kind; 0: none
	ErrorMs   int64
	Hidden    bool
}

// begin starts a stall at client time ts.
func (m *machine) beginStall(ts int64) {
	m.Stall.FromMs, m.Stall.CountedMs, m.Stall.Cause = ts, 0, causeUnknown
	m.explain()
}

// explain puts the stall down to the strongest of what is known. What was counted under a weaker cause moves.
func (m *machine) explain() {
	s, now := &m.Stall, causeUnknown
	near := func(ms int64) bool { return ms != 0 && ms >= s.FromMs-causeBeforeMs }
	switch {
	case s.Hidden:
		now = causeHidden
	case near(s.ErrorMs):
		now = causeCDN
	case near(s.SlowMs):
		now = causeNetwork
	}
	if now > s.Cause {
		m.putDown(-s.CountedMs)
		s.Cause = now
		m.putDown(s.CountedMs)
	}
}

// putDown adds stalled time to that of its cause.
func (m *machine) putDown(ms int64) {
	switch m.Stall.Cause {
	case causeNetwork:
		m.C.StalledNetwork += ms
	case causeCDN:
		m.C.StalledCDN += ms
	case causeHidden:
		m.C.StalledHidden += ms
	}
}

// countStall counts time of the running stall.
func (m *machine) countStall(ms int64) {
	m.C.StalledMs += ms
	m.Stall.CountedMs += ms
	m.putDown(ms)
}

// evidence takes what may explain a stall. It accounts no time: an edge's clock is not the client's.
func (m *machine) evidence(e event) {
	switch s := &m.Stall; e.Kind {
	case evSlow:
		s.SlowMs = max(s.SlowMs, e.Ts)
	case evFailed:
		s.ErrorMs = max(s.ErrorMs, e.Ts)
	case evHidden:
		s.Hidden = e.Val != 0
	}
	if m.stalled() {
		m.explain()
	}
}

// A media request is slow when its answer does not begin within slowAnswerMs, or takes half as long again as what it
// brings lasts, and more than a part of low-latency streams may be waited for.
const (
	slowAnswerMs = 2000
	slowObjectMs = 1000
)

// slowRequest gives the client time at which a slow media request had been so for a while.
func slowRequest(r *schemas.Telemetry, ts int64) (int64, bool) {
	took := int64(r.LastByteMs.V)
	switch {
	case !isMedia(r):
	case r.FirstByteMs.OK && r.FirstByteMs.V >= slowAnswerMs:
		took = max(took, int64(r.FirstByteMs.V))
		return ts + took - slowObjectMs, true // not when it ended, as the stall may have with it
	case r.LastByteMs.OK && r.ObjectDurationMs.OK && took >= slowObjectMs && 2*took > 3*int64(r.ObjectDurationMs.V):
		return ts + took - slowObjectMs, true
	}
	return 0, false
}

// failedRequest says whether a row tells of a request that was refused, failed or got no answer.
func failedRequest(r *schemas.Telemetry) bool {
	return r.ResponseCode.OK && (r.ResponseCode.V >= 400 || r.ResponseCode.V == 0)
}

// maxThroughputKbps bounds the throughput that one report can claim.
const maxThroughputKbps = 100_000

// causes takes from a player's or page's report what may explain a stall, and the throughput it tells.
func (o *one) causes(r *schemas.Telemetry, ts int64) {
	if r.Background.OK && r.Background.V != o.Now.Stall.Hidden {
		e := event{Ts: ts, Sn: r.Seq.V, Kind: evHidden}
		if r.Background.V {
			e.Val = 1
		}
		o.insert(e)
	}
	if r.Event == "rr" {
		o.requestCauses(r, ts)
	}
	if r.ThroughputKbps.OK && r.ThroughputKbps.V > 0 {
		o.L.Throughput += int64(min(r.ThroughputKbps.V, maxThroughputKbps))
		o.L.Measured++
	}
	need := r.BitrateKbps
	if r.PlayedBitrateKbps.OK {
		need = r.PlayedBitrateKbps
	}
	if need.OK && r.ThroughputKbps.OK && r.ThroughputKbps.V > 0 && r.ThroughputKbps.V < need.V {
		o.because(evSlow, ts)
	}
}

// requestCauses takes from a request, made at client time ts, what may explain a stall.
func (o *one) requestCauses(r *schemas.Telemetry, ts int64) {
	if failedRequest(r) {
		o.because(evFailed, ts)
	} else if at, ok := slowRequest(r, ts); ok {
		o.because(evSlow, at)
	}
}

// because notes evidence at client time ts, unless the same is known from about then.
func (o *one) because(kind uint8, ts int64) {
	for i := len(o.Log) - 1; i >= 0 && ts-o.Log[i].Ts < causeEveryMs; i-- {
		if o.Log[i].Kind == kind && o.Log[i].Ts <= ts {
			return
		}
	}
	o.insert(event{Ts: ts, Kind: kind})
}
