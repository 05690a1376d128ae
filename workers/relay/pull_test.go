package relay

import (
	"errors"
	"testing"
	"time"

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

// A region that lost everything numbers its streams from the start. That is repeated
// as long as this region keeps the higher numbers, and then taken.
func TestHeadsAge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	const kept = 90 * time.Second
	fresh := &head{place: place{epoch: 7, home: "a", homeSeq: 900}, at: now.Add(-kept / 2)}
	aged := &head{place: fresh.place, at: now.Add(-kept - time.Second)}
	anew, next := &place{epoch: 1, home: "a", homeSeq: 1}, &place{epoch: 7, home: "a", homeSeq: 901}
	for what, x := range map[string]struct {
		h    *head
		at   *place
		kept time.Duration
		want bool
		err  error
	}{
		"first":             {nil, anew, kept, true, nil},
		"next":              {fresh, next, kept, true, nil},
		"next after long":   {aged, next, kept, true, nil},
		"lower":             {fresh, anew, kept, false, nil},
		"lower, aged":       {aged, anew, kept, false, errAged},
		"lower, never aged": {aged, anew, 0, false, nil},
	} {
		if got, err := x.h.passes(x.at, x.kept, now); got != x.want || !errors.Is(err, x.err) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}
