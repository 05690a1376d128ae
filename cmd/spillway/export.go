package main

import (
	"errors"
	"flag"
	"fmt"
	"net/url"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/export"
)

// exportCommand writes a view into a file, asking as the analyst.
func (c *commands) exportCommand() *ffcli.Command {
	var b base
	var from, to, format, out, query string
	return c.command("export", "VIEW", "write a view of ClickHouse, or a time range of it, into a Parquet or Arrow file", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.StringVar(&from, "from", "", "first `time`, 2026-01-31T12:00:00Z or 2026-01-31 (UTC)")
		fs.StringVar(&to, "to", "", "`time` at which to end, itself left out")
		fs.StringVar(&format, "format", "parquet", "parquet, or arrow (an Arrow IPC stream)")
		fs.StringVar(&out, "out", "", "`FILE` to write; needed")
		fs.StringVar(&query, "query", "", "`URL` that answers SQL over HTTP (default: that of the running \"spillway up\")")
	}, func(ctx ctx, a []string) error {
		if out == "" {
			return errors.New("--out is missing: name the file to write")
		}
		s := export.Settings{URL: query, View: a[0], Format: format, Out: out, Progress: func(n int64) {
			fmt.Fprintf(c.stderr, "%d MiB written\n", n>>20)
		}}
		var err error
		if s.From, err = parseTime("--from", from); err != nil {
			return err
		}
		if s.To, err = parseTime("--to", to); err != nil {
			return err
		}
		if s.URL == "" {
			r, err := findRun(b.data)
			if err != nil {
				return err
			}
			if s.URL, err = withExportLimits(r.ClickHouse); err != nil {
				return err
			}
		}
		n, err := export.Run(ctx, s)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "%s: %d bytes\n", out, n)
		return nil
	})
}

// withExportLimits asks for as much as the analyst may have.
func withExportLimits(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("ClickHouse's address %q in the run file: %w: start \"spillway up\" again", s, err)
	}
	q := u.Query()
	q.Set("max_execution_time", "120")
	q.Set("max_result_rows", "10000000")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// parseTime reads a day or a time; empty is the zero time.
func parseTime(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q: give 2026-01-31T12:00:00Z, or 2026-01-31 for its first moment in UTC", flag, s)
}
