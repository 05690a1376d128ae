package console

import (
	"slices"
	"time"
)

// series holds lines over common points in time: name (a CDN) to column to values.
type series struct {
	// Times are Unix seconds, ascending, evenly spaced by StepS.
	Times []int64                     `json:"t"`
	StepS int64                       `json:"step_s"`
	Lines map[string]map[string][]num `json:"lines"`
}

// newSeries has a point for every step of [from, to).
func newSeries(from, to time.Time, step time.Duration) *series {
	s := &series{StepS: int64(step / time.Second), Lines: map[string]map[string][]num{}}
	for t := from; t.Before(to); t = t.Add(step) {
		s.Times = append(s.Times, t.Unix())
	}
	return s
}

// put sets one value; points outside the range are left out.
func (s *series) put(name, column string, unix int64, v num) {
	if len(s.Times) == 0 {
		return
	}
	i, ok := slices.BinarySearch(s.Times, unix)
	if !ok {
		return
	}
	l := s.Lines[name]
	if l == nil {
		l = map[string][]num{}
		s.Lines[name] = l
	}
	vs := l[column]
	if vs == nil {
		vs = make([]num, len(s.Times))
		for j := range vs {
			vs[j] = none
		}
		l[column] = vs
	}
	vs[i] = v
}

// last gives the newest value of a line, NaN if it has none.
func (s *series) last(name, column string) num {
	vs := s.Lines[name][column]
	if len(vs) == 0 {
		return none
	}
	return vs[len(vs)-1]
}
