package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
	"github.com/spillway-live/spillway/schemas/nap"
)

const (
	// drainLimit is how long all tables may take to hold everything after the last kill.
	drainLimit = 5 * time.Minute
	balanceDB  = "spillway."
)

// rollups are the tables that hold the sums of session slices.
var rollups = []string{"rollup_minute", "rollup_hour", "rollup_stream_minute", "rollup_stream_hour", "rollup_arm_minute", "rollup_arm_hour"}

// sessionsOnly are the sums of slices that the table sessions alone has.
func sessionsOnly(measure string) bool { return measure == "numbered_reports" }

// balance waits until everything is accounted for, and says what is not.
func (r *telemetryRun) balance(ctx context.Context) (*TelemetryReport, error) {
	rep := r.report()
	began := time.Now()
	var wrong []string
	var err error
	told := time.Now()
	for {
		for _, p := range r.stack.places("") {
			if err := p.ended(); err != nil {
				return nil, err
			}
		}
		if wrong, err = r.check(ctx, rep); err == nil && len(wrong) == 0 {
			break
		}
		if time.Since(began) > drainLimit {
			break
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			r.log.Info("not yet right", "what", wrong, "err", err)
		}
		if nap.For(ctx, 500*time.Millisecond) != nil {
			return nil, ctx.Err()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse for the balance: %w", err)
	}
	rep.DrainMs = time.Since(began).Milliseconds()
	for _, w := range wrong {
		r.found.add("balance", "%s", w)
	}
	for _, w := range r.wire.wrong {
		r.found.add("bus", "%s", w)
	}
	rep.Failures = r.found.all()
	rep.Takeovers = r.hand.sums()
	rep.Exact = len(wrong) == 0
	return rep, nil
}

// check compares everything once; it stops at the first kind of thing that is not (yet) right.
func (r *telemetryRun) check(ctx context.Context, rep *TelemetryReport) (wrong []string, err error) {
	for _, f := range []func(context.Context, *TelemetryReport) ([]string, error){r.checkRows, r.checkSums, r.checkHealth, r.checkPosts} {
		if wrong, err = f(ctx, rep); err != nil || len(wrong) > 0 {
			return wrong, err
		}
	}
	return nil, nil
}

func (r *telemetryRun) number(ctx context.Context, sql string) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = r.stack.conn.QueryRow(ctx, "SELECT toInt64("+sql+")").Scan(&n)
	return n, err
}

// checkRows holds raw rows and what loaders left out against the bus.
func (r *telemetryRun) checkRows(ctx context.Context, rep *TelemetryReport) (wrong []string, err error) {
	rep.BusRows, rep.BusRepeatedRows, _ = r.wire.state()
	for _, q := range []struct {
		into *int64
		sql  string
	}{
		{&rep.RawRows, "(SELECT count() FROM " + balanceDB + "telemetry)"},
		{&rep.SessionRows, "(SELECT count() FROM " + balanceDB + "telemetry WHERE session_id != '' AND NOT startsWith(source, 'publisher'))"},
		{&rep.DoubledRows, "(SELECT count() - uniqExact(bus_seq, bus_row) FROM " + balanceDB + "telemetry) + (SELECT count() - uniqExact(bus_partition, bus_seq, bus_row) FROM " + balanceDB + "session_slices)"},
		{&rep.RecordedDuplicates, "(SELECT sum(toInt64OrZero(detail['duplicate_rows'])) FROM (SELECT DISTINCT id, detail FROM " + balanceDB + "events WHERE kind = '" + string(schemas.EventLoaderLeftOut) + "') WHERE startsWith(detail['lane'], 'telemetry'))"},
		{&rep.DeadMessages, "(SELECT sum(toInt64OrZero(detail['dead_messages'])) FROM " + balanceDB + "events WHERE kind = '" + string(schemas.EventLoaderLeftOut) + "')"},
	} {
		if *q.into, err = r.number(ctx, q.sql); err != nil {
			return nil, err
		}
	}
	same := func(what string, got, want int64) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s: %d, not %d", what, got, want))
		}
	}
	same("rows in the raw table, against those of distinct batches on the bus", rep.RawRows, rep.BusRows)
	same("rows that loaders recorded as repeated, against those of repeated batches on the bus", rep.RecordedDuplicates, rep.BusRepeatedRows)
	same("rows that are in a table twice", rep.DoubledRows, 0)
	same("messages that loaders could not read", rep.DeadMessages, 0)
	return wrong, nil
}

