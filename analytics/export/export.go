// Package export writes a view or table of ClickHouse, or a time range of it,
// into a Parquet or Arrow file.
//
// It promises: a file is there whole or not at all; rows never pass through
// memory as a whole; only views and tables of the database are read, by name.
// ClickHouse makes the file's bytes; this package asks, checks and stores.
package export

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Settings of Run.
type Settings struct {
	// URL answers SQL over HTTP to POST; what its query holds (user, settings) is kept.
	URL      string
	Database string // default: spillway
	// View is a view or table of the database. A name that is none is refused with the list of those there are.
	View string
	// From and To bound the time column, From included and To not; zero is no bound.
	From, To time.Time
	Format   string // parquet or arrow (Arrow IPC stream)
	Out      string // file; replaced when it exists
	// Progress is called with the bytes written so far, at most once a second; nil is silent.
	Progress func(bytes int64)
	// Client defaults to http.DefaultClient.
	Client *http.Client
}

// format is a file format: ClickHouse's name, and the bytes with which a whole file ends.
type format struct {
	name string
	end  []byte
}

var formats = map[string]format{
	"parquet": {"Parquet", []byte("PAR1")},
	"arrow":   {"ArrowStream", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
}

// timeColumns are the columns a time range is asked of, the first that a view has.
var timeColumns = []string{"minute", "hour", "day", "time", "last_time", "received_at"}

// column of the view, as system.columns says.
type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Run writes the file and gives its size in bytes. Errors: a bad name, format
// or range, with what to give instead; what ClickHouse refused, in its words;
// what kept the file from being written. No file is left behind then.
func Run(ctx context.Context, s Settings) (int64, error) {
	s.Database = cmp.Or(s.Database, "spillway")
	f, ok := formats[s.Format]
	if !ok {
		return 0, fmt.Errorf("format %q: parquet or arrow can be written", s.Format)
	}
	if !s.From.IsZero() && !s.To.IsZero() && !s.From.Before(s.To) {
		return 0, fmt.Errorf("the range from %s to %s is empty: its end must come after its start", s.From.Format(time.RFC3339), s.To.Format(time.RFC3339))
	}
	columns, err := s.columns(ctx)
	if err != nil {
		return 0, err
	}
	sql, err := s.query(columns)
	if err != nil {
		return 0, err
	}
	return s.write(ctx, sql+" FORMAT "+f.name, f.end)
}

// columns of the view; an error lists the names there are when it is none of them.
func (s *Settings) columns(ctx context.Context) ([]column, error) {
	var tables []struct {
		Name string `json:"name"`
	}
	if err := s.ask(ctx, "SELECT name FROM system.tables WHERE database = {db:String} AND name NOT LIKE '%\\_mv' AND name != 'schema_migrations' ORDER BY name", &tables); err != nil {
		return nil, err
	}
	var names []string
	for _, t := range tables {
		names = append(names, t.Name)
	}
	if !slices.Contains(names, s.View) {
		return nil, fmt.Errorf("there is no view %q; there are %s", s.View, strings.Join(names, ", "))
	}
	var columns []column
	err := s.ask(ctx, "SELECT name, type FROM system.columns WHERE database = {db:String} AND table = {view:String} AND default_kind != 'ALIAS' ORDER BY position", &columns)
	return columns, err
}

// query selects the columns with types that the formats have.
func (s *Settings) query(columns []column) (string, error) {
	var list []string
	for _, c := range columns {
		q := quote(c.Name)
		switch {
		case strings.HasPrefix(c.Type, "AggregateFunction"):
			// A sketch's bytes mean nothing outside ClickHouse; the views give its values.
		case strings.HasPrefix(c.Type, "DateTime("), c.Type == "DateTime":
			list = append(list, "toDateTime64(t."+q+", 3, 'UTC') AS "+q) // else it would be a bare number
		default:
			list = append(list, "t."+q+" AS "+q)
		}
	}
	sql := "SELECT " + strings.Join(list, ", ") + " FROM " + quote(s.Database) + "." + quote(s.View) + " AS t"
	if s.From.IsZero() && s.To.IsZero() {
		return sql, nil
	}
	for _, name := range timeColumns {
		if !slices.ContainsFunc(columns, func(c column) bool { return c.Name == name }) {
			continue
		}
		var where []string
		if !s.From.IsZero() {
			where = append(where, "t."+name+" >= fromUnixTimestamp64Milli("+fmt.Sprint(s.From.UnixMilli())+", 'UTC')")
		}
		if !s.To.IsZero() {
			where = append(where, "t."+name+" < fromUnixTimestamp64Milli("+fmt.Sprint(s.To.UnixMilli())+", 'UTC')")
		}
		return sql + " WHERE " + strings.Join(where, " AND "), nil
	}
	return "", fmt.Errorf("%s has no column of time: leave out --from and --to", s.View)
}

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func (s *Settings) post(ctx context.Context, sql string) (*http.Response, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse's address: %w", err)
	}
	q := u.Query()
	q.Set("param_db", s.Database)
	q.Set("param_view", s.View)
	q.Set("http_write_exception_in_output_format", "0")
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(sql))
	if err != nil {
		return nil, fmt.Errorf("ClickHouse's address: %w", err)
	}
	client := s.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 2000)) // the status says enough without it
		return nil, fmt.Errorf("ClickHouse refuses (%s): %s", resp.Status, bytes.TrimSpace(b))
	}
	return resp, nil
}

// ask reads a small answer.
func (s *Settings) ask(ctx context.Context, sql string, to any) error {
	resp, err := s.post(ctx, sql+" FORMAT JSON")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct{ Data any }{to}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("read ClickHouse's answer: %w", err)
	}
	return nil
}

// write streams the answer into a file beside Out and puts it in Out's place once it is whole.
func (s *Settings) write(ctx context.Context, sql string, end []byte) (n int64, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(s.Out), filepath.Base(s.Out)+".*.part")
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", s.Out, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	resp, err := s.post(ctx, sql)
	if err == nil {
		n, err = s.copy(tmp, resp.Body, end)
		resp.Body.Close()
	}
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return 0, err
	}
	if err = os.Rename(tmp.Name(), s.Out); err != nil {
		return 0, fmt.Errorf("write %s: %w", s.Out, err)
	}
	return n, nil
}

// copy reports progress and checks that the file's last bytes came: an error
// in the middle of an answer comes after its status.
func (s *Settings) copy(to io.Writer, from io.Reader, end []byte) (n int64, err error) {
	buf, tail, told := make([]byte, 1<<20), []byte(nil), time.Now()
	for {
		k, rerr := from.Read(buf)
		if _, err := to.Write(buf[:k]); err != nil {
			return n, fmt.Errorf("write %s: %w", s.Out, err)
		}
		n += int64(k)
		if tail = append(tail, buf[:k]...); len(tail) > 2000 {
			tail = slices.Clone(tail[len(tail)-2000:])
		}
		if s.Progress != nil && time.Since(told) >= time.Second {
			told = time.Now()
			s.Progress(n)
		}
		if rerr == io.EOF {
			rerr = nil
			if bytes.HasSuffix(tail, end) {
				return n, nil
			}
			rerr = io.ErrUnexpectedEOF
		}
		if rerr != nil {
			why := ""
			if i := bytes.LastIndex(tail, []byte("Code: ")); i >= 0 {
				why = ": " + strings.TrimSpace(string(tail[i:]))
			}
			return n, fmt.Errorf("ClickHouse's answer ended early, after %d bytes%s: ask for a shorter range (%w)", n, why, rerr)
		}
	}
}
