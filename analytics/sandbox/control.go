package sandbox

import (
	"log/slog"
	"math"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// epoch is when simulated time begins: a Monday.
var epoch = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

func clock(t float64) time.Time { return epoch.Add(time.Duration(t * float64(time.Second))) }

// heard is a report on its way to the routers.
type heard struct {
	due        float64
	id         string
	place, cdn int
	final      bool
	bps        float64 // throughput as the player knows it; 0: not told
	sums       sums
}

// routers are those of the run, and what is on its way to them.
type routers struct {
	tables  []*load.Table
	cdns    []schemas.CDN
	index   map[string]int
	told    []load.Fact // decisions others have not heard of yet
	reports []heard
	from    int // reports before it are delivered
	now     time.Time
	nextSec float64   // of load.Table.Tick
	probeAt float64   // of the prober
	lateAt  []float64 // by CDN: when the prober says that an answer is late; 0: none is
	// decisions, unchanged and failed count answers.
	decisions, refused int
}

func (e *engine) newRouters() {
	r := &e.r
	r.index = map[string]int{}
	r.lateAt = make([]float64, len(e.w.CDNs))
	for i := range e.w.CDNs {
		r.cdns = append(r.cdns, e.w.CDNs[i].CDN)
		r.index[e.w.CDNs[i].Name] = i
	}
	for range e.w.Control.Routers {
		t := load.New(aliveWindow, slog.New(slog.DiscardHandler))
		t.Now = func() time.Time { return r.now }
		t.CDNs = func() []schemas.CDN { return r.cdns }
		r.tables = append(r.tables, t)
	}
}

const (
	// aliveWindow and refresh are as routers have them by default.
	aliveWindow = 90 * time.Second
	refresh     = aliveWindow * 2 / 3
)

// decide asks a router where a session should be; false: nobody takes it.
func (e *engine) decide(s *session, current int, t float64) (policy.Answer, bool) {
	c := &e.w.Control
	r := &e.r
	now := clock(t)
	r.now = now
	table := r.tables[0]
	if n := len(r.tables); n > 1 {
		table = r.tables[int(s.rnd.next()%uint64(n))]
	}
	place := &e.w.Places[s.v.Place]
	if current >= 0 && s.v.Accuses == 0 {
		table.Measured(s.id, e.w.CDNs[current].Name, load.Place{Region: place.Region, ISP: place.ISP}, int64(min(s.fast, s.slow)), now)
	}
	at := table.Where(s.id)
	in := policy.Input{
		Session: s.id, App: "live", Stream: "one", Region: place.Region, ISP: place.ISP, PublishCDN: c.PublishCDN,
		CDNs: r.cdns, SinceMoveSec: math.Inf(1), OverflowAt: c.OverflowAt, Round: now.UnixNano() / int64(or(c.SteeringTTLSec, 10)*float64(time.Second)),
	}
	if s.v.Pin > 0 {
		in.Pinned = e.w.CDNs[s.v.Pin-1].Name
	}
	if current >= 0 {
		in.Current = e.w.CDNs[current].Name
	}
	moved := s.movedAt // the token's
	if !at.Moved.IsZero() {
		if m := at.Moved.Sub(epoch).Seconds(); math.IsNaN(moved) || m > moved {
			moved = m
		}
	}
	if !math.IsNaN(moved) {
		in.SinceMoveSec = max(t-moved, 0)
	}
	top := e.w.Players[s.v.Player].Levels
	in.Facts = table.Facts(r.cdns, load.Place{Region: place.Region, ISP: place.ISP}, top[len(top)-1], now)
	table.OfStream(in.Facts, r.cdns, schemas.StreamKey{App: in.App, Stream: in.Stream}, place.Region)
	e.volumes(in.Facts, t)
	a, err := c.Policy.Decide(&in)
	r.decisions++
	if err != nil {
		r.refused++
		return a, false
	}
	if current >= 0 && a.Chosen == at.CDN && now.Sub(at.Stored) < refresh {
		return a, true
	}
	f := load.Fact{ID: s.id, CDN: a.Chosen, Region: place.Region, Group: s.v.Group, Stream: schemas.StreamKey{App: in.App, Stream: in.Stream}, At: time.UnixMicro(now.UnixMicro())}
	table.Answered(&f)
	r.told = append(r.told, f)
	return a, true
}

// volumes says what each CDN has delivered in the time of the bill.
func (e *engine) volumes(facts []policy.Facts, t float64) {
	for i := range facts {
		facts[i].MonthGB, facts[i].MonthShare = e.cdns[i].bytes*e.w.ViewersPerSession/1e9, t/e.w.Seconds
	}
}

// follow puts an answer into the player's order, and goes where it says.
func (e *engine) follow(s *session, a *policy.Answer, t float64) {
	s.options = 0
	for i := range a.Candidates[:a.Eligible] {
		s.order[s.options] = int8(e.r.index[a.Candidates[i].CDN])
		s.options++
	}
	if next := s.best(t); next != s.cdn {
		e.move(s, next, t)
	}
}

// steer is the player asking again.
func (e *engine) steer(s *session, slot int32, t float64) {
	was := s.cdn
	if a, ok := e.decide(s, was, t); ok {
		if e.r.index[a.Chosen] != was && e.r.index[a.Chosen] != s.sentTo {
			s.movedAt = t
		}
		s.sentTo = e.r.index[a.Chosen]
		e.follow(s, &a, t)
	}
	ttl := time.Duration(e.w.Control.SteeringTTLSec * float64(time.Second))
	e.schedule(t+e.r.tables[0].AskAgain(e.w.CDNs[s.sentTo].Name, ttl, clock(t)).Seconds(), slot, s, evSteer)
}

// move puts a session on another CDN.
func (e *engine) move(s *session, cdn int, t float64) {
	e.cdns[s.cdn].viewers--
	e.cdns[cdn].viewers++
	s.cdn = cdn
	s.moves++
	e.res.Moves++
	if s.moves > 1 && t-s.lastMove < float64(schemas.DefaultDwellSec) {
		s.movedTwice = true
	}
	if len(e.res.MoveSec) < maxMoves {
		e.res.MoveSec = append(e.res.MoveSec, t)
	}
	s.lastMove = t
	if s.moves == 1 {
		s.firstMove = t
	}
}

// report sends what a session has done since the last report on its way.
func (e *engine) report(s *session, t float64, final bool) {
	s.advance(t)
	x := heard{due: t + e.w.Control.LagSec, id: s.id, place: s.v.Place, cdn: s.cdn, sums: s.unsaid, final: final, bps: min(s.fast, s.slow)}
	s.sum.add(&s.unsaid)
	s.unsaid = sums{}
	if s.v.Accuses > 0 {
		// A liar says that it is on the CDN it accuses, and stalls there all the time.
		x.cdn = s.v.Accuses - 1
		x.sums.stalled, x.sums.played = x.sums.stalled+x.sums.played, 0
		x.sums.attempts, x.sums.startFails = 3, 3
	}
	e.r.reports = append(e.r.reports, x)
}

// tick is a control interval: routers hear of decisions and reports.
func (e *engine) tick(t float64) {
	r := &e.r
	now := clock(t)
	r.now = now
	for i := range r.told {
		for _, table := range r.tables {
			table.Decided(&r.told[i], now)
		}
	}
	r.told = r.told[:0]
	for r.from < len(r.reports) && r.reports[r.from].due <= t {
		e.deliver(&r.reports[r.from], now)
		r.reports[r.from].id = ""
		r.from++
	}
	if r.from > 4096 && r.from*2 > len(r.reports) {
		r.reports = r.reports[:copy(r.reports, r.reports[r.from:])]
		r.from = 0
	}
	if every := e.w.Control.ProbeSec; every > 0 && t >= r.probeAt {
		r.probeAt = t + every
		e.probe(now)
	}
	for i, at := range r.lateAt {
		if at > 0 && t >= at {
			r.lateAt[i] = 0
			for _, table := range r.tables {
				table.Late(e.w.CDNs[i].Name, now)
			}
		}
	}
	if t >= r.nextSec {
		r.nextSec = math.Floor(t) + 1
		for _, table := range r.tables {
			table.Tick(now)
		}
	}
}

// probeLateSec is when a prober says that it has no answer yet, as package probe does.
const probeLateSec = 1.5

// probe tells routers which CDNs answer a prober. One that is slow does: a part is small.
func (e *engine) probe(now time.Time) {
	for i := range e.cdns {
		at := &e.cdns[i].paths[0]
		if at.hang {
			e.r.lateAt[i] = now.Sub(epoch).Seconds() + probeLateSec
			continue
		}
		e.probed(i, at.down, now)
	}
}

func (e *engine) probed(cdn int, failed bool, now time.Time) {
	for _, table := range e.r.tables {
		table.Synthetic(e.w.CDNs[cdn].Name, failed, now)
	}
}

// deliver turns a report into the slice that a sessioniser would write.
func (e *engine) deliver(x *heard, now time.Time) {
	ms := func(sec float64) int64 { return int64(sec*1000 + 0.5) }
	played := ms(x.sums.played)
	s := schemas.Slice{
		TimeUnixMs: now.UnixMilli(), SessionID: x.id, CDN: e.w.CDNs[x.cdn].Name,
		Region: e.w.Places[x.place].Region, ISP: e.w.Places[x.place].ISP,
		PlayedMs: played, StalledMs: ms(x.sums.stalled), Stalls: int64(x.sums.stalls),
		Attempts: int64(x.sums.attempts), Starts: int64(x.sums.starts), StartFails: int64(x.sums.startFails), StartupMs: ms(x.sums.startup),
		BitrateKbpsMsSum: int64(x.sums.bitrateSum), BitrateWeightMs: played,
		ThroughputKbpsSum: int64(x.bps / 1000), ThroughputReports: int64(min(x.bps, 1)),
		Requests: int64(x.sums.requests), RequestErrors: int64(x.sums.errors), RequestBytes: int64(x.sums.bytes),
	}
	for _, table := range e.r.tables {
		if x.final {
			table.Ended(&s, now)
		} else {
			table.Served(&s, now)
		}
	}
}
