package assign

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

func experiment(salt string, coverage float64, weights ...float64) *schemas.Experiment {
	x := &schemas.Experiment{Name: "exp-" + salt, Status: schemas.ExperimentRunning, Salt: salt, Unit: "viewer", Layer: "player", Coverage: coverage}
	for i, w := range weights {
		x.Arms = append(x.Arms, schemas.Arm{Name: "arm" + strconv.Itoa(i), Weight: w})
	}
	return x
}

func TestExperimentsOfTheseTestsAreValid(t *testing.T) {
	if err := experiment("s", 0.5, 1, 0, 3).Check(); err != nil {
		t.Fatal(err)
	}
}

// unitNames are the kinds of unit the product has: uuid-like viewers, counters,
// stream paths, and names that differ in one trailing byte.
func unitNames(kind string, i int) string {
	switch kind {
	case "uuid":
		return fmt.Sprintf("%08x-0000-4000-8000-%012x", xxhash.Sum64String(strconv.Itoa(i))>>32, i)
	case "counter":
		return strconv.Itoa(i)
	case "stream":
		return "live/camera-" + strconv.Itoa(i)
	}
	return strings.Repeat("x", 40) + string(rune('a'+i%26)) + strconv.Itoa(i/26)
}

// Points are uniform for every kind of name: chi-square over 64 cells. The
// threshold is 1e-6 because salts and names are fixed: this passes or fails
// for good.
func TestPointsAreUniform(t *testing.T) {
	for _, kind := range []string{"uuid", "counter", "stream", "suffix"} {
		for _, salt := range []string{"", "a", "routing-2026-11", "routing-2026-12"} {
			observed, weights := make([]int64, 64), make([]float64, 64)
			for i := range weights {
				weights[i] = 1
			}
			for i := range 25_000 {
				u := Point(salt, unitNames(kind, i))
				if u < 0 || u >= 1 {
					t.Fatalf("point %v", u)
				}
				observed[int(u*64)]++
			}
			r, err := stats.SRM(observed, weights)
			if err != nil {
				t.Fatal(err)
			}
			if r.P < 1e-6 {
				t.Errorf("%s units with salt %q: chi2 %v, p %v", kind, salt, r.Chi2, r.P)
			}
		}
	}
}

// Two experiments that differ only in salt assign independently: chi-square of
// the joint 8 x 8 table. So do a layer's segments and an experiment whose salt
// is the layer's name.
func TestSaltsAreIndependent(t *testing.T) {
	pairs := map[string][2]func(string) float64{
		"phases":         {func(u string) float64 { return Point("routing-1", u) }, func(u string) float64 { return Point("routing-2", u) }},
		"empty salt":     {func(u string) float64 { return Point("", u) }, func(u string) float64 { return Point("x", u) }},
		"salt and layer": {func(u string) float64 { return Point("player", u) }, func(u string) float64 { return point(layerPrefix, "player", u) }},
	}
	for name, p := range pairs {
		for _, kind := range []string{"uuid", "counter", "stream"} {
			observed, weights := make([]int64, 64), make([]float64, 64)
			for i := range weights {
				weights[i] = 1
			}
			for i := range 25_000 {
				u := unitNames(kind, i)
				observed[int(p[0](u)*8)*8+int(p[1](u)*8)]++
			}
			r, err := stats.SRM(observed, weights)
			if err != nil {
				t.Fatal(err)
			}
			if r.P < 1e-6 {
				t.Errorf("%s over %s units: chi2 %v, p %v", name, kind, r.Chi2, r.P)
			}
		}
	}
}

// The values are pinned: a change of hash would move every unit of every
// running experiment.
func TestPointsAreStable(t *testing.T) {
	for _, c := range []struct{ salt, unit string }{{"routing-1", "viewer-1"}, {"", "x"}, {"ab", "c"}, {"a", "bc"}} {
		want := float64(xxhash.Sum64String(c.salt+"\x00"+c.unit)>>11) / (1 << 53)
		if got := Point(c.salt, c.unit); got != want {
			t.Errorf("Point(%q, %q) = %v, want %v", c.salt, c.unit, got, want)
		}
	}
	if got := Point("routing-1", "viewer-1"); got != 0.08941324521177574 {
		t.Errorf("Point moved: %v", got)
	}
	if Point("ab", "c") == Point("a", "bc") {
		t.Error("salt and unit run into each other")
	}
}

