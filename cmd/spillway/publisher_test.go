package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

func TestPublisherCommands(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.refused("has reported", "publisher", "command", "live/one", "--bitrate", "800000")
	reg, err := registry.Open(t.Context(), c.bus.JS, schemas.BucketPublishers, schemas.ParsePublisherState)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Edit(t.Context(), "live.one", func(s *schemas.PublisherState, _ bool) error {
		s.LastUnixMs, s.BitrateBps, s.FPS = time.Now().UnixMilli(), 2_000_000, 30
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(c.ok("publisher", "command", "live/one", "--bitrate", "800000", "--fps", "20", "--reason", "by hand"))
	s, err := reg.Get(t.Context(), "live.one")
	if err != nil {
		t.Fatal(err)
	}
	if w := s.Pending(time.Now()); w == nil || w.ID != id || w.BitrateBps != 800_000 || w.FPS != 20 || w.By != "hand" || w.Reason != "by hand" {
		t.Errorf("command %+v", s.Command)
	}
	for _, out := range []string{c.ok("publisher", "list"), c.ok("publisher", "list", "--json")} {
		if !strings.Contains(out, "live/one") || !strings.Contains(out, "2000000") {
			t.Errorf("list:\n%s", out)
		}
	}
	c.refused("--bitrate or --fps", "publisher", "command", "live/one")
	c.refused("bitrate_bps", "publisher", "command", "live/one", "--bitrate", "5")
	c.refused("--valid", "publisher", "command", "live/one", "--fps", "20", "--valid", "2h")
	c.refused("not APP/STREAM", "publisher", "command", "live", "--fps", "20")
}
