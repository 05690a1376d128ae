package report

import (
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// redraws of the randomization test, and its seed: the same data give the same p-value.
const (
	redraws = 2000
	seed    = 20240229
)

// pairing compares blocks of a switchback by pairs: two neighbouring blocks of a region, one of each arm, whose order
// was drawn by lot.
type pairing struct {
	pairs []stats.BlockPair
	// dropped is how many blocks had no partner, or nothing viewed in one of the two.
	dropped    int
	difference stats.Effect // mean of R_T - R_C over pairs, Student's t
	err        error
	lift       stats.PairedResult // of ln R_T - ln R_C
	liftErr    error
	random     stats.Randomization
	randomErr  error
}

// pair puts the blocks of both arms together. The randomization test redraws the order of each pair, as the assignment
// did.
func (a arms) pair(x *schemas.Experiment, m schemas.Metric, redraw bool, alpha float64) pairing {
	f := formulas[m.Name]
	type place struct {
		region string
		pair   int64
	}
	found := map[place]*[2]*stats.Block{}
	var order []place
	blocks := 0
	for i, arm := range x.Arms {
		for _, c := range a[arm.Name] {
			cut := strings.LastIndexByte(c.unit, '/')
			n, err := strconv.ParseInt(c.unit[cut+1:], 10, 64)
			if cut < 0 || err != nil {
				continue
			}
			blocks++
			b := stats.Block{Num: float64(total(f.num, c.sums)), Den: 1}
			if f.den != nil {
				b.Den = float64(total(f.den, c.sums))
			}
			at := place{c.unit[:cut], n / 2}
			if found[at] == nil {
				found[at] = &[2]*stats.Block{}
				order = append(order, at)
			}
			found[at][i] = &b
		}
	}
	var p pairing
	var each []stats.SwitchBlock
	for i, at := range order {
		c, t := found[at][0], found[at][1]
		if c == nil || t == nil || c.Den == 0 || t.Den == 0 {
			continue
		}
		p.pairs = append(p.pairs, stats.BlockPair{Control: *c, Treatment: *t})
		// Each block weighs the same, so that what is redrawn is the mean difference that is shown.
		each = append(each, stats.SwitchBlock{Block: stats.Block{Num: c.Num / c.Den, Den: 1}, Stratum: i},
			stats.SwitchBlock{Block: stats.Block{Num: t.Num / t.Den, Den: 1}, Treated: true, Stratum: i})
	}
	p.dropped = blocks - 2*len(p.pairs)
	p.difference, p.err = stats.PairedDifference(p.pairs, alpha)
	p.lift, p.liftErr = stats.PairedLogRatio(p.pairs, alpha)
	if redraw {
		p.random, p.randomErr = stats.RandomizationTest(each, redraws, seed)
	}
	return p
}

// fill writes the paired figures into a comparison. Its p-value is that of the randomization test where it was made,
// else Student's.
func (p *pairing) fill(c *Comparison, scale float64) {
	d := p.difference
	c.Difference, c.P = span(d.Estimate, d.Lower, d.Upper, scale, p.err), figure(d.P, p.err)
	if p.random.Redraws > 0 || p.randomErr != nil {
		c.P = figure(p.random.P, p.randomErr)
	}
	c.Lift = span(p.lift.Lift, p.lift.Lower, p.lift.Upper, 1, p.liftErr)
}

// within tells whether the arm is shown to be worse by less than the margin: the mean over pairs of R_T - k R_C lies on
// the good side of 0, k being 1 + margin where lower is better, 1 - margin where higher is.
func (p *pairing) within(margin float64, d stats.Direction, alpha float64) (bool, error) {
	k := 1 + margin
	if d == stats.HigherIsBetter {
		k = 1 - margin
	}
	scaled := make([]stats.BlockPair, len(p.pairs))
	for i, b := range p.pairs {
		b.Control.Num *= k
		scaled[i] = b
	}
	e, err := stats.PairedDifference(scaled, 2*alpha) // two-sided, of which one side is asked
	if err != nil {
		return false, err
	}
	if d == stats.HigherIsBetter {
		return e.Lower > 0, nil
	}
	return e.Upper < 0, nil
}
