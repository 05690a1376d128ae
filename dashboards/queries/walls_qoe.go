package queries

// qoeColumns are what the totals of the wall of QoE need.
var qoeColumns = []string{"sessions", "attempts", "start_failures", "exits_before_start", "playback_failures", "played_ms", "stalled_ms", "stalls", "bitrate_kbps_ms_sum", "bitrate_weight_ms", "latency_ms_sum", "latency_weight_ms"}

func qoe(th Thresholds) Wall {
	rows := func(columns ...string) string { return rolled("", whereBoth, columns...) }
	total := func(id, title, unit, expr, name string, warn, bad float64) Panel {
		return Panel{ID: id, Title: title, Kind: Stat, Unit: unit, Width: 4, Height: 4, Columns: cols(of(name, unit)), Warn: warn, Bad: bad,
			SQL: "SELECT " + expr + " AS " + name + "\nFROM " + rows(qoeColumns...)}
	}
	over := func(id, title, unit, expr, name string, warn, bad float64) Panel {
		return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: unit, Width: 12, Height: 8, MinInterval: "1m", Warn: warn, Bad: bad,
			SQL:     "SELECT " + stepTime + " AS time, " + expr + " AS " + name + "\nFROM " + rows(qoeColumns...) + "\nGROUP BY time\nORDER BY time",
			Columns: cols(at("time"), of(name, unit))}
	}
	dist := func(id, title, label, hist string, warn, bad float64) Panel {
		levels := []level{{"0.5", "p50_ms"}, {"0.9", "p90_ms"}, {"0.99", "p99_ms"}}
		return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m", Warn: warn, Bad: bad,
			SQL:     quantilesBy(rolled("", label+" != '' AND "+whereBoth, label, hist), label, hist, levels...),
			Columns: cols(at("time"), text(label), of("p50_ms", UnitMs), of("p90_ms", UnitMs), of("p99_ms", UnitMs))}
	}
	return Wall{
		UID: WallQoE, Title: "Spillway: quality of experience", From: "now-3h", Refresh: "30s",
		Description: "What viewers saw: totals, distributions, and where it differs by version, player, device and provider.",
		Variables:   []Variable{appVar, cdnVar}, Annotations: annotations(),
		Sections: []Section{
			{Title: "Totals of the range", Panels: []Panel{
				total("qoe-hours", "Hours watched", "h", hours, "hours", 0, 0),
				total("qoe-sessions", "Sessions", UnitNone, "sum(sessions)", "sessions", 0, 0),
				total("qoe-stall", "Stall ratio", UnitPercent, stallRatio, "stall_ratio", th.StallWarn, th.StallBad),
				total("qoe-start-failures", "Start failures", UnitPercent, startFailRatio, "ratio", th.ErrorsWarn, th.ErrorsBad),
				total("qoe-exits", "Exits before the first frame", UnitPercent, "sum(exits_before_start) / nullIf(sum(attempts), 0)", "ratio", 0, 0),
				total("qoe-stalls-hour", "Stalls an hour", UnitNone, "sum(stalls) * 3600000 / nullIf(sum(played_ms) + sum(stalled_ms), 0)", "stalls", 0, 0),
			}},
			{Title: "Over time", Panels: []Panel{
				over("qoe-stall-time", "Stall ratio", UnitPercent, stallRatio, "stall_ratio", th.StallWarn, th.StallBad),
				over("qoe-bitrate", "Bitrate watched", "Kbits", bitrateMean, "bitrate_kbps", 0, 0),
			}},
			{Title: "Distributions", Panels: []Panel{
				distribution("qoe-first-screen-bars", "First screen of the range", "first_screen"),
				distribution("qoe-latency-bars", "Live latency of the range", "latency"),
				dist("qoe-first-screen", "First screen by player, p50, p90, p99", "client", "first_screen", th.FirstScreenWarnMs, th.FirstScreenBadMs),
				dist("qoe-latency", "Live latency by player, p50, p90, p99", "client", "latency", th.LatencyWarnMs, th.LatencyBadMs),
				dist("qoe-first-screen-device", "First screen by device, p50, p90, p99", "device", "first_screen", th.FirstScreenWarnMs, th.FirstScreenBadMs),
				stallSpread(),
			}},
			{Title: "By version, device and provider", Panels: []Panel{
				versions(),
				byDimension("qoe-clients", "Players and devices", "client", "device"),
				byDimension("qoe-isps", "Providers and regions", "isp", "region"),
			}},
		},
	}
}

