package chaos

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// TelemetryReport says what was done to telemetry's processes and whether everything is accounted for.
type TelemetryReport struct {
	Seed      uint64         `json:"seed"`
	Kills     map[string]int `json:"kills"`  // by role
	Faults    map[string]int `json:"faults"` // by kind
	Seconds   int            `json:"seconds"`
	Between   string         `json:"between"` // longest time between two kills
	Processes map[string]int `json:"processes"`
	// EventsPerSecond and Players are the load asked for.
	EventsPerSecond int `json:"events_per_s"`
	Players         int `json:"players"`

	// Posts counts POSTs by their numbers; a replay has the number of what it repeats. AcceptedRows were answered
	// 204. UnansweredRows were not, and of them UnansweredFound are in the raw table.
	Posts           int64 `json:"posts"`
	Replays         int64 `json:"replayed_posts"`
	ClockJumps      int64 `json:"player_clock_jumps"`
	RefusedPosts    int64 `json:"posts_refused_for_lack_of_room"`
	AcceptedRows    int64 `json:"accepted_rows"`
	UnansweredRows  int64 `json:"unanswered_rows"`
	UnansweredFound int64 `json:"unanswered_rows_found"`
	// BusRows are those of distinct batches on the bus, BusRepeatedRows those of batches that are there again,
	// ReplayedBatches of which this run put there.
	BusRows         int64 `json:"bus_rows"`
	BusRepeatedRows int64 `json:"bus_repeated_rows"`
	ReplayedBatches int64 `json:"replayed_batches"`
	// RawRows and Sums (reports by table) are what ClickHouse holds, RecordedDuplicates what loaders left out.
	RawRows            int64            `json:"raw_rows"`
	RecordedDuplicates int64            `json:"recorded_duplicates"`
	DoubledRows        int64            `json:"doubled_rows"`
	DeadMessages       int64            `json:"dead_messages"`
	Sums               map[string]int64 `json:"reports_in"`
	Measures           int              `json:"measures_compared_in_each_table"`
	// SessionRows are raw rows of sessions, PublisherRows those that ingest told of publishers, RawSums the rows that
	// roll-ups of raw rows hold.
	SessionRows   int64            `json:"session_rows"`
	PublisherRows int64            `json:"publisher_rows"`
	RawSums       map[string]int64 `json:"rows_in"`
	Sessions      int64            `json:"sessions"`
	// Takeovers by role, of those that the bus did not disturb.
	Takeovers    map[string]Takeovers `json:"takeovers"`
	TakeoverOnly bool                 `json:"takeover_only"`
	SpooledBytes int64                `json:"most_spooled_bytes"` // in all collectors' spools at once
	DrainMs      int64                `json:"drain_ms"`           // from the last player's leave until all was right
	Exact        bool                 `json:"exact"`

	Failures []string `json:"failures"`
	Logs     string   `json:"-"`
}

func (r *telemetryRun) report() *TelemetryReport {
	r.wire.mu.Lock()
	defer r.wire.mu.Unlock()
	c := r.crowd
	return &TelemetryReport{
		Seed: r.s.Seed, Kills: r.kills, Faults: r.faults, Seconds: int(time.Since(r.began).Seconds()), Between: r.s.Between.String(),
		Processes:       map[string]int{Collector: r.s.Collectors, Bus: 1, Sessioniser: r.s.Sessionisers, Loader: r.s.Loaders, ClickHouse: 1},
		EventsPerSecond: r.s.EventsPerSecond, Players: r.s.Players, Replays: c.replays.Load(), ClockJumps: c.jumps.Load(),
		RawSums: map[string]int64{}, TakeoverOnly: r.s.TakeoverOnly, RefusedPosts: c.refused.Load(), ReplayedBatches: r.wire.replayed, SpooledBytes: r.spooled.Load(),
	}
}

// Write writes what failed, with the ends of the processes' logs.
func (r *TelemetryReport) Write(w io.Writer) {
	for _, f := range r.Failures {
		fmt.Fprintln(w, f)
	}
	if r.Logs != "" {
		fmt.Fprintln(w, r.Logs)
	}
}

