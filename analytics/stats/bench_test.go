package stats

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

// BenchmarkReport is the arithmetic of a report with 20 metrics in 5 segments:
// exact centring of 14 integer sums an arm, adjusted and plain comparison,
// Fieller's interval and a confidence sequence each.
func BenchmarkReport(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	arm := func() IntSums {
		var s IntSums
		for i := range s.Sum {
			s.Sum[i] = new(big.Int)
			for j := range s.Product {
				s.Product[i][j] = new(big.Int)
			}
		}
		for _, u := range draw(r, 1000, 0) {
			s.Units++
			for i := range u {
				x := big.NewInt(int64(u[i] * 1000))
				s.Sum[i].Add(s.Sum[i], x)
				for j := i; j < 4; j++ {
					s.Product[i][j].Add(s.Product[i][j], new(big.Int).Mul(x, big.NewInt(int64(u[j]*1000))))
				}
			}
		}
		return s
	}
	c, t := arm(), arm()
	test := Test{Alpha: 0.05}
	cs := CS{Alpha: 0.05, NStar: 2000}
	for b.Loop() {
		for range 20 * 5 {
			mc, err := c.Moments()
			if err != nil {
				b.Fatal(err)
			}
			mt, err := t.Moments()
			if err != nil {
				b.Fatal(err)
			}
			rc, err := Ratio(mc)
			if err != nil {
				b.Fatal(err)
			}
			rt, err := Ratio(mt)
			if err != nil {
				b.Fatal(err)
			}
			d, err := Difference(rc, rt, test)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := LiftFieller(rc, rt, test); err != nil {
				b.Fatal(err)
			}
			if _, err := cs.At(d.Estimate, d.SE, float64(mc.Units+mt.Units)); err != nil {
				b.Fatal(err)
			}
			a, err := CUPEDRatio(mc, mt)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := a.Lift(test); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkQuantilesFromBuckets is one arm's p50, p90, p95 and p99 from 500
// buckets of about 150 bins each.
func BenchmarkQuantilesFromBuckets(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	buckets := make([]BucketHist, 500)
	for i := range buckets {
		buckets[i].Bins = map[int32]uint64{}
		for range 2000 {
			buckets[i].Bins[loghist.BinOf(900*math.Exp(0.8*r.NormFloat64()))]++
		}
	}
	for b.Loop() {
		arm, err := NewBuckets(buckets)
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range []float64{0.5, 0.9, 0.95, 0.99} {
			if _, err := arm.Quantile(p, 0.05); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkStudentQuantile(b *testing.B) {
	df := 12.5
	for b.Loop() {
		StudentQuantile(0.975, df)
		df += 0.01
	}
}
