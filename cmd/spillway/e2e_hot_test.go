package main

import (
	"context"
	"fmt"
	"os/exec"
	"testing"

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
