package validate

import "testing"

func TestDev(t *testing.T) {
	r, err := Run(Settings{Cases: 16, Sessions: 2000, Seed: 5, Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Cases {
		t.Logf("%-45s %-36s %.4f [%.4f %.4f] %.0f%% happened %.4f %v  fs %.2f/%.2f lat %.2f/%.2f %s", c.World, c.Candidate, c.Predicted.Value, c.Predicted.Low, c.Predicted.High, 100*c.Predicted.HalfWidth(), c.Happened, c.Covered(), c.FirstScreen.Value, c.FirstScreenHappened, c.Latency.Value, c.LatencyHappened, c.Refused)
	}
	r.Cases = nil
	t.Logf("%+v", r)
}
