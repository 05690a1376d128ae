package console

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
)

// queryTimeout bounds one query; ClickHouse away is noticed within it.
const queryTimeout = 5 * time.Second

// nowWindow is how far back "now" reaches: long enough for players that report
// every 10 s, short enough that a fault shows within 15 s.
const nowWindow = 20 * time.Second

// viewerWindow is how long a session counts after its last sign of life.
const viewerWindow = 30 * time.Second

// The charts.
const (
	recentStep  = 10 * time.Second
	recentSpan  = 15 * time.Minute
	minutesSpan = 30 * time.Minute
	// firstWindow is how far back the first-screen figures reach.
	firstWindow = 5 * time.Minute
	// loadDelay is how long rows may take to arrive; a step of a chart is drawn after it.
	loadDelay = 5 * time.Second
)

// job is one query, asked at an interval and never more than a tenth of the time.
type job struct {
	name  string
	every time.Duration
	run   func(ctx context.Context, now time.Time) error
	due   time.Time
	err   error // of the last time
}

// maxBackoff is the longest time until a query that failed slowly is asked again.
const maxBackoff = 15 * time.Second

// poll asks ClickHouse while somebody looks. A failure keeps the old numbers;
// the page says since when they are old.
func (c *Console) poll(ctx context.Context) {
	jobs := []*job{
		{name: "viewers", run: c.pollViewers},
		{name: "quality", run: c.pollQuality},
		{name: "streams", run: c.pollStreams},
		{name: "recent", every: 5 * time.Second, run: c.pollRecent},
		{name: "first_screen", every: 5 * time.Second, run: c.pollFirst},
		{name: "minutes", every: 10 * time.Second, run: c.pollMinutes},
	}
	tick := time.NewTicker(c.s.PollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.hub.woken:
		}
		if !c.hub.wanted(time.Now()) {
			c.apply(func() { c.st.n = numbers{} }) // nobody shall come back to old figures
			for _, j := range jobs {
				j.due = time.Time{}
			}
			continue
		}
		for _, j := range jobs {
			start := time.Now()
			if start.Before(j.due) {
				continue
			}
			qctx, cancel := context.WithTimeout(ctx, queryTimeout)
			err := j.run(qctx, start)
			cancel()
			if ctx.Err() != nil {
				return
			}
			took := time.Since(start)
			j.due = start.Add(max(j.every, 10*took) - c.s.PollInterval/4) // ticks jitter
			if j.err = err; err != nil {
				j.due = start.Add(min(10*took, maxBackoff)) // at once where nobody listens
				c.m.failed.WithLabelValues(j.name).Inc()
				break // the others would fail, or wait, as well
			}
			c.m.queries.WithLabelValues(j.name).Observe(took.Seconds())
		}
		c.clickHealth(failure(jobs))
	}
}

// failure is the first error of the queries' last times: as long as one fails, the numbers are not all new.
func failure(jobs []*job) error {
	for _, j := range jobs {
		if j.err != nil {
			return fmt.Errorf("query %s: %w", j.name, j.err)
		}
	}
	return nil
}

func (c *Console) clickHealth(err error) {
	c.st.mu.Lock()
	changed := c.st.click.set(err, time.Now())
	c.st.mu.Unlock()
	if !changed {
		return
	}
	if err != nil {
		c.s.Logger.Warn("console has no answer from ClickHouse", "err", err)
	} else {
		c.s.Logger.Info("console reads ClickHouse")
	}
}

