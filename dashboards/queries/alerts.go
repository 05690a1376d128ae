package queries

import (
	"strconv"
	"strings"
	"time"
)

// Alert is a rule over roll-ups: what is asked, and from where on an answer is bad.
// The role alerts judges its rows, and Grafana's alert rules are made of it.
type Alert struct {
	// Name is stable: it is the rule's name in settings, and part of its uid in Grafana.
	Name, Title, Description string
	// SQL gives AlertColumns, a row for each subject. Its range ends now and is Window long. Empty: the
	// rows come from the bus, and Grafana has no such rule.
	SQL    string
	Window time.Duration
	// Unit of values and Threshold.
	Unit string
	// Threshold is the value from which on (Below: under which) a row is bad.
	Threshold float64
	Below     bool
	// Factor, if not 0: a bad row also is so many times what the subject's own past
	// or the others show, where either is known.
	Factor float64
	// MinWeight is the weight below which a row tells nothing.
	MinWeight float64
	// For is how long rows must be bad before the alert opens, Clear how long they must not before it is over.
	For, Clear time.Duration
	// Wall and Panel explain it.
	Wall, Panel string
}

// AlertColumns are what the SQL of an alert gives: the subject, in words and in
// names; the value; its weight; and where the rule compares, the same of the
// subject's past and of the others.
var AlertColumns = []string{"subject", "app", "stream", "cdn", "value", "weight", "past", "others"}

// Names of the rules.
const (
	AlertCDNStalls      = "cdn_stalls"
	AlertCDNErrors      = "cdn_errors"
	AlertPublisher      = "publisher_frozen"
	AlertBalance        = "balance"
	AlertSlicesLag      = "slices_lag"
	AlertCapacity       = "capacity"
	AlertConsumerBehind = "consumer_behind"
	AlertDeadLetters    = "dead_letters"
	AlertLoaderLag      = "loader_lag"
	AlertClickHouseAway = "clickhouse_away"
	// AlertRaised is what others ask for, by events of the kind alert_raised.
	AlertRaised = "raised"
)

