package collect

import (
	"context"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
)

// followHops learns when ingest had the parts that edges and players tell of later.
func (c *Collector) followHops(ctx context.Context) {
	if err := c.hops.Run(ctx, c.s.JS.Conn()); err != nil && ctx.Err() == nil {
		c.s.Logger.Warn("hops of edges and players have no delays", "err", err)
	}
}

// maxHopDelayMs is beyond what a live part may take: the clock that says so is wrong, and the delay is left out.
const maxHopDelayMs = 10 * 60 * 1000

// markHop makes the row of an answer one about a hop, if it is about a sampled part
// and few rows about that part have come from this CDN. at is when the part was
// there, Unix ms, by the clock of whoever tells.
func (c *Collector) markHop(t *schemas.Telemetry, hop string, atMs, recvUs int64) {
	n, ok := schemas.ParsePartPath(t.URLPath)
	if !ok || !n.Sampled() || t.App != "" && n.Key != (schemas.StreamKey{App: t.App, Stream: t.Stream}) {
		return // what a token was signed for is not changed by a URL that a player tells
	}
	failed := t.ResponseCode.OK && (t.ResponseCode.V == 0 || t.ResponseCode.V >= 400)
	cdn := t.CDN
	if _, ok := c.cdns.Get(cdn); !ok && hop == schemas.HopPlayer {
		cdn = "" // players may name any: all of those together count as one
	}
	doneUs, wanted := c.hops.Take(n, hop, cdn, failed, time.UnixMicro(recvUs))
	if !wanted {
		return
	}
	n.Mark(t, hop)
	if delay := float64(atMs) - float64(doneUs)/1000; doneUs > 0 && !failed && delay > -maxHopDelayMs && delay < maxHopDelayMs {
		t.HopDelayMs = columnar.Some(delay)
	}
}
