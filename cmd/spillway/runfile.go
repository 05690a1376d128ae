package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// runFile is what "spillway up" prints when it is ready and keeps in
// <data>/run.json while it runs, so that other commands find it.
type runFile struct {
	// Push is the RTMP URL of the application; append /<stream>.
	Push string `json:"push"`
	// PushRTMPS is the same over TLS; absent where it is off. PushRTMPSCert is the file
	// of the self-signed certificate that it has unless --tls-cert gives another.
	PushRTMPS     string `json:"push_rtmps,omitempty"`
	PushRTMPSCert string `json:"push_rtmps_cert,omitempty"`
	// PushSRT is the same over SRT; absent where it is off.
	PushSRT string `json:"push_srt,omitempty"`
	// PushWHIP is the same by WHIP; absent where it is off.
	PushWHIP string `json:"push_whip,omitempty"`
	// PushWHIPMedia is where media published by WHIP goes, HOST:PORT (UDP).
	PushWHIPMedia string `json:"push_whip_media,omitempty"`
	// Watch is the play page, Console the operator's page.
	Watch string `json:"watch"`
	// HLS maps a CDN's name to the demo stream's multivariant playlist through that CDN's edge.
	HLS     map[string]string `json:"hls"`
	Console string            `json:"console"`
	// Collector takes telemetry POSTs (CMCD events).
	Collector string `json:"collector"`
	// ClickHouse answers SQL over HTTP as the analyst user.
	ClickHouse string `json:"clickhouse"`
	NATS       string `json:"nats"`
	// Review is the bus as review operators reach it; absent where the bus is another's.
	Review string `json:"review,omitempty"`
	// Leaf is where neighbouring regions connect; absent where none may.
	Leaf    string `json:"leaf,omitempty"`
	Router  string `json:"router"`
	Origins string `json:"origin"`
	Metrics string `json:"metrics"`
	PID     int    `json:"pid"`
	// ClickHouseNative is for our own roles and has the writer's credentials.
	ClickHouseNative string `json:"-"`
}

// storedRun adds what only this machine's user may read.
type storedRun struct {
	runFile
	ClickHouseNative string `json:"clickhouse_native"`
}

func runPath(dataDir string) string { return filepath.Join(dataDir, "run.json") }

// pointerPath names the file that says which data directory was used last.
func pointerPath() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "spillway", "last-up"), nil
}

// writeRun stores r for other commands; the returned function removes it.
func writeRun(dataDir string, r *runFile) (remove func(), err error) {
	b, err := json.MarshalIndent(storedRun{*r, r.ClickHouseNative}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write run file: %w", err)
	}
	if err := writeFile(runPath(dataDir), append(b, '\n')); err != nil {
		return nil, fmt.Errorf("write run file: %w", err)
	}
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, fmt.Errorf("write run file: %w", err)
	}
	if p, err := pointerPath(); err == nil {
		// Only a convenience for later commands: without a home there is no pointer.
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
			_ = writeFile(p, []byte(abs))
		}
	}
	return func() { _ = os.Remove(runPath(dataDir)) }, nil
}

// writeFile replaces path whole, readable by its owner only.
func writeFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// findRun reads the run file of the given data directory, or of the default
// one, or of the last "spillway up" of this user. It gives errNotRunning where
// there is none or its process is gone.
func findRun(data string) (*runFile, error) {
	dirs := []string{data}
	if data == "" {
		dirs = []string{defaultDataDir()}
		if p, err := pointerPath(); err == nil {
			if b, err := os.ReadFile(p); err == nil {
				dirs = append([]string{string(b)}, dirs...)
			}
		}
	}
	for _, d := range dirs {
		b, err := os.ReadFile(runPath(d))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find the running spillway: %w", err)
		}
		var s storedRun
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, fmt.Errorf("find the running spillway: %s: %w", runPath(d), err)
		}
		if s.PID > 0 && syscall.Kill(s.PID, 0) != nil {
			continue // left behind by one that was killed
		}
		s.runFile.ClickHouseNative = s.ClickHouseNative
		return &s.runFile, nil
	}
	return nil, errNotRunning
}

// lastDataDir is the data directory of this user's last "spillway up" if that still runs.
func lastDataDir() string {
	p, err := pointerPath()
	if err != nil {
		return ""
	}
	b, err := os.ReadFile(p)
	if err != nil {
		return ""
	}
	if _, err := findRun(string(b)); err != nil {
		return ""
	}
	return string(b)
}
