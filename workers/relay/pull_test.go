package relay

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
)

// What several streams lack is added up by neighbour, and is nothing once they are let go.
func TestPendingIsOfAllStreams(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := newMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Relay: &Relay{m: m}, links: map[string]*link{"a": {}, "b": {}}, pulls: map[schemas.StreamKey]*pull{}}
	for name, x := range map[string]struct {
		via    string
		behind uint64
	}{"one": {"a", 3}, "two": {"a", 4}, "three": {"b", 5}} {
		p := &pull{via: x.via}
		p.behind.Store(x.behind)
		n.pulls[schemas.StreamKey{App: "live", Stream: name}] = p
	}
	is := func(name string, want map[string]float64) {
		t.Helper()
		n.measure()
		all, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.GetName() != name {
				continue
			}
			for _, x := range f.GetMetric() {
				region := x.GetLabel()[0].GetValue()
				if v, ok := want[region]; !ok || v != x.GetGauge().GetValue() {
					t.Errorf("%s of %s is %v, want %v", name, region, x.GetGauge().GetValue(), v)
				}
				delete(want, region)
			}
		}
		if len(want) > 0 {
			t.Errorf("%s lacks %v", name, want)
		}
	}
	is("spillway_relay_pending_messages", map[string]float64{"a": 7, "b": 5})
	is("spillway_relay_streams", map[string]float64{"a": 2, "b": 1})
	delete(n.pulls, schemas.StreamKey{App: "live", Stream: "three"})
	is("spillway_relay_pending_messages", map[string]float64{"a": 7, "b": 0})
}