// Alerts gives every rule. Rules without SQL are those over the bus.
func Alerts() []Alert {
	return []Alert{
		{Name: AlertCDNStalls, Title: "A CDN stalls", Window: 5 * time.Minute, Unit: UnitPercent, Threshold: 0.02, Factor: 3, MinWeight: 120, For: 30 * time.Second, Clear: 3 * time.Minute,
			Description: "Stalled time on a CDN over five minutes is 2 % of the time watched or more, and three times what it was there over the day before or what it is on the other CDNs. Weight: seconds watched.",
			Wall:        WallCDNs, Panel: "cdn-stall", SQL: cdnRatio("stalled_ms", "played_ms + stalled_ms", "watched / 1000")},
		{Name: AlertCDNErrors, Title: "A CDN fails requests", Window: 5 * time.Minute, Unit: UnitPercent, Threshold: 0.02, Factor: 3, MinWeight: 100, For: 30 * time.Second, Clear: 3 * time.Minute,
			Description: "The share of requests that failed on a CDN, compared in the same way. Weight: requests.",
			Wall:        WallCDNs, Panel: "cdn-request-errors", SQL: cdnRatio("request_errors", "requests", "watched")},
		{Name: AlertPublisher, Title: "A publisher is frozen", Window: time.Minute, Unit: UnitFPS, Threshold: 1, Below: true, MinWeight: 3, For: 20 * time.Second, Clear: 30 * time.Second,
			Description: "Ingest measures less than one picture a second over a minute, of a stream that had more in the ten minutes before. Weight: reports.",
			Wall:        WallStreams, Panel: "streams-fps",
			SQL: `SELECT concat(app, '/', stream) AS subject, app, stream, '' AS cdn, avgIf(fps, recent) AS value, toFloat64(countIf(recent)) AS weight, maxIf(fps, NOT recent) AS past, CAST(NULL, 'Nullable(Float64)') AS others
FROM (SELECT app, stream, fps, received_at > $__toTime - INTERVAL 1 MINUTE AS recent FROM telemetry WHERE source = 'publisher' AND fps IS NOT NULL AND received_at > $__toTime - INTERVAL 11 MINUTE AND received_at <= $__toTime)
GROUP BY app, stream
HAVING weight > 0 AND past > 1`},
		{Name: AlertSlicesLag, Title: "Sessions are counted late", Window: 10 * time.Minute, Unit: "s", Threshold: 60, For: time.Minute, Clear: time.Minute,
			Description: "The newest row of a session in ClickHouse is a minute newer than the newest slice: the sessioniser is behind, or stands still.",
			Wall:        WallPipeline, Panel: "pipe-age",
			SQL: `SELECT 'sessioniser' AS subject, '' AS app, '' AS stream, '' AS cdn, toFloat64(greatest(dateDiff('second', slice, raw), 0)) AS value, 1. AS weight, CAST(NULL, 'Nullable(Float64)') AS past, CAST(NULL, 'Nullable(Float64)') AS others
FROM (SELECT
    (SELECT max(r.time) FROM rollup_rows AS r WHERE r.session_rows > 0 AND $__timeFilter(r.time)) AS raw,
    (SELECT greatest(max(toDateTime(s.time)), $__fromTime) FROM session_slices AS s WHERE s.time >= $__fromTime) AS slice)
WHERE raw > $__fromTime`},
		{Name: AlertBalance, Title: "Telemetry does not add up", Window: 20 * time.Minute, Unit: UnitPercent, Threshold: 0.01, MinWeight: 1000, For: 5 * time.Minute, Clear: 5 * time.Minute,
			Description: "Of the rows of sessions between 20 and 5 minutes ago, 1 % or more are not accounted for by slices, or are twice. Weight: rows.",
			Wall:        WallPipeline, Panel: "pipe-accounted",
			SQL: `SELECT 'telemetry' AS subject, '' AS app, '' AS stream, '' AS cdn, abs(raw - counted) / greatest(raw, 1) AS value, toFloat64(raw) AS weight, CAST(NULL, 'Nullable(Float64)') AS past, CAST(NULL, 'Nullable(Float64)') AS others
FROM (SELECT
    (SELECT sum(r.session_rows) FROM rollup_rows AS r WHERE r.time >= toStartOfMinute($__fromTime) AND r.time < toStartOfMinute($__toTime - INTERVAL 5 MINUTE)) AS raw,
    (SELECT sum(r.reports) FROM rollup_minute AS r WHERE r.minute >= toStartOfMinute($__fromTime) AND r.minute < toStartOfMinute($__toTime - INTERVAL 5 MINUTE)) AS counted)
WHERE raw > 0`},
		{Name: AlertCapacity, Title: "A CDN will be full", Window: 20 * time.Minute, Unit: UnitPercent, Threshold: 0.95, MinWeight: 5, For: time.Minute, Clear: 5 * time.Minute,
			Description: "The line through the last 20 minutes of a CDN's egress or viewers reaches 95 % of its capacity within a quarter of an hour, or is there. Weight: minutes seen.",
			Wall:        WallCDNs, Panel: "cdn-load", SQL: capacityForecast},
		{Name: AlertConsumerBehind, Title: "A consumer is behind", Unit: UnitNone, Threshold: 5000, For: time.Minute, Clear: time.Minute,
			Description: "So many messages wait for a consumer of the bus.", Wall: WallPipeline, Panel: "pipe-lag"},
		{Name: AlertDeadLetters, Title: "Messages are rejected", Unit: UnitNone, Threshold: 1, For: 0, Clear: 10 * time.Minute,
			Description: "A role rejected messages in the last ten minutes; they are in the stream DEAD with the reason.", Wall: WallPipeline, Panel: "pipe-dead"},
		{Name: AlertLoaderLag, Title: "ClickHouse is behind the bus", Unit: UnitNone, Threshold: 500, For: time.Minute, Clear: time.Minute,
			Description: "So many messages of slices on the bus are newer than the newest in ClickHouse: the loader is behind, or stands still.", Wall: WallPipeline, Panel: "pipe-age"},
		{Name: AlertClickHouseAway, Title: "ClickHouse does not answer", Unit: "s", Threshold: 30, For: 0, Clear: 30 * time.Second,
			Description: "None of the alerts' questions was answered for so long.", Wall: WallPipeline, Panel: "pipe-clickhouse"},
		{Name: AlertRaised, Title: "Raised by others", Unit: UnitNone, Threshold: 1, For: 0, Clear: 0,
			Description: "An event of the kind alert_raised, by a review operator for example, that was not cleared; one that is not raised again is over after 15 minutes.", Wall: WallStreams, Panel: "streams-events"},
	}
}

