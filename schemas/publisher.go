package schemas

import (
	"fmt"
	"time"
)

// SourcePublisherReport is the source of rows that a publisher's own app
// reported, beside SourcePublisher, which ingest measures. They have no session.
const SourcePublisherReport = "publisher_report"

// Events about commands to publishers, detail: id, by, bitrate_bps, fps.
const (
	EventPublisherCommand EventKind = "publisher_command" // given to the publisher for the first time
	EventPublisherObeyed  EventKind = "publisher_obeyed"  // the publisher says that it obeys, or (reason) why not
)

// BucketPublishers maps StreamKey.KVKey to PublisherState.
const BucketPublishers = "publishers"

// PublisherReport is what a publisher's app says of itself, POSTed as JSON to
// <collector>/v1/publisher about every five seconds. Numbers left out are unknown.
type PublisherReport struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
	// Seq counts the reports of a publication from 0.
	Seq int64 `json:"sn"`
	// IntervalMs is the time that the report is about, 1 to 60,000.
	IntervalMs int64 `json:"interval_ms"`
	// StalledMs is how long of it the publisher was behind real time: frames waited for the encoder or the network.
	StalledMs     int64    `json:"stalled_ms"`
	TsUnixMs      *int64   `json:"ts,omitempty"`
	FPS           *float64 `json:"fps,omitempty"` // sent, 1/s
	BitrateBps    *int64   `json:"bitrate_bps,omitempty"`
	Width         *int32   `json:"width,omitempty"`
	Height        *int32   `json:"height,omitempty"`
	DroppedFrames *int64   `json:"dropped_frames,omitempty"` // since the start of the publication
	Encoder       string   `json:"encoder,omitempty"`        // name and version
	AppVersion    string   `json:"app_version,omitempty"`    // of the publisher's app
	Device        string   `json:"device,omitempty"`
	OS            string   `json:"os,omitempty"`
	Network       string   `json:"network,omitempty"`
	Background    *bool    `json:"background,omitempty"`
	// CommandID repeats the id of the last command that was obeyed; CommandError says why it was not.
	CommandID    string `json:"command_id,omitempty"`
	CommandError string `json:"command_error,omitempty"`
}

// Check names the field that is wrong.
func (r *PublisherReport) Check() error {
	if err := (StreamKey{App: r.App, Stream: r.Stream}).Check(); err != nil {
		return err
	}
	between := func(field string, v, from, to int64) error {
		if v < from || v > to {
			return fmt.Errorf("%s %d is not within %d and %d", field, v, from, to)
		}
		return nil
	}
	opt := func(v *int64) int64 {
		if v == nil {
			return 0
		}
		return *v
	}
	small := func(v *int32) int64 {
		if v == nil {
			return 0
		}
		return int64(*v)
	}
	for _, err := range []error{
		between("sn", r.Seq, 0, 1e15), between("interval_ms", r.IntervalMs, 1, 60_000), between("stalled_ms", r.StalledMs, 0, r.IntervalMs),
		between("bitrate_bps", opt(r.BitrateBps), 0, 1e9), between("dropped_frames", opt(r.DroppedFrames), 0, 1e15),
		between("width", small(r.Width), 0, 16_384), between("height", small(r.Height), 0, 16_384),
	} {
		if err != nil {
			return err
		}
	}
	if r.FPS != nil && !(*r.FPS >= 0 && *r.FPS <= 1000) {
		return fmt.Errorf("fps %v is not within 0 and 1000", *r.FPS)
	}
	for field, s := range map[string]string{"encoder": r.Encoder, "app_version": r.AppVersion, "device": r.Device, "os": r.OS, "network": r.Network, "command_id": r.CommandID, "command_error": r.CommandError} {
		if len(s) > 128 {
			return fmt.Errorf("%s has %d bytes: at most 128 are allowed", field, len(s))
		}
	}
	return nil
}

