package telemetry

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// probes follows slices, as they are published, for the reports made after the kill.
type probes struct {
	sub *nats.Subscription

	mu   sync.Mutex
	left map[string]bool // ids of sessions whose slice is missing
	at   time.Time       // when the last one came
}

func watchProbes(nc *nats.Conn, f *feed) (*probes, error) {
	p := &probes{left: map[string]bool{}}
	for i := range f.parts {
		p.left[sessionID(f.parts[i].ids[0])] = true
	}
	var rows []schemas.Slice
	var err error
	p.sub, err = nc.Subscribe("slices.*", func(m *nats.Msg) {
		if len(m.Data) == 0 || !p.done().IsZero() {
			return // a mark, or nothing more to find
		}
		var err error
		if rows, err = schemas.SliceTable().DecodeColumns(m.Data, sliceColumns, rows[:0]); err != nil {
			return // account reads it again and says so
		}
		p.look(rows)
	})
	if err != nil {
		return nil, fmt.Errorf("follow slices: %w", err)
	}
	// A takeover may bring more at once than the client is ready to keep.
	if err := p.sub.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("follow slices: %w", err)
	}
	return p, nc.Flush()
}

func (p *probes) look(rows []schemas.Slice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range rows {
		if rows[i].DroppedFrames == probeDropped && p.left[rows[i].SessionID] {
			delete(p.left, rows[i].SessionID)
			p.at = time.Now()
		}
	}
}

// done is when the last slice came; zero before.
func (p *probes) done() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.left) > 0 {
		return time.Time{}
	}
	return p.at
}

func (p *probes) stop() { _ = p.sub.Unsubscribe() }
