package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/schemas"
)

// freshFor is how old an entry may be, when it is first seen, that is told as a
// change: this process may have begun after it. Others that told it used the same id.
const freshFor = time.Minute

// follow tells changes of the registry of CDNs and faults of test edges as events.
func (w *watch) follow(ctx context.Context) error {
	cdns, err := watchBucket(ctx, w.JS, schemas.BucketCDNs)
	if err != nil {
		return err
	}
	defer func() { _ = cdns.Stop() }()
	faults, err := watchBucket(ctx, w.JS, schemas.BucketFaults)
	if err != nil {
		return err
	}
	defer func() { _ = faults.Stop() }()
	known := map[string]schemas.CDN{}
	for {
		var e jetstream.KeyValueEntry
		var ok bool
		kind := schemas.EventCDNChanged
		select {
		case <-ctx.Done():
			return nil
		case e, ok = <-cdns.Updates():
		case e, ok = <-faults.Updates():
			kind = schemas.EventCDNFault
		}
		if !ok {
			return errors.New("the watch on CDNs and faults ended")
		}
		if e == nil || schemas.CheckName("CDN name", e.Key()) != nil {
			continue
		}
		reason := faultWords(e)
		if kind == schemas.EventCDNChanged {
			reason = changeWords(known, e)
		}
		if reason == "" || w.Now().Sub(e.Created()) > freshFor {
			continue
		}
		err := w.publish(ctx, &schemas.Event{
			ID: fmt.Sprintf("%s/%s/%d", kind, e.Key(), e.Revision()), TimeUs: e.Created().UnixMicro(), Kind: kind, CDN: e.Key(), Reason: reason,
		})
		if err != nil && ctx.Err() == nil {
			w.Logger.Warn("a change of a CDN is not told", "cdn", e.Key(), "err", err)
		}
	}
}

func watchBucket(ctx context.Context, js jetstream.JetStream, bucket string) (jetstream.KeyWatcher, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	k, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch bucket %s: %w", bucket, err)
	}
	return k, nil
}

// changeWords says what changed of a CDN, empty if nothing that people would mark.
func changeWords(known map[string]schemas.CDN, e jetstream.KeyValueEntry) string {
	old, had := known[e.Key()]
	if e.Operation() != jetstream.KeyValuePut {
		delete(known, e.Key())
		return "removed from the registry"
	}
	d, err := schemas.ParseCDN(e.Key(), e.Value())
	if err != nil {
		return ""
	}
	known[e.Key()] = *d
	switch {
	case !had:
		return "registered, " + string(d.State)
	case old.State != d.State:
		return fmt.Sprintf("%s, was %s", d.State, old.State)
	case old.CapacityBps != d.CapacityBps || old.CapacityViewers != d.CapacityViewers:
		return fmt.Sprintf("capacity %d viewers and %d bit/s, was %d and %d", d.CapacityViewers, d.CapacityBps, old.CapacityViewers, old.CapacityBps)
	case old.Order != d.Order || old.SpillViewers != d.SpillViewers || old.StreamViewers != d.StreamViewers:
		return "order or overflow changed"
	}
	return ""
}

// faultWords says which fault a test edge shows.
func faultWords(e jetstream.KeyValueEntry) string {
	if e.Operation() != jetstream.KeyValuePut {
		return "fault over"
	}
	var f map[string]any
	if json.Unmarshal(e.Value(), &f) != nil {
		return ""
	}
	b, err := json.Marshal(f) // keys in order
	if err != nil {
		return ""
	}
	return "fault " + short(string(b))
}

// raisedFor is how long a raised alert lasts that is neither raised again nor cleared.
const raisedFor = 15 * time.Minute

// raised is what others ask alerts for, by events.
type raised struct {
	// ready is closed once what was raised before has been read.
	ready chan struct{}
	quiet time.Duration // after which, without an event, the bus is asked whether there are more
	mu    sync.Mutex
	all   map[string]raise
}

