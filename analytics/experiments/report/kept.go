package report

import (
	"fmt"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/clickhouse"
)

// keptFrom is the time before which a table that keeps rows for so many days has lost some, at now.
func keptFrom(now time.Time, days int) time.Time { return now.AddDate(0, 0, -days) }

// slicesGone says whether session_slices lack the beginning of an experiment: sums over each unit would be of its tail,
// held against all units.
func slicesGone(from, now time.Time) bool {
	return from.Before(keptFrom(now, clickhouse.SlicesKeptDays))
}

// kept adds what tables no longer hold of the experiment. Where figures can only come from rows that are gone (streams,
// blocks, experiments older than the tables of units) that voids the comparison; else they come from sums by hash bucket.
func (h *Health) kept(x *schemas.Experiment, rolled bool, from, now time.Time) {
	day := func(t time.Time) string { return t.UTC().Format("2006-01-02") }
	if units := keptFrom(now, clickhouse.ExposuresKeptDays); from.Before(units) {
		h.Problems = append(h.Problems, fmt.Sprintf("units before %s are no longer kept, and it began on %s: what is left is a part of it", day(units), day(from)))
		return
	}
	if !slicesGone(from, now) {
		return
	}
	rows := keptFrom(now, clickhouse.SlicesKeptDays)
	if x.Unit == schemas.UnitStream || x.Unit == schemas.UnitBlock || !rolled {
		h.Problems = append(h.Problems, fmt.Sprintf("rows before %s are no longer kept, and it began on %s: figures of unit %s are of what is left", day(rows), day(from), x.Unit))
		return
	}
	h.Notes = append(h.Notes, fmt.Sprintf("rows before %s are no longer kept, and it began on %s: no figure is over every unit, all are from sums by hash bucket", day(rows), day(from)))
}
