package bench

import (
	"slices"
	"time"
)

// FailoverReport is what RunFailover measured.
type FailoverReport struct {
	// Bench is "failover".
	Bench        string    `json:"bench"`
	Began        time.Time `json:"began"`
	Machine      Machine   `json:"machine"`
	Viewers      int       `json:"viewers"`
	LowLatency   int       `json:"low_latency"`
	BitrateKbps  int       `json:"bitrate_kbps"`
	Fault        string    `json:"fault"`
	TTLSeconds   float64   `json:"ttl_s"`
	AfterSeconds float64   `json:"after_s"`

	Modes []FailoverMode `json:"modes"`
}

// FailoverMode is one run.
type FailoverMode struct {
	Mode string `json:"mode"`
	// Affected sessions were on the CDN when it went down and played.
	Affected int `json:"affected"`
	// MovedWithin15s is the share of them that another CDN served within 15 s; the
	// rest are the times at which that was so for half and 95 % of them, seconds
	// from the fault, -1 where it never was.
	MovedWithin15s float64 `json:"moved_within_15s"`
	MovedP50       float64 `json:"moved_p50_s"`
	MovedP95       float64 `json:"moved_p95_s"`
	// StallMs is how long nothing played from the fault to the end, by session.
	StallMsP50  float64 `json:"stall_ms_p50"`
	StallMsMean float64 `json:"stall_ms_mean"`
	StallMsP95  float64 `json:"stall_ms_p95"`
	// OthersStallMsMean is the same of sessions on other CDNs: what the machine adds.
	OthersStallMsMean float64 `json:"others_stall_ms_mean"`
	// MachineCPUSeconds were used by all programs of the machine from the fault on.
	MachineCPUSeconds float64 `json:"machine_cpu_s"`
	// Of them: our server, its sessioniser, and this process with the viewers and their publisher.
	ServerCPUSeconds   float64 `json:"server_cpu_s"`
	SessionsCPUSeconds float64 `json:"sessioniser_cpu_s"`
	ViewersCPUSeconds  float64 `json:"viewers_cpu_s"`
	// Timeline has one entry a second, from 10 s before the fault.
	Timeline []FailoverSecond `json:"timeline"`
}

// FailoverSecond is a moment of a run.
type FailoverSecond struct {
	// Second from the fault.
	Second int `json:"s"`
	// Sessions by the CDN that served them last; Stopped are those that do not play.
	Sessions map[string]int `json:"sessions"`
	Stopped  int            `json:"stopped"`
}

// report sums up what the seats saw.
func (a *audience) report(fault, end time.Time) *FailoverMode {
	m := &FailoverMode{Mode: a.mode}
	var moved, stalls, others []float64
	for _, x := range a.seats {
		x.mu.Lock()
		slices.SortStableFunc(x.states, func(p, q stateAt) int { return p.at.Compare(q.at) })
		if x.playsAt(fault) {
			ms := float64(x.stopped(fault, end).Milliseconds())
			if x.on(fault) == failedCDN {
				stalls = append(stalls, ms)
				moved = append(moved, x.leftAfter(fault))
			} else {
				others = append(others, ms)
			}
		}
		x.mu.Unlock()
	}
	m.Affected = len(stalls)
	in := 0
	for _, t := range moved {
		if t >= 0 && t <= 15 {
			in++
		}
	}
	if m.Affected > 0 {
		m.MovedWithin15s = float64(in) / float64(m.Affected)
	}
	m.MovedP50, m.MovedP95 = never(moved, 0.5), never(moved, 0.95)
	m.StallMsP50, m.StallMsP95, m.StallMsMean, m.OthersStallMsMean = at(stalls, 0.5), at(stalls, 0.95), average(stalls), average(others)
	for t := fault.Add(-10 * time.Second); !t.After(end); t = t.Add(time.Second) {
		m.Timeline = append(m.Timeline, a.second(t, fault))
	}
	return m
}

// leftAfter is when another CDN served the session first, seconds from the fault; -1: never.
func (x *seat) leftAfter(fault time.Time) float64 {
	for _, s := range x.served {
		if s.at.After(fault) && s.cdn != failedCDN {
			return s.at.Sub(fault).Seconds()
		}
	}
	return -1
}

func (a *audience) second(t, fault time.Time) FailoverSecond {
	s := FailoverSecond{Second: int(t.Sub(fault).Round(time.Second) / time.Second), Sessions: map[string]int{}}
	for _, x := range a.seats {
		x.mu.Lock()
		if cdn := x.on(t); cdn != "" {
			s.Sessions[cdn]++
			if !x.playsAt(t) {
				s.Stopped++
			}
		}
		x.mu.Unlock()
	}
	return s
}

// at is a quantile; 0 of nothing.
func at(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// never is a quantile where -1 is later than everything.
func never(v []float64, q float64) float64 {
	const late = 1e9
	s := slices.Clone(v)
	for i := range s {
		if s[i] < 0 {
			s[i] = late
		}
	}
	if x := at(s, q); x < late {
		return x
	}
	return -1
}

func average(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
