package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report of a run. Durations are milliseconds.
type Report struct {
	Seed       uint64         `json:"seed"`
	Kills      map[string]int `json:"kills"`
	Seconds    int            `json:"seconds"`
	Publishers int            `json:"publishers"`
	Viewers    int            `json:"viewers"`
	Between    string         `json:"between"` // longest time between two kills
	Renditions int            `json:"renditions"`
	Processes  map[string]int `json:"processes"`
	// Readers are independent readers, one for each playlist and origin. Compared counts the parts and segments
	// that they took and held against the bus; PartsOnBus the parts there.
	Readers    int `json:"readers"`
	Compared   int `json:"compared"`
	PartsOnBus int `json:"parts_on_bus"`
	// Differences are names with two contents, Missing parts that no reader got, or that one did not get from an
	// origin that ran; Doubled parts listed twice; NewEpochs how often a stream went on in a new one.
	Differences int `json:"differences"`
	Missing     int `json:"missing"`
	Doubled     int `json:"doubled"`
	NewEpochs   int `json:"new_epochs"`
	// Stalls of viewers, by the role whose kill came before; OwnIngest those of streams whose own ingest was killed.
	Stalls          map[string]int `json:"stalls"`
	OwnIngestStalls int            `json:"own_ingest_stalls"`
	OwnIngestMs     []int64        `json:"own_ingest_stall_ms"`
	// MachineStalls came within two seconds after the machine had not run the test itself, its publishers and
	// viewers, for 200 ms or more: they say nothing of the system. MachinePauses are those times.
	MachineStalls  int     `json:"machine_stalls"`
	MachinePauseMs []int64 `json:"machine_pause_ms"`
	PlayedSeconds  int     `json:"played_seconds"`
	// ViewerErrors are requests of viewers that failed, of ViewerRequests.
	ViewerErrors   int `json:"viewer_errors"`
	ViewerRequests int `json:"viewer_requests"`
	// ReconnectMs are from the kill of a stream's ingest to its next part at an origin, under the same URL.
	ReconnectMs   []int64 `json:"reconnect_ms"`
	ReconnectP50  int64   `json:"reconnect_p50_ms"`
	ReconnectP95  int64   `json:"reconnect_p95_ms"`
	RenditionMs   []int64 `json:"rendition_takeover_ms"` // longest pause of a rendition after a transcoder was killed
	ListedP50     int64   `json:"listed_p50_ms"`         // from bus to reader, source renditions
	ListedP99     int64   `json:"listed_p99_ms"`
	PackagerP99   int64   `json:"listed_after_packager_kill_p99_ms"`
	PackagerMost  int64   `json:"listed_after_packager_kill_most_ms"`
	MachineLagMs  int64   `json:"machine_lag_ms"`   // most by which the test process itself was late
	PublisherLag  int64   `json:"publisher_lag_ms"` // most by which a publisher sent late
	Interruptions int64   `json:"publisher_interruptions"`

	Failures []string `json:"failures"`
	Logs     string   `json:"-"`
}

// end stops readers and viewers and judges.
func (r *run) end() *Report {
	st := r.replay.Stats()
	r.stop()
	r.wg.Wait()
	rep := &Report{
		Seed: r.s.Seed, Kills: map[string]int{}, Seconds: int(time.Since(r.began).Seconds()), Publishers: r.s.Publishers,
		Viewers: r.s.Viewers, Between: r.s.Between.String(), Renditions: r.s.Renditions, Readers: len(r.readers), Stalls: map[string]int{},
		Processes:    map[string]int{Ingest: r.s.Ingests, Packager: r.s.Packagers, Origin: r.s.Origins, Transcoder: r.s.Transcoders},
		MachineLagMs: r.lag.Milliseconds(), PublisherLag: st.MaxLag.Milliseconds(), Interruptions: st.Interruptions,
	}
	for _, k := range r.kills {
		rep.Kills[k.role]++
	}
	for _, text := range r.truth.bad {
		r.found.add("bus", "%s", text)
	}
	names := r.truth.names()
	slices.Sort(names)
	for _, list := range names {
		f := r.truth.get(list)
		rep.PartsOnBus += len(f)
		bad, epochs := holes(list, f)
		if strings.HasSuffix(list, "src/video") {
			rep.NewEpochs += epochs - 1
		}
		for _, text := range bad {
			r.found.add("missing", "on the bus, %s", text)
		}
		r.judge(list, f, rep)
	}
	r.delays(rep)
	r.viewers(rep)
	rep.Differences, rep.Missing, rep.Doubled = r.found.count["different"], r.found.count["missing"], r.found.count["doubled"]
	rep.Failures = r.found.list
	return rep
}

