package usage

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

const (
	// tellEvery is how often the month's bills are told.
	tellEvery = time.Minute
	// tellTimeout bounds the telling, which the counting waits for.
	tellTimeout = 5 * time.Second
	// closeFor is how long into a month that before it is told too, for what arrives late.
	closeFor = 24 * time.Hour
)

// tellBills publishes what the registry says of each CDN, and what it has delivered
// and costs, once in tellEvery. The sums must be stored: what is not may be counted again by another
// process. A telling that fails is made up for by the next.
func (c *Counter) tellBills(ctx context.Context, u *schemas.Usage, now time.Time) {
	if !c.told.IsZero() && now.Sub(c.told) < tellEvery {
		return
	}
	c.told = now
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	for _, e := range bills(u, c.registry.All(), now) {
		if err := c.publish(ctx, e); err != nil {
			if ctx.Err() == nil {
				c.Logger.Warn("what CDNs cost is not told; trying again in a minute", "cdn", e.CDN, "err", err)
			}
			return
		}
	}
}

func (c *Counter) publish(ctx context.Context, e *schemas.Event) error {
	data, err := schemas.EncodeRecord(e)
	if err != nil {
		return err
	}
	_, err = c.JetStream.PublishMsg(ctx, &nats.Msg{Subject: schemas.EventSubject(e), Data: data}, jetstream.WithMsgID("e/"+e.ID))
	return err
}

// bills are the events of a moment: one for each CDN, in the month that its time is in.
func bills(u *schemas.Usage, cdns iter.Seq2[string, *schemas.CDN], now time.Time) (out []*schemas.Event) {
	at := []time.Time{now.UTC()}
	y, m, _ := at[0].Date()
	if begin := time.Date(y, m, 1, 0, 0, 0, 0, time.UTC); now.Sub(begin) < closeFor {
		at = append(at, begin.Add(-time.Microsecond))
	}
	for name, cdn := range cdns {
		for _, t := range at {
			b := cdn.Bill(u.GB(name, t), t)
			e := &schemas.Event{
				// Processes that run beside each other tell the same.
				ID:     fmt.Sprintf("cdn_state/%s/%s/%d", name, b.Month, now.Unix()/int64(tellEvery/time.Second)),
				TimeUs: t.UnixMicro(), Kind: schemas.EventCDNState, CDN: name,
				Detail: map[string]string{
					"month": b.Month, "gb": decimal(b.GB), "spend_usd": decimal(b.SpendUSD), "commit_gb": strconv.FormatInt(cdn.CommitGB, 10),
					"commit_share": decimal(b.CommitShare), "month_share": decimal(b.MonthShare),
				},
			}
			if t.Equal(now) { // of a month that is over the registry says nothing but prices
				e.Detail["state"], e.Detail["region"] = string(cdn.State), cdn.Region
				e.Detail["capacity_viewers"], e.Detail["capacity_bps"] = strconv.Itoa(cdn.CapacityViewers), strconv.FormatInt(cdn.CapacityBps, 10)
			}
			out = append(out, e)
		}
	}
	return out
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
