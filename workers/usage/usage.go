// Package usage counts what each CDN delivers by month, so that price tiers,
// commitments and the policies that weigh them go by real volume.
//
// It promises: every session slice counts once, over kills and however many
// processes run, because sums and the position in the stream that they account
// for are one entry, stored by revision: who was overtaken reads it again. What
// was purged from the stream before it was read is counted as missed, not guessed.
// Once a minute it tells each CDN's bill as an event. It leaves out prices (the
// registry's) and who else asks (routers, commands, console).
package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/ordered"
	"github.com/spillway-live/spillway/schemas/token"
)

const (
	// storeEvery is how often sums are stored while slices come.
	storeEvery = time.Second
	// wait is how long a read waits before what was read is stored.
	wait = 200 * time.Millisecond
	// monthsKept bounds the entry.
	monthsKept = 14
	// lostRaces is how often others may store first, without the stored position
	// moving, before that is told.
	lostRaces = 20
	// maxCDNs bounds the names of a month.
	maxCDNs = 500
)

// Counter is the worker. JetStream and Signer are required.
type Counter struct {
	JetStream jetstream.JetStream
	// Signer tells sessions that routers began from those that are made up: what
	// the latter say they played counts for nothing. What edges logged counts always.
	Signer     *token.Signer
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	registry *mirror.Table[*schemas.CDN]
	bytes    *prometheus.GaugeVec
	shown    string    // month of the gauge
	from     uint64    // position that was last loaded
	told     time.Time // when bills were last told
}

// errOvertaken says that another process stored first.
var errOvertaken = errors.New("another process was faster")

// Run counts until ctx ends, and then returns nil.
func (c *Counter) Run(ctx context.Context) error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.bytes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "spillway", Subsystem: "usage", Name: "month_bytes", Help: "Bytes that each CDN has delivered this month.",
	}, []string{"cdn"})
	if c.Registerer != nil {
		if err := c.Registerer.Register(c.bytes); err != nil {
			return fmt.Errorf("usage: %w", err)
		}
	}
	c.registry = mirror.New(schemas.BucketCDNs, schemas.ParseCDN, c.Logger)
	ctx, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() { defer close(followed); _ = c.registry.Run(ctx, c.JetStream) }()
	defer func() { stop(); <-followed }()
	select {
	case <-c.registry.Ready():
	case <-ctx.Done():
		return nil
	}
	lost, lostAt := 0, uint64(0)
	for told := false; ctx.Err() == nil; {
		err := c.count(ctx, func() { told = false })
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, errOvertaken) || c.from != lostAt {
			lost, lostAt = 0, c.from
		} else if lost++; lost%lostRaces == 0 {
			c.Logger.Warn("volumes are not counted: they cannot be stored, nor does another process get on; remove the entry to count anew",
				"bucket", schemas.BucketUsage, "entry", schemas.UsageKey, "seq", c.from, "attempts", lost)
		}
		if !told && !errors.Is(err, errOvertaken) {
			told = true
			c.Logger.Warn("volumes are not counted: trying again from what is stored", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// count reads from where the stored sums stand, and stores them as they grow.
func (c *Counter) count(ctx context.Context, works func()) error {
	kv, err := c.JetStream.KeyValue(ctx, schemas.BucketUsage)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketUsage, err)
	}
	u, rev, err := load(ctx, kv)
	if err != nil {
		return err
	}
	st, err := c.JetStream.Stream(ctx, schemas.StreamSlices)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", schemas.StreamSlices, err)
	}
	if state := st.CachedInfo().State; state.LastSeq < u.Seq {
		c.Logger.Warn("the stream has begun anew: counting from its start", "stream", schemas.StreamSlices, "last", state.LastSeq, "counted_to", u.Seq)
		u.Seq = 0
	}
	r, err := ordered.Open(ctx, c.JetStream, schemas.StreamSlices, []string{"slices.*"}, u.Seq+1)
	if err != nil {
		return err
	}
	defer r.Close()
	works()
	c.from, c.shown = u.Seq, ""
	stored, at := u.Seq, time.Now()
	for {
		c.showMonth(u, time.Now())
		m, err := r.Next(ctx, wait)
		if err != nil && !errors.Is(err, ordered.ErrNothing) {
			return err
		}
		if err == nil {
			if err := c.take(u, m); err != nil {
				return err
			}
		}
		if u.Seq == stored {
			c.tellBills(ctx, u, time.Now())
			continue
		}
		if time.Since(at) < storeEvery {
			continue
		}
		if rev, err = store(ctx, kv, u, rev); err != nil {
			return err
		}
		stored, at = u.Seq, time.Now()
		c.show(u, at)
		c.tellBills(ctx, u, at)
	}
}

