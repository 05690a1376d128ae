package telemetry

import "testing"

func TestLagOf(t *testing.T) {
	all := make([]Lag, 7)
	for i := range all {
		all[i].BehindSeconds = float64(i)
	}
	// Thirds of seven: two, two and the three at the end.
	if a, b, c := lagOf(all); a != 0.5 || b != 2.5 || c != 5 {
		t.Errorf("%v, %v, %v", a, b, c)
	}
	if a, b, c := lagOf(nil); a != 0 || b != 0 || c != 0 {
		t.Errorf("%v, %v, %v without samples", a, b, c)
	}
}
