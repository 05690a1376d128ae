package loghist

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

func TestBinOf(t *testing.T) {
	for _, c := range []struct {
		ms   float64
		want int32
	}{
		{-5, 0}, {0, 0}, {0.99, 0}, {1, 0}, {1.019, 0}, {1.021, 1},
		{100, 232}, {1000, 348}, {3_600_000, 762},
		{math.Inf(1), InfBin}, {math.Inf(-1), 0}, {math.NaN(), NoBin}, {math.MaxFloat64, maxFinite},
	} {
		if got := BinOf(c.ms); got != c.want {
			t.Errorf("BinOf(%v) = %d, want %d", c.ms, got, c.want)
		}
	}
	if math.Log(Ratio) != LnRatio {
		t.Errorf("LnRatio is %v, want %v", LnRatio, math.Log(Ratio))
	}
}

// Every value lies inside the bounds of its bin, bins meet without a gap, and
// the representative is within one percent.
func TestBoundsHoldTheirValues(t *testing.T) {
	for ms := 1; ms < 200_000; ms += 1 + ms/997 {
		y := float64(ms)
		b := BinOf(y)
		lo, hi := Bounds(b)
		if y < lo*(1-1e-12) || y >= hi*(1+1e-12) {
			t.Fatalf("%v ms outside bin %d = [%v, %v)", y, b, lo, hi)
		}
		if next, _ := Bounds(b + 1); math.Abs(next-hi) > 1e-9*hi {
			t.Fatalf("gap between bin %d and the next: %v, %v", b, hi, next)
		}
		if ms > 1 && math.Abs(Mid(b)/y-1) > 0.01 {
			t.Fatalf("middle %v of bin %d is more than 1%% from %v", Mid(b), b, y)
		}
	}
	for _, b := range []int32{-1, -7, maxFinite + 1} {
		if lo, hi := Bounds(b); lo == lo || hi == hi || Mid(b) == Mid(b) {
			t.Errorf("bin %d has bounds %v %v", b, lo, hi)
		}
	}
}

func TestQuantilesWithinOnePercentOfExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	counts := map[int32]uint64{}
	var ys []float64
	var inf uint64
	for range 20_000 {
		y := math.Exp(6 + 0.8*r.NormFloat64())
		if r.Float64() < 0.03 {
			y = math.Inf(1)
			inf++
		} else {
			counts[BinOf(y)]++
		}
		ys = append(ys, y)
	}
	sort.Float64s(ys)
	h, err := New(counts, inf)
	if err != nil {
		t.Fatal(err)
	}
	if h.Total() != 20_000 || h.Infinite() != inf {
		t.Fatalf("total %d infinite %d, want 20000 and %d", h.Total(), h.Infinite(), inf)
	}
	for _, p := range []float64{0.01, 0.1, 0.5, 0.9, 0.95, 0.99} {
		got, err := h.Quantile(p)
		if err != nil {
			t.Fatal(err)
		}
		want := ys[CeilRank(20_000, p)-1]
		if math.IsInf(want, 1) != math.IsInf(got, 1) || (!math.IsInf(want, 1) && math.Abs(got/want-1) > 0.01) {
			t.Errorf("p%v = %v, exact %v", p, got, want)
		}
	}
	if q, _ := h.Quantile(0.99); !math.IsInf(q, 1) {
		t.Errorf("p99 with 3%% failed starts is %v, want +Inf", q)
	}
	// Rank counts are exact at edges.
	for _, pt := range h.Curve() {
		n := sort.Search(len(ys), func(i int) bool { return ys[i] >= pt.Ms*(1-1e-12) })
		if float64(n)/20_000 != pt.F {
			t.Fatalf("F(%v) = %v, exact %v", pt.Ms, pt.F, float64(n)/20_000)
		}
	}
	prev := 0.0
	for x := 0.1; x < 1e5; x *= 1.007 {
		f, err := h.CDF(x)
		if err != nil || f < prev || f > 1 {
			t.Fatalf("CDF(%v) = %v after %v (%v)", x, f, prev, err)
		}
		prev = f
	}
}

func TestMergeEqualsAtOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	all, a, b := map[int32]uint64{}, map[int32]uint64{}, map[int32]uint64{}
	for i := range 5000 {
		k := BinOf(math.Exp(8 * r.Float64()))
		if i%50 == 0 {
			k = InfBin
		}
		all[k]++
		if r.IntN(2) == 0 {
			a[k]++
		} else {
			b[k]++
		}
	}
	pa, err1 := New(a, 2)
	pb, err2 := New(b, 0)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	sum, err := Sum([]Hist{pa, {}, pb})
	if err != nil {
		t.Fatal(err)
	}
	Merge(a, b)
	a[InfBin] += 2
	all[InfBin] += 2
	ha, err1 := New(a, 0)
	hall, err2 := New(all, 0)
	if !slices.Equal(sum.Bins(), hall.Bins()) || sum.Total() != hall.Total() {
		t.Errorf("sum of parts %v, at once %v", sum.Bins(), hall.Bins())
	}
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for rank := uint64(1); rank <= 5000; rank += 7 {
		x, _ := ha.AtRank(rank)
		y, _ := hall.AtRank(rank)
		if x != y {
			t.Fatalf("rank %d: merged %v, at once %v", rank, x, y)
		}
	}
}

// Histograms with keys far apart are sorted all the same.
func TestSparseKeys(t *testing.T) {
	h, err := New(map[int32]uint64{35000: 1, 0: 2, 17: 3, 9000: 4}, 5)
	if err != nil {
		t.Fatal(err)
	}
	want := []Bin{{0, 2}, {17, 3}, {9000, 4}, {35000, 1}, {InfBin, 5}}
	if !slices.Equal(h.Bins(), want) {
		t.Errorf("bins %v", h.Bins())
	}
	if b, err := h.BinAtRank(6); err != nil || b != 9000 {
		t.Errorf("rank 6 lies in bin %d, %v", b, err)
	}
}

func TestCeilRank(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		p    float64
		want uint64
	}{{100, 0.07, 7}, {100, 0.9, 90}, {10, 0.95, 10}, {1, 0.01, 1}, {3, 0.5, 2}, {25, 0.5, 13}, {1000, 0.999, 999}} {
		if got := CeilRank(c.n, c.p); got != c.want {
			t.Errorf("CeilRank(%d, %v) = %d, want %d", c.n, c.p, got, c.want)
		}
	}
}

func TestBadInput(t *testing.T) {
	var empty Hist
	if _, err := empty.Quantile(0.5); !errors.Is(err, ErrEmpty) {
		t.Errorf("quantile of nothing: %v", err)
	}
	if _, err := empty.CDF(1); !errors.Is(err, ErrEmpty) {
		t.Errorf("CDF of nothing: %v", err)
	}
	h, err := New(map[int32]uint64{5: 0, 10: 3, InfBin: 1}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if h.Total() != 6 || h.Infinite() != 3 || len(h.Bins()) != 2 {
		t.Errorf("total %d infinite %d bins %v", h.Total(), h.Infinite(), h.Bins())
	}
	for _, p := range []float64{0, 1, -1, 2, math.NaN()} {
		if _, err := h.Quantile(p); !errors.Is(err, ErrLevel) {
			t.Errorf("level %v: %v", p, err)
		}
	}
	for _, rank := range []uint64{0, 7} {
		if _, err := h.AtRank(rank); !errors.Is(err, ErrEmpty) {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
	if _, err := h.CDF(math.NaN()); !errors.Is(err, ErrKey) {
		t.Errorf("CDF(NaN): %v", err)
	}
	if f, _ := h.CDF(math.Inf(1)); f != 1 {
		t.Errorf("CDF(+Inf) = %v", f)
	}
	for _, k := range []int32{NoBin, -9, maxFinite + 1} {
		if _, err := New(map[int32]uint64{k: 1}, 0); !errors.Is(err, ErrKey) {
			t.Errorf("bin %d accepted: %v", k, err)
		}
	}
	for _, m := range []map[int32]uint64{{1: math.MaxUint64, 2: 1}, {InfBin: math.MaxUint64}} {
		if _, err := New(m, 1); !errors.Is(err, ErrOverflow) {
			t.Errorf("overflow accepted: %v", err)
		}
	}
	full, err := New(map[int32]uint64{1: math.MaxUint64}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sum([]Hist{full, h}); !errors.Is(err, ErrOverflow) {
		t.Errorf("sum overflow accepted: %v", err)
	}
}

func BenchmarkBinOf(b *testing.B) {
	x := 1.0
	for b.Loop() {
		x = x*1.1 + float64(BinOf(x))*1e-9
		if x > 1e6 {
			x = 1
		}
	}
}

func BenchmarkQuantile(b *testing.B) {
	m := map[int32]uint64{}
	for i := range 400 {
		m[int32(100+i)] = uint64(i*i + 1)
	}
	for b.Loop() {
		h, err := New(m, 7)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Quantile(0.95); err != nil {
			b.Fatal(err)
		}
	}
}
