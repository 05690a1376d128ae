package chaos

import (
	"context"
	"fmt"
	"strings"

	"github.com/spillway-live/spillway/schemas"
)

// health is a roll-up of raw rows by minute and the one by hour that it feeds: its sums, each with what it is of raw
// rows, and the DD-sketches.
type health struct {
	tables   []string
	rows     string // which raw rows it is made of
	measures [][2]string
	sketches [][3]string // column, accuracy and levels, what it is of raw rows
}

var healths = []health{
	{
		tables: []string{"rollup_cdn_minute", "rollup_cdn_hour"},
		rows:   "source IN ('" + schemas.SourceCDNLog + "', '" + schemas.SourceCMCDRequest + "')",
		measures: [][2]string{
			{"requests", "count()"}, {"cache_known", "countIf(isNotNull(cache_hit))"}, {"cache_hits", "countIf(ifNull(cache_hit, false))"},
			{"client_errors", "countIf(response_code BETWEEN 400 AND 499)"}, {"server_errors", "countIf(response_code >= 500)"}, {"no_answers", "countIf(response_code = 0)"},
			{"bytes", "sum(bytes)"}, {"first_byte_ms_sum", "sum(first_byte_ms)"}, {"first_byte_count", "countIf(isNotNull(first_byte_ms))"},
		},
		sketches: [][3]string{{"first_byte_sketch", "0.01, 0.5, 0.9, 0.99", "first_byte_ms"}, {"last_byte_sketch", "0.01, 0.5, 0.9, 0.99", "last_byte_ms"}},
	},
	{
		tables: []string{"rollup_publisher_minute", "rollup_publisher_hour"},
		rows:   "source = '" + schemas.SourcePublisher + "'",
		measures: [][2]string{
			{"reports", "count()"}, {"fps_sum", "sum(fps)"}, {"fps_count", "countIf(isNotNull(fps))"}, // frame rates are whole here
			{"publish_bps_sum", "sum(publish_bps)"}, {"publish_bps_count", "countIf(isNotNull(publish_bps))"}, {"publish_stall_ms", "sum(publish_stall_ms)"},
		},
		sketches: [][3]string{{"fps_sketch", "0.01, 0.05, 0.5", "fps"}, {"publish_bps_sketch", "0.01, 0.05, 0.5", "publish_bps"}},
	},
	{
		tables: []string{"rollup_publisher_app_minute"},
		rows:   "source = '" + schemas.SourcePublisherReport + "'",
		measures: [][2]string{
			{"reports", "count()"}, {"behind_reports", "countIf(publish_stall_ms > 0)"}, {"behind_ms", "sum(publish_stall_ms)"},
			{"interval_ms", "sum(toInt64OrZero(JSONExtractString(detail, 'interval_ms')))"},
		},
	},
	{
		tables:   []string{"rollup_rows"},
		rows:     "1",
		measures: [][2]string{{"rows", "count()"}, {"session_rows", "countIf(source != '" + schemas.SourcePublisher + "' AND session_id != '')"}},
	},
}

// checkHealth holds the roll-ups made of raw rows against these, and what ingest told against what arrived.
func (r *telemetryRun) checkHealth(ctx context.Context, rep *TelemetryReport) (wrong []string, err error) {
	rep.PublisherRows = r.told.Load()
	for _, h := range healths {
		var raw, rolled []string
		for _, m := range h.measures {
			raw, rolled = append(raw, "toInt64(ifNull("+m[1]+", 0))"), append(rolled, "toInt64(sum("+m[0]+"))")
		}
		// Sketches merge without loss, so quantiles of the merged ones are those of one sketch of everything.
		for _, s := range h.sketches {
			for i := range strings.Count(s[1], ",") { // the first is the accuracy
				raw = append(raw, fmt.Sprintf("toInt64(round(1000 * quantilesDDIf(%s)(toFloat64(assumeNotNull(%s)), isNotNull(%s))[%d]))", s[1], s[2], s[2], i+1))
				rolled = append(rolled, fmt.Sprintf("toInt64(round(1000 * quantilesDDMerge(%s)(%s)[%d]))", s[1], s[0], i+1))
			}
		}
		want, err := r.numbers(ctx, "telemetry WHERE "+h.rows, raw)
		if err != nil {
			return nil, err
		}
		for _, table := range h.tables {
			got, err := r.numbers(ctx, table, rolled)
			if err != nil {
				return nil, err
			}
			rep.RawSums[table] = got[0]
			for i := range want {
				if got[i] != want[i] {
					wrong = append(wrong, fmt.Sprintf("%s: %s is %d, of the raw rows %d", table, rolled[i], got[i], want[i]))
				}
			}
		}
		if h.tables[0] == "rollup_publisher_minute" && want[0] != rep.PublisherRows {
			wrong = append(wrong, fmt.Sprintf("%d rows of ingest about publishers are in the raw table, not %d", want[0], rep.PublisherRows))
		}
	}
	return wrong, nil
}
