package session

import (
	"cmp"
	"slices"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
)

// maxGapMs bounds the time accounted between two events of a session: a clock
// that jumps must not become hours of playing.
const maxGapMs = 120_000

// maxBitrateKbps bounds the bitrate that a player's word counts for in sums:
// volumes, and so costs, go by them. It is bounded here, before slices are made,
// so that what a later slice takes back is what an earlier one said.
const maxBitrateKbps = 50_000

// Kinds of machine events.
const (
	evState uint8 = iota
	evError
	evNewLoad
	evBitrate
	evLatency
	evEndOfView
	evSlow   // evidence of what stalls: see cause.go
	evFailed // of a request
	evHidden // Val: 1 in the background, 0 no more
)

// event is what of a row the state machine sees. Fields are exported for the snapshot.
type event struct {
	Ts   int64
	Sn   int64
	Kind uint8
	Sta  byte  // evState: CMCD token
	Val  int32 // evBitrate: kbit/s; evLatency: ms
	Soft bool  // evState: from a report that repeats the state, not from a change of it
	Page bool  // evState: the page says it, not the player
}

func (e event) before(o event) bool {
	if e.Ts != o.Ts {
		return e.Ts < o.Ts
	}
	return e.Sn < o.Sn
}

// counters are the sums that depend on the order of events.
type counters struct {
	Attempts, Starts, StartupMs, ExitBefore, StartFails, PlayFails int64
	PlayedMs, StalledMs, Stalls, SeekMs, PausedMs, Switches        int64
	LatSum, LatWeight, BrSum, BrWeight                             int64
	StalledNetwork, StalledCDN, StalledHidden                      int64 // parts of StalledMs
}

// machine is the state of one session at time At. It is a value: a copy is a
// checkpoint. First is never changed in place for the same reason.
type machine struct {
	At      int64 // client time accounted so far; 0 before the first event
	Sta     byte  // current state, 0 before the first
	Open    bool  // an attempt has begun
	Started bool  // it reached its first frame
	Failed  bool  // f, or before the start an error, not disproved by p
	Seeking bool  // between k and the next p
	NewLoad bool  // sn started again: the next state begins an attempt
	Over    byte  // e, q or V (end of view): no time runs until the next p or attempt
	StartTs int64 // when the start-up began
	StartBy byte  // s, d or r: what began it
	Bitrate int32 // kbit/s, 0 unknown
	Latency int32 // ms
	HasLat  bool
	NoLatMs int64 // played time before the first latency sample
	Stall   stall
	C       counters
	First   []binCount // start-up times, ascending by bin
}

type binCount struct{ Bin, N int64 }

func addBin(h []binCount, bin, n int64) []binCount {
	out := make([]binCount, 0, len(h)+1)
	done := false
	for _, b := range h {
		if !done && b.Bin >= bin {
			if b.Bin == bin {
				b.N += n
			} else {
				out = append(out, binCount{bin, n})
			}
			done = true
		}
		out = append(out, b)
	}
	if !done {
		out = append(out, binCount{bin, n})
	}
	return out
}

// countBin adds one to a bin, in place.
func countBin(h []binCount, bin int64) []binCount {
	i, ok := slices.BinarySearchFunc(h, bin, func(b binCount, bin int64) int { return cmp.Compare(b.Bin, bin) })
	if ok {
		h[i].N++
		return h
	}
	return slices.Insert(h, i, binCount{bin, 1})
}

func startBin(ms int64) int64 { return int64(loghist.BinOf(float64(ms))) }

// advance accounts the time from At to ts to the current state.
func (m *machine) advance(ts int64) {
	if m.At == 0 || ts <= m.At {
		m.At = max(m.At, ts)
		return
	}
	dt := min(ts-m.At, maxGapMs)
	m.At = ts
	if m.Over != 0 {
		return
	}
	switch {
	case m.Sta == 'a':
		m.C.PausedMs += dt
		if m.Open && !m.Started {
			m.StartTs += dt // a pause before the first frame is no start-up time
		}
	case !m.Open || !m.Started: // start-up is counted as a whole
	case m.Sta == 'p':
		m.C.PlayedMs += dt
		if m.Bitrate > 0 {
			m.C.BrSum += dt * int64(min(m.Bitrate, maxBitrateKbps))
			m.C.BrWeight += dt
		}
		if m.HasLat {
			m.C.LatSum += dt * int64(m.Latency)
			m.C.LatWeight += dt
		} else {
			m.NoLatMs += dt
		}
	case m.Seeking && (m.Sta == 'k' || m.Sta == 'r' || m.Sta == 'w'):
		m.C.SeekMs += dt
	case m.Sta == 'r' || m.Sta == 'w':
		m.countStall(dt)
	}
}

