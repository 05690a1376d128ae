package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/analytics/stats/eval"
	"github.com/spillway-live/spillway/schemas"
)

func (c *commands) experimentReport() *ffcli.Command {
	var b audit
	var asJSON bool
	var alpha float64
	var exact, sql bool
	var page string
	return c.command("experiment report", "NAME", "compare an experiment's arms, with intervals", 1, func(fs *flag.FlagSet) {
		b.base.register(fs)
		fs.BoolVar(&asJSON, "json", false, "print JSON instead of text")
		fs.StringVar(&page, "html", "", "write the report as one self-contained page to this file")
		fs.BoolVar(&sql, "sql", false, "print the SQL behind every number below the text")
		fs.BoolVar(&exact, "exact", true, "take the variance of primary metric and guardrails over every unit, not over hash buckets of them")
		fs.Float64Var(&alpha, "alpha", 0.05, "error rate of the intervals")
	}, func(ctx ctx, a []string) error {
		if !(alpha > 0 && alpha < 1) {
			return fmt.Errorf("--alpha %v: give a number between 0 and 1, e.g. 0.05", alpha)
		}
		var x *schemas.Experiment
		err := b.control(ctx, func(ct *control.Control) error {
			var err error
			x, err = ct.Get(ctx, a[0])
			return err
		})
		if err != nil {
			return err
		}
		conn, err := b.openClickHouse()
		if err != nil {
			return err
		}
		defer conn.Close()
		r, err := report.Build(ctx, conn, x, report.Options{Alpha: alpha, Exact: exact})
		if err != nil {
			return err
		}
		if page != "" {
			if err := writePage(r, page); err != nil {
				return err
			}
		}
		if asJSON {
			e := json.NewEncoder(c.stdout)
			e.SetIndent("", "  ")
			return e.Encode(r)
		}
		if err := r.WriteText(c.stdout); err != nil || !sql {
			return err
		}
		return r.WriteSQL(c.stdout)
	})
}

// writePage writes the report as HTML; what the file held before stays when that fails.
func writePage(r *report.Report, file string) error {
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// openClickHouse opens the native protocol of the configured or running ClickHouse.
func (b *base) openClickHouse() (driver.Conn, error) {
	u, err := b.clickhouseURL()
	if err != nil {
		return nil, err
	}
	return openDSN(u)
}

func evalStats(r io.Reader, w io.Writer) error { return eval.Eval(r, w) }