// PublisherAnswer is the answer to a report that was accepted and to which there is a command.
type PublisherAnswer struct {
	Accepted bool              `json:"accepted"`
	Command  *PublisherCommand `json:"command,omitempty"`
}

// PublisherCommand asks a publisher to send less. A limit of 0 is none.
type PublisherCommand struct {
	ID string `json:"id"`
	// BitrateBps and FPS are the most that is to be sent from now on.
	BitrateBps int64   `json:"bitrate_bps,omitempty"`
	FPS        float64 `json:"fps,omitempty"`
	// ExpiresUnixMs: not obeyed until then, it is void.
	ExpiresUnixMs int64  `json:"expires_ms"`
	By            string `json:"by"` // hand or policy
	Reason        string `json:"reason,omitempty"`
}

// Check names the field that is wrong.
func (c *PublisherCommand) Check() error {
	switch {
	case c.ID == "" || len(c.ID) > 64:
		return fmt.Errorf("command id has %d bytes: 1 to 64 are allowed", len(c.ID))
	case c.BitrateBps == 0 && c.FPS == 0:
		return fmt.Errorf("command says neither bitrate_bps nor fps")
	case c.BitrateBps != 0 && (c.BitrateBps < 20_000 || c.BitrateBps > 1e9):
		return fmt.Errorf("command bitrate_bps %d is not within 20000 and 1000000000", c.BitrateBps)
	case c.FPS != 0 && !(c.FPS >= 1 && c.FPS <= 1000):
		return fmt.Errorf("command fps %v is not within 1 and 1000", c.FPS)
	case c.ExpiresUnixMs <= 0:
		return fmt.Errorf("command expires_ms is missing")
	}
	return nil
}

// PublisherState is what collectors know together of a publisher that reports.
type PublisherState struct {
	// LastSeq and LastUnixMs are of the newest report; Window are the newest reports that the policy looks at.
	LastSeq    int64   `json:"last_sn"`
	LastUnixMs int64   `json:"last_ms"`
	BitrateBps int64   `json:"bitrate_bps,omitempty"`
	FPS        float64 `json:"fps,omitempty"`
	// Background: its app said last that it is in the background.
	Background bool              `json:"background,omitempty"`
	Window     []PublisherSample `json:"window,omitempty"`
	Command    *PublisherCommand `json:"command,omitempty"`
	Sent       bool              `json:"sent,omitempty"`  // the command was given at least once
	Ended      string            `json:"ended,omitempty"` // what became of it: obeyed, or the publisher's reason
}

// PublisherSample is one report as the policy sees it.
type PublisherSample struct {
	IntervalMs int64 `json:"i"`
	StalledMs  int64 `json:"s"`
}

// Pending gives the command that the publisher is to be told now, or nil.
func (p *PublisherState) Pending(now time.Time) *PublisherCommand {
	if p.Command == nil || p.Ended != "" || now.UnixMilli() >= p.Command.ExpiresUnixMs {
		return nil
	}
	return p.Command
}

// Order puts a command in the place of the one before.
func (p *PublisherState) Order(c *PublisherCommand) { p.Command, p.Sent, p.Ended = c, false, "" }

// ParsePublisherState reads an entry of the bucket publishers.
func ParsePublisherState(key string, value []byte) (*PublisherState, error) {
	if _, err := ParseKVKey(key); err != nil {
		return nil, err
	}
	var p PublisherState
	if err := UnmarshalStrict(value, &p); err != nil {
		return nil, err
	}
	if p.Command != nil {
		return &p, p.Command.Check()
	}
	return &p, nil
}

// PublisherPolicy says when a publisher is asked to send less.
type PublisherPolicy struct {
	// BehindShare is the share of the window, above 0 to 1, that a publisher may be behind real time.
	BehindShare float64 `json:"behind_share"`
	WindowSec   int64   `json:"window_sec"`
	// LowerPercent is by how much the bitrate is lowered each time, and not below MinBitrateBps.
	LowerPercent  int64 `json:"lower_percent"`
	MinBitrateBps int64 `json:"min_bitrate_bps"`
	// MinFPS is asked for once the bitrate is at its least; 0: the frame rate is left alone.
	MinFPS float64 `json:"min_fps,omitempty"`
}

