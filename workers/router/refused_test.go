package router

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	dto "github.com/prometheus/client_model/go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// What the bus will never take is lost alone: what is behind it, and what travels
// in one message with it, is published.
func TestWhatTheBusRefusesForGoodStopsNothing(t *testing.T) {
	b := bustest.Start(t)
	stream, err := b.JS.Stream(t.Context(), schemas.StreamDecisions)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = 8 << 10
	if stream, err = b.JS.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(b.JS, slog.New(slog.DiscardHandler), m)
	made := func(id string, bytes int, where string) *record {
		return &record{"decisions.dispatch.live.a", id, where, []byte(`"` + strings.Repeat("x", bytes) + `"`), time.Now()}
	}
	batch := append(together([]*record{
		made("1", 10, "w"), made("2", 9<<10, "w"), made("3", 10, "w"), // in one message
	}), message{made("4", int(b.JS.Conn().MaxPayload())+1, "")}, message{made("5", 10, strings.Repeat("h", 70_000))}, message{made("6", 10, "")})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if left := p.send(ctx, batch); left != nil {
		t.Errorf("%d records are left", count(left))
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		got, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, got.Header.Get(jetstream.MsgIDHeader))
	}
	if len(ids) != 3 || strings.Join(ids, "") != "613" {
		t.Errorf("on the bus are %v, want 6, 1 and 3", ids)
	}
	value := func(c interface{ Write(*dto.Metric) error }) float64 {
		var x dto.Metric
		if err := c.Write(&x); err != nil {
			t.Fatal(err)
		}
		return x.GetCounter().GetValue()
	}
	if n := value(m.dropped); n != 3 {
		t.Errorf("%v records are counted as dropped, want 3", n)
	}
	if n := value(m.published); n != 3 {
		t.Errorf("%v records are counted as published, want 3", n)
	}
}

// Decisions travel together as long as no bound on a message is passed.
func TestTogetherIsBounded(t *testing.T) {
	for what, x := range map[string]struct{ where, data, records, want int }{
		"bytes":   {10, maxTogetherBytes / 4, 9, 3}, // with what is around them three of a quarter fit
		"headers": {maxTogetherWheres / 4, 10, 9, 3},
		"one":     {10, 2 * maxTogetherBytes, 3, 3},
		"number":  {10, 10, 2 * maxTogether, 2},
	} {
		var records []*record
		for range x.records {
			records = append(records, &record{subject: "decisions.dispatch.live.a", where: strings.Repeat("w", x.where-1), data: make([]byte, x.data)})
		}
		if got := together(records); len(got) != x.want || count(got) != x.records {
			t.Errorf("%s: %d records in %d messages, want %d", what, count(got), len(got), x.want)
		}
	}
}
