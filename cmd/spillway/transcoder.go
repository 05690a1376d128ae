package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/transcode"
)

// transcoderFlags size a transcoder.
type transcoderFlags struct {
	w transcode.Worker
}

func (f *transcoderFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.w.MaxStreams, "max-streams", 0, "streams worked on at once, and this process's share of all (default: the number of processors)")
	fs.Int64Var(&f.w.MaxPixelsPerSec, "max-pixels-per-second", 0, "pictures made and decoded, pixels a second; 0 is no limit, one stream is always taken")
	fs.DurationVar(&f.w.Grace, "grace", 30*time.Second, "time a stream is worked on after its last viewer has left")
	fs.DurationVar(&f.w.MaxBehind, "max-behind", 2*time.Second, "how far an encoder may fall behind before its highest rung is left out")
	fs.StringVar(&f.w.Encoder.Path, "ffmpeg", "ffmpeg", "`program` that encodes, 5.1 or later with libx264")
	fs.StringVar(&f.w.Encoder.Preset, "preset", "veryfast", "x264 `preset`")
	fs.IntVar(&f.w.Encoder.Threads, "threads", 0, "threads of each rung's encoder; 0 goes by the size of its pictures")
	fs.Int64Var(&f.w.Encoder.MaxMemoryBytes, "ffmpeg-memory", 4<<30, "address space of each ffmpeg, `bytes`; below 0 is no limit")
}

// transcoderRole makes the renditions of watched streams.
func (d *deps) transcoderRole(f *transcoderFlags) role {
	w := &f.w
	w.JetStream, w.Logger, w.Registerer = d.js, d.log(transcode.Role), d.reg
	return role{transcode.Role, w.Run}
}

// startTranscoder runs a transcoder if there is an ffmpeg to run.
func (s *system) startTranscoder(ctx ctx) error {
	if s.f.ladder != "" {
		if err := s.setDemoLadder(ctx); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		s.logger.Warn("no renditions are made: " + transcode.ErrNoEncoder.Error())
		return nil
	}
	s.add(s.d.transcoderRole(&transcoderFlags{}))
	return nil
}

// setDemoLadder writes --ladder into the demo application's settings.
func (s *system) setDemoLadder(ctx ctx) error {
	ladder, err := parseLadder(s.f.ladder)
	if err != nil {
		return fmt.Errorf("--ladder: %w", err)
	}
	kv, err := s.d.js.KeyValue(ctx, schemas.BucketApps)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketApps, err)
	}
	settings := &schemas.AppSettings{}
	e, err := kv.Get(ctx, demoApp)
	switch {
	case err == nil:
		if settings, err = schemas.ParseAppSettings(demoApp, e.Value()); err != nil {
			return fmt.Errorf("settings of application %s: %w", demoApp, err)
		}
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return fmt.Errorf("read the settings of application %s: %w", demoApp, err)
	}
	settings.Ladder = ladder
	if err := settings.Check(); err != nil {
		return fmt.Errorf("--ladder: %w", err)
	}
	data, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, demoApp, data)
	return err
}
