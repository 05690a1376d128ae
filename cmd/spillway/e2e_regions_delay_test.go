package main

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// hopDelays notes when each region's bus tells that it has stored a chunk of a
// stream; what it gives logs the delay that each hop added. It judges nothing: how
// soon things happen is no matter of tests.
func hopDelays(t *testing.T, subject string, regions ...*upProgram) (report func()) {
	t.Helper()
	var mu sync.Mutex
	heard := make([]map[string]time.Time, len(regions))
	for i, r := range regions {
		heard[i] = map[string]time.Time{}
		nc, err := nats.Connect(r.NATS)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			if id := m.Header.Get(jetstream.MsgIDHeader); id != "" && heard[i][id].IsZero() {
				heard[i][id] = now
			}
		}); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		for i := range regions[1:] {
			var added []time.Duration
			for id, at := range heard[i+1] {
				if from := heard[i][id]; !from.IsZero() {
					added = append(added, at.Sub(from))
				}
			}
			slices.Sort(added)
			if n := len(added); n > 0 {
				t.Logf("hop %d to %d: %d chunks, added delay %s in the median, 90 %% within %s", i, i+1, n, added[n/2], added[n*9/10])
			} else {
				t.Logf("hop %d to %d: no chunk was heard of on both sides", i, i+1)
			}
		}
	}
}