// byDimension is a table by two dimensions of rollup_minute, with levels of the distributions.
func byDimension(id, title, a, b string) Panel {
	return Panel{ID: id, Title: title, Kind: Table, Width: 24, Height: 9,
		SQL: `WITH
    ` + Quantiles + `
SELECT ` + a + `, ` + b + `, ` + hours + ` AS hours, sum(sessions) AS sessions, ` + stallRatio + ` AS stall_ratio, ` + startFailRatio + ` AS start_failure_ratio` +
			levelsOf("first_screen", []level{{"0.5", "first_screen_p50_ms"}, {"0.9", "first_screen_p90_ms"}}) + levelsOf("latency", []level{{"0.9", "latency_p90_ms"}}) + `
FROM ` + rolled("", whereBoth, a, b, "played_ms", "stalled_ms", "sessions", "start_failures", "attempts", "first_screen", "latency") + `
GROUP BY ` + a + `, ` + b + `
ORDER BY hours DESC
LIMIT 100`,
		Columns: cols(text(a), text(b), of("hours", "h"), of("sessions", UnitNone), of("stall_ratio", UnitPercent), of("start_failure_ratio", UnitPercent),
			of("first_screen_p50_ms", UnitMs), of("first_screen_p90_ms", UnitMs), of("latency_p90_ms", UnitMs))}
}

func versions() Panel {
	return Panel{ID: "qoe-versions", Title: "Versions of apps and players", Kind: Table, Width: 24, Height: 9,
		Description: "All CDNs together: this roll-up does not tell them apart.",
		SQL: `WITH
    ` + Quantiles + `
SELECT client, client_version, os, ` + hours + ` AS hours, sum(v.sessions) AS sessions, ` + stallRatio + ` AS stall_ratio, ` + startFailRatio + ` AS start_failure_ratio,
    sum(v.playback_failures) AS failures` + levelsOf("v.first_screen", []level{{"0.5", "first_screen_p50_ms"}, {"0.9", "first_screen_p90_ms"}}) + `
FROM rollup_version AS v
WHERE $__timeFilter(minute) AND ` + whereApp + `
GROUP BY client, client_version, os
ORDER BY hours DESC
LIMIT 100`,
		Columns: cols(text("client"), text("client_version"), text("os"), of("hours", "h"), of("sessions", UnitNone), of("stall_ratio", UnitPercent),
			of("start_failure_ratio", UnitPercent), of("failures", UnitNone), of("first_screen_p50_ms", UnitMs), of("first_screen_p90_ms", UnitMs))}
}

// stallSpread tells how the stalled time spreads over players, instead of its mean alone.
func stallSpread() Panel {
	return Panel{ID: "qoe-stall-spread", Title: "Stall ratio by region: best, median and worst minute", Kind: TimeSeries, Unit: UnitPercent, Width: 12, Height: 8, MinInterval: "1m",
		Description: "The spread of the rows of a step (minutes, or hours for long ranges), each weighing by the time watched in it.",
		SQL: `SELECT toStartOfInterval(at, toIntervalSecond(` + stepS + `)) AS time, region, quantileExactWeighted(0.1)(ratio, w) AS p10, quantileExactWeighted(0.5)(ratio, w) AS p50, quantileExactWeighted(0.9)(ratio, w) AS p90
FROM (
    SELECT slot AS at, region, cdn, isp, client, sum(stalled_ms) / sum(played_ms + stalled_ms) AS ratio, toUInt64(sum(played_ms + stalled_ms)) AS w
    FROM ` + rolled("", whereBoth, "region", "cdn", "isp", "client", "played_ms", "stalled_ms") + `
    GROUP BY slot, region, cdn, isp, client
    HAVING sum(played_ms + stalled_ms) > 0
)
GROUP BY time, region
ORDER BY time, region`,
		Columns: cols(at("time"), text("region"), of("p10", UnitPercent), of("p50", UnitPercent), of("p90", UnitPercent))}
}

// distribution is a bar for each doubling of a log-histogram: bins have a width of 2 %, 35 of them double.
func distribution(id, title, hist string) Panel {
	return Panel{
		ID: id, Title: title, Kind: Bar, Unit: UnitNone, Width: 12, Height: 8,
		Description: "Counts by size; each bar reaches to twice the one before it. Failed and abandoned starts are the last bar.",
		SQL: `SELECT if(octave >= 100, 'never', concat('up to ', toString(round(exp((octave + 1) * 35 * 0.01980262729617973))), ' ms')) AS size, n AS attempts
FROM (
    SELECT if(bin >= 1073741824, 100, intDiv(bin, 35)) AS octave, sum(c) AS n
    FROM (SELECT sumMap(` + hist + `) AS h FROM ` + rolled("", whereBoth, hist) + `)
    ARRAY JOIN mapKeys(h) AS bin, mapValues(h) AS c
    GROUP BY octave
)
ORDER BY octave`,
		Columns: cols(text("size"), of("attempts", UnitNone)),
	}
}
