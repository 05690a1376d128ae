package hops

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/outbox"
)

// Reporter tells of parts at one process's hops. A nil one is silent. Safe for concurrent use.
type Reporter struct {
	nc     *nats.Conn
	rows   *outbox.Rows
	logger *slog.Logger
}

// NewReporter makes a Reporter of a role; [Reporter.Run] sends its rows.
func NewReporter(js jetstream.JetStream, role string, logger *slog.Logger) *Reporter {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Reporter{nc: js.Conn(), rows: outbox.New(outbox.Settings{JetStream: js, Role: role, Logger: logger}), logger: logger}
}

// Run sends rows until ctx ends, then those that are left for at most a second more.
func (r *Reporter) Run(ctx context.Context) { r.rows.Run(ctx) }

// Tell sends rows of one stream: notes at once, rows with the next batch.
func (r *Reporter) Tell(rows ...schemas.Telemetry) {
	if r == nil || len(rows) == 0 {
		return
	}
	for i := range rows {
		r.rows.Add(rows[i])
	}
	Say(r.nc, r.logger, rows)
}

// Say sends the notes of rows, which may be of several streams and of which those without a hop are passed over.
func Say(nc *nats.Conn, logger *slog.Logger, rows []schemas.Telemetry) {
	var notes []Note
	var key schemas.StreamKey
	flush := func() {
		if len(notes) == 0 || key.Check() != nil {
			notes = notes[:0]
			return
		}
		data, err := json.Marshal(notes)
		if err == nil {
			err = nc.Publish(schemas.HopsSubject(key), data)
		}
		if err != nil { // the bus is away: these parts have no delay further on
			logger.Debug("hop notes not sent", "stream", key.String(), "err", err)
		}
		notes = notes[:0]
	}
	for i := range rows {
		if rows[i].Hop == "" {
			continue
		}
		if k := (schemas.StreamKey{App: rows[i].App, Stream: rows[i].Stream}); k != key {
			flush()
			key = k
		}
		if notes = append(notes, NoteOf(&rows[i])); len(notes) == maxNotes {
			flush()
		}
	}
	flush()
}

// SayProbe sends the note of a probe to routers.
func SayProbe(nc *nats.Conn, logger *slog.Logger, row *schemas.Telemetry) {
	data, err := json.Marshal([]Note{NoteOf(row)})
	if err == nil {
		err = nc.Publish(schemas.SubjectSynthetic, data)
	}
	if err != nil {
		logger.Debug("probe not told to routers", "err", err)
	}
}
