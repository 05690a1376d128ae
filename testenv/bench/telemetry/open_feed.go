package telemetry

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
)

// feedEvery is how often a batch goes to each partition.
const feedEvery = 100 * time.Millisecond

// maxFeedRows bounds a batch, as a collector's are.
const maxFeedRows = 2000

// feed publishes the batches that a collector would make of players that start
// and then report at an interval, so that none of their sessions is closed.
type feed struct {
	js    jetstream.JetStream
	every time.Duration // between two reports of a session
	parts [schemas.TelemetryPartitions]feedPart
	rows  atomic.Int64 // published and acknowledged, or about to be
	full  atomic.Int64 // partitions whose sessions have all begun
	// probing makes the next report of each partition's first session one that can be told from others.
	probing atomic.Bool
}

type feedPart struct {
	ids    []int // numbers of sessions
	next   int   // place in ids
	round  int64
	owed   float64
	seq    uint64
	began  bool
	probed bool
}

// probeDropped are the dropped frames that only a probe's report tells of.
const probeDropped = 77

func sessionID(i int) string { return fmt.Sprintf("353c2f94-7c26-4424-9997-%012d", i) }

func newFeed(js jetstream.JetStream, sessions int, every time.Duration) *feed {
	f := &feed{js: js, every: every}
	for i := range sessions {
		p := &f.parts[schemas.TelemetryPartition(sessionID(i))]
		p.ids = append(p.ids, i)
	}
	return f
}

// run feeds until ctx ends, and then waits for what is under way.
func (f *feed) run(ctx context.Context) error {
	t := time.NewTicker(feedEvery)
	defer t.Stop()
	last := time.Now()
	var acks []jetstream.PubAckFuture
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-t.C:
			passed := min(now.Sub(last), time.Second)
			last = now
			for p := range f.parts {
				a, err := f.turn(p, passed)
				if err != nil {
					return err
				}
				acks = append(acks, a...)
			}
		}
		// Batches of the last turns may be on the way, but not more.
		keep := 4 * len(f.parts)
		if ctx.Err() != nil {
			keep = 0
		}
		for len(acks) > keep {
			if err := acked(acks[0]); err != nil {
				return err
			}
			acks = acks[1:]
		}
	}
	return nil
}

func acked(a jetstream.PubAckFuture) error {
	select {
	case <-a.Ok():
		return nil
	case err := <-a.Err():
		return fmt.Errorf("publish telemetry: %w", err)
	case <-time.After(time.Minute):
		return fmt.Errorf("publish telemetry: no answer from the bus within a minute")
	}
}

// turn publishes what a partition's sessions have to report after the time that has passed.
func (f *feed) turn(n int, passed time.Duration) ([]jetstream.PubAckFuture, error) {
	p := &f.parts[n]
	p.owed += float64(len(p.ids)) * passed.Seconds() / f.every.Seconds()
	var acks []jetstream.PubAckFuture
	rows := make([]schemas.Telemetry, 0, min(int(2*p.owed)+2, maxFeedRows+2))
	now := time.Now()
	if f.probing.Load() && p.began && !p.probed {
		p.probed = true
		sn := p.round + 1
		if p.next > 0 {
			sn++ // it has reported in this round
		}
		r := report(p.ids[0], sn, now)
		r.DroppedFrames = columnar.Some[int64](probeDropped)
		rows = append(rows, r)
	}
	for ; p.owed >= 1 && len(p.ids) > 0; p.owed-- {
		i := p.ids[p.next]
		if p.next > 0 || !p.probed { // a probe's number is not used again
			if p.round == 0 {
				r := report(i, 0, now.Add(-300*time.Millisecond))
				r.Event, r.State = "ps", "s"
				rows = append(rows, r)
			}
			r := report(i, p.round+1, now)
			if p.round == 0 {
				r.Event = "ps"
			}
			rows = append(rows, r)
		}
		if p.next++; p.next == len(p.ids) {
			p.next = 0
			p.round++
		}
		if len(rows) >= maxFeedRows {
			a, err := f.publish(n, rows)
			if err != nil {
				return nil, err
			}
			acks, rows = append(acks, a), rows[:0]
		}
	}
	if len(rows) > 0 {
		a, err := f.publish(n, rows)
		if err != nil {
			return nil, err
		}
		acks = append(acks, a)
	}
	if p.round > 0 && !p.began {
		p.began = true
		f.full.Add(1)
	}
	return acks, nil
}

// report is what a player says at its interval.
func report(i int, sn int64, at time.Time) schemas.Telemetry {
	return schemas.Telemetry{
		ReceivedUnixUs: at.UnixMicro(), TsUnixMs: at.UnixMilli() - 40, Source: schemas.SourceCMCDEvent, Event: "t", State: "p",
		SessionID: sessionID(i), ViewerID: fmt.Sprintf("%016x", uint32(i)*2654435761), App: "bench", Stream: "stream" + strconv.Itoa(i%200),
		CDN: string(rune('a' + i%3)), Region: "eu", ISP: "isp" + strconv.Itoa(i%20), Device: "desktop", OS: "linux", Client: "hls.js",
		ClientVersion: "1.7.4", Protocol: "h", Arms: "start=control", Seq: columnar.Some(sn), BitrateKbps: columnar.Some(int32(400 << (i % 3))),
		LiveLatencyMs: columnar.Some(int32(1400 + (i+int(sn)*37)%900)),
	}
}

func (f *feed) publish(p int, rows []schemas.Telemetry) (jetstream.PubAckFuture, error) {
	data, err := schemas.EncodeTelemetry(rows)
	if err != nil {
		return nil, fmt.Errorf("encode telemetry: %w", err)
	}
	f.parts[p].seq++
	m := nats.NewMsg(schemas.TelemetrySubject(p))
	m.Data = data
	m.Header.Set(schemas.HeaderProducer, "bench")
	m.Header.Set(schemas.HeaderProducerSeq, strconv.FormatUint(f.parts[p].seq, 10))
	m.Header.Set(schemas.HeaderRows, strconv.Itoa(len(rows)))
	a, err := f.js.PublishMsgAsync(m)
	if err != nil {
		return nil, fmt.Errorf("publish telemetry: %w", err)
	}
	f.rows.Add(int64(len(rows)))
	return a, nil
}