// cdnRatio compares a share by CDN over the range with the day before and with the other CDNs.
func cdnRatio(bad, all, weight string) string {
	return `SELECT cdn AS subject, '' AS app, '' AS stream, cdn, broken / watched AS value, toFloat64(` + weight + `) AS weight, past_broken / nullIf(past_watched, 0) AS past,
    (sum(broken) OVER () - broken) / nullIf(sum(watched) OVER () - watched, 0) AS others
FROM (
    SELECT cdn, sumIf(bad, recent) AS broken, sumIf(whole, recent) AS watched, sumIf(bad, NOT recent) AS past_broken, sumIf(whole, NOT recent) AS past_watched
    FROM (
        SELECT cdn, minute >= $__fromTime AS recent, ` + bad + ` AS bad, ` + all + ` AS whole
        FROM rollup_minute
        WHERE minute >= $__fromTime - INTERVAL 1 DAY AND minute <= $__toTime AND cdn != ''
    )
    GROUP BY cdn
    HAVING watched > 0
)`
}

// capacityForecast draws a line through the minutes of each CDN and follows it for 15 minutes.
// A line that falls is not followed: what is in use now counts.
const capacityForecast = `SELECT cdn AS subject, '' AS app, '' AS stream, cdn, greatest(
        ifNull(greatest(bps_line.1 * ahead + bps_line.2, bps) / nullIf(capacity_bps, 0), 0),
        ifNull(greatest(viewers_line.1 * ahead + viewers_line.2, viewers) / nullIf(capacity_viewers, 0), 0)) AS value,
    toFloat64(minutes) AS weight, greatest(ifNull(bps / nullIf(capacity_bps, 0), 0), ifNull(viewers / nullIf(capacity_viewers, 0), 0)) AS past, CAST(NULL, 'Nullable(Float64)') AS others
FROM (
    SELECT cdn, count() AS minutes, dateDiff('second', $__fromTime, $__toTime) + 900 AS ahead,
        simpleLinearRegression(x, bps_m) AS bps_line, simpleLinearRegression(x, viewers_m) AS viewers_line,
        argMax(bps_m, x) AS bps, argMax(viewers_m, x) AS viewers
    FROM (
        SELECT cdn, toFloat64(dateDiff('second', $__fromTime, minute)) AS x, sum(request_bytes) * 8 / 60 AS bps_m, sum(played_ms + stalled_ms + seek_ms) / 60000 AS viewers_m
        FROM rollup_minute
        WHERE minute >= $__fromTime AND minute < toStartOfMinute($__toTime) AND cdn != ''
        GROUP BY cdn, minute
    )
    GROUP BY cdn
) AS used
INNER JOIN (
    SELECT cdn, toFloat64OrZero(argMax(detail, (time, bus_seq))['capacity_bps']) AS capacity_bps, toFloat64OrZero(argMax(detail, (time, bus_seq))['capacity_viewers']) AS capacity_viewers
    FROM events
    WHERE kind = 'cdn_state' AND detail['state'] != '' AND time >= $__fromTime AND time <= $__toTime
    GROUP BY cdn
    HAVING capacity_bps > 0 OR capacity_viewers > 0
) AS c USING (cdn)`

// Firing is SQL that gives only the rows that are bad, with the columns subject
// and value: what Grafana's rule asks.
func (a *Alert) Firing() string {
	cond := []string{"weight >= " + number(a.MinWeight)}
	sign := " >= "
	if a.Below {
		sign = " < "
	}
	cond = append(cond, "value"+sign+number(a.Threshold))
	if a.Factor > 0 {
		f := number(a.Factor)
		cond = append(cond, "(ifNull(value >= "+f+" * past, 0) OR ifNull(value >= "+f+" * others, 0) OR past IS NULL AND others IS NULL)")
	}
	return "SELECT subject, toFloat64(value) AS value\nFROM (\n" + a.SQL + "\n)\nWHERE " + strings.Join(cond, " AND ")
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