// take folds one message in.
func (c *Counter) take(u *schemas.Usage, m jetstream.Msg) error {
	md, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read %s: %w", schemas.StreamSlices, err)
	}
	seq := md.Sequence.Stream
	if seq <= u.Seq {
		return nil
	}
	// Sequences between those of a stream that is purged are no loss as long as
	// somebody counted them: the sums say up to where.
	if u.Seq > 0 && seq > u.Seq+1 {
		u.MissedMessages += seq - u.Seq - 1
		c.Logger.Error("slices were purged before they were counted: the volume is too low", "messages", seq-u.Seq-1)
	}
	u.Seq = seq
	slices, err := schemas.DecodeSlices(m.Data())
	if err != nil {
		return nil // a mark, or what the loader tells about
	}
	for i := range slices {
		c.add(u, &slices[i])
	}
	return nil
}

// add counts a slice at its CDN and month.
func (c *Counter) add(u *schemas.Usage, s *schemas.Slice) {
	if s.CDN == "" {
		return
	}
	v := schemas.Volume{EdgeBytes: s.RequestBytes}
	if c.Signer.IsSessionID(s.SessionID) {
		v.PlayedBytes = s.BitrateKbpsMsSum / 8 // kbit/s x ms = bits
	}
	if v == (schemas.Volume{}) {
		return
	}
	month := schemas.Month(time.UnixMilli(s.TimeUnixMs))
	of := u.Months[month]
	if _, known := of[s.CDN]; !known {
		// Telemetry may name any CDN: only those of the registry are begun.
		if _, registered := c.registry.Get(s.CDN); !registered || len(of) >= maxCDNs {
			return
		}
	}
	if of == nil {
		if u.Months == nil {
			u.Months = map[string]map[string]schemas.Volume{}
		}
		of = map[string]schemas.Volume{}
		u.Months[month] = of
		forget(u)
	}
	sum := of[s.CDN]
	if d, ok := c.registry.Get(s.CDN); ok && d.LogSample > 0 {
		v.EdgeBytes = int64(math.Round(float64(v.EdgeBytes) / d.LogSample)) // of a sample
	}
	sum.EdgeBytes += v.EdgeBytes
	sum.PlayedBytes += v.PlayedBytes
	of[s.CDN] = sum
}

// forget drops the oldest month when there are too many.
func forget(u *schemas.Usage) {
	for len(u.Months) > monthsKept {
		oldest := ""
		for m := range u.Months {
			if oldest == "" || m < oldest {
				oldest = m
			}
		}
		delete(u.Months, oldest)
	}
}

// showMonth begins the gauge anew when the month has changed, or the sums were loaded.
func (c *Counter) showMonth(u *schemas.Usage, now time.Time) {
	if month := schemas.Month(now); month != c.shown {
		c.shown = month
		c.bytes.Reset()
		c.show(u, now)
	}
}

func (c *Counter) show(u *schemas.Usage, now time.Time) {
	for cdn, v := range u.Months[schemas.Month(now)] {
		c.bytes.WithLabelValues(cdn).Set(float64(v.Bytes()))
	}
}

func load(ctx context.Context, kv jetstream.KeyValue) (*schemas.Usage, uint64, error) {
	e, err := kv.Get(ctx, schemas.UsageKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return &schemas.Usage{}, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read bucket %s: %w", schemas.BucketUsage, err)
	}
	u, err := schemas.ParseUsage(schemas.UsageKey, e.Value())
	if err != nil {
		return nil, 0, fmt.Errorf("entry %s of bucket %s is not understood: mend it, or remove it to count anew: %w", schemas.UsageKey, schemas.BucketUsage, err)
	}
	return u, e.Revision(), nil
}

// store writes the sums if nobody else has since rev.
func store(ctx context.Context, kv jetstream.KeyValue, u *schemas.Usage, rev uint64) (uint64, error) {
	u.UpdatedUnixUs = time.Now().UnixMicro()
	b, err := json.Marshal(u)
	if err != nil {
		return 0, err
	}
	var next uint64
	if rev == 0 { // none, or one that was removed: an update would only do for the former
		next, err = kv.Create(ctx, schemas.UsageKey, b)
	} else {
		next, err = kv.Update(ctx, schemas.UsageKey, b, rev)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, errOvertaken
	}
	if err != nil {
		return 0, fmt.Errorf("write bucket %s: %w", schemas.BucketUsage, err)
	}
	return next, nil
}
