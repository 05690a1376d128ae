package schemas

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Steps of [WhenFull].
const (
	// StepCap leaves renditions above a bitrate out of new sessions' manifests.
	StepCap = "cap"
	// StepQueue lets new sessions wait for a place.
	StepQueue = "queue"
)

// WhenFull says what degrades, and in which order, when all CDNs that may take a
// session are full by what they can serve (capacity, not where they begin to spill).
type WhenFull struct {
	// Steps in their order: cap, queue, either alone, or none, which sends everybody
	// to the CDN that is least over its limit.
	Steps []string `json:"steps"`
	// CapBps is the highest bitrate of a rendition under the cap, bit/s; the lowest
	// rendition stays whatever it has. Default 1,500,000.
	CapBps int64 `json:"cap_bps,omitempty"`
	// CapFrom is the share of all capacity from which on the cap holds, as forecast; default 0.9.
	CapFrom float64 `json:"cap_from,omitempty"`
}

// DefaultWhenFull holds where nothing is said.
var DefaultWhenFull = &WhenFull{Steps: []string{StepCap, StepQueue}}

// Defaults of WhenFull.
const (
	DefaultCapBps  = 1_500_000
	DefaultCapFrom = 0.9
)

// Does says whether a step is taken. w may be nil.
func (w *WhenFull) Does(step string) bool { return slices.Contains(w.orDefault().Steps, step) }

// Cap gives CapBps and CapFrom, with their defaults. w may be nil.
func (w *WhenFull) Cap() (bps int64, from float64) {
	w = w.orDefault()
	return cmp.Or(w.CapBps, DefaultCapBps), cmp.Or(w.CapFrom, DefaultCapFrom)
}

func (w *WhenFull) orDefault() *WhenFull {
	if w == nil {
		return DefaultWhenFull
	}
	return w
}

// Check names the field that is wrong.
func (w *WhenFull) Check() error {
	if s := strings.Join(w.Steps, " "); s != "" && s != StepCap && s != StepQueue && s != StepCap+" "+StepQueue {
		return fmt.Errorf("when_full.steps %q: cap, queue, cap before queue, or none", w.Steps)
	}
	if w.CapBps < 0 || w.CapBps > 0 && w.CapBps < 20_000 {
		return fmt.Errorf("when_full.cap_bps %d is less than 20000", w.CapBps)
	}
	if w.CapFrom != 0 && !(w.CapFrom >= 0.3 && w.CapFrom <= 1) {
		return fmt.Errorf("when_full.cap_from %v is not between 0.3 and 1", w.CapFrom)
	}
	return nil
}
