package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// MediaMTX starts a MediaMTX server (https://github.com/bluenviron/mediamtx, MIT) that takes RTMP and serves
// low-latency HLS, with the settings it ships except those named here.
type MediaMTX struct {
	// Binary is the program's name or path; "mediamtx" when empty.
	Binary string
	// PartDuration is the length of LL-HLS parts; 200 ms (its own default) when 0.
	PartDuration time.Duration
	// SegmentDuration is the least length of segments; 1 s (its own default) when 0.
	SegmentDuration time.Duration
	// OnDemand packages a stream only once somebody reads it, as MediaMTX does by default. When false every
	// stream is packaged at once, which is what a comparison of packaging needs.
	OnDemand bool
}

// Start runs the server until ctx ends or Stop, and returns when it listens.
func (m MediaMTX) Start(ctx context.Context) (*Server, error) {
	binary, err := resolve(orDefault(m.Binary, "mediamtx"))
	if err != nil {
		return nil, fmt.Errorf("find MediaMTX: %w: give the path of its binary", err)
	}
	return start(ctx, launch{
		name:     "MediaMTX",
		version:  firstLine(ctx, binary, "--version"),
		playPath: func(stream string) string { return "/" + application + "/" + stream + "/index.m3u8" },
		command: func(dir, rtmp, http string) (*exec.Cmd, error) {
			// Any path may be published. The rest is set by environment, where versions that lack a
			// protocol ignore its switch instead of refusing the file.
			config := filepath.Join(dir, "mediamtx.yml")
			if err := os.WriteFile(config, []byte("paths:\n  all_others:\n"), 0o600); err != nil {
				return nil, fmt.Errorf("write its configuration: %w", err)
			}
			cmd := exec.Command(binary, config)
			cmd.Env = append(os.Environ(), m.environment(rtmp, http)...)
			return cmd, nil
		},
	})
}

func (m MediaMTX) environment(rtmp, http string) []string {
	remux := "yes"
	if m.OnDemand {
		remux = "no"
	}
	env := []string{
		"MTX_LOGLEVEL=warn",
		"MTX_RTMP=yes", "MTX_RTMPENCRYPTION=no", "MTX_RTMPADDRESS=" + rtmp,
		"MTX_HLS=yes", "MTX_HLSADDRESS=" + http, "MTX_HLSVARIANT=lowLatency", "MTX_HLSALWAYSREMUX=" + remux,
		"MTX_HLSPARTDURATION=" + orDefault(m.PartDuration, 200*time.Millisecond).String(),
		"MTX_HLSSEGMENTDURATION=" + orDefault(m.SegmentDuration, time.Second).String(),
	}
	for _, off := range []string{"RTSP", "WEBRTC", "SRT", "MOQ", "API", "METRICS", "PPROF", "PLAYBACK"} {
		env = append(env, "MTX_"+off+"=no")
	}
	return env
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
