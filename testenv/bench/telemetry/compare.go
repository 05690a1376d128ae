package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// comparedRows is how many of the rows are sent again as JSONEachRow.
const comparedRows = 500_000

// columns counts the values of an average row.
func (s *Settings) columns(ctx context.Context, rep *Report) error {
	rows, err := s.ClickHouse.Query(ctx, "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'telemetry' AND default_kind = ''")
	if err != nil {
		return fmt.Errorf("list columns: %w", err)
	}
	defer rows.Close()
	var terms []string
	for rows.Next() {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(typ, "Nullable"):
			terms = append(terms, "isNotNull("+name+")")
		case strings.Contains(typ, "String"):
			terms = append(terms, "("+name+" != '')")
		default:
			terms = append(terms, "1")
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	q := "SELECT avg(" + strings.Join(terms, "+") + ") FROM (SELECT * FROM telemetry WHERE app = 'bench' LIMIT 100000)"
	if err := s.ClickHouse.QueryRow(ctx, q).Scan(&rep.Columns); err != nil {
		return fmt.Errorf("count values: %w", err)
	}
	return nil
}

// compare sends the same rows to ClickHouse as JSONEachRow.
func (s *Settings) compare(ctx context.Context, rep *Report) error {
	if s.ClickHouseHTTP == "" {
		return nil
	}
	for _, batch := range []int{10_000, 1_000} {
		in, err := s.insertJSON(ctx, batch, min(comparedRows, int(rep.RawRows)))
		if err != nil {
			return fmt.Errorf("compare with JSONEachRow: %w", err)
		}
		if in.ClickHouseCPUUs > 0 {
			in.Ratio = rep.CPUUs / in.ClickHouseCPUUs
		}
		rep.JSONEachRow = append(rep.JSONEachRow, *in)
	}
	return nil
}

func (s *Settings) insertJSON(ctx context.Context, batch, rows int) (*Insert, error) {
	s.Logger.Info("comparing with JSONEachRow", "batch_rows", batch, "rows", rows)
	for _, q := range []string{"DROP TABLE IF EXISTS bench_json SYNC", "CREATE TABLE bench_json AS telemetry"} {
		if err := s.ClickHouse.Exec(ctx, q); err != nil {
			return nil, err
		}
	}
	defer func() { _ = s.ClickHouse.Exec(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS bench_json SYNC") }()
	text, err := s.query(ctx, fmt.Sprintf("SELECT * FROM telemetry WHERE app = 'bench' LIMIT %d FORMAT JSONEachRow", rows), nil)
	if err != nil {
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	in := &Insert{BatchRows: batch}
	for len(text) > 0 {
		n, end := 0, 0
		for n < batch && end < len(text) {
			i := bytes.IndexByte(text[end:], '\n')
			if i < 0 {
				i = len(text) - end - 1
			}
			end += i + 1
			n++
		}
		if _, err := s.query(ctx, "INSERT INTO bench_json FORMAT JSONEachRow", text[:end]); err != nil {
			return nil, err
		}
		in.Rows += int64(n)
		text = text[end:]
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	after, err := s.usage()
	if err != nil {
		return nil, err
	}
	in.ClickHouseCPUUs = (after.clickhouse - before.clickhouse) * 1e6 / float64(max(in.Rows, 1))
	return in, nil
}

// query asks ClickHouse over HTTP.
func (s *Settings) query(ctx context.Context, q string, body []byte) ([]byte, error) {
	u, err := url.Parse(s.ClickHouseHTTP)
	if err != nil {
		return nil, err
	}
	v := u.Query()
	v.Set("query", q)
	v.Set("async_insert", "0")
	v.Set("database", "spillway")
	u.RawQuery = v.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ClickHouse answered %d: %.300s", res.StatusCode, out)
	}
	return out, nil
}
