package session

import (
	"slices"

	"github.com/spillway-live/spillway/schemas"
)

const (
	maxLog       = 64      // events kept for late rows
	keepLogMs    = 120_000 // and for how long, client time
	maxRecent    = 96      // fingerprints of rows kept against duplicates
	maxSnGap     = 1000    // a larger jump of sn is not taken for losses
	snWindowBits = 64

	latencyEveryMs = 2000 // latency samples closer than that count in the histogram alone
)

// dims are what a slice says about its session beside sums.
type dims struct {
	ViewerID, App, Stream, CDN, Server, Protocol, Region, ISP, Country string
	Device, OS, Client, ClientVer, Network, Arms                       string
}

// loose are the sums that do not depend on the order of rows.
type loose struct {
	Sessions, Ended, CDNMoves, Dropped, Requests, RequestErrors, RequestBytes, Reports, Lost int64

	Numbered int64 // of the reports, those with a sequence number, repeats apart

	// Throughput is the sum of what players measured, kbit/s, Measured in how many reports.
	Throughput, Measured int64

	FramesMs int64 // played time of which dropped frames are known
}

// one is a playback session, unpacked. Its fields are those that walk goes through, ID and inbox apart.
type one struct {
	ID string
	D  dims

	Base machine // as of the oldest event that may still be inserted before
	Log  []event // events since, in order
	Now  machine // Base with Log applied

	L     loose
	Lat   []binCount // latency samples by bin
	E2E   bool       // latencies are end-to-end ones; the player's own are ignored then
	UsePB bool       // the bitrate is the one at the playhead
	// Frames: somebody tells how many frames were dropped, since the session began.
	Frames bool
	// PageFrom is the client time from which the page says the states, and the player is not asked; 0: it says none.
	PageFrom int64

	// What earlier slices have said.
	SentC counters
	SentL loose
	SentF []binCount
	SentA []binCount

	FirstMs, SeenMs, SentMs int64 // stream time: opened, last row, last slice
	LastTs                  int64 // newest client time of an event report
	OffsetMs                int64 // smallest received - ts: stream time minus client time
	HasOffset               bool
	GapMs                   int64 // longest silence between two rows
	CDNKnown                bool  // CDN comes from a served request
	FrameBase, FrameLast    int64
	Sn, PageSn              snTrack // of the player's events and of the page's beacons
	Recent                  []uint32
	RecentAt                int

	Over      bool  // an end was reported
	OverMs    int64 // stream time of that
	Closed    bool
	ClosedMs  int64
	EndReason string

	Dirty bool // has something to say

	inbox []row // of the running tick
}

type row struct {
	R  *schemas.Telemetry
	At int64 // stream time of arrival
}

// snTrack finds gaps in the sequence numbers of one series of reports.
type snTrack struct {
	Started  bool
	Last     int64  // newest report that is not an rr
	Max      int64  // highest number seen
	Window   uint64 // bit i: Max-i was seen
	LostHere int64  // missing in this series
	LostDone int64  // missing in the series before
}

// add notes a number of the running series and says by how much the number of missing reports changed.
func (s *snTrack) add(sn int64) int64 {
	if !s.Started {
		s.Started, s.Max, s.Window = true, sn, 1
		return 0
	}
	switch d := sn - s.Max; {
	case d > maxSnGap:
		return 0 // a number of the series before, or nonsense
	case d > 0:
		if d >= snWindowBits {
			s.Window = 0
		} else {
			s.Window <<= uint(d)
		}
		s.Window |= 1
		s.Max = sn
		s.LostHere += d - 1
		return d - 1
	case d > -snWindowBits:
		bit := uint64(1) << uint(-d)
		if s.Window&bit == 0 && s.LostHere > 0 {
			s.Window |= bit
			s.LostHere--
			return -1
		}
	}
	return 0
}

func (s *snTrack) restart() {
	s.LostDone += s.LostHere
	*s = snTrack{LostDone: s.LostDone}
}

// seen says whether the fingerprint was met before, and keeps it.
func (o *one) seen(fp uint32) bool {
	if slices.Contains(o.Recent, fp) {
		return true
	}
	if len(o.Recent) < maxRecent {
		o.Recent = append(o.Recent, fp)
		return false
	}
	o.Recent[o.RecentAt] = fp
	o.RecentAt = (o.RecentAt + 1) % maxRecent
	return false
}

