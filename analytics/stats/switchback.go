package stats

import (
	"math"
	"math/rand/v2"
)

// Block is one region for one stretch of time under one arm: totals of the
// sessions that started in it, those of the first minutes after a switch left
// out by the caller.
type Block struct {
	Num, Den float64
}

// BlockPair is a control and a treatment block of the same region and hour.
type BlockPair struct{ Control, Treatment Block }

// PairedResult compares paired blocks on the logarithmic scale.
type PairedResult struct {
	LogRatio Effect  // mean of ln R_T - ln R_C with Student's t, pairs-1 degrees of freedom
	Lift     float64 // exp(mean) - 1
	Lower    float64 // interval of Lift
	Upper    float64
}

// PairedLogRatio is the switchback estimate over pairs of blocks, d = ln R_T -
// ln R_C. A block without any event makes it undefined (LogOfZero): take longer
// blocks or PairedDifference; nothing is added to zeros silently.
func PairedLogRatio(pairs []BlockPair, alpha float64) (PairedResult, error) {
	if err := probability(alpha, InvalidAlpha, "alpha"); err != nil {
		return PairedResult{}, err
	}
	ds := make([]float64, len(pairs))
	for i, p := range pairs {
		for _, b := range []Block{p.Control, p.Treatment} {
			if err := checkBlock(b, i); err != nil {
				return PairedResult{}, err
			}
			if b.Num == 0 {
				return PairedResult{}, undefined(LogOfZero, "a block of pair %d has no event", i)
			}
		}
		ds[i] = math.Log(p.Treatment.Num/p.Treatment.Den) - math.Log(p.Control.Num/p.Control.Den)
	}
	e, err := oneSample(ds, alpha)
	if err != nil {
		return PairedResult{}, err
	}
	return PairedResult{LogRatio: e, Lift: math.Expm1(e.Estimate), Lower: math.Expm1(e.Lower), Upper: math.Expm1(e.Upper)}, nil
}

// PairedDifference is the mean of R_T - R_C over pairs; blocks without events
// are allowed.
func PairedDifference(pairs []BlockPair, alpha float64) (Effect, error) {
	if err := probability(alpha, InvalidAlpha, "alpha"); err != nil {
		return Effect{}, err
	}
	ds := make([]float64, len(pairs))
	for i, p := range pairs {
		if err := first(checkBlock(p.Control, i), checkBlock(p.Treatment, i)); err != nil {
			return Effect{}, err
		}
		ds[i] = p.Treatment.Num/p.Treatment.Den - p.Control.Num/p.Control.Den
	}
	return oneSample(ds, alpha)
}

func checkBlock(b Block, i int) error {
	if err := finite(b.Num, b.Den); err != nil {
		return err
	}
	if b.Num < 0 || b.Den < 0 {
		return undefined(InconsistentSums, "negative total in block %d", i)
	}
	if b.Den == 0 {
		return undefined(ZeroDenominator, "block %d has no denominator", i)
	}
	return nil
}

// oneSample is Student's t of the mean of ds.
func oneSample(ds []float64, alpha float64) (Effect, error) {
	switch len(ds) {
	case 0:
		return Effect{}, undefined(EmptyArm, "no pairs")
	case 1:
		return Effect{}, undefined(TooFewUnits, "1 pair has no variance")
	}
	var m Moments
	var size float64
	for _, d := range ds {
		m.Add(Totals{Num: d})
		size += d * d
	}
	if m.C[Num][Num] <= 1e-28*size || m.C[Num][Num] == 0 {
		return Effect{}, undefined(ZeroVariance, "all pairs agree")
	}
	n := float64(len(ds))
	return Test{Alpha: alpha}.effect(m.Mean[Num], m.Cov(Num, Num)/n, n-1)
}

// SwitchBlock is one block of a switchback with what was assigned to it.
type SwitchBlock struct {
	Block
	Treated bool
	// Stratum groups blocks among which the assignment was shuffled (a pair, a
	// day, an hour of day). Blocks of a stratum swap places in the test.
	Stratum int
}

// Randomization is the outcome of a randomization test.
type Randomization struct {
	Difference float64 // ratio of sums, treatment minus control
	P          float64 // (1 + #{|redrawn| >= |Difference|})/(1 + redraws)
	Redraws    int
}

// RandomizationTest recomputes the difference under redraws of the assignment:
// within each stratum the arms are shuffled over its blocks, as the switchback
// did (balanced pairs in random order are strata of two). It needs no model of
// how blocks depend on each other, and is deterministic for a seed. At least
// 1,000 redraws are advised.
func RandomizationTest(blocks []SwitchBlock, redraws int, seed uint64) (Randomization, error) {
	if redraws < 1 || redraws > 1_000_000 {
		return Randomization{}, undefined(InvalidParameter, "%d redraws, must be 1 to 1000000", redraws)
	}
	treated := make([]bool, len(blocks))
	var order []int // strata in order of appearance, so that a seed gives one answer
	strata := map[int][]int{}
	for i, b := range blocks {
		if err := finite(b.Num, b.Den); err != nil {
			return Randomization{}, err
		}
		if b.Num < 0 || b.Den < 0 {
			return Randomization{}, undefined(InconsistentSums, "negative total in block %d", i)
		}
		treated[i] = b.Treated
		if strata[b.Stratum] == nil {
			order = append(order, b.Stratum)
		}
		strata[b.Stratum] = append(strata[b.Stratum], i)
	}
	movable := false
	for _, ids := range strata {
		for _, i := range ids {
			movable = movable || treated[i] != treated[ids[0]]
		}
	}
	diff := func() (float64, bool) {
		var num, den [2]float64
		for i, b := range blocks {
			a := 0
			if treated[i] {
				a = 1
			}
			num[a] += b.Num
			den[a] += b.Den
		}
		if den[0] == 0 || den[1] == 0 {
			return 0, false
		}
		return num[1]/den[1] - num[0]/den[0], true
	}
	observed, ok := diff()
	if !ok {
		return Randomization{}, undefined(ZeroDenominator, "an arm has no denominator in any block")
	}
	if !movable {
		return Randomization{}, undefined(TooFewUnits, "no stratum holds both arms, so no other assignment was possible")
	}
	r := rand.New(rand.NewPCG(seed, 0xbf58476d1ce4e5b9))
	atLeast := 0
	limit := math.Abs(observed) * (1 - 1e-12)
	for range redraws {
		for _, s := range order {
			ids := strata[s]
			r.Shuffle(len(ids), func(a, b int) {
				treated[ids[a]], treated[ids[b]] = treated[ids[b]], treated[ids[a]]
			})
		}
		// A redraw without a denominator counts against significance.
		if d, ok := diff(); !ok || math.Abs(d) >= limit {
			atLeast++
		}
	}
	return Randomization{Difference: observed, P: float64(1+atLeast) / float64(1+redraws), Redraws: redraws}, nil
}