// judge holds what the readers of a playlist got against the bus.
func (r *run) judge(list string, f []fragment, rep *Report) {
	place := map[string]int{}
	for i := range f {
		place[f[i].name] = i
	}
	covered := make([]bool, len(f))
	first, last, any := len(f), -1, false
	for _, rd := range r.readers {
		if rd.list != list {
			continue
		}
		rep.Compared += rd.compared
		at := -1
		for _, g := range rd.got {
			i, ok := place[g.name]
			if !ok {
				r.found.add("different", "%s/%s at %s is not on the bus", list, g.name, rd.origin.name)
				continue
			}
			if f[i].sum != g.sum {
				r.found.add("different", "%s/%s at %s is not what is on the bus", list, g.name, rd.origin.name)
			}
			switch {
			case i <= at:
				r.found.add("doubled", "%s/%s at %s comes after %s", list, g.name, rd.origin.name, f[at].name)
			case at >= 0 && i > at+1 && !g.away:
				r.found.add("missing", "%s at %s: %d parts between %s and %s", list, rd.origin.name, i-at-1, f[at].name, g.name)
			}
			at = max(at, i)
			covered[i] = true
			first, last, any = min(first, i), max(last, i), true
		}
		for name, sum := range rd.segments {
			if want, ok := r.truth.segment(list + "/" + name); ok && want != sum && !r.begins(f, name) {
				r.found.add("different", "%s/%s at %s is not the sum of its parts on the bus", list, name, rd.origin.name)
			}
		}
	}
	if !any {
		return
	}
	for i := first; i <= last; i++ {
		if !covered[i] {
			r.found.add("missing", "%s/%s is on the bus and was read at no origin", list, f[i].name)
		}
	}
}

// begins says whether a segment is one whose beginning was before the bus was read: none, as the reading comes first.
func (r *run) begins(f []fragment, name string) bool {
	return len(f) > 0 && strings.HasPrefix(f[0].name, strings.TrimSuffix(name, ".m4s")+".") && f[0].part != 0
}

// delays measures reconnects, takeovers and the way from bus to reader.
func (r *run) delays(rep *Report) {
	var listed, afterKill []int64
	firsts := map[string][]time.Time{} // by playlist: when each part on the bus was first at a reader
	for _, list := range r.truth.names() {
		f := r.truth.get(list)
		place := map[string]int{}
		for i := range f {
			place[f[i].name] = i
		}
		firsts[list] = make([]time.Time, len(f))
		for _, rd := range r.readers {
			if rd.list != list {
				continue
			}
			for _, g := range rd.got {
				i, ok := place[g.name]
				if !ok {
					continue
				}
				if t := &firsts[list][i]; t.IsZero() || g.at.Before(*t) {
					*t = g.at
				}
				if g.old || !strings.Contains(list, "/src/") || rd.origin.killedWithin(f[i].at) {
					continue
				}
				ms := g.at.Sub(f[i].at).Milliseconds()
				listed = append(listed, ms)
				for _, k := range r.kills {
					if d := f[i].at.Sub(k.at); k.role == Packager && d > -time.Second && d < time.Second {
						afterKill = append(afterKill, ms)
						break
					}
				}
			}
		}
	}
	for _, k := range r.kills {
		switch k.role {
		case Ingest:
			for _, s := range k.streams {
				if ms, ok := reconnect(r.truth.get(s+"/src/video"), firsts[s+"/src/video"], k.at); ok {
					rep.ReconnectMs = append(rep.ReconnectMs, ms)
				} else {
					r.found.add("publisher", "%s did not go on after %s was killed at %s", s, k.process.name, k.at.Format("15:04:05.000"))
				}
			}
		case Transcoder:
			for i := range r.s.Renditions {
				list := streamName(i) + "/" + rung.Name + "/video"
				rep.RenditionMs = append(rep.RenditionMs, longestPause(r.truth.get(list), k.at))
			}
		}
	}
	slices.Sort(rep.ReconnectMs)
	rep.ReconnectP50, rep.ReconnectP95 = quantile(rep.ReconnectMs, 0.5), quantile(rep.ReconnectMs, 0.95)
	slices.Sort(listed)
	slices.Sort(afterKill)
	rep.ListedP50, rep.ListedP99 = quantile(listed, 0.5), quantile(listed, 0.99)
	rep.PackagerP99, rep.PackagerMost = quantile(afterKill, 0.99), quantile(afterKill, 1)
	slices.Sort(rep.RenditionMs)
}

// killedWithin tells that the process was killed or started shortly before or after t.
func (p *process) killedWithin(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started.Sub(t).Abs() < 5*time.Second || p.killed.Sub(t).Abs() < 5*time.Second
}

// reconnect gives the time from a kill to the first part of the next epoch at a reader.
func reconnect(f []fragment, first []time.Time, kill time.Time) (int64, bool) {
	var epoch uint32
	for i := range f {
		if f[i].at.Before(kill) {
			epoch = f[i].epoch
		} else if f[i].epoch > epoch && !first[i].IsZero() {
			return first[i].Sub(kill).Milliseconds(), true
		}
	}
	return 0, false
}

