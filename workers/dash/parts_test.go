package dash

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// TestLongerPartsAreThereLater: a segment whose parts are longer than by default is not asked for too early, and
// players are told to hold back more; a frame more, as audio has, changes nothing.
func TestLongerPartsAreThereLater(t *testing.T) {
	for us, later := range map[int64]int64{0: 0, schemas.DefaultPartTargetUs: 0, 213_334: 0, 500_000: 500_000} {
		r := Representation{PartUs: us}
		p := Period{Sets: []Representation{{}, r}}
		if got := r.firstPartUs() - FirstPartUs; got != later {
			t.Errorf("parts of %d us: the first %d us later, want %d", us, got, later)
		}
		if got := p.lowLatencyUs() - LowLatencyUs; got != later {
			t.Errorf("parts of %d us: %d us more latency, want %d", us, got, later)
		}
	}
}
