// Package source reads recorded traffic for the sandbox: a folder with
// recording.json and sessions.ndjson, a folder of network traces, or ClickHouse.
//
// It promises: lines that are wrong are refused with their number, files are read
// up to a limit, and what was read from ClickHouse can be written as a folder and
// read again.
package source

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/schemas"
)

const (
	// MaxSessions bounds a recording, about 300 bytes each in memory.
	MaxSessions = 2_000_000
	maxLine     = 64 << 10
	maxSettings = 1 << 20
	maxTraces   = 2000
	maxTraceSec = 200_000
	recordFile  = "recording.json"
	sessionFile = "sessions.ndjson"
)

// Folder reads a recording that Write has written, or that has the same form.
func Folder(dir string) (*predict.Recording, error) {
	b, err := readLimited(filepath.Join(dir, recordFile), maxSettings)
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	r := &predict.Recording{}
	if err := schemas.UnmarshalStrict(b, r); err != nil {
		return nil, fmt.Errorf("read recording: %s: %w", filepath.Join(dir, recordFile), err)
	}
	f, err := os.Open(filepath.Join(dir, sessionFile))
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	defer f.Close()
	if r.Sessions, err = ParseSessions(f); err != nil {
		return nil, fmt.Errorf("read recording: %s: %w", filepath.Join(dir, sessionFile), err)
	}
	return r, nil
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return b, err
}

// ParseSessions reads a session a line.
func ParseSessions(in io.Reader) ([]predict.Session, error) {
	var out []predict.Session
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if len(out) == MaxSessions {
			return nil, fmt.Errorf("line %d: a recording holds up to %d sessions", n, MaxSessions)
		}
		var s predict.Session
		if err := schemas.UnmarshalStrict(line, &s); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("after line %d: %w", n, err)
	}
	return out, nil
}

// Write puts a recording into a folder.
func Write(dir string, r *predict.Recording) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	head, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, recordFile), append(head, '\n'), 0o644); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, sessionFile))
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	for i := range r.Sessions {
		if err := e.Encode(&r.Sessions[i]); err != nil {
			return errors.Join(fmt.Errorf("write recording: session %d: %w", i+1, err), f.Close())
		}
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return nil
}

// Traces reads all *.csv of a folder, in order of name, as rates of whole seconds, bit/s.
func Traces(dir string) ([][]float64, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.csv"))
	if err != nil {
		return nil, fmt.Errorf("read traces: %w", err)
	}
	if len(names) == 0 || len(names) > maxTraces {
		return nil, fmt.Errorf("read traces: %s holds %d .csv files: from 1 to %d can be read", dir, len(names), maxTraces)
	}
	slices.Sort(names)
	var out [][]float64
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read traces: %w", err)
		}
		t, err := ParseTrace(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read traces: %s: %w", name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// ParseTrace reads a CSV with a header, of which t_s (seconds) and dl_kbps (kbit/s)
// count. Seconds that are missing have the rate of the one before, repeated ones are averaged.
func ParseTrace(in io.Reader) ([]float64, error) {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	at, rate := slices.Index(head, "t_s"), slices.Index(head, "dl_kbps")
	if at < 0 || rate < 0 {
		return nil, fmt.Errorf("the header %.200q lacks t_s or dl_kbps", strings.Join(head, ","))
	}
	var sums []float64
	var counts []int
	for line := 2; ; line++ {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		t, err1 := strconv.Atoi(row[at])
		kbps, err2 := strconv.ParseFloat(row[rate], 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if t < 0 || t >= maxTraceSec || !(kbps >= 0 && kbps <= 1e8) {
			return nil, fmt.Errorf("line %d: second %d or rate %v is out of range (up to %d s and 10^8 kbit/s)", line, t, kbps, maxTraceSec)
		}
		for len(sums) <= t {
			sums, counts = append(sums, 0), append(counts, 0)
		}
		sums[t] += kbps * 1000
		counts[t]++
	}
	if len(sums) == 0 {
		return nil, errors.New("it has no rows")
	}
	last := 0.0
	for i := range sums {
		if counts[i] > 0 {
			last = sums[i] / float64(counts[i])
		}
		sums[i] = last
	}
	return sums, nil
}
