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
	binary, err := thisProgram()
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	srv, err := startTelemetryServer(ctx, f, data, "--only", "router")
	if err != nil {
		return err
	}
	defer srv.process.Stop(15 * time.Second)
	nc, err := bus.Connect(srv.ready.NATS, "spillway-bench", logger)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := bus.JetStream(ctx, nc, schemas.BusSettings{})
	if err != nil {
		return err
	}
	rep, err := telemetry.RunOpen(ctx, telemetry.OpenSettings{
		Binary: binary, DataDir: data, NATS: srv.ready.NATS, JetStream: js,
		Sessions: f.openSessions, ReportEvery: f.reportEvery, SnapshotEvery: f.snapshotEvery, Logger: logger,
	})
	if rep != nil {
		err = errors.Join(err, c.printJSON(rep))
	}
	if err != nil {
		return fmt.Errorf("%w; the bus said: %s", err, strings.TrimSpace(srv.output.String()))
	}
	return nil
}