// insert puts an event where its time belongs. Events from before Base are told by ok = false.
func (o *one) insert(e event) (late, ok bool) {
	n := len(o.Log)
	if n == 0 || !e.before(o.Log[n-1]) {
		if n == 0 && e.Ts < o.Base.At {
			return true, false
		}
		// Repetitions of a state only matter at both ends of their run.
		if n >= 2 && e.Soft && o.Log[n-1].Soft && o.Log[n-2].Kind == evState && o.Log[n-1].Kind == evState &&
			o.Log[n-1].Sta == e.Sta && o.Log[n-2].Sta == e.Sta {
			o.Log[n-1] = e
		} else {
			o.Log = append(o.Log, e)
		}
		o.Now.apply(e)
		o.fold(e.Ts)
		return false, true
	}
	if e.Ts < o.Base.At {
		return true, false
	}
	i := n
	for i > 0 && e.before(o.Log[i-1]) {
		i--
	}
	o.Log = slices.Insert(o.Log, i, e)
	o.Now = o.Base
	for _, x := range o.Log {
		o.Now.apply(x)
	}
	o.fold(o.Now.At)
	return true, true
}

// fold moves events that are too old, or too many, into Base.
func (o *one) fold(now int64) {
	k := 0
	for k < len(o.Log) && (len(o.Log)-k > maxLog || now-o.Log[k].Ts > keepLogMs) {
		o.Base.apply(o.Log[k])
		k++
	}
	if k > 0 {
		o.Log = append(o.Log[:0], o.Log[k:]...)
	}
}

// latency takes one sample. End-to-end samples replace the player's own, never mix with them.
func (o *one) latency(ms int32, ts, sn int64, e2e bool) {
	if e2e && !o.E2E {
		o.E2E = true
		o.Lat = o.Lat[:0]
		// What was weighted with the player's own latency waits for the first end-to-end sample.
		for _, m := range []*machine{&o.Base, &o.Now} {
			m.NoLatMs += m.C.LatWeight
			m.C.LatSum, m.C.LatWeight, m.HasLat, m.Latency = 0, 0, false, 0
		}
		o.Log = slices.DeleteFunc(o.Log, func(e event) bool { return e.Kind == evLatency })
		o.Now = o.Base
		for _, x := range o.Log {
			o.Now.apply(x)
		}
	} else if e2e != o.E2E {
		return
	}
	o.Lat = countBin(o.Lat, startBin(int64(ms)))
	// The mean needs no more than a sample every other second; players that say it with every request would fill the log.
	if n := len(o.Log); n > 0 && o.Now.HasLat && !o.Now.stalled() {
		for i := n - 1; i >= 0 && ts-o.Log[i].Ts < latencyEveryMs; i-- {
			if o.Log[i].Kind == evLatency && o.Log[i].Ts <= ts {
				return
			}
		}
	}
	o.insert(event{Ts: ts, Sn: sn, Kind: evLatency, Val: ms})
}

// pageKnows says whether the page says in what state the session is at ts.
func (o *one) pageKnows(ts int64) bool { return o.PageFrom != 0 && ts >= o.PageFrom }

// pageStates notes that the page says the states from ts on. What the player
// said of that time, and has not been folded, is taken back: two accounts of
// the same stall would be two stalls.
func (o *one) pageStates(ts int64) {
	ts = max(ts, o.Base.At)
	if o.PageFrom != 0 && ts >= o.PageFrom {
		return
	}
	o.PageFrom = ts
	o.Log = slices.DeleteFunc(o.Log, func(e event) bool {
		return e.Ts >= ts && !e.Page && (e.Kind == evState || e.Kind == evNewLoad)
	})
	o.Now = o.Base
	for _, x := range o.Log {
		o.Now.apply(x)
	}
}

// clientNow is stream time on the session's own clock.
func (o *one) clientNow(streamMs int64) int64 { return streamMs - o.OffsetMs }

// horizon is the client time up to which the running state is counted.
func (o *one) horizon(streamMs int64, c *Config) int64 {
	run := min(max(c.RunMs, o.GapMs+o.GapMs/4), c.MaxSilenceMs/2)
	alive := max(o.LastTs, o.clientNow(o.SeenMs))
	if o.Over {
		return o.LastTs
	}
	return min(o.clientNow(streamMs), alive+run)
}

// silenceMs is how long the session may be silent before it is closed.
func (o *one) silenceMs(c *Config) int64 {
	return min(max(c.MinSilenceMs, 3*o.GapMs), c.MaxSilenceMs)
}

// diff gives the bins of a less those of b; both ascend.
func diff(a, b []binCount) (bins, counts []int64) {
	if slices.Equal(a, b) {
		return nil, nil
	}
	put := func(bin, n int64) {
		if n != 0 {
			bins, counts = append(bins, bin), append(counts, n)
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case j == len(b) || i < len(a) && a[i].Bin < b[j].Bin:
			put(a[i].Bin, a[i].N)
			i++
		case i == len(a) || b[j].Bin < a[i].Bin:
			put(b[j].Bin, -b[j].N)
			j++
		default:
			put(a[i].Bin, a[i].N-b[j].N)
			i++
			j++
		}
	}
	return bins, counts
}

