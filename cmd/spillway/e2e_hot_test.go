package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/need"
)

// pushLavfi publishes a source of ffmpeg's over RTMP until the test ends.
func pushLavfi(t testing.TB, source, url string) {
	t.Helper()
	bin := need.Program(t, "ffmpeg")
	background(t, "ffmpeg of "+source, func(ctx context.Context) error {
		err := exec.CommandContext(ctx, bin, "-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-f", "lavfi", "-i", source,
			"-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p", "-threads", "1", "-f", "flv", url).Run()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("it ended by itself: %w", err)
	})
}

// smallSource is the end of a source that is small and slow, to be cheap.
const smallSource = ":size=160x90:rate=10"

// sayBackground reports for the publisher of demoApp/stream whether it is in the background; seq counts its reports.
func sayBackground(t *testing.T, u *upProgram, stream string, seq int64, background bool) {
	t.Helper()
	code, key, stderr := command(t, u.env, nil, "key", demoApp+"/"+stream, "--data", u.dir)
	if code != 0 {
		t.Fatal(stderr)
	}
	b, err := json.Marshal(schemas.PublisherReport{App: demoApp, Stream: stream, Seq: seq, IntervalMs: 1000, Background: &background})
	if err != nil {
		t.Fatal(err)
	}
	target := strings.TrimSuffix(u.Collector, collectorPath) + "/v1/publisher?key=" + strings.TrimSpace(key)
	resp, err := http.Post(target, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("report of the publisher: %s", resp.Status)
	}
}