// each runs sql over [from, to] and calls scan for every row.
func (c *Console) each(ctx context.Context, sql string, from, to time.Time, step time.Duration, scan func(driver.Rows) error) error {
	q, err := queries.Expand(sql, queries.All(), from, to, step)
	if err != nil {
		return err
	}
	rows, err := c.db.Query(ctx, q)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (c *Console) pollViewers(ctx context.Context, now time.Time) error {
	out := []viewerCount{}
	err := c.each(ctx, queries.ViewersNow, now.Add(-viewerWindow), now, time.Second, func(r driver.Rows) error {
		var v viewerCount
		err := r.Scan(&v.key.App, &v.key.Stream, &v.cdn, &v.viewers)
		out = append(out, v)
		return err
	})
	if err == nil {
		c.apply(func() { c.st.n.viewers = out })
	}
	return err
}

func (c *Console) pollQuality(ctx context.Context, now time.Time) error {
	out := map[string]quality{}
	err := c.each(ctx, queries.QualityNow, now.Add(-nowWindow), now, time.Second, func(r driver.Rows) error {
		var name string
		var stall, latency, bitrate, errors *float64
		var q quality
		err := r.Scan(&name, &stall, &latency, &bitrate, &errors, &q.Failures, &q.WatchedMs)
		q.Stall, q.Latency, q.BitrateKbps, q.ErrorRatio = numOf(stall), numOf(latency), numOf(bitrate), numOf(errors)
		out[name] = q
		return err
	})
	if err == nil {
		c.apply(func() { c.st.n.cdns = out })
	}
	return err
}

func (c *Console) pollStreams(ctx context.Context, now time.Time) error {
	out := map[schemas.StreamKey]quality{}
	err := c.each(ctx, queries.StreamQualityNow, now.Add(-nowWindow), now, time.Second, func(r driver.Rows) error {
		var k schemas.StreamKey
		var stall, latency *float64
		err := r.Scan(&k.App, &k.Stream, &stall, &latency)
		out[k] = quality{Stall: numOf(stall), Latency: numOf(latency)}
		return err
	})
	if err == nil {
		c.apply(func() { c.st.n.streams = out })
	}
	return err
}

func (c *Console) pollFirst(ctx context.Context, now time.Time) error {
	out := map[string]firstScreen{}
	err := c.each(ctx, queries.FirstScreenNow, now.Add(-firstWindow), now, time.Second, func(r driver.Rows) error {
		var name string
		var f firstScreen
		var p50, p90 *float64
		err := r.Scan(&name, &f.Attempts, &p50, &p90)
		f.P50, f.P90 = numOf(p50), numOf(p90)
		out[name] = f
		return err
	})
	if err == nil {
		c.apply(func() { c.st.n.first = out })
	}
	return err
}

func (c *Console) pollRecent(ctx context.Context, now time.Time) error {
	to := now.Add(-loadDelay).Truncate(recentStep)
	from := to.Add(-recentSpan)
	s := newSeries(from, to, recentStep)
	err := c.each(ctx, queries.Recent, from, to, recentStep, func(r driver.Rows) error {
		var t time.Time
		var name string
		var viewers, egress float64
		var stall, latency *float64
		if err := r.Scan(&t, &name, &viewers, &stall, &latency, &egress); err != nil {
			return err
		}
		u := t.Unix()
		s.put(name, "viewers", u, num(viewers))
		s.put(name, "stall_ratio", u, numOf(stall))
		s.put(name, "latency_ms", u, numOf(latency))
		s.put(name, "egress_bps", u, num(egress))
		return nil
	})
	if err == nil {
		delete(s.Lines, "")
		c.apply(func() { c.st.n.recent = s })
	}
	return err
}

func (c *Console) pollMinutes(ctx context.Context, now time.Time) error {
	to := now.Truncate(time.Minute).Add(time.Minute)
	from := to.Add(-minutesSpan)
	s := newSeries(from, to, time.Minute)
	err := c.each(ctx, queries.RecentFirstScreen, from, to, time.Minute, func(r driver.Rows) error {
		var t time.Time
		var name string
		var p50, p90 *float64
		if err := r.Scan(&t, &name, &p50, &p90); err != nil {
			return err
		}
		s.put(name, "p50_ms", t.Unix(), numOf(p50))
		s.put(name, "p90_ms", t.Unix(), numOf(p90))
		return nil
	})
	if err == nil {
		delete(s.Lines, "")
		c.apply(func() { c.st.n.minutes = s })
	}
	return err
}
