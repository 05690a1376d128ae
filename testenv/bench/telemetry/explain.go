package telemetry

import (
	"context"
	"fmt"
)

// Part is what one kind of ClickHouse's work took, as its own logs tell.
type Part struct {
	Work  string `json:"work"` // insert, view, merge or read, and of which table
	Times uint64 `json:"times"`
	Rows  uint64 `json:"rows"`
	// CPUUs is CPU microseconds an accepted event. That of views is in their inserts.
	CPUUs float64 `json:"cpu_us_per_event"`
}

// explained is every kind of work, the dearest first. An insert's tables are all that it writes to, its own among them.
const explained = `SELECT work, times, rows, cpu FROM (
	SELECT concat('insert ', extract(query, 'INTO "?(\\w+)')) AS work, count() AS times, sum(written_rows) AS rows, sum(ProfileEvents['OSCPUVirtualTimeMicroseconds']) AS cpu
	FROM system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Insert' AND query LIKE '%"%' GROUP BY work
	UNION ALL SELECT concat('read ', arrayStringConcat(tables, ',')), count(), sum(read_rows), sum(ProfileEvents['OSCPUVirtualTimeMicroseconds'])
	FROM system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Select' GROUP BY tables
	UNION ALL SELECT concat('view ', view_name), count(), sum(written_rows), sum(ProfileEvents['OSCPUVirtualTimeMicroseconds']) FROM system.query_views_log GROUP BY view_name
	UNION ALL SELECT concat('merge ', table), count(), sum(rows), sum(ProfileEvents['OSCPUVirtualTimeMicroseconds'])
	FROM system.part_log WHERE event_type = 'MergeParts' AND database = currentDatabase() GROUP BY table
) WHERE cpu > 0 ORDER BY cpu DESC, work LIMIT 40`

// explain fills in where ClickHouse's CPU time went.
func (s *Settings) explain(ctx context.Context, rep *Report) error {
	if !s.Explain {
		return nil
	}
	if err := s.ClickHouse.Exec(ctx, "SYSTEM FLUSH LOGS"); err != nil {
		return fmt.Errorf("write ClickHouse's logs: %w", err)
	}
	rows, err := s.ClickHouse.Query(ctx, explained)
	if err != nil {
		return fmt.Errorf("read ClickHouse's logs: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var p Part
		var us uint64
		if err := rows.Scan(&p.Work, &p.Times, &p.Rows, &us); err != nil {
			return fmt.Errorf("read ClickHouse's logs: %w", err)
		}
		p.CPUUs = float64(us) / float64(max(rep.Accepted, 1))
		rep.ClickHouseParts = append(rep.ClickHouseParts, p)
	}
	return rows.Err()
}
