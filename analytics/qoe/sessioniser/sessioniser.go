// Package sessioniser is the service that turns TELEMETRY into SLICES: one
// active reader per telemetry partition, holding the partition's sessions.
//
// It promises: every row that TELEMETRY holds is accounted for exactly once in
// SLICES, through crashes and takeovers; a dead process's partitions are taken
// over at once when its connection to the bus is closed, as a kill does, and within
// about five seconds otherwise; a batch nobody can read goes to the dead
// letters and holds nothing up.
//
// How: time is stream time, which is when collectors received rows, held against
// the time at which the bus stored them, and, while nothing arrives, that of tick
// messages, which the reader publishes on the telemetry subject itself (header
// Spillway-Kind: tick, no payload); so a replay sees the same time, and no
// process's clock but the bus's must be right. The state is put into the
// object store every 30 s, and what has changed in between when a replay would
// become long; a takeover is that snapshot with its parts plus a replay, which
// gives the same slices again and publishes only those that are not there yet:
// a slices message names the last input it accounts for (Spillway-Input-Seq)
// and, where one tick needs several messages, its number among them
// (Spillway-Slice-Part: 1/3). A reader that was declared dead but lives is
// stopped by Nats-Expected-Last-Subject-Sequence.
//
// It leaves out ClickHouse (package loader) and what a session is (package session).
package sessioniser

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/lease"
)

// Headers of this package's messages, beside those of schemas.
const (
	// KindTick is the value of schemas.HeaderKind on a tick message.
	KindTick = "tick"
	// KindMark is the same on a message without slices: no session is remembered any more.
	KindMark = "mark"
	// HeaderPart is "i/n" on the i-th of n slices messages of one tick.
	HeaderPart = "Spillway-Slice-Part"
	// MetaSeq is, in a snapshot's metadata, the last TELEMETRY sequence it accounts for.
	MetaSeq = "spillway-input-seq"
)

// SnapshotName is the name of a partition's whole snapshot in the object store; its parts have a dot and a number more.
func SnapshotName(partition int) string { return "sessioniser." + strconv.Itoa(partition) }

// Settings of the service.
type Settings struct {
	JetStream  jetstream.JetStream
	Logger     *slog.Logger          // nil is silent
	Registerer prometheus.Registerer // nil: metrics are not exported

	Session       session.Config
	TickEvery     time.Duration // stream time between slices; defaults to 1 s
	SnapshotEvery time.Duration // defaults to 30 s
	LeaseTTL      time.Duration // a silent process is dead after this; defaults to 3 s
	ID            string        // of this process; defaults to a random one
}

// Run takes part in the work until ctx ends. More processes share it.
func Run(ctx context.Context, s Settings) error {
	s.TickEvery = cmp.Or(s.TickEvery, time.Second)
	s.SnapshotEvery = cmp.Or(s.SnapshotEvery, 30*time.Second)
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	kv, err := schemas.OpenBucket(ctx, s.JetStream, schemas.BucketLedger)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	m := newMetrics(s.Registerer)
	slots := make(chan struct{}, atOnce)
	names := make([]string, schemas.TelemetryPartitions)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return lease.Pool{
		KV: kv, Conn: s.JetStream.Conn(), Role: "sessioniser", Names: names, TTL: s.LeaseTTL, ID: s.ID, Logger: s.Logger,
		Work: func(ctx context.Context, name string) error {
			p, err := strconv.Atoi(name)
			if err != nil {
				return err
			}
			err = newReader(s, m, slots, p).run(ctx)
			if ctx.Err() != nil {
				return nil
			}
			return err
		},
	}.Run(ctx)
}

// ErrFenced says that another reader writes the partition's slices.
var ErrFenced = errors.New("another reader has taken the partition over")

type metrics struct {
	rows, slices, batches, duplicateBatches, duplicateRows, lost, late, overflow, dead *prometheus.CounterVec
	open, lagSeconds, pending                                                          *prometheus.GaugeVec
	snapshotBytes                                                                      *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	label := []string{"partition"}
	c := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "sessioniser", Name: name, Help: help}, label)
		if r != nil {
			r.MustRegister(v)
		}
		return v
	}
	g := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "sessioniser", Name: name, Help: help}, label)
		if r != nil {
			r.MustRegister(v)
		}
		return v
	}
	return &metrics{
		rows:             c("rows_total", "telemetry rows taken in"),
		slices:           c("slices_total", "session slices published"),
		batches:          c("batches_total", "telemetry messages read"),
		duplicateBatches: c("duplicate_batches_total", "messages dropped because their producer's counter was seen"),
		duplicateRows:    c("duplicate_rows_total", "rows that repeat one of their session"),
		lost:             c("lost_reports_total", "reports missing by sequence number, less those that came after all"),
		late:             c("late_rows_total", "rows older than what their session had accounted"),
		overflow:         c("overflow_rows_total", "rows left out because too many sessions are open"),
		dead:             c("dead_letters_total", "messages nobody could read"),
		open:             g("open_sessions", "sessions open"),
		lagSeconds:       g("lag_seconds", "wall clock less stream time, seconds"),
		pending:          g("pending_messages", "messages waiting on the bus"),
		snapshotBytes:    g("snapshot_bytes", "size of the last snapshot, bytes"),
	}
}
