package report

import (
	"context"
	"fmt"

	"github.com/spillway-live/spillway/schemas"
)

// units is how many randomization units each arm has. Every unit is in the arm of its first exposure.
type units struct {
	exposed map[string]int64            // by arm
	buckets map[string]map[uint64]int64 // exposed, by arm and hash bucket
	groups  map[string][][]int64        // exposed, by arm, step and group of buckets
	// planned are those exposed before the planned end, by arm and hash bucket, where that is read along.
	planned map[string]map[uint64]int64
	// reported are units with telemetry, silent those exposed without any, unexposed those with telemetry and no exposure.
	reported, silent, unexposed map[string]int64
	// several is the number of units that were exposed to more than one arm.
	several int64
	// counted: reported, silent and unexposed are from the units themselves, not yet to be taken from sums.
	counted bool
}

func (q *queries) newUnits() units {
	u := units{
		exposed: map[string]int64{}, buckets: map[string]map[uint64]int64{}, groups: map[string][][]int64{},
		reported: map[string]int64{}, silent: map[string]int64{}, unexposed: map[string]int64{}, planned: map[string]map[uint64]int64{},
	}
	for _, a := range q.x.Arms {
		u.buckets[a.Name], u.planned[a.Name] = map[uint64]int64{}, map[uint64]int64{}
		u.groups[a.Name] = make([][]int64, q.steps.n)
		for i := range u.groups[a.Name] {
			u.groups[a.Name][i] = make([]int64, groups)
		}
	}
	return u
}

func (u *units) add(q *queries, arm string, bucket uint64, step, exposed, several int64) {
	u.exposed[arm] += exposed
	u.several += several
	if u.buckets[arm] == nil {
		return // an arm that the experiment does not have: it shows as telemetry of units that nobody exposed
	}
	u.buckets[arm][bucket] += exposed
	u.groups[arm][q.steps.of(step)][bucket%groups] += exposed
}

// units counts units. Viewers come from the units kept at insert where those go back far enough.
func (q *queries) units(ctx context.Context) (units, error) {
	if q.rolled {
		return q.unitsKept(ctx)
	}
	return q.unitsOfRows(ctx)
}

// unitsKept reads experiment_units. Time and arm of a row are one number, those of exposures before those of reports, and
// what a unit was seen in is a set of bits: few aggregates make millions of units quick to count.
func (q *queries) unitsKept(ctx context.Context) (units, error) {
	u := q.newUnits()
	salts := "salt = {salt:String}"
	if q.x.Unit == schemas.UnitViewer {
		salts = "salt IN ({salt:String}, '')"
		u.counted = true
	}
	err := q.run(ctx, "units by arm of their first exposure, and whether they reported", `SELECT if(arm = 0, '', {arms:Array(String)}[arm]) AS arm_name, toUInt64(bucket), step, early,
		toInt64(countIf(exposed)), toInt64(countIf(reported)), toInt64(countIf(exposed AND NOT reported)), toInt64(countIf(reported AND NOT exposed)), toInt64(countIf(several)) FROM (
		SELECT bucket, bitAnd(met, 255) AS arm, bitAnd(bitShiftRight(met, 8), 4294967295) AS met_at, `+q.steps.sql("toDateTime(met_at)")+` AS step, `+q.earlySQL("met_at")+` AS early,
			bitAnd(seen, 2147483647) != 0 AS exposed, bitTest(seen, 31) AS reported, bitCount(bitAnd(seen, 2147483647)) > 1 AS several FROM (
			SELECT any(u.bucket) AS bucket,
				min(bitOr(bitOr(bitShiftLeft(toUInt64(u.salt = ''), 63), bitShiftLeft(toUInt64(toUnixTimestamp(u.first)), 8)), indexOf({arms:Array(String)}, u.arm))) AS met,
				groupBitOr(bitShiftLeft(toUInt32(1), if(u.salt = '', 31, indexOf({arms:Array(String)}, u.arm)))) AS seen
			FROM `+q.db+`.experiment_units AS u
			WHERE experiment = {experiment:String} AND `+salts+` AND u.last >= toDateTime({from:DateTime64(3, 'UTC')}) AND u.first < {until:DateTime64(3, 'UTC')}
			GROUP BY unit_hash)) GROUP BY arm, bucket, step, early`,
		func(scan func(...any) error) error {
			var arm string
			var bucket uint64
			var step, early, exposed, reported, silent, unexposed, several int64
			if err := scan(&arm, &bucket, &step, &early, &exposed, &reported, &silent, &unexposed, &several); err != nil {
				return err
			}
			u.add(q, arm, bucket, step, exposed, several)
			if early == 1 && u.planned[arm] != nil {
				u.planned[arm][bucket] += exposed
			}
			u.reported[arm] += reported
			u.silent[arm] += silent
			u.unexposed[arm] += unexposed
			return nil
		})
	return u, err
}

