package alerts

import (
	"context"
	"errors"
	"math"
	"net"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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
	s, err := w.bus.slices()
	if err != nil || s.Msgs == 0 {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	var loaded uint64
	if err := w.ClickHouse.QueryRow(ctx, "SELECT max(bus_seq) FROM session_slices WHERE time > now() - INTERVAL 1 DAY").Scan(&loaded); err != nil {
		return nil, err
	}
	if loaded == 0 { // nobody watched for a day, or nothing was loaded: which, says what still lies on the bus
		const q = "SELECT max(bus_seq) FROM session_slices WHERE time > fromUnixTimestamp64Milli(?) - INTERVAL 1 DAY AND bus_seq BETWEEN ? AND ?"
		if err := w.ClickHouse.QueryRow(ctx, q, s.FirstTime.UnixMilli(), s.FirstSeq, s.LastSeq).Scan(&loaded); err != nil {
			return nil, err
		}
	}
	n, known := waiting(s, loaded)
	if !known {
		return nil, nil
	}
	return []rules.Row{{Subject: "loader", Value: float64(n), Weight: 1, Past: math.NaN(), Others: math.NaN()}}, nil
}

// waiting counts the messages of a stream after the last that was loaded (0: none of it was); not known where that
// is none of this stream, which then began anew.
func waiting(s jetstream.StreamState, loaded uint64) (n uint64, known bool) {
	switch {
	case loaded > s.LastSeq:
		return 0, false
	case loaded == 0:
		return s.Msgs, true // not those between them, that were purged once they were loaded
	}
	return s.LastSeq - loaded, true
}
