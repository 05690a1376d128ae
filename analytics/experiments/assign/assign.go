// Package assign decides which arm of an experiment a unit gets.
//
// It promises a pure function: the same experiment and unit give the same arm
// in every process and version, without state, lookups or allocation. Raising
// coverage only ever adds units and never moves one; experiments of one layer
// that own disjoint segments never share a unit; experiments with different
// salts are independent. The point of a unit can be recomputed in ClickHouse
// (see Point), so logged exposures can be checked in SQL.
//
// It leaves out whether an experiment is running, targeting, and keeping a
// playing session in its arm when settings change: callers do that.
package assign

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/spillway-live/spillway/schemas"
)

// layerPrefix keeps the hash that cuts a layer into segments apart from the
// hash that picks arms, also when a salt equals the layer's name.
const layerPrefix = "\x01"

// Point places a unit in [0, 1): the top 53 bits of xxHash64(salt, 0x00, unit)
// times 2^-53. The separator keeps ("ab", "c") and ("a", "bc") apart. In
// ClickHouse: bitShiftRight(xxHash64(concat(salt, '\0', unit)), 11) * exp2(-53).
func Point(salt, unit string) float64 { return point("", salt, unit) }

func point(prefix, salt, unit string) float64 {
	var d xxhash.Digest
	d.Reset()
	// Writes to the digest never fail.
	_, _ = d.WriteString(prefix)
	_, _ = d.WriteString(salt)
	_, _ = d.WriteString("\x00")
	_, _ = d.WriteString(unit)
	return float64(d.Sum64()>>11) * 0x1p-53
}

// InLayer reports whether the unit falls into the segments of its layer that
// the experiment owns. LayerFrom and LayerTo both 0 own the whole layer.
func InLayer(exp *schemas.Experiment, unit string) bool {
	if exp.LayerFrom == 0 && (exp.LayerTo == 0 || exp.LayerTo == 1) {
		return true
	}
	v := point(layerPrefix, exp.Layer, unit)
	return v >= exp.LayerFrom && v < exp.LayerTo
}

// Assign returns the index of the unit's arm in exp.Arms and the probability
// with which a unit of this experiment gets that arm (weight over the sum of
// weights). ok is false when the unit is not in the experiment: outside its
// segments or coverage, or empty (an unknown viewer is never assigned), or when
// no arm has weight. Arm j owns [W(j-1), W(j-1) + coverage w(j)), W being the
// running sum of the normalised weights. Changing weights or salt moves units:
// do it only as a new phase.
//
// Blocks (unit block, see Unit) go to their two arms in pairs of neighbouring
// blocks of a region, in an order drawn by lot for each pair: every two blocks
// hold both arms, so that hours of the day weigh alike.
//
// exp must have passed its Check; it is only read.
func Assign(exp *schemas.Experiment, unit string) (arm int, propensity float64, ok bool) {
	if unit == "" || !(exp.Coverage > 0) || !InLayer(exp, unit) {
		return 0, 0, false
	}
	if exp.Unit == schemas.UnitBlock {
		return assignBlock(exp, unit)
	}
	var sum float64
	last := -1
	for i := range exp.Arms {
		if w := exp.Arms[i].Weight; w > 0 {
			sum += w
			last = i
		}
	}
	if last < 0 {
		return 0, 0, false
	}
	u := Point(exp.Salt, unit)
	var from float64
	for i := range exp.Arms {
		w := exp.Arms[i].Weight
		if !(w > 0) {
			continue
		}
		w /= sum
		to := from + w
		if i == last {
			to = 1 // rounding must not leave a gap at the top
		}
		if u < to {
			if u < from+exp.Coverage*(to-from) || exp.Coverage >= 1 {
				return i, w, true
			}
			return 0, 0, false
		}
		from = to
	}
	return 0, 0, false
}

// Subject is a session about to be assigned.
type Subject struct {
	Session, Viewer string
	Stream          schemas.StreamKey
	Region          string
	UnixSec         int64 // when it begins
}

// Unit gives what the experiment randomises for a session: its id, its viewer,
// its stream, or its region and block of time as "region/number"; empty: unknown.
func Unit(exp *schemas.Experiment, s *Subject) string {
	switch exp.Unit {
	case schemas.UnitSession:
		return s.Session
	case schemas.UnitViewer:
		return s.Viewer
	case schemas.UnitStream:
		return s.Stream.String()
	case schemas.UnitBlock:
		return s.Region + "/" + strconv.FormatInt(s.UnixSec/exp.BlockSec, 10)
	}
	return ""
}

// assignBlock draws the order of a pair of blocks; the second block gets the other arm.
func assignBlock(exp *schemas.Experiment, unit string) (arm int, propensity float64, ok bool) {
	cut := strings.LastIndexByte(unit, '/')
	if cut < 0 || len(exp.Arms) != 2 {
		return 0, 0, false
	}
	n, err := strconv.ParseInt(unit[cut+1:], 10, 64)
	if err != nil || n < 0 {
		return 0, 0, false
	}
	var text [96]byte
	pair := strconv.AppendInt(append(append(text[:0], unit[:cut]...), '/'), n/2, 10)
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(exp.Salt)
	_, _ = d.WriteString("\x00")
	_, _ = d.Write(pair)
	u := float64(d.Sum64()>>11) * 0x1p-53
	second := u >= 0.5
	if second {
		u -= 0.5
	}
	if u >= exp.Coverage/2 { // as with weights: each half of [0, 1) fills from its start
		return 0, 0, false
	}
	if second == (n%2 == 0) {
		return 1, 0.5, true
	}
	return 0, 0.5, true
}

// Conflict returns an error naming the two experiments when any two of those
// given share a layer and overlap in segments, for they would meet in one unit, or
// differ in what their unit is: segments of viewers and of streams are not of the
// same thing, so both could hold for one session. Pass the experiments that run (or
// are about to).
func Conflict(exps []*schemas.Experiment) error {
	for i, a := range exps {
		for _, b := range exps[:i] {
			if a.Layer != b.Layer {
				continue
			}
			if a.Unit != b.Unit {
				return fmt.Errorf("experiments %s and %s share layer %s, and their units are %s and %s; give one of them another layer or stop it",
					b.Name, a.Name, a.Layer, b.Unit, a.Unit)
			}
			af, at := segments(a)
			bf, bt := segments(b)
			if af < bt && bf < at {
				return fmt.Errorf("experiments %s and %s overlap in layer %s: [%v, %v) and [%v, %v); give one of them other segments (layer_from, layer_to) or stop it",
					b.Name, a.Name, a.Layer, bf, bt, af, at)
			}
		}
	}
	return nil
}

func segments(x *schemas.Experiment) (from, to float64) {
	if x.LayerFrom == 0 && x.LayerTo == 0 {
		return 0, 1
	}
	return x.LayerFrom, x.LayerTo
}

// ArmIndex returns the index of the named arm, or -1.
func ArmIndex(exp *schemas.Experiment, name string) int {
	for i := range exp.Arms {
		if exp.Arms[i].Name == name {
			return i
		}
	}
	return -1
}