// earlySQL is whether a time, in seconds, is before the planned end; 0 where there is none to look back on.
func (q *queries) earlySQL(at string) string {
	end, ok := q.plannedEnd()
	if !ok {
		return "toInt64(0)"
	}
	return fmt.Sprintf("toInt64(%s * 1000 < %d)", at, end.UnixMilli())
}

// unitsPlanned are the units exposed until the planned end, from what was counted with all of them where it was.
func (q *queries) unitsPlanned(ctx context.Context, all *units, then *queries) (units, error) {
	if !q.rolled {
		return then.units(ctx)
	}
	u := then.newUnits()
	u.counted, u.buckets = true, all.planned
	for arm, buckets := range all.planned {
		for _, n := range buckets {
			u.exposed[arm] += n
		}
	}
	return u, nil
}

// unitsOfRows reads exposures and slices themselves: for experiments that began before experiment_units was there.
func (q *queries) unitsOfRows(ctx context.Context) (units, error) {
	u := q.newUnits()
	err := q.run(ctx, "units by arm of their first exposure", `SELECT arm, toUInt64(bucket), step, toInt64(count()) AS units, toInt64(sum(several)) AS several FROM (
		SELECT e.unit, argMin(e.arm, e.time) AS arm, `+q.steps.sql("min(e.time)")+` AS step, min(e.arm) != max(e.arm) AS several, sipHash64('rollup_arm', {experiment:String}, any(`+bucketKey+`)) % 256 AS bucket
		FROM `+q.db+`.exposures AS e`+exposedWhere+` GROUP BY e.unit) GROUP BY arm, bucket, step`,
		func(scan func(...any) error) error {
			var arm string
			var bucket uint64
			var step, n, several int64
			if err := scan(&arm, &bucket, &step, &n, &several); err != nil {
				return err
			}
			u.add(q, arm, bucket, step, n, several)
			return nil
		})
	if err != nil || q.x.Unit != schemas.UnitViewer {
		return u, err
	}
	u.counted = true
	return u, q.run(ctx, "units with telemetry, and whether they were exposed", `SELECT arm, toInt64(count()), toInt64(countIf(unit GLOBAL IN (SELECT e.unit FROM `+q.db+`.exposures AS e`+exposedWhere+`))) FROM (
		SELECT arm, unit FROM `+q.slices()+` WHERE sessions > 0 GROUP BY arm, unit) GROUP BY arm`,
		func(scan func(...any) error) error {
			var arm string
			var n, met int64
			if err := scan(&arm, &n, &met); err != nil {
				return err
			}
			u.reported[arm] += n
			u.unexposed[arm] += n - met
			u.silent[arm] = max(u.exposed[arm]-met, 0)
			return nil
		})
}

// fromSums fills who reported where units are sessions, each of which is counted once in the sums, or clusters
// themselves (streams, blocks).
func (u *units) fromSums(x *schemas.Experiment, a arms) {
	if u.counted {
		return
	}
	for _, arm := range x.Arms {
		n := int64(0)
		for _, c := range a[arm.Name] {
			if x.Unit == schemas.UnitSession {
				n += c.sums[columnIndex["sessions"]]
			} else {
				n++
			}
		}
		u.reported[arm.Name] = n
		u.silent[arm.Name] = max(u.exposed[arm.Name]-n, 0)
		u.unexposed[arm.Name] = max(n-u.exposed[arm.Name], 0)
	}
}
