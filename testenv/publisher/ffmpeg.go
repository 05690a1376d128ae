package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/testenv/child"
)

// Remedy for a missing ffmpeg, as part of the error.
const ffmpegRemedy = "install it (Debian, Ubuntu: apt-get install ffmpeg) or name its path in the setting"

// findProgram resolves a program's path, with a remedy in the error.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find ffmpeg as %q: %w: %s", name, err, ffmpegRemedy)
	}
	return path, nil
}

// encodeArgs are the encoder settings of a card: constant bit rate, key frames by time (frames may be missing,
// so counting them would move the key frames), and no look-ahead, so that the only delay is that of B-frames.
func encodeArgs(kbps, bframes int, fps, keyframeSeconds float64) []string {
	rate := strconv.Itoa(kbps) + "k"
	args := []string{"-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main", "-pix_fmt", "yuv420p",
		"-b:v", rate, "-maxrate", rate, "-bufsize", rate,
		"-g", strconv.Itoa(max(int(fps*keyframeSeconds*2), 1)), "-sc_threshold", "0",
		"-force_key_frames", "expr:gte(t,n_forced*" + strconv.FormatFloat(keyframeSeconds, 'f', -1, 64) + ")"}
	if bframes == 0 {
		return append(args, "-tune", "zerolatency")
	}
	return append(args, "-bf", strconv.Itoa(bframes), "-b_strategy", "0",
		"-x264-params", "rc-lookahead=0:sync-lookahead=0:sliced-threads=1:mbtree=0")
}

var audioArgs = []string{"-c:a", "aac", "-b:a", "96k", "-ar", strconv.Itoa(sampleRate), "-ac", "2"}

// pipeInput reads the Matroska stream of a camera from standard input without waiting to probe it.
var pipeInput = []string{"-hide_banner", "-loglevel", "error", "-probesize", "32",
	"-analyzeduration", "0", "-fpsprobesize", "0", "-f", "matroska", "-i", "pipe:0"}

// rtmpOutput pushes at once: no Nagle delay, every packet flushed.
func rtmpOutput(target string) []string {
	return []string{"-flush_packets", "1", "-flvflags", "no_duration_filesize",
		"-tcp_nodelay", "1", "-f", "flv", target}
}

// probed is what ffprobe says of an input file.
type probed struct {
	copyVideo, copyAudio, hasAudio bool
}

// probe finds out whether a file can be sent as it is. Without an ffprobe beside or on the path it says
// "re-encode".
func probe(ctx context.Context, ffmpeg, file string) (probed, error) {
	ffprobe, err := exec.LookPath(filepath.Join(filepath.Dir(ffmpeg), "ffprobe"))
	if err != nil {
		if ffprobe, err = exec.LookPath("ffprobe"); err != nil {
			return probed{hasAudio: true}, nil
		}
	}
	var stderr child.Tail
	cmd := exec.CommandContext(ctx, ffprobe, "-v", "error", "-of", "json",
		"-show_entries", "stream=codec_type,codec_name,pix_fmt", "file:"+file)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return probed{}, fmt.Errorf("read input file %s: %w: %s", file, err, stderr.LastLine())
	}
	var found struct {
		Streams []struct {
			CodecType string `json:"codec_type"`
			CodecName string `json:"codec_name"`
			PixFmt    string `json:"pix_fmt"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return probed{}, fmt.Errorf("read ffprobe's answer about %s: %w", file, err)
	}
	var p probed
	video := false
	for _, s := range found.Streams {
		switch {
		case s.CodecType == "video" && !video:
			video = true
			p.copyVideo = s.CodecName == "h264" && (s.PixFmt == "yuv420p" || s.PixFmt == "yuvj420p")
		case s.CodecType == "audio" && !p.hasAudio:
			p.hasAudio = true
			p.copyAudio = s.CodecName == "aac"
		}
	}
	if !video {
		return probed{}, fmt.Errorf("input file %s has no picture: give a file with a video stream", file)
	}
	return p, nil
}

// checkURL refuses what ffmpeg would take for something else than an RTMP target.
func checkURL(target string) (*url.URL, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("read publish URL: not a URL: give rtmp://host:port/application/stream")
	}
	if (u.Scheme != "rtmp" && u.Scheme != "rtmps") || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return nil, fmt.Errorf("publish URL %s is not of the form rtmp://host:port/application/stream", redact(u))
	}
	return u, nil
}

// redact leaves out what may be a key: user, query and fragment.
func redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// startError adds the remedy when ffmpeg vanished between looking and starting.
func startError(err error) error {
	if child.NotFound(err) {
		return fmt.Errorf("%w: %s", err, ffmpegRemedy)
	}
	return err
}
