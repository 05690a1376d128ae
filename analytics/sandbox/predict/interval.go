package predict

import (
	"encoding/json"
	"math"
	"math/rand/v2"

	"github.com/spillway-live/spillway/analytics/sandbox"
)

// Interval is a prediction with its 95 % interval. High is infinite where there is no bound: nobody stalled in the simulator.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Recorded is what the recording has, for comparison.
	Recorded float64 `json:"recorded"`
}

// MarshalJSON writes an end that is infinite as null: JSON has no infinity.
func (i Interval) MarshalJSON() ([]byte, error) {
	finite := func(v float64) *float64 {
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil
		}
		return &v
	}
	return json.Marshal(struct {
		Value    *float64 `json:"value"`
		Low      *float64 `json:"low"`
		High     *float64 `json:"high"`
		Recorded *float64 `json:"recorded"`
	}{finite(i.Value), finite(i.Low), finite(i.High), finite(i.Recorded)})
}

// Bounded says whether the interval has an upper end.
func (i Interval) Bounded() bool { return !math.IsInf(i.High, 0) }

// HalfWidth is half the interval's width as a share of the value; infinite where it has no bound.
func (i Interval) HalfWidth() float64 {
	if !i.Bounded() {
		return math.Inf(1)
	}
	return (i.High - i.Low) / 2 / i.Value
}

// bootstrap resamples viewers. The estimate is what was recorded, times what the
// simulator says the candidate changes: an error that both simulations share drops out.
type bootstrap struct {
	seen, base, cand []totals
	units            [][]int
	arm              int
	model            float64
	rnd              *rand.Rand
}

const rounds = 400

// unitSums are numerator and denominator of a metric as seen, as simulated, and
// with the candidate.
type unitSums [6]float64

func (s *unitSums) add(o *unitSums) {
	for k := range s {
		s[k] += o[k]
	}
}

func (s *unitSums) ratio(k int) float64 {
	if s[2*k+1] == 0 {
		return 0
	}
	return s[2*k] / s[2*k+1]
}

// sums of a metric by viewer, and over all.
func (b *bootstrap) sums(x metric) (units []unitSums, all unitSums) {
	units = make([]unitSums, len(b.units))
	for u, sessions := range b.units {
		for _, i := range sessions {
			for k, list := range [][]totals{b.seen, b.base, b.cand} {
				n, d := x.of(&list[i])
				units[u][2*k] += n
				units[u][2*k+1] += d
			}
		}
		all.add(&units[u])
	}
	return units, all
}

func (b *bootstrap) interval(x metric) Interval {
	units, at := b.sums(x)
	recorded, from, to := at.ratio(0), at.ratio(1), at.ratio(2)
	out := Interval{Recorded: recorded, Value: recorded * to / from}
	if !(from > 0 && to > 0) { // what never happened in the simulator may happen: there is no bound
		out.Value, out.Low, out.High = to, 0, math.Inf(1)
		return out
	}
	var logs, arms []float64
	for range rounds {
		var s unitSums
		for range units {
			s.add(&units[b.rnd.IntN(len(units))])
		}
		if s[0] > 0 && s[2] > 0 && s[4] > 0 {
			logs = append(logs, math.Log(s[0]/s[1]*(s[4]/s[5])/(s[2]/s[3])))
			arms = append(arms, math.Log(s[4]/s[5]))
		}
	}
	// The arm that will be seen has its own luck: that of as many sessions.
	own := variance(arms) * float64(len(b.cand)) / float64(b.arm)
	se := math.Sqrt(variance(logs) + own + b.model*b.model)
	out.Low, out.High = out.Value*math.Exp(-1.96*se), out.Value*math.Exp(1.96*se)
	return out
}

func variance(x []float64) float64 {
	if len(x) < 2 {
		return 1
	}
	mean, v := 0.0, 0.0
	for _, y := range x {
		mean += y / float64(len(x))
	}
	for _, y := range x {
		v += (y - mean) * (y - mean) / float64(len(x)-1)
	}
	return v
}

// cost is what a gigabyte costs at the volumes of the recording, as if all time were like it. Which CDN delivered what is
// the simulator's, moves included; how much in all is what was recorded times what changes. The interval holds the luck of
// who comes, not the model's error: prices are known.
func (m *model) cost(was, res *sandbox.Result, b bootstrap) Interval {
	month := 30 * 86400 / m.seconds
	volume := func(list []sandbox.CDNResult) (gb []float64, all float64) {
		for _, c := range list {
			gb = append(gb, c.GB*month)
			all += c.GB * month
		}
		return gb, all
	}
	seen := make([]float64, len(m.cdns))
	recorded := 0.0
	for i := range b.seen {
		seen[b.seen[i].cdn] += b.seen[i].bytes / 1e9 * month
		recorded += b.seen[i].bytes / 1e9 * month
	}
	gb, _ := volume(res.CDNs)
	if _, base := volume(was.CDNs); base > 0 {
		for i := range gb {
			gb[i] *= recorded / base
		}
	}
	out := Interval{Recorded: m.perGB(seen), Value: m.perGB(gb)}
	var logs []float64
	for range rounds {
		drawn := make([]float64, len(m.cdns))
		for range b.units {
			for _, i := range b.units[b.rnd.IntN(len(b.units))] {
				drawn[b.cand[i].cdn] += b.cand[i].bytes / 1e9 * month
			}
		}
		if usd := m.perGB(drawn); usd > 0 {
			logs = append(logs, math.Log(usd))
		}
	}
	se := 0.0
	if len(logs) > 1 {
		se = math.Sqrt(variance(logs))
	}
	out.Low, out.High = out.Value*math.Exp(-1.96*se), out.Value*math.Exp(1.96*se)
	return out
}

// perGB is what a gigabyte of these volumes by CDN costs, USD.
func (m *model) perGB(gb []float64) float64 {
	usd, all := 0.0, 0.0
	for i := range gb {
		usd += sandbox.Bill(&m.cdns[i].CDN, gb[i])
		all += gb[i]
	}
	return usd / max(all, 1e-9)
}