// Check names the field that is wrong.
func (p *PublisherPolicy) Check() error {
	switch {
	case !(p.BehindShare > 0 && p.BehindShare <= 1):
		return fmt.Errorf("publisher_policy.behind_share %v is not above 0 and at most 1", p.BehindShare)
	case p.WindowSec < 5 || p.WindowSec > 600:
		return fmt.Errorf("publisher_policy.window_sec %d is not within 5 and 600", p.WindowSec)
	case p.LowerPercent < 1 || p.LowerPercent > 90:
		return fmt.Errorf("publisher_policy.lower_percent %d is not within 1 and 90", p.LowerPercent)
	case p.MinBitrateBps < 20_000 || p.MinBitrateBps > 1e9:
		return fmt.Errorf("publisher_policy.min_bitrate_bps %d is not within 20000 and 1000000000", p.MinBitrateBps)
	case p.MinFPS != 0 && !(p.MinFPS >= 1 && p.MinFPS <= 1000):
		return fmt.Errorf("publisher_policy.min_fps %v is not within 1 and 1000", p.MinFPS)
	}
	return nil
}

// maxSamples bounds PublisherState.Window.
const maxSamples = 128

// Report takes a report into the state and reports whether it is new.
func (p *PublisherState) Report(r *PublisherReport, now time.Time, windowSec int64) bool {
	switch stale := now.UnixMilli()-p.LastUnixMs >= 60_000; {
	case p.LastUnixMs == 0:
	case r.Seq > p.LastSeq && !stale:
	case stale || r.Seq < p.LastSeq && r.Seq <= 3:
		p.Window, p.Background = nil, false // a publication that began anew
	default:
		return false // repeated, or overtaken by a newer one
	}
	p.LastSeq, p.LastUnixMs = r.Seq, now.UnixMilli()
	if r.BitrateBps != nil {
		p.BitrateBps = *r.BitrateBps
	}
	if r.FPS != nil {
		p.FPS = *r.FPS
	}
	if r.Background != nil {
		p.Background = *r.Background
	}
	p.Window = append(p.Window, PublisherSample{r.IntervalMs, r.StalledMs})
	sum := int64(0)
	for i := len(p.Window) - 1; i >= 0; i-- {
		if sum += p.Window[i].IntervalMs; sum >= windowSec*1000 || len(p.Window)-i == maxSamples {
			p.Window = p.Window[i:]
			break
		}
	}
	return true
}

// Decide gives the command that the policy asks for now, or nil. The window must
// be full; it begins anew after each command.
func (p *PublisherState) Decide(policy *PublisherPolicy, id string, now time.Time) *PublisherCommand {
	if policy == nil || p.Pending(now) != nil {
		return nil
	}
	var all, behind int64
	for _, s := range p.Window {
		all += s.IntervalMs
		behind += s.StalledMs
	}
	if all < policy.WindowSec*1000 || float64(behind) < policy.BehindShare*float64(all) {
		return nil
	}
	c := &PublisherCommand{
		ID: id, By: "policy", ExpiresUnixMs: now.Add(time.Minute).UnixMilli(),
		Reason: fmt.Sprintf("behind real time for %.0f %% of %d s", 100*float64(behind)/float64(all), all/1000),
	}
	switch {
	case p.BitrateBps > policy.MinBitrateBps:
		c.BitrateBps = max(policy.MinBitrateBps, p.BitrateBps*(100-policy.LowerPercent)/100)
	case policy.MinFPS > 0 && p.FPS > policy.MinFPS:
		c.FPS = policy.MinFPS
	default:
		return nil // it cannot send less
	}
	p.Window = nil
	p.Order(c)
	return c
}