func TestCoverageOnlyAdds(t *testing.T) {
	for _, weights := range [][]float64{{1, 1}, {9, 1}, {1, 2, 3, 0}, {0.1, 0.2, 0.7}} {
		was := map[string]int{}
		for _, coverage := range []float64{0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 1} {
			x := experiment("ramp", coverage, weights...)
			in := 0
			for i := range 20_000 {
				u := strconv.Itoa(i)
				arm, _, ok := Assign(x, u)
				before, had := was[u]
				if had && (!ok || arm != before) {
					t.Fatalf("coverage %v moved unit %s from arm %d to %d (in: %v)", coverage, u, before, arm, ok)
				}
				if ok {
					in++
					was[u] = arm
				}
			}
			if got := float64(in) / 20_000; got < coverage-0.02 || got > coverage+0.02 || (coverage == 1 && in != 20_000) || (coverage == 0 && in != 0) {
				t.Errorf("coverage %v took in %v of the units", coverage, got)
			}
		}
	}
}

func TestSharesAndPropensities(t *testing.T) {
	x := experiment("shares", 0.6, 5, 0, 3, 2)
	counts := make([]int64, 4)
	for i := range 100_000 {
		arm, p, ok := Assign(x, "v"+strconv.Itoa(i))
		if !ok {
			continue
		}
		counts[arm]++
		if want := x.Arms[arm].Weight / 10; p != want {
			t.Fatalf("propensity of arm %d is %v, want %v", arm, p, want)
		}
	}
	r, err := stats.SRM(counts, []float64{5, 0, 3, 2})
	if err != nil || r.P < 1e-6 {
		t.Errorf("shares %v: %+v, %v", counts, r, err)
	}
}

// Experiments that own disjoint segments of a layer never share a unit, and
// between them cover it.
func TestLayerSegmentsAreDisjoint(t *testing.T) {
	a, b := experiment("a", 1, 1, 1), experiment("b", 1, 1, 1)
	a.LayerFrom, a.LayerTo = 0, 0.3
	b.LayerFrom, b.LayerTo = 0.3, 1
	inA := 0
	for i := range 50_000 {
		u := strconv.Itoa(i)
		_, _, okA := Assign(a, u)
		_, _, okB := Assign(b, u)
		if okA == okB {
			t.Fatalf("unit %s: in a %v, in b %v", u, okA, okB)
		}
		if okA {
			inA++
		}
	}
	if share := float64(inA) / 50_000; share < 0.29 || share > 0.31 {
		t.Errorf("segments of 0.3 hold %v of the units", share)
	}
}

func TestConflict(t *testing.T) {
	a, b, c := experiment("a", 1, 1, 1), experiment("b", 1, 1, 1), experiment("c", 1, 1, 1)
	a.LayerTo = 0.5
	b.LayerFrom, b.LayerTo = 0.5, 1
	c.Layer = "routing"
	if err := Conflict([]*schemas.Experiment{a, b, c}); err != nil {
		t.Errorf("disjoint segments and other layers conflict: %v", err)
	}
	a.Unit = schemas.UnitStream
	if err := Conflict([]*schemas.Experiment{a, b, c}); err == nil || !strings.Contains(err.Error(), "units are") {
		t.Errorf("streams and viewers in one layer: %v", err)
	}
	a.Unit = b.Unit
	b.LayerFrom = 0.4
	err := Conflict([]*schemas.Experiment{a, b, c})
	if err == nil || !strings.Contains(err.Error(), "exp-a") || !strings.Contains(err.Error(), "layer_from") {
		t.Errorf("overlap: %v", err)
	}
	b.LayerFrom, b.LayerTo = 0, 0 // the whole layer
	if Conflict([]*schemas.Experiment{a, b}) == nil {
		t.Error("an experiment that owns the whole layer conflicts with nothing")
	}
}

