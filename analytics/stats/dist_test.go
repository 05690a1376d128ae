package stats

import (
	"math"
	"testing"
)

func near(t *testing.T, what string, got, want, abs, rel float64) {
	t.Helper()
	if math.IsInf(want, 0) && got == want {
		return
	}
	if !(math.Abs(got-want) <= math.Max(abs, rel*math.Abs(want))) {
		t.Errorf("%s = %.15g, want %.15g", what, got, want)
	}
}

// Values from tables and closed forms: t with 1 and 2 degrees of freedom have
// elementary distribution functions.
func TestDistributions(t *testing.T) {
	near(t, "z .975", NormalQuantile(0.975), 1.959963984540054, 0, 1e-14)
	near(t, "z 1e-20", NormalQuantile(1e-20), -9.262340089798408, 0, 1e-13)
	near(t, "sf 10", NormalSF(10), 7.619853024160527e-24, 0, 1e-12)
	for _, x := range []float64{0.001, 0.3, 1, 5, 40, 1e5} {
		near(t, "t1 sf", StudentSF(x, 1), math.Atan(1/x)/math.Pi, 0, 1e-11)
		u := x / math.Sqrt(2+x*x)
		near(t, "t2 sf", StudentSF(x, 2), 2/(2+x*x)/(1+u)/2, 0, 1e-9)
	}
	// Far tails at many degrees of freedom (mpmath, 40 digits): not rounded off to 1e-16.
	for _, v := range [][3]float64{{23, 1500, 8.1432582263635753e-101}, {10, 1e5, 7.816507650103639e-24}, {5, 999999, 2.8669989359286207e-7}, {1.2, 50, 0.11789722510949797}, {40, 2000, 7.1393092667809853e-258}} {
		near(t, "t far tail", StudentSF(v[0], v[1]), v[2], 0, 1e-8)
	}
	// Large df: Fisher's expansion around the normal, to order 1/df^2.
	for _, df := range []float64{1e4, 1e6, 1e8} {
		z := 1.959963984540054
		want := z + (z*z*z+z)/(4*df) + (5*math.Pow(z, 5)+16*z*z*z+3*z)/(96*df*df)
		near(t, "t quantile", StudentQuantile(0.975, df), want, 0, 1e-9)
	}
	for _, df := range []float64{0.6, 1, 3.7, 20, 12097.9, 1e6} {
		for _, p := range []float64{1e-12, 1e-4, 0.3, 0.6, 0.975, 0.9999} {
			q := StudentQuantile(p, df)
			got := StudentSF(-q, df)
			near(t, "t round trip", got, p, 1e-14, 1e-8)
		}
	}
	near(t, "chi2 sf", ChiSquareSF(8.004761904762, 1), 0.004665449664582, 0, 1e-9)
	sum := 0.0
	for k := int64(0); k < 25; k++ {
		sum += math.Exp(logGamma(26) - logGamma(float64(k)+1) - logGamma(26-float64(k)) + float64(k)*math.Log(0.3) + float64(25-k)*math.Log(0.7))
		near(t, "binomial cdf", binomialCDF(k, 25, 0.3), sum, 1e-13, 1e-10)
	}
}
