package alerts

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/schemas"
)

// maxConsumers bounds the consumers looked at; those that are made for one reader only are passed over.
const maxConsumers = 500

// rejectedFor is how long after the last dead letter its role is told of.
const rejectedFor = 10 * time.Minute

// busFacts is what the bus said at the last look.
type busFacts struct {
	err       error
	at        time.Time
	streams   map[string]jetstream.StreamState
	consumers map[string]consumer // by stream/name
	dead      map[string]dead     // by role
}

type consumer struct {
	pending, acked uint64
	rate           float64 // acknowledged a second since the last look; NaN at the first
}

type dead struct {
	count  uint64
	last   time.Time
	reason string
}

// read asks the bus for the state of its streams and durable consumers.
func (b *busFacts) read(ctx context.Context, js jetstream.JetStream, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	next := busFacts{at: now, streams: map[string]jetstream.StreamState{}, consumers: map[string]consumer{}, dead: map[string]dead{}}
	for _, c := range schemas.StreamConfigs(schemas.BusSettings{}) {
		if b.err = next.readStream(ctx, js, c.Name, b); b.err != nil {
			return b.err
		}
	}
	*b = next
	return nil
}

func (b *busFacts) readStream(ctx context.Context, js jetstream.JetStream, name string, before *busFacts) error {
	s, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open stream %s: %w", name, err)
	}
	var opts []jetstream.StreamInfoOpt
	if name == schemas.StreamDead {
		opts = append(opts, jetstream.WithSubjectFilter("dead.>"))
	}
	info, err := s.Info(ctx, opts...)
	if err != nil {
		return fmt.Errorf("ask about stream %s: %w", name, err)
	}
	b.streams[name] = info.State
	if name == schemas.StreamDead {
		return b.readDead(ctx, s, info.State.Subjects)
	}
	l := s.ListConsumers(ctx)
	for c := range l.Info() {
		if c.Config.Durable == "" || len(b.consumers) >= maxConsumers {
			continue
		}
		key := name + "/" + c.Name
		x := consumer{pending: c.NumPending + uint64(c.NumAckPending), acked: c.AckFloor.Consumer, rate: math.NaN()}
		if old, ok := before.consumers[key]; ok && x.acked >= old.acked && b.at.After(before.at) {
			x.rate = float64(x.acked-old.acked) / b.at.Sub(before.at).Seconds()
		}
		b.consumers[key] = x
	}
	if err := l.Err(); err != nil {
		return fmt.Errorf("list the consumers of stream %s: %w", name, err)
	}
	return nil
}

func (b *busFacts) readDead(ctx context.Context, s jetstream.Stream, subjects map[string]uint64) error {
	for subject, n := range subjects {
		m, err := s.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the last dead letter of %s: %w", subject, err)
		}
		b.dead[strings.TrimPrefix(subject, "dead.")] = dead{count: n, last: m.Time, reason: m.Header.Get(schemas.HeaderReason)}
	}
	return nil
}

func (b *busFacts) behind() ([]rules.Row, error) {
	var out []rules.Row
	for name, c := range b.consumers {
		out = append(out, rules.Row{Subject: name, Value: float64(c.pending), Weight: 1, Past: math.NaN(), Others: math.NaN()})
	}
	return out, b.err
}

func (b *busFacts) rejected(now time.Time) ([]rules.Row, error) {
	var out []rules.Row
	for role, d := range b.dead {
		if now.Sub(d.last) < rejectedFor {
			row := rules.Row{Subject: role, Value: float64(d.count), Weight: 1, Past: math.NaN(), Others: math.NaN()}
			row.Says = fmt.Sprintf("The role %s rejected a message at %s: %s. The stream DEAD has %d of it.", role, d.last.UTC().Format("15:04:05"), short(d.reason), d.count)
			out = append(out, row)
		}
	}
	return out, b.err
}

// slices is the state of SLICES; zero: not known, or empty.
func (b *busFacts) slices() (jetstream.StreamState, error) {
	return b.streams[schemas.StreamSlices], b.err
}

// short bounds what comes from messages.
func short(s string) string {
	if r := []rune(s); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return s
}

// tellBus publishes once a minute what the walls draw of the bus.
func (w *watch) tellBus(ctx context.Context, now time.Time) {
	minute := now.Truncate(time.Minute)
	if w.bus.err != nil || !minute.After(w.minute) {
		return
	}
	d := map[string]string{}
	for name, c := range w.bus.consumers {
		d["pending."+name] = decimal(float64(c.pending))
		if !math.IsNaN(c.rate) {
			d["rate."+name] = decimal(c.rate)
		}
	}
	for role, x := range w.bus.dead {
		d["dead."+role] = decimal(float64(x.count))
	}
	for name, s := range w.bus.streams {
		d["bytes."+name], d["messages."+name] = decimal(float64(s.Bytes)), decimal(float64(s.Msgs))
	}
	for rule, ms := range w.took {
		d["query_ms."+rule] = decimal(ms)
	}
	e := &schemas.Event{ID: fmt.Sprintf("bus_state/%d", minute.Unix()), TimeUs: now.UnixMicro(), Kind: schemas.EventBusState, Detail: d}
	if err := w.publish(ctx, e); err != nil {
		w.Logger.Warn("how far the bus's consumers are is not told; trying again", "err", err)
		return
	}
	w.minute = minute
}