// abandon closes an attempt that never reached its first frame.
func (m *machine) abandon() {
	if !m.Open || m.Started {
		return
	}
	if m.Failed {
		m.C.StartFails++
	} else {
		m.C.ExitBefore++
	}
	m.First = addBin(m.First, schemas.FailedStartBin, 1)
	m.Open = false
}

func (m *machine) leaveAttempt() {
	m.abandon()
	if m.Open && m.Failed {
		m.C.PlayFails++
	}
	m.Open, m.Started, m.Failed, m.Seeking, m.NewLoad, m.Over = false, false, false, false, false, 0
}

func (m *machine) beginAttempt(ts int64, by byte) {
	m.leaveAttempt()
	m.Open, m.StartTs, m.StartBy = true, ts, by
	m.C.Attempts++
}

func (m *machine) apply(e event) {
	if e.Kind >= evSlow {
		m.evidence(e)
		return
	}
	m.advance(e.Ts)
	switch e.Kind {
	case evState:
		m.toState(e)
	case evError:
		if m.Open && !m.Started {
			m.Failed = true
		}
	case evNewLoad:
		m.NewLoad = true
	case evBitrate:
		if m.Bitrate != 0 && m.Bitrate != e.Val && m.Started {
			m.C.Switches++
		}
		m.Bitrate = e.Val
	case evLatency:
		m.Latency, m.HasLat = e.Val, true
		m.C.LatSum += m.NoLatMs * int64(e.Val)
		m.C.LatWeight += m.NoLatMs
		m.NoLatMs = 0
	case evEndOfView:
		if m.Over == 0 {
			m.Over = 'V'
		}
	}
}

func (m *machine) toState(e event) {
	prev, sta := m.Sta, e.Sta
	switch sta {
	case 's', 'd':
		// d, then s, is one attempt: its start-up runs from s. The same state again is nothing new.
		switch {
		case m.NewLoad, !m.Open, m.Started && !e.Soft && prev != sta:
			m.beginAttempt(e.Ts, sta)
		case !m.Started && sta == 's' && m.StartBy == 'd':
			m.StartTs, m.StartBy = e.Ts, 's'
		}
	case 'r', 'k', 'w':
		if m.NewLoad && !e.Soft || !m.Open {
			m.beginAttempt(e.Ts, sta)
		}
		m.Over = 0
		if sta == 'k' && m.Started {
			m.Seeking = true
		}
		waiting := prev == 'r' || prev == 'w'
		if sta != 'k' && m.Started && !m.Seeking && !waiting {
			m.C.Stalls++
			m.beginStall(e.Ts)
		}
	case 'p':
		m.Over = 0
		m.Seeking = false
		switch {
		case m.NewLoad && !e.Soft || !m.Open:
			// The first thing we hear is that it plays: an attempt whose start-up nobody timed.
			m.beginAttempt(e.Ts, sta)
			m.Started = true
			m.C.Starts++
		case !m.Started:
			m.Started = true
			ms := max(e.Ts-m.StartTs, 0)
			m.C.Starts++
			m.C.StartupMs += ms
			m.First = addBin(m.First, startBin(ms), 1)
		}
		m.Failed = false // shaka comes back from f
	case 'f':
		m.Failed = true
		if !m.Open {
			m.beginAttempt(e.Ts, sta)
			m.Failed = true
		}
	case 'e', 'q':
		m.abandon()
		m.Over = sta
		m.Seeking = false
	case 'a':
		// dash.js and shaka pause around the end; that is no pause of the viewer.
	default:
		return
	}
	m.Sta = sta
}

// totals are the sums as of client time ts: what is certain, what still runs
// and, as long as nothing disproves it, failure. closed gives up an attempt that is still waiting.
func (m machine) totals(ts int64, closed bool) (counters, []binCount) {
	if ts > m.At {
		m.advance(ts)
	}
	if m.Open && (closed || m.Failed) {
		if !m.Started {
			m.abandon()
		} else if m.Failed {
			m.C.PlayFails++
		}
	}
	return m.C, m.First
}

// running says whether time is being counted at this moment.
func (m *machine) running() bool {
	return m.Over == 0 && (m.Sta == 'a' || m.Open && m.Started && (m.Sta == 'p' || m.Sta == 'r' || m.Sta == 'w' || m.Sta == 'k'))
}

// stalled says whether the session waits outside a seek right now.
func (m *machine) stalled() bool {
	return m.Over == 0 && m.Open && m.Started && !m.Seeking && (m.Sta == 'r' || m.Sta == 'w')
}
