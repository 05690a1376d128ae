// Package health estimates how each CDN serves now, for each region and internet
// provider, from session slices, and how its load will grow.
//
// It promises: a fold without I/O, so that routers which read the same slices
// come to the same estimates; estimates of thin cells drawn towards those of the
// coarser cell around them; that a session counts for no more time than can have
// passed, and that players of a quarter of the groups of addresses, and of six of
// sixteen where many report, may lie without moving an estimate beyond what the
// others report. It leaves out who is watching where (the router's load).
package health

import (
	"math"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// Groups is the number of groups that sessions are put in by their address
// prefix; estimates leave out the worst and the best of the groups: six of sixteen
// each where many report, four where few do.
const Groups = 16

const (
	// slow is the time constant of quality, fast that of failure.
	slow = 60 * time.Second
	fast = 8 * time.Second

	// What a cell must have seen to weigh as much as the coarser cell around it.
	priorWatchMs  = 600_000
	priorAttempts = 20
	priorRequests = 200
	priorReports  = 60
	// maxSliceMs bounds what one slice can claim; sessionisers close one at least
	// every few seconds of stream time.
	maxSliceMs = 15_000
	// maxBitrateKbps bounds the mean bitrate, and the throughput, that one slice can claim.
	maxBitrateKbps = 100_000
	// maxReports bounds the reports of a measured throughput in one slice.
	maxReports = 5
	// maxCells bounds the cells held, about 3 kB each; beyond, a new region or
	// provider has the estimate of its CDN.
	maxCells = 20_000
	// trim is the share of groups left out at either end, from minGroups on, and
	// trimMany that where manyReports a group tell in a minute: of fewer so much would be left
	// out that what seldom happens were not seen at all.
	trim        = 0.25
	trimMany    = 0.375
	minGroups   = 8
	manyReports = 64
)

// cell is what is known of one CDN in one place.
// Moments are Unix nanoseconds: without pointers, a cell costs nothing when memory is collected.
type cell struct {
	group [Groups]struct {
		slow, fast sums
		at         int64 // 0: nobody told anything
	}
	newest int64
	losing uint16 // a bit for each group that loses more than failHarm of late, which fading does not change
}

// place of a cell; empty fields are all regions, all providers.
type place struct{ cdn, region, isp string }

// Table holds the cells. It is not safe for concurrent use.
type Table struct {
	cells  map[place]*cell
	coarse map[place]known // of [Table.EstimateIn]
	swept  time.Time
	down   map[place]*failing
	alone  map[place]bool // see AloneIn
	spots  []*spotted     // whose parts are judged, in the order in which they were first heard of
	seen   map[spot]*spotted

	probes map[string]probed    // our own, by CDN
	doubts map[string]time.Time // CDNs in doubt, since when
}

// New gives an empty table.
func New() *Table {
	return &Table{
		cells: map[place]*cell{}, coarse: map[place]known{}, down: map[place]*failing{}, alone: map[place]bool{}, seen: map[spot]*spotted{},
		probes: map[string]probed{}, doubts: map[string]time.Time{},
	}
}

// Add folds a slice in. at is its stream time, or now where that is older than
// it is worth; group is that of the session's address prefix.
func (t *Table) Add(s *schemas.Slice, group uint8, at time.Time) {
	if s.CDN == "" {
		return
	}
	x := bounded(s)
	places := [...]place{{cdn: s.CDN}, {s.CDN, s.Region, ""}, {s.CDN, s.Region, s.ISP}}
	if len(t.down) > 0 {
		if _, d := innermost(t.down, places[2]); d != nil && at.Sub(d.since) >= minDown {
			d.tried.add(&x, int(group)%Groups, at)
		}
	}
	for i, p := range places {
		if i > 0 && p == places[i-1] {
			continue // region or provider unknown: a report counts once in a cell
		}
		c := t.cells[p]
		if c == nil {
			if len(t.cells) >= maxCells && i > 0 {
				continue
			}
			c = &cell{}
			t.cells[place{p.cdn, strings.Clone(p.region), strings.Clone(p.isp)}] = c // not all they were read with
			t.see(spot{p.region, p.isp})
		}
		c.add(&x, int(group)%Groups, at)
		if i > 0 && c.mayFail() {
			t.suspect(spot{p.region, p.isp})
		}
	}
}

// bounded reads a slice, with nothing in it that cannot be.
func bounded(s *schemas.Slice) sums {
	played, stalled := float64(max(s.PlayedMs, 0)), float64(max(s.StalledMs, 0))
	if all := played + stalled; all > maxSliceMs {
		played, stalled = played*maxSliceMs/all, stalled*maxSliceMs/all
	}
	attempts := float64(min(max(s.Attempts, 0), 3))
	starts := min(float64(max(s.Starts, 0)), attempts)
	requests := float64(min(max(s.Requests, 0), 2000))
	weight := float64(min(max(s.BitrateWeightMs, 0), maxSliceMs))
	measured := float64(min(max(s.ThroughputReports, 0), maxReports))
	mean := min(ratio(float64(max(s.ThroughputKbpsSum, 0)), float64(s.ThroughputReports)), maxBitrateKbps)
	bitrate := min(ratio(float64(max(s.BitrateKbpsMsSum, 0)), float64(s.BitrateWeightMs)), maxBitrateKbps)
	told := 1.0
	if played+stalled+attempts+requests == 0 && s.Stalls == 0 {
		told = 0 // of throughput alone
	}
	return sums{
		played: played, stalled: stalled, attempts: attempts, fails: min(float64(max(s.StartFails, 0)), attempts),
		starts: starts, startup: min(float64(max(s.StartupMs, 0)), starts*60_000),
		requests: requests, errors: min(float64(max(s.RequestErrors, 0)), requests), bytes: float64(max(s.RequestBytes, 0)),
		bitrateMs: bitrate * weight, bitrateWeight: weight, sessions: told,
		throughput: mean * measured, measured: measured,
	}
}

func (c *cell) add(x *sums, group int, at time.Time) {
	g, moment := &c.group[group], at.UnixNano()
	if age := time.Duration(moment - g.at); age > 0 {
		g.slow.scale(fade(age, slow))
		g.fast.scale(fade(age, fast))
		g.at = moment
	}
	g.slow.add(x, 1)
	g.fast.add(x, 1)
	if g.fast.lost() > failHarm {
		c.losing |= 1 << group
	} else {
		c.losing &^= 1 << group
	}
	c.newest = max(c.newest, moment)
}

func fade(age, constant time.Duration) float64 { return math.Exp(-float64(age) / float64(constant)) }

// part is what of a group counts at a moment: the share f of its sums.
type part struct {
	*sums
	f, lost float64
	group   int
}

// total sums the groups at a moment, without the worst and the best.
func (c *cell) total(now time.Time, quick bool) sums {
	var have [Groups]part
	return add(c.kept(&have, now, quick))
}

func add(list []part) (all sums) {
	for i := range list {
		all.add(list[i].sums, list[i].f)
	}
	return all
}

// kept gives the groups that count, as they are at a moment, in the memory of have.
func (c *cell) kept(have *[Groups]part, now time.Time, quick bool) []part {
	n, told, reports, moment := 0, 0, 0.0, now.UnixNano()
	for i := range c.group {
		g := &c.group[i]
		if g.at == 0 {
			continue
		}
		age := time.Duration(max(moment-g.at, 0))
		s, f := &g.slow, fade(age, slow)
		tells := s.tells(f)
		if tells {
			told++
			reports += f * s.sessions
		}
		if quick {
			s, f = &g.fast, fade(age, fast)
			tells = s.tells(f)
		}
		if !tells {
			continue
		}
		// In order of what was lost, which fading does not change.
		x, at := part{s, f, s.lost(), i}, n
		for ; at > 0 && x.lost < have[at-1].lost; at-- {
			have[at] = have[at-1]
		}
		have[at] = x
		n++
	}
	list := have[:n]
	if n >= minGroups {
		// By the last minute for both: else who falls silent lets liars through for the last seconds.
		share := trim
		if reports >= manyReports*float64(told) {
			share = trimMany
		}
		cut := int(share * float64(n))
		list = list[cut : n-cut]
	}
	return list
}

// Estimate is how a CDN serves in a place.
type Estimate struct {
	// StallRatio is stalled to stalled and played time, StartFailRatio failed starts
	// to attempts, ErrorRatio failed to all media requests (as edges log them),
	// FirstScreenMs the mean start-up time.
	StallRatio, StartFailRatio, ErrorRatio, FirstScreenMs float64
	// BitrateBps is the mean bitrate played, ThroughputBps the mean of what players
	// measured while they loaded.
	BitrateBps, ThroughputBps float64
	// SE are their standard errors.
	SE Errors
	// Samples is the number of reports of the last minute behind it, those of the
	// finest cell; Cell says which: "isp", "region", "cdn", or empty without any.
	Samples float64
	Cell    string
	// AgeSec is how old the newest report is.
	AgeSec float64
}

// Age makes an estimate of a while ago as old as it is.
func (e *Estimate) Age(by time.Duration) {
	if e.Cell != "" {
		e.AgeSec += by.Seconds()
	}
}

// Estimate draws the finest cell towards the coarser ones around it.
func (t *Table) Estimate(cdn, region, isp string, now time.Time) Estimate {
	return t.within(place{cdn, region, isp}, now, func(p place) Estimate { return t.Estimate(p.cdn, p.region, p.isp, now) })
}

// EstimateIn is [Table.Estimate], with the coarser cells' estimates as they were
// when first asked for in the round: for all places of a region they are the same.
func (t *Table) EstimateIn(round int64, cdn, region, isp string, now time.Time) Estimate {
	return t.within(place{cdn, region, isp}, now, func(p place) Estimate { return t.RegionIn(round, p.cdn, p.region, now) })
}

// RegionIn is [Table.EstimateIn] of all providers of a region, or of all regions, made once in the round.
func (t *Table) RegionIn(round int64, cdn, region string, now time.Time) Estimate {
	p := place{cdn: cdn, region: region}
	have, ok := t.coarse[p]
	if !ok || have.round != round {
		have = known{round, t.EstimateIn(round, cdn, region, "", now)}
		if len(t.coarse) < maxCells {
			t.coarse[p] = have
		}
	}
	return have.Estimate
}

// known is an estimate of a round.
type known struct {
	round int64
	Estimate
}

// within draws the estimate of a place's own cell towards that of the place around it, which around gives.
func (t *Table) within(p place, now time.Time, around func(place) Estimate) (e Estimate) {
	level := "cdn"
	switch {
	case p.isp != "":
		level, e = "isp", around(place{cdn: p.cdn, region: p.region})
	case p.region != "":
		level, e = "region", around(place{cdn: p.cdn})
	}
	c := t.cells[p]
	if c == nil {
		return e
	}
	var have [Groups]part
	list := c.kept(&have, now, false)
	s := add(list)
	if s.sessions < 0.5 {
		return e
	}
	e.shrink(&s, list)
	e.Samples, e.Cell, e.AgeSec = s.sessions, level, max(now.Sub(time.Unix(0, c.newest)).Seconds(), 0)
	return e
}

// Sweep forgets places that have not been heard of for ten time constants. Call it now and then.
func (t *Table) Sweep(now time.Time) {
	if now.Sub(t.swept) < slow {
		return
	}
	t.swept = now
	clear(t.coarse)
	for p, c := range t.cells {
		if now.UnixNano()-c.newest > int64(10*slow) {
			delete(t.cells, p)
		}
	}
	t.forgetSpots()
}