func newRaised() *raised {
	return &raised{ready: make(chan struct{}), quiet: QueryTimeout, all: map[string]raise{}}
}

// errNotRead keeps alerts as they are until it is known which of them are still raised.
var errNotRead = errors.New("what others raised before is still being read")

type raise struct {
	row rules.Row
	at  time.Time
}

// follow reads the events alert_raised and alert_cleared, from raisedFor ago on.
func (r *raised) follow(ctx context.Context, js jetstream.JetStream, now func() time.Time) error {
	from := now().Add(-raisedFor)
	c, err := consumeRaised(ctx, js, from)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return r.read(ctx, c, now)
}

func consumeRaised(ctx context.Context, js jetstream.JetStream, from time.Time) (jetstream.Consumer, error) {
	return js.OrderedConsumer(ctx, schemas.StreamEvents, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"events." + string(schemas.EventAlertRaised) + ".>", "events." + string(schemas.EventAlertCleared) + ".>"},
		DeliverPolicy:  jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
	})
}

// read takes events as they come, and tells when those that were there before are taken.
func (r *raised) read(ctx context.Context, c jetstream.Consumer, now func() time.Time) error {
	left := c.CachedInfo().NumPending
	if left == 0 {
		close(r.ready)
	}
	m, err := c.Messages()
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	defer m.Stop()
	go func() { <-ctx.Done(); m.Stop() }()
	for {
		msg, err := m.Next(jetstream.NextMaxWait(r.quiet))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, nats.ErrTimeout):
			return fmt.Errorf("read events: %w", err)
		}
		was := left
		if err == nil {
			var e schemas.Event
			if schemas.DecodeRecord(msg.Data(), &e) == nil {
				r.take(&e, now())
			}
			left = leftAfter(left, msg)
		} else if left > 0 && none(ctx, c) { // those that were waiting are dropped
			left = 0
		}
		if was > 0 && left == 0 {
			close(r.ready)
		}
	}
}

// leftAfter is how many events are to be read after this one, of those that were left with it.
func leftAfter(left uint64, msg jetstream.Msg) uint64 {
	if md, err := msg.Metadata(); left == 0 || err == nil && md.NumPending == 0 {
		return 0 // some were dropped by the stream's limits meanwhile
	}
	return left - 1
}

// none reports whether a consumer has nothing more to come; false while the bus does not say.
func none(ctx context.Context, c jetstream.Consumer) bool {
	info, err := c.Info(ctx)
	return err == nil && info.NumPending == 0
}

// take notes one event. Whose rule is no name is passed over.
func (r *raised) take(e *schemas.Event, now time.Time) {
	rule := e.Detail["rule"]
	if schemas.CheckName("rule", rule) != nil {
		return
	}
	about := e.CDN
	if k := (schemas.StreamKey{App: e.App, Stream: e.Stream}); k.Check() == nil {
		about = k.String()
	}
	row := rules.Row{
		Subject: short(rule + " " + about), App: e.App, Stream: e.Stream, CDN: e.CDN, Value: 1, Weight: 1, Past: math.NaN(), Others: math.NaN(), Says: short(e.Reason), By: rule,
	}
	if p := e.Detail["page"]; len(p) > 1 && len(p) < 300 && p[0] == '/' && p[1] != '/' && p[1] != '\\' {
		row.Page = p // of the console, not of another host
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind == schemas.EventAlertCleared {
		delete(r.all, row.Subject)
		return
	}
	if _, has := r.all[row.Subject]; has || len(r.all) < maxSubjects {
		r.all[row.Subject] = raise{row, time.UnixMicro(min(e.TimeUs, now.UnixMicro()))}
	}
}

// rows gives what is raised now, errNotRead before that is known.
func (r *raised) rows(now time.Time) (out []rules.Row, err error) {
	select {
	case <-r.ready:
	default:
		return nil, errNotRead
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, x := range r.all {
		if now.Sub(x.at) > raisedFor {
			delete(r.all, k)
			continue
		}
		out = append(out, x.row)
	}
	return out, nil
}
