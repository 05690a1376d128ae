package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bench/telemetry"
	"github.com/spillway-live/spillway/testenv/bus"
)

// benchOpenSessions measures what open sessions take, and the takeover of them, beside a bus of their own.
func (c *commands) benchOpenSessions(ctx ctx, f *benchTelemetryFlags, dir string, logger *slog.Logger) error {
	settings := telemetry.OpenSettings{Sessions: f.openSessions, ReportEvery: f.reportEvery, SnapshotEvery: f.snapshotEvery, Logger: logger}
	err := settings.Check()
	if err != nil {
		return err
	}
	if settings.Binary, err = thisProgram(); err != nil {
		return err
	}
	settings.DataDir = filepath.Join(dir, "data")
	srv, err := startTelemetryServer(ctx, f, settings.DataDir, "--only", "router")
	if err != nil {
		return err
	}
	defer srv.process.Stop(15 * time.Second)
	settings.NATS = srv.ready.NATS
	nc, err := bus.Connect(settings.NATS, "spillway-bench", logger)
	if err != nil {
		return err
	}
	defer nc.Close()
	if settings.JetStream, err = bus.JetStream(ctx, nc, schemas.BusSettings{}); err != nil {
		return err
	}
	rep, err := telemetry.RunOpen(ctx, settings)
	if rep != nil {
		err = errors.Join(err, c.printJSON(rep))
	}
	if err != nil {
		return fmt.Errorf("%w; the bus said: %s", err, strings.TrimSpace(srv.output.String()))
	}
	return nil
}