// longestPause is the longest time without a part in the ten seconds after a kill.
func longestPause(f []fragment, kill time.Time) int64 {
	var most time.Duration
	last := kill
	for i := range f {
		if f[i].at.Before(kill) || f[i].at.After(kill.Add(10*time.Second)) {
			continue
		}
		most = max(most, f[i].at.Sub(last))
		last = f[i].at
	}
	return most.Milliseconds()
}

func quantile(sorted []int64, q float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// excusedFor is how long after a stream is back its players may still stall for the loss of its ingest.
const excusedFor = 10 * time.Second

// viewers accounts for stalls: to the stream's own ingest, or to the last kill before.
func (r *run) viewers(rep *Report) {
	for _, v := range r.views {
		rep.PlayedSeconds += int(v.report.Played.Seconds())
		rep.ViewerErrors += v.report.Errors
		rep.ViewerRequests += v.report.Requests
		if !v.report.Started {
			r.found.add("viewer", "a viewer of %s did not start", v.stream)
		}
	}
	before := map[int]time.Time{} // end of each viewer's stall before
	for _, s := range r.stalls {
		length := time.Since(s.from)
		if !s.to.IsZero() {
			length = s.to.Sub(s.from)
		}
		since := before[s.viewer]
		before[s.viewer] = s.from.Add(length)
		cause, why := r.cause(s, since)
		switch cause {
		case own:
			rep.OwnIngestStalls++
			rep.OwnIngestMs = append(rep.OwnIngestMs, length.Milliseconds())
		case machine:
			rep.MachineStalls++
		default:
			rep.Stalls[cause]++
			what := "stalled"
			if s.jump {
				what = "jumped to the live edge, which took"
			}
			r.found.add("stall", "a viewer of %s %s %s at %s; %s; %s", s.stream, what, length.Round(time.Millisecond), s.from.Format("15:04:05.000"), why, r.circumstances(s))
		}
		r.log.Info("a viewer stalled", "stream", s.stream, "ms", length.Milliseconds(), "at", s.from.Format("15:04:05.000"), "cause", cause, "why", why)
	}
	slices.Sort(rep.OwnIngestMs)
	for _, p := range r.pauses {
		if d := p.to.Sub(p.from); d >= pauseLeast {
			rep.MachinePauseMs = append(rep.MachinePauseMs, d.Milliseconds())
		}
	}
	slices.Sort(rep.MachinePauseMs)
}

// What stalls are accounted to beside roles.
const (
	own     = "own ingest"
	machine = "machine"
	nothing = "none"
)

// cause of a stall. The stream's own ingest, if that was killed shortly before, or since the viewer last stalled:
// what a viewer lost of its buffer then it gets back by stalling only.
func (r *run) cause(s *stall, since time.Time) (cause, why string) {
	var last *kill
	for _, k := range r.kills {
		if k.at.After(s.from) {
			break
		}
		last = k
		if slices.Contains(k.streams, s.stream) && (s.from.Sub(k.at) < excusedFor || k.at.After(since)) {
			return own, fmt.Sprintf("%s was killed %s before", k.process.name, s.from.Sub(k.at).Round(time.Millisecond))
		}
	}
	if r.stoodStill(s.from) {
		return machine, "the machine stood still"
	}
	if last == nil {
		return nothing, "no kill before"
	}
	why = fmt.Sprintf("%s was killed %s before", last.process.name, s.from.Sub(last.at).Round(time.Millisecond))
	if s.from.Sub(last.at) < excusedFor {
		return last.role, why
	}
	return nothing, why
}

// circumstances says how the stream fared in the three seconds before a stall: on the bus, from there to the
// readers, and how the machine did.
func (r *run) circumstances(s *stall) string {
	begin := s.from.Add(-3 * time.Second)
	in := func(t time.Time) bool { return t.After(begin) && t.Before(s.from.Add(100*time.Millisecond)) }
	var pause, way, lag time.Duration
	for _, track := range []string{"video", "audio"} {
		list := s.stream + "/src/" + track
		var last time.Time
		at := map[string]time.Time{}
		for _, f := range r.truth.get(list) {
			if in(f.at) && !last.IsZero() {
				pause = max(pause, f.at.Sub(last))
			}
			last, at[f.name] = f.at, f.at
		}
		for _, rd := range r.readers {
			if rd.list != list {
				continue
			}
			for _, g := range rd.got {
				if in(g.at) && !g.old {
					way = max(way, g.at.Sub(at[g.name]))
				}
			}
		}
	}
	for _, p := range r.pauses {
		if in(p.to) {
			lag = max(lag, p.to.Sub(p.from))
		}
	}
	return fmt.Sprintf("in the 3 s before, the longest pause on the bus was %d ms, the longest way from there to a reader %d ms, the machine's longest pause %d ms",
		pause.Milliseconds(), way.Milliseconds(), lag.Milliseconds())
}

// stoodStill tells that the machine gave the test no processor time shortly before t.
func (r *run) stoodStill(t time.Time) bool {
	for _, p := range r.pauses {
		if p.to.Sub(p.from) >= pauseLeast && p.from.Before(t) && t.Sub(p.to) < 2*time.Second {
			return true
		}
	}
	return false
}
