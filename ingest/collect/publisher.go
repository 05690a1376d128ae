package collect

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
	"github.com/spillway-live/spillway/schemas/mirror"
	entries "github.com/spillway-live/spillway/schemas/registry"
)

// maxPublisherReport bounds the body of a publisher's report.
const maxPublisherReport = 16 << 10

// commandTimeout bounds how long an answer waits for the state that collectors share.
const commandTimeout = 3 * time.Second

var errNotNew = errors.New("the report changes nothing")

// newSettings follows the settings of applications.
func newSettings(logger *slog.Logger) *mirror.Table[*schemas.AppSettings] {
	return mirror.New(schemas.BucketApps, schemas.ParseAppSettings, logger)
}

// publisher takes a schemas.PublisherReport and answers with the command that
// waits for the publisher, if there is one.
func (c *Collector) publisher(w http.ResponseWriter, r *http.Request, now time.Time) int {
	if r.Method != http.MethodPost {
		return notAllowed(w, "POST, OPTIONS")
	}
	text, err := c.body(r, maxPublisherReport)
	if err != nil {
		return c.refuseBody(w, err)
	}
	var p schemas.PublisherReport
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		c.m.reject("bad_json", 1)
		return refuse(w, http.StatusBadRequest, "the body is not a publisher's report: %v", err)
	}
	if err := p.Check(); err != nil {
		c.m.reject("publisher_field", 1)
		return refuse(w, http.StatusBadRequest, "%v", err)
	}
	if err := c.mayPublish(r, &p, now); err != nil {
		c.m.reject("publisher_key", 1)
		return refuse(w, http.StatusForbidden, "reports about %s/%s need its publish key (Authorization: Bearer, or ?key=): %v", p.App, p.Stream, err)
	}
	rows := []schemas.Telemetry{publisherRow(&p, now)}
	d := c.dims(r, now)
	fill(&rows[0].Device, d.agent.device)
	fill(&rows[0].OS, d.agent.os)
	rows[0].Region, rows[0].ISP, rows[0].Country = d.place.Region, d.place.ISP, d.place.Country
	cmd := c.command(r.Context(), &p, now)
	if cmd == nil {
		return c.accept(w, r, rows)
	}
	return c.acceptWith(w, r, rows, schemas.PublisherAnswer{Accepted: true, Command: cmd})
}

func (c *Collector) mayPublish(r *http.Request, p *schemas.PublisherReport, now time.Time) error {
	if c.s.Tokens == nil {
		return nil
	}
	key := queryArg(r.URL.RawQuery, "key")
	if key == "" {
		key, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	_, err := c.s.Tokens.ParsePublish(key, now, p.App, p.Stream)
	return err
}

func publisherRow(p *schemas.PublisherReport, now time.Time) schemas.Telemetry {
	t := schemas.Telemetry{
		ReceivedUnixUs: now.UnixMicro(), TsUnixMs: now.UnixMilli(), Source: schemas.SourcePublisherReport, Event: "report",
		App: p.App, Stream: p.Stream, ContentID: p.App + "/" + p.Stream, Client: "publisher", ClientVersion: text(p.Encoder, maxID),
		Device: short(p.Device), OS: short(p.OS), NetworkType: short(p.Network), Seq: columnar.Some(p.Seq), PublishStallMs: columnar.Some(p.StalledMs),
	}
	if p.TsUnixMs != nil {
		if d := *p.TsUnixMs - t.TsUnixMs; d > -24*3600*1000 && d < 24*3600*1000 {
			t.TsUnixMs = *p.TsUnixMs
		} else {
			t.Gates = gateTime
		}
	}
	t.FPS, t.PublishBps = optional(p.FPS), optional(p.BitrateBps)
	t.VideoWidth, t.VideoHeight = optional(p.Width), optional(p.Height)
	t.DroppedFrames, t.Background = optional(p.DroppedFrames), optional(p.Background)
	b := member(nil, "interval_ms", strconv.FormatInt(p.IntervalMs, 10))
	if v := short(p.AppVersion); v != "" {
		b = member(b, "app_version", v)
	}
	if id := short(p.CommandID); id != "" {
		b = member(b, "command_id", id)
	}
	if why := text(p.CommandError, maxID); why != "" {
		b = member(b, "command_error", why)
	}
	t.Detail = object(b)
	return t
}

func optional[T comparable](v *T) (o columnar.Opt[T]) {
	if v != nil {
		o = columnar.Some(*v)
	}
	return o
}

// command takes the report into the state of its stream, which any collector may
// hold a moment later, and gives the command that waits. Without the bus there is none.
func (c *Collector) command(ctx context.Context, p *schemas.PublisherReport, now time.Time) *schemas.PublisherCommand {
	key := schemas.StreamKey{App: p.App, Stream: p.Stream}
	policy := schemas.SettingsOf(key, c.apps.Get).PublisherPolicy
	window := int64(60)
	if policy != nil {
		window = policy.WindowSec
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTimeout)
	defer cancel()
	reg, err := entries.Open(ctx, c.s.JS, schemas.BucketPublishers, schemas.ParsePublisherState)
	if err != nil {
		c.s.Logger.Debug("no commands to publishers", "err", err)
		return nil
	}
	var pending *schemas.PublisherCommand
	var events []schemas.Event
	_, err = reg.Edit(ctx, key.KVKey(), func(s *schemas.PublisherState, _ bool) error {
		pending, events = nil, nil
		fresh := s.Report(p, now, window)
		if w := s.Command; w != nil && s.Ended == "" && p.CommandID == w.ID {
			s.Ended = "obeyed"
			if p.CommandError != "" {
				s.Ended = cmp.Or(text(p.CommandError, maxID), "refused")
			}
			events = append(events, commandEvent(schemas.EventPublisherObeyed, key, w, s.Ended))
			fresh = true
		}
		s.Decide(policy, rand.Text(), now)
		if pending = s.Pending(now); pending != nil && !s.Sent {
			s.Sent = true
			events = append(events, commandEvent(schemas.EventPublisherCommand, key, pending, pending.Reason))
			fresh = true
		}
		if !fresh {
			return errNotNew
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNotNew) {
		c.s.Logger.Debug("no commands to publishers", "stream", key.String(), "err", err)
		return nil
	}
	if reports := c.told.Load(); reports != nil {
		for _, e := range events {
			reports.Event(e)
		}
	}
	return pending
}

func commandEvent(kind schemas.EventKind, key schemas.StreamKey, c *schemas.PublisherCommand, reason string) schemas.Event {
	return schemas.Event{
		ID: string(kind) + "/" + c.ID, Kind: kind, App: key.App, Stream: key.Stream, Reason: reason,
		Detail: map[string]string{
			"id": c.ID, "by": c.By, "bitrate_bps": strconv.FormatInt(c.BitrateBps, 10), "fps": strconv.FormatFloat(c.FPS, 'f', -1, 64),
		},
	}
}

// acceptWith makes rows durable and answers 200 with an object, or as accept does where they were not taken.
func (c *Collector) acceptWith(w http.ResponseWriter, r *http.Request, rows []schemas.Telemetry, answer any) int {
	held := &heldAnswer{ResponseWriter: w}
	if code := c.accept(held, r, rows); code != http.StatusNoContent {
		return code
	}
	b, err := json.Marshal(answer)
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // nobody to tell
	return http.StatusOK
}

// heldAnswer keeps accept from answering 204 itself.
type heldAnswer struct{ http.ResponseWriter }

func (h *heldAnswer) WriteHeader(code int) {
	if code != http.StatusNoContent {
		h.ResponseWriter.WriteHeader(code)
	}
}