// slice gives what changed since the last slice, or false when nothing did.
func (o *one) slice(streamMs, until int64) (schemas.Slice, bool) {
	c, first := o.Now.totals(until, o.Closed)
	o.L.Lost = o.Sn.LostDone + o.Sn.LostHere + o.PageSn.LostDone + o.PageSn.LostHere
	if o.Frames {
		o.L.FramesMs = c.PlayedMs
	}
	l := o.L
	fb, fc := diff(first, o.SentF)
	lb, lc := diff(o.Lat, o.SentA)
	if c == o.SentC && l == o.SentL && fb == nil && lb == nil {
		return schemas.Slice{}, false
	}
	s := o.build(streamMs, &c, &l)
	s.FirstScreenBins, s.FirstScreenCounts, s.LatencyBins, s.LatencyCounts = fb, fc, lb, lc
	if o.Closed && s.Ended == 1 {
		s.Kind, s.EndReason = schemas.SliceFinal, o.EndReason
	}
	o.SentC, o.SentL, o.SentF, o.SentMs = c, l, first, streamMs
	o.SentA = append(o.SentA[:0], o.Lat...)
	return s, true
}

// retract takes back all that earlier slices have said, under the dimensions
// they said it with; the next slice says it again. Needed when the session's
// experiment arms are learned only after its first slices: they would be in no arm.
func (o *one) retract(streamMs int64) schemas.Slice {
	s := o.build(streamMs, &counters{}, &loose{})
	s.FirstScreenBins, s.FirstScreenCounts = diff(nil, o.SentF)
	s.LatencyBins, s.LatencyCounts = diff(nil, o.SentA)
	o.SentC, o.SentL, o.SentF, o.SentA = counters{}, loose{}, nil, o.SentA[:0]
	return s
}

// build makes a delta of c and l against what was sent, without histograms.
func (o *one) build(streamMs int64, c *counters, l *loose) schemas.Slice {
	p, q := &o.SentC, &o.SentL
	return schemas.Slice{
		TimeUnixMs: streamMs, Kind: schemas.SliceDelta, SessionID: o.ID, ViewerID: o.D.ViewerID, App: o.D.App, Stream: o.D.Stream,
		CDN: o.D.CDN, Server: o.D.Server, Protocol: o.D.Protocol, Region: o.D.Region, ISP: o.D.ISP, Country: o.D.Country,
		Device: o.D.Device, OS: o.D.OS, Client: o.D.Client, ClientVer: o.D.ClientVer, Network: o.D.Network, Arms: o.D.Arms,

		Sessions: l.Sessions - q.Sessions, Ended: l.Ended - q.Ended,
		Attempts: c.Attempts - p.Attempts, Starts: c.Starts - p.Starts, StartupMs: c.StartupMs - p.StartupMs,
		ExitBefore: c.ExitBefore - p.ExitBefore, StartFails: c.StartFails - p.StartFails, PlayFails: c.PlayFails - p.PlayFails,
		PlayedMs: c.PlayedMs - p.PlayedMs, StalledMs: c.StalledMs - p.StalledMs, Stalls: c.Stalls - p.Stalls,
		SeekMs: c.SeekMs - p.SeekMs, PausedMs: c.PausedMs - p.PausedMs, Switches: c.Switches - p.Switches, CDNMoves: l.CDNMoves - q.CDNMoves,
		LatencyMsSum: c.LatSum - p.LatSum, LatencyWeightMs: c.LatWeight - p.LatWeight,
		BitrateKbpsMsSum: c.BrSum - p.BrSum, BitrateWeightMs: c.BrWeight - p.BrWeight,
		DroppedFrames: l.Dropped - q.Dropped, Requests: l.Requests - q.Requests, RequestErrors: l.RequestErrors - q.RequestErrors,
		RequestBytes: l.RequestBytes - q.RequestBytes, Reports: l.Reports - q.Reports, LostReports: l.Lost - q.Lost,
		NumberedReports:   l.Numbered - q.Numbered,
		ThroughputKbpsSum: l.Throughput - q.Throughput, ThroughputReports: l.Measured - q.Measured,
		StalledNetworkMs: c.StalledNetwork - p.StalledNetwork, StalledCDNMs: c.StalledCDN - p.StalledCDN,
		StalledBackgroundMs: c.StalledHidden - p.StalledHidden, FramesWeightMs: l.FramesMs - q.FramesMs,
	}
}

// reason says why a session ends now.
func (o *one) reason() string {
	m := o.Now
	switch {
	case m.Failed && m.Open, m.C.StartFails > 0 && m.C.Starts == 0:
		return "failed"
	case m.C.Attempts > 0 && m.C.Starts == 0: // without an attempt nobody said what the player did
		return "not_started"
	case m.Over == 'e':
		return "ended"
	case m.Over == 'q' || m.Over == 'V':
		return "quit"
	default:
		return "silence"
	}
}
