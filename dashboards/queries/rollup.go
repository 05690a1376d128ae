package queries

import "strings"

// The roll-up by range. Roll-ups by minute are kept for 90 days and by hour for
// three years; two days of minutes are as many rows as four months of hours.
const (
	// long is true where a range is read from hours: longer than two days, or older than minutes are kept.
	long = `(dateDiff('second', $__fromTime, $__toTime) > 172800 OR $__fromTime < now() - INTERVAL 89 DAY)`
	// grain is the length of a row's time, s.
	grain = `if(` + long + `, 3600, 60)`
	// stepS is the length of a step of a time series, s: never below that of the rows.
	stepS = `greatest($__interval_s, ` + grain + `)`
	// stepTime is the beginning of the step that slot is in.
	stepTime = `toStartOfInterval(slot, toIntervalSecond(` + stepS + `))`
)

// rolled is a table expression: the rows of the range in the roll-up that the
// range asks for, with slot, the beginning of the row's time. name is what is
// between rollup_ and minute or hour. The side that is not asked for is constant
// false, so that nothing of it is read.
func rolled(name, where string, columns ...string) string {
	c := strings.Join(columns, ", ")
	side := func(unit, cond string) string {
		return "SELECT " + unit + " AS slot, " + c + " FROM rollup_" + name + unit + " WHERE " + cond + " AND $__timeFilter(" + unit + ") AND " + where
	}
	return "(\n    " + side("minute", "NOT "+long) + "\n    UNION ALL\n    " + side("hour", long) + "\n)"
}

// Expressions over sums of roll-ups.
const (
	stallRatio     = "sum(stalled_ms) / nullIf(sum(played_ms) + sum(stalled_ms), 0)"
	startFailRatio = "sum(start_failures) / nullIf(sum(attempts), 0)"
	hours          = "sum(played_ms + stalled_ms) / 3600000"
	latencyMean    = "sum(latency_ms_sum) / nullIf(sum(latency_weight_ms), 0)"
	bitrateMean    = "sum(bitrate_kbps_ms_sum) / nullIf(sum(bitrate_weight_ms), 0)"
)

// Conditions on the template variables.
const (
	whereApp        = "$__conditionalAll(app IN (${app:sqlstring}), $app)"
	whereCDN        = "$__conditionalAll(cdn IN (${cdn:sqlstring}), $cdn)"
	whereStream     = "$__conditionalAll(stream IN (${stream:sqlstring}), $stream)"
	whereExperiment = "$__conditionalAll(experiment IN (${experiment:sqlstring}), $experiment)"
	whereBoth       = whereApp + " AND " + whereCDN
)

// byLabel is a time series by label of one expression over sums of a roll-up.
func byLabel(from, label, expr, name string) string {
	return `SELECT ` + stepTime + ` AS time, ` + label + `, ` + expr + ` AS ` + name + `
FROM ` + from + `
GROUP BY time, ` + label + `
ORDER BY time, ` + label
}

// meanOf adds up one expression within each row's time and averages the rows of a
// step, so that a step that has only begun is not too low.
func meanOf(from, label, expr, name string) string {
	return `SELECT toStartOfInterval(at, toIntervalSecond(` + stepS + `)) AS time, ` + label + `, avg(one) AS ` + name + `
FROM (
    SELECT slot AS at, ` + label + `, ` + expr + ` AS one
    FROM ` + from + `
    GROUP BY slot, ` + label + `
)
GROUP BY time, ` + label + `
ORDER BY time, ` + label
}

// level is a level of a quantile and the column it goes to.
type level struct{ p, name string }

// quantilesBy is a time series by label of levels of a histogram.
func quantilesBy(from, label, hist string, levels ...level) string {
	return `WITH
    ` + Quantiles + `
SELECT ` + stepTime + ` AS time, ` + label + levelsOf(hist, levels) + `
FROM ` + from + `
GROUP BY time, ` + label + `
ORDER BY time, ` + label
}

func levelsOf(hist string, levels []level) string {
	var b strings.Builder
	for _, l := range levels {
		b.WriteString(",\n    log_quantile(sumMap(" + hist + "), " + l.p + ") AS " + l.name)
	}
	return b.String()
}

// watchedBy is the mean number of viewers of a row's time.
const watchedBy = "sum(played_ms + stalled_ms + seek_ms) / (" + grain + " * 1000)"