// checkSums holds every sum of every roll-up of slices against theirs, and those against the raw rows of sessions.
func (r *telemetryRun) checkSums(ctx context.Context, rep *TelemetryReport) (wrong []string, err error) {
	var measures []string
	for _, c := range schemas.SliceTable().Columns {
		if c.Kind == columnar.KindI64 && c.Name != "time_ms" && !strings.HasPrefix(c.Name, "throughput_") { // those are in no roll-up
			measures = append(measures, c.Name)
		}
	}
	want, err := r.sums(ctx, "session_slices", measures, "first_screen_counts", "latency_counts")
	if err != nil {
		return nil, err
	}
	rep.Measures = len(want)
	rep.Sums = map[string]int64{"session_slices": want["reports"]}
	r.crowd.mu.Lock()
	sessions := int64(r.crowd.sessions)
	r.crowd.mu.Unlock()
	rep.Sessions = want["sessions"]
	for what, n := range map[string]int64{"reports": rep.SessionRows, "sessions": sessions, "ended": sessions} {
		if want[what] != n {
			wrong = append(wrong, fmt.Sprintf("slices sum up to %d %s, not %d", want[what], what, n))
		}
	}
	if len(wrong) > 0 {
		return wrong, nil
	}
	for _, table := range append([]string{"sessions"}, rollups...) {
		sums, first, latency := slices.DeleteFunc(slices.Clone(measures), sessionsOnly), "mapValues(first_screen)", "mapValues(latency)"
		if table == "sessions" {
			sums, first, latency = measures, "", "" // it has sums alone
		}
		got, err := r.sums(ctx, table, sums, first, latency)
		if err != nil {
			return nil, err
		}
		rep.Sums[table] = got["reports"]
		for m, n := range want {
			if v, there := got[m]; v != n && (there || first != "" && !sessionsOnly(m)) {
				wrong = append(wrong, fmt.Sprintf("%s sums up to %d %s, slices to %d", table, got[m], m, n))
			}
		}
	}
	final, err := r.number(ctx, "(SELECT count() FROM "+balanceDB+"v_sessions WHERE final)")
	if err != nil {
		return nil, err
	}
	if final != sessions {
		wrong = append(wrong, fmt.Sprintf("%d sessions are closed in v_sessions, not %d", final, sessions))
	}
	return wrong, nil
}

// sums adds up a table's measures and its two histograms, if it has them.
func (r *telemetryRun) sums(ctx context.Context, table string, measures []string, first, latency string) (map[string]int64, error) {
	names := slices.Clone(measures)
	var terms []string
	for _, m := range measures {
		terms = append(terms, "toInt64(sum("+m+"))")
	}
	if first != "" {
		names = append(names, "first_screen", "latency")
		terms = append(terms, "toInt64(sum(arraySum("+first+")))", "toInt64(sum(arraySum("+latency+")))")
	}
	values, err := r.numbers(ctx, table, terms)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for i, n := range names {
		out[n] = values[i]
	}
	return out, nil
}

// numbers asks for terms over a table.
func (r *telemetryRun) numbers(ctx context.Context, table string, terms []string) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	values := make([]int64, len(terms))
	into := make([]any, len(terms))
	for i := range values {
		into[i] = &values[i]
	}
	if err := r.stack.conn.QueryRow(ctx, "SELECT "+strings.Join(terms, ", ")+" FROM "+balanceDB+table).Scan(into...); err != nil {
		return nil, fmt.Errorf("%s: %w", table, err)
	}
	return values, nil
}

// tryOf is the number of a row's POST: in players' events a key of their own, in log lines the line's number, in
// reports of publishers theirs.
var tryOf = fmt.Sprintf("multiIf((toInt64OrZero(splitByChar('/', JSONExtractString(detail, 'line'))[2]) AS line) > 0, intDiv(line - 1, %d), source = '%s', seq, "+
	"toInt64OrZero(JSONExtractString(detail, '%s')))", lineTry, schemas.SourcePublisherReport, tryKey)

// checkPosts holds the raw table against what players were answered, POST by POST.
func (r *telemetryRun) checkPosts(ctx context.Context, rep *TelemetryReport) (wrong []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	rows, err := r.stack.conn.Query(ctx, "SELECT try, toInt64(sum(n)), toInt64(max(n)) FROM (SELECT "+tryOf+" AS try, if(line > 0, line, seq) AS what, count() AS n FROM "+
		balanceDB+"telemetry WHERE source != '"+schemas.SourcePublisher+"' GROUP BY try, what) GROUP BY try")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	r.crowd.mu.Lock()
	defer r.crowd.mu.Unlock()
	found := make([]bool, len(r.crowd.posts))
	rep.Posts, rep.AcceptedRows, rep.UnansweredRows, rep.UnansweredFound = int64(len(r.crowd.posts)), 0, 0, 0
	say := func(format string, a ...any) {
		if len(wrong) < 5 {
			wrong = append(wrong, fmt.Sprintf(format, a...))
		}
	}
	for rows.Next() {
		var try, n, copies int64
		if err := rows.Scan(&try, &n, &copies); err != nil {
			return nil, err
		}
		if try < 0 || try >= int64(len(found)) {
			say("rows of POST %d are there, which nobody made", try)
			continue
		}
		p := r.crowd.posts[try]
		found[try] = true
		least, most := int64(p.ok*p.events), int64((p.ok+p.unknown)*p.events)
		if n < least || n > most || copies > int64(p.ok+p.unknown) {
			say("POST %d of %d events, answered 204 %d times and otherwise %d times: %d rows", try, p.events, p.ok, p.unknown, n)
		}
		rep.UnansweredFound += n - least
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i, p := range r.crowd.posts {
		rep.AcceptedRows += int64(p.ok * p.events)
		rep.UnansweredRows += int64(p.unknown * p.events)
		if p.ok > 0 && !found[i] {
			say("POST %d was answered 204, and none of its %d rows is there", i, p.events)
		}
	}
	if rep.AcceptedRows+rep.UnansweredFound+rep.PublisherRows != rep.RawRows {
		say("%d rows accepted, %d that came although nobody said so and %d of ingest, but %d in the raw table", rep.AcceptedRows, rep.UnansweredFound, rep.PublisherRows, rep.RawRows)
	}
	return wrong, nil
}
