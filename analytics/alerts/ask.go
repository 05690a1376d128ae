package alerts

import (
	"context"
	"errors"
	"math"
	"net"
	"slices"
	"time"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
)

// asksClickHouse says whether a rule's rows come from ClickHouse.
func asksClickHouse(r *rules.Rule) bool { return r.SQL != "" || r.Name == queries.AlertLoaderLag }

// inOrder puts the rules over the bus first, and questions that hung behind those that did not, or did longer ago:
// one that is always too slow keeps no other from being asked.
func inOrder(all []rules.Rule, hung map[string]time.Time) []rules.Rule {
	slices.SortStableFunc(all, func(a, b rules.Rule) int {
		if x, y := asksClickHouse(&a), asksClickHouse(&b); x != y {
			if y {
				return -1
			}
			return 1
		}
		return hung[a.Name].Compare(hung[b.Name])
	})
	return all
}

// timedOut says whether a question waited to its end, rather than being refused.
func timedOut(err error) bool {
	var n net.Error // also context.DeadlineExceeded
	return errors.As(err, &n) && n.Timeout()
}

// rows gives a rule's rows as of now.
func (w *watch) rows(ctx context.Context, r *rules.Rule, now time.Time) ([]rules.Row, error) {
	switch r.Name {
	case queries.AlertClickHouseAway:
		return []rules.Row{{Subject: "ClickHouse", Value: now.Sub(w.answered).Seconds(), Weight: 1, Past: math.NaN(), Others: math.NaN()}}, nil
	case queries.AlertConsumerBehind:
		return w.bus.behind()
	case queries.AlertDeadLetters:
		return w.bus.rejected(now)
	case queries.AlertLoaderLag:
		return w.loaderLag(ctx)
	case queries.AlertRaised:
		return w.raised.rows(now)
	}
	return w.ask(ctx, r, now)
}

// ask runs a rule's SQL.
func (w *watch) ask(ctx context.Context, r *rules.Rule, now time.Time) (out []rules.Row, err error) {
	q, err := queries.Expand(r.SQL, queries.All(), now.Add(-r.Window), now, time.Minute)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	start := time.Now()
	rows, err := w.ClickHouse.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var row rules.Row
		var value, past, others *float64
		if err := rows.Scan(&row.Subject, &row.App, &row.Stream, &row.CDN, &value, &row.Weight, &past, &others); err != nil {
			return nil, err
		}
		row.Value, row.Past, row.Others = known(value), known(past), known(others)
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	w.answered = w.Now()
	w.took[r.Name] = float64(time.Since(start).Microseconds()) / 1000
	return out, nil
}

func known(p *float64) float64 {
	if p == nil {
		return math.NaN()
	}
	return *p
}

// loaderLag compares the newest slice in ClickHouse with the stream, by sequence numbers: times of slices are those
// of the sessions, and the last one of a session that fell silent is an old one.
func (w *watch) loaderLag(ctx context.Context) ([]rules.Row, error) {
	last, err := w.bus.lastSlice()
	if err != nil || last == 0 {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	var loaded uint64
	if err := w.ClickHouse.QueryRow(ctx, "SELECT max(bus_seq) FROM session_slices WHERE time > now() - INTERVAL 1 DAY").Scan(&loaded); err != nil {
		return nil, err
	}
	if loaded == 0 || loaded > last { // nothing was loaded for a day, or the stream began anew
		return nil, nil
	}
	return []rules.Row{{Subject: "loader", Value: float64(last - loaded), Weight: 1, Past: math.NaN(), Others: math.NaN()}}, nil
}
