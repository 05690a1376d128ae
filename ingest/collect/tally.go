package collect

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/report"
	"github.com/spillway-live/spillway/schemas"
)

// tellEvery is how often a collector tells what it counted, at the end of each minute by the clock, so that a
// minute's counts stand in that minute in ClickHouse.
const tellEvery = time.Minute

// tally counts what became of records since it was last told. Metrics end with
// the process and are not in ClickHouse; the balance needs these beside the rows.
type tally struct {
	mu     sync.Mutex
	counts map[string]int64
	since  time.Time
}

func newTally(now time.Time) *tally { return &tally{counts: map[string]int64{}, since: now} }

func (t *tally) add(name string, n int) {
	t.mu.Lock()
	t.counts[name] += int64(n)
	t.mu.Unlock()
}

// event takes what was counted as an event; false when there was nothing.
func (t *tally) event(collector string, now time.Time) (schemas.Event, bool) {
	t.mu.Lock()
	counts, since := t.counts, t.since
	t.counts, t.since = map[string]int64{}, now
	t.mu.Unlock()
	if len(counts) == 0 {
		return schemas.Event{}, false
	}
	detail := map[string]string{"collector": collector, "since_us": strconv.FormatInt(since.UnixMicro(), 10)}
	for name, n := range counts {
		detail[name] = strconv.FormatInt(n, 10)
	}
	// A minute's end belongs to the minute; its start is the next one's.
	return schemas.Event{
		ID:     "collector/" + collector + "/" + strconv.FormatInt(now.UnixMicro(), 10),
		TimeUs: now.UnixMicro() - 1, Kind: schemas.EventCollectorCounts, Detail: detail,
	}, true
}

// tell queues the counts as they are each minute until ctx ends. What was counted
// after that is told by Run, once everything has been answered.
func (c *Collector) tell(ctx context.Context, r *report.Reporter) {
	for {
		next := time.Until(time.Now().Truncate(tellEvery).Add(tellEvery))
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
		c.tellNow(r)
	}
}

func (c *Collector) tellNow(r *report.Reporter) {
	if e, ok := c.m.tally.event(c.id, time.Now()); ok {
		r.Event(e)
	}
}

// startReports tells the counts each minute until end, which tells the last ones.
func (c *Collector) startReports(ctx context.Context) (end func(), err error) {
	r, err := report.New(report.Settings{JetStream: c.s.JS, Logger: c.s.Logger})
	if err != nil {
		return nil, err
	}
	c.told.Store(r)
	var reports, minutes sync.WaitGroup
	sending, endSending := context.WithCancel(context.WithoutCancel(ctx))
	telling, endTelling := context.WithCancel(ctx)
	reports.Go(func() { _ = r.Run(sending) }) // it returns nil
	minutes.Go(func() { c.tell(telling, r) })
	return func() {
		endTelling()
		minutes.Wait()
		c.tellNow(r)
		endSending()
		reports.Wait()
	}, nil
}
