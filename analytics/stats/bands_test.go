package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

func TestLILHalfWidth(t *testing.T) {
	// Values computed by the authors' library, confseq.
	for _, c := range []struct{ t, tMin, alpha, want, abs float64 }{
		{1000, 100, 0.05, 0.08204769, 1e-6},
		{10_000, 1, 0.05, 0.0275, 5e-5},
	} {
		got, err := LILHalfWidth(c.t, c.tMin, c.alpha)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "half width", got, c.want, c.abs, 0)
	}
	for _, alpha := range []float64{1e-6, 0.001, 0.05, 0.3} {
		got, err := LILHalfWidth(5000, 50, alpha)
		if err != nil {
			t.Fatal(err)
		}
		closed := 0.85 * math.Sqrt((math.Log(1+math.Log(100.0))+0.8*math.Log(1612/alpha))/5000)
		if got > closed*1.0001 || got < 0.8*closed {
			t.Errorf("alpha %v: %v, closed form %v", alpha, got, closed)
		}
	}
}

// The band of one growing sample is checked at many sizes at once.
func TestCDFBandHoldsAtEveryLook(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	outside := 0
	for range 100 {
		counts := map[int32]uint64{}
		var inf uint64
		bad := false
		for n := 1; n <= 2000; n++ {
			if r.Float64() < 0.02 {
				inf++
			} else {
				counts[loghist.BinOf(1000*math.Exp(0.7*r.NormFloat64()))]++
			}
			if n < 200 || n%100 != 0 {
				continue
			}
			h, err := loghist.New(counts, inf)
			if err != nil {
				t.Fatal(err)
			}
			band, err := CDFBand(h, 200, 1, 0.05)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range band {
				truth := 0.98 * NormalCDF(math.Log(p.Ms/1000)/0.7)
				bad = bad || truth < p.Lower || truth > p.Upper
			}
		}
		if bad {
			outside++
		}
	}
	if outside > 5 {
		t.Errorf("%d of 100 growing samples left their 95%% band", outside)
	}
}