// Markdown is the report for people: facts without dates, and how to get them again.
func (r *TelemetryReport) Markdown() string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	total := 0
	for _, n := range r.Kills {
		total += n
	}
	p("What `spillway chaos telemetry` checks and what it found. It runs the real program, one process for each role (bus, %d collectors, %d sessionisers, %d loaders) and ClickHouse, kills one after the other with SIGKILL at random moments and starts each again after 0.2 to 2.2 s. Players, edges (logs of requests) and publishers' apps post over HTTP all the while and repeat what was not answered 204 until it is, and an ingest's reports about publishers go to the bus; some POSTs and some batches on the bus are sent again although they were taken; clocks of players jump by up to two days, and those of collectors by up to an hour at a restart.\n",
		r.Processes[Collector], r.Processes[Sessioniser], r.Processes[Loader])
	more, or := "", "\n# or\n./dev chaos:telemetry"
	if r.TakeoverOnly {
		more, or = " --takeover-only", ""
	}
	p("```sh\nspillway chaos telemetry --kills %d --seed %d --between %s --events %d --players %d%s%s\n```\n", total, r.Seed, r.Between, r.EventsPerSecond, r.Players, more, or)
	p("| | |\n|---|---|")
	p("| killed: collector, bus, sessioniser, loader, ClickHouse | %d, %d, %d, %d, %d |", r.Kills[Collector], r.Kills[Bus], r.Kills[Sessioniser], r.Kills[Loader], r.Kills[ClickHouse])
	for _, f := range slices.Sorted(maps.Keys(r.Faults)) {
		p("| %s | %d times, 4 to 10 s |", f, r.Faults[f])
	}
	p("| POSTs; sent again after a 204; clock jumps of players | %d; %d; %d |", r.Posts, r.Replays, r.ClockJumps)
	p("| events accepted (answered 204) | %d |", r.AcceptedRows)
	p("| rows that ingest told of publishers | %d |", r.PublisherRows)
	p("| events of POSTs without such an answer; of these stored all the same | %d; %d |", r.UnansweredRows, r.UnansweredFound)
	p("| most bytes in the collectors' spools | %d |", r.SpooledBytes)
	p("| **rows in the raw table** | **%d** |", r.RawRows)
	p("| accepted + told by ingest + stored without an answer - raw rows | %d |", r.AcceptedRows+r.PublisherRows+r.UnansweredFound-r.RawRows)
	p("| rows of batches that were on the bus twice (%d batches were put there); recorded as duplicates | %d; %d |", r.ReplayedBatches, r.BusRepeatedRows, r.RecordedDuplicates)
	p("| rows twice in a table; messages nobody could read | %d; %d |", r.DoubledRows, r.DeadMessages)
	var sums []string
	for _, t := range slices.Sorted(maps.Keys(r.Sums)) {
		sums = append(sums, fmt.Sprintf("`%s` %d", t, r.Sums[t]))
	}
	p("| raw rows of sessions | %d |", r.SessionRows)
	p("| events in the sums of | %s |", strings.Join(sums, ", "))
	p("| sums equal in each of these tables | %d |", r.Measures)
	sums = nil
	for _, t := range slices.Sorted(maps.Keys(r.RawSums)) {
		sums = append(sums, fmt.Sprintf("`%s` %d", t, r.RawSums[t]))
	}
	p("| rows in the sums of | %s |", strings.Join(sums, ", "))
	p("| sessions, all closed | %d |", r.Sessions)
	p("| all of it right after the last player had left, ms | %d |", r.DrainMs)
	p("| exact | %t |", r.Exact)
	r.takeovers(p)
	if len(r.Failures) > 0 {
		p("\nFound:\n")
		for _, f := range r.Failures {
			p("- %s", f)
		}
	}
	p("\nHow it is judged: each POST has a number that ends up in the raw rows. One answered 204 n times has n times its events there, never more; one that was not answered may have them or not, once at most. Rows of distinct batches on the bus are the raw rows, those of repeated batches are what loaders recorded as left out. Every sum of every roll-up of sessions is that of the slices, and their reports are the raw rows of sessions. Every sum of the roll-ups of CDNs, of publishers and of rows is that of the raw rows, and quantiles of their merged sketches are those of one sketch of all rows.")
	return b.String()
}

// takeovers are rows of the table.
func (r *TelemetryReport) takeovers(p func(format string, a ...any)) {
	for _, role := range []string{Sessioniser, Loader} {
		if t := r.Takeovers[role]; t.Count > 0 {
			p("| %s: from SIGKILL until all it had is another process's, of %d kills while the bus was there, ms: p50, most; until each of these had written again: p50, most | %d, %d; %d, %d |",
				role, t.Count, t.HolderP50, t.HolderMax, t.WorkP50, t.WorkMax)
		}
	}
}

// WriteSection replaces the section of that title in a Markdown file, or adds it at the end; title stands there after "## ".
func WriteSection(path, title, text string) error {
	old, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("write the report: %w", err)
	}
	page := string(old)
	if page == "" {
		page = "# Reliability\n"
	}
	head, section := "\n## "+title+"\n", "\n## "+title+"\n\n"+strings.TrimSpace(text)+"\n"
	if before, rest, ok := strings.Cut(page, head); ok {
		after := ""
		if i := strings.Index(rest, "\n## "); i >= 0 {
			after = rest[i:]
		}
		page = before + section + after
	} else {
		page = strings.TrimRight(page, "\n") + "\n" + section
	}
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