func TestOutside(t *testing.T) {
	for name, x := range map[string]*schemas.Experiment{
		"no coverage": experiment("s", 0, 1, 1),
		"no weights":  experiment("s", 1, 0, 0),
		"no arms":     experiment("s", 1),
	} {
		if arm, p, ok := Assign(x, "unit"); ok || arm != 0 || p != 0 {
			t.Errorf("%s: arm %d, propensity %v, in %v", name, arm, p, ok)
		}
	}
	if _, _, ok := Assign(experiment("s", 1, 1, 1), ""); ok {
		t.Error("an empty unit was assigned")
	}
	x := experiment("s", 1, 1, 1)
	if ArmIndex(x, "arm1") != 1 || ArmIndex(x, "other") != -1 {
		t.Error("ArmIndex")
	}
}

func TestAssignDoesNotAllocate(t *testing.T) {
	x := experiment("routing-2026-11", 0.8, 1, 1, 1)
	x.LayerFrom, x.LayerTo = 0.1, 0.9
	units := []string{"6f1c2a9e-0000-4000-8000-00000000002a", strings.Repeat("u", 300), "1"}
	var sink float64
	if n := testing.AllocsPerRun(1000, func() {
		for _, u := range units {
			_, p, _ := Assign(x, u)
			sink += p
		}
	}); n != 0 {
		t.Errorf("%v allocations per three assignments", n)
	}
	_ = sink
}

func BenchmarkAssign(b *testing.B) {
	x := experiment("routing-2026-11", 1, 1, 1, 1)
	x.LayerFrom, x.LayerTo = 0, 0.99
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, _, ok := Assign(x, "6f1c2a9e-0000-4000-8000-00000000002a"); ok {
			n++
		}
	}
}

// Every pair of blocks of a region holds both arms, in an order that is drawn
// by lot, independently by pair and region; coverage only adds pairs.
func TestBlocksAreBalancedPairs(t *testing.T) {
	x := experiment("sb", 1, 1, 1)
	x.Unit, x.BlockSec = schemas.UnitBlock, 1800
	if err := x.Check(); err != nil {
		t.Fatal(err)
	}
	arm := func(region string, block int64, coverage float64) (int, bool) {
		c := *x
		c.Coverage = coverage
		i, p, ok := Assign(&c, Unit(&c, &Subject{Region: region, UnixSec: block*1800 + block%1800}))
		if ok && p != 0.5 {
			t.Fatalf("propensity %v", p)
		}
		return i, ok
	}
	first, same := 0, 0
	const pairs = 2000
	for p := range int64(pairs) {
		a, _ := arm("eu", 2*p, 1)
		b, _ := arm("eu", 2*p+1, 1)
		if a+b != 1 {
			t.Fatalf("pair %d has arms %d and %d", p, a, b)
		}
		first += a
		if o, _ := arm("us", 2*p, 1); o == a {
			same++
		}
		half, inHalf := arm("eu", 2*p, 0.5)
		if _, other := arm("eu", 2*p+1, 0.5); inHalf != other {
			t.Fatalf("pair %d is half covered", p)
		}
		if wide, ok := arm("eu", 2*p, 0.8); inHalf && (!ok || wide != half || half != a) {
			t.Fatalf("more coverage moved pair %d", p)
		}
	}
	for what, n := range map[string]int{"first in eu": first, "eu as us": same} { // 4.5 standard deviations; the hash does not change
		if n < pairs/2-100 || n > pairs/2+100 {
			t.Errorf("%s: %d of %d", what, n, pairs)
		}
	}
	if i, _, ok := Assign(x, "nonsense"); ok {
		t.Errorf("a unit that is no block got arm %d", i)
	}
}

func TestAssigningABlockAllocatesNothing(t *testing.T) {
	x := experiment("sb", 1, 1, 1)
	x.Unit, x.BlockSec = schemas.UnitBlock, 1800
	if n := testing.AllocsPerRun(100, func() { Assign(x, "eu-west/987654") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
