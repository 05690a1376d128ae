package stats

import (
	"math"
	"math/big"
)

// Var names one of the four totals kept per randomization unit.
type Var int

const (
	// Num is the metric's numerator, or the metric itself when it is a mean.
	Num Var = iota
	// Den is the denominator of a ratio metric.
	Den
	// PreNum is the numerator over the period before the first exposure.
	PreNum
	// PreDen is the denominator over the period before the first exposure.
	PreDen
)

// Totals are the totals of one unit, indexed by Var. Those not used stay 0.
type Totals [4]float64

// Moments are the sufficient statistics of one arm: number of units, means and
// centred co-moments C[a][b] = sum (a - mean a)(b - mean b). They merge without
// the cancellation that raw squares suffer when the mean is far above the
// spread. The zero value is an empty arm.
type Moments struct {
	Units int64
	Mean  [4]float64
	C     [4][4]float64
	// noise bounds what rounding in the sums may have left in C.
	noise [4][4]float64
}

// Add counts one more unit (Welford's update).
func (m *Moments) Add(x Totals) {
	m.Units++
	n := float64(m.Units)
	var d Totals
	for i := range d {
		d[i] = x[i] - m.Mean[i]
		m.Mean[i] += d[i] / n
	}
	for i := range d {
		for j := range d {
			m.C[i][j] += d[i] * (x[j] - m.Mean[j])
		}
	}
}

// Merge returns the moments of both sets of units together; the sets must not
// share a unit.
func (m Moments) Merge(o Moments) Moments {
	if m.Units == 0 {
		return o
	}
	if o.Units == 0 {
		return m
	}
	na, nb := float64(m.Units), float64(o.Units)
	r := Moments{Units: m.Units + o.Units}
	var d [4]float64
	for i := range d {
		d[i] = o.Mean[i] - m.Mean[i]
		r.Mean[i] = m.Mean[i] + d[i]*nb/(na+nb)
	}
	for i := range d {
		for j := range d {
			r.C[i][j] = m.C[i][j] + o.C[i][j] + d[i]*d[j]*na*nb/(na+nb)
			r.noise[i][j] = m.noise[i][j] + o.noise[i][j]
		}
	}
	return r
}

// Of computes the moments of per-unit totals.
func Of(units []Totals) Moments {
	var m Moments
	for _, u := range units {
		m.Add(u)
	}
	return m
}

// Sum is the total of v over all units.
func (m Moments) Sum(v Var) float64 { return m.Mean[v] * float64(m.Units) }

// Cov is the sample covariance over units, with n-1. 0 below two units.
func (m Moments) Cov(a, b Var) float64 {
	if m.Units < 2 {
		return 0
	}
	return m.C[a][b] / float64(m.Units-1)
}

// check refuses moments that no set of units can have.
func (m Moments) check(vs ...Var) error {
	if m.Units < 0 {
		return undefined(InvalidCount, "%d units", m.Units)
	}
	if m.Units == 0 {
		return undefined(EmptyArm, "no units")
	}
	for _, a := range vs {
		if err := finite(m.Mean[a]); err != nil {
			return err
		}
		for _, b := range vs {
			if err := finite(m.C[a][b]); err != nil {
				return err
			}
			if limit := math.Sqrt(math.Max(m.C[a][a], 0) * math.Max(m.C[b][b], 0)); math.Abs(m.C[a][b]) > limit*(1+1e-9)+m.noise[a][b] {
				return undefined(InconsistentSums, "covariance %v exceeds what the variances allow (%v)", m.C[a][b], limit)
			}
		}
		if m.C[a][a] < 0 {
			return undefined(InconsistentSums, "negative sum of squared deviations %v", m.C[a][a])
		}
	}
	return nil
}

// Sums are raw sums of one arm as a database returns them: over units, of each
// total and of each product of two totals (upper triangle, Product[a][b] with
// a <= b). They add over disjoint sets of units. Only the entries a method
// needs have to be filled.
type Sums struct {
	Units   int64
	Sum     [4]float64
	Product [4][4]float64
}

// Moments centres the sums. The centring itself is exact (256-bit), so only
// rounding already in the sums is left: a square sum short by no more than
// that counts as variance 0, one short by more is InconsistentSums. Prefer
// IntSums where sums are kept as integers.
func (s Sums) Moments() (Moments, error) {
	var f [4]*big.Float
	var p [4][4]*big.Float
	for i := range s.Sum {
		if err := finite(s.Sum[i]); err != nil {
			return Moments{}, err
		}
		f[i] = wide().SetFloat64(s.Sum[i])
		for j := i; j < 4; j++ {
			if err := finite(s.Product[i][j]); err != nil {
				return Moments{}, err
			}
			p[i][j] = wide().SetFloat64(s.Product[i][j])
		}
	}
	return centre(s.Units, f, p, 16*0x1p-52)
}

// IntSums are Sums kept as integers of any size (milliseconds, counts), which
// lose nothing. A nil entry is 0.
type IntSums struct {
	Units   int64
	Sum     [4]*big.Int
	Product [4][4]*big.Int
}

// Moments centres the sums exactly.
func (s IntSums) Moments() (Moments, error) {
	var f [4]*big.Float
	var p [4][4]*big.Float
	conv := func(x *big.Int) *big.Float {
		if x == nil {
			return wide()
		}
		return new(big.Float).SetPrec(max(256, uint(x.BitLen()))).SetInt(x)
	}
	for i := range f {
		f[i] = conv(s.Sum[i])
		for j := i; j < 4; j++ {
			p[i][j] = conv(s.Product[i][j])
		}
	}
	return centre(s.Units, f, p, 0)
}

func wide() *big.Float { return new(big.Float).SetPrec(256) }

// centre computes C = product - sum*sum/n. slack is the relative rounding the
// sums may carry.
func centre(units int64, sum [4]*big.Float, product [4][4]*big.Float, slack float64) (Moments, error) {
	m := Moments{Units: units}
	if units < 0 {
		return m, undefined(InvalidCount, "%d units", units)
	}
	if units == 0 {
		return m, nil
	}
	n := wide().SetInt64(units)
	for i := range sum {
		m.Mean[i], _ = wide().Quo(sum[i], n).Float64()
		for j := i; j < 4; j++ {
			c := wide().Mul(sum[i], sum[j])
			c.Sub(product[i][j], c.Quo(c, n))
			v, _ := c.Float64()
			raw, _ := product[i][j].Float64()
			noise := slack * (math.Abs(raw) + math.Abs(m.Mean[i]*m.Mean[j])*float64(units))
			if i == j && math.Abs(v) <= noise {
				v = 0
			}
			m.C[i][j], m.C[j][i] = v, v
			m.noise[i][j], m.noise[j][i] = noise, noise
		}
	}
	return m, nil
}
