package collect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	entries "github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// publisherRig is a publisher's app that reports to one collector or the other.
type publisherRig struct {
	t    *testing.T
	at   []*rig
	key  string
	sn   int64
	tell string // further members of each report
}

func newPublisherRig(t *testing.T) *publisherRig {
	t.Helper()
	b := bustest.Start(t)
	p := &publisherRig{t: t, at: []*rig{newRigOn(t, b, nil), newRigOn(t, b, nil)}, tell: `"bitrate_bps":2000000,"fps":30`}
	key, err := p.at[0].sign.SignPublish(token.Publish{App: "live", ExpiresUnix: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	p.key = key
	return p
}

// report posts to the next collector in turn and gives the command of the answer.
func (p *publisherRig) report(stalledMs int, more string) *schemas.PublisherCommand {
	p.t.Helper()
	body := fmt.Sprintf(`{"app":"live","stream":"one","sn":%d,"interval_ms":5000,"stalled_ms":%d,%s%s}`, p.sn, stalledMs, p.tell, more)
	r := p.at[p.sn%int64(len(p.at))]
	p.sn++
	code, h, text := r.do(http.MethodPost, "/v1/publisher", body, "Authorization", "Bearer "+p.key, "Origin", "https://app")
	if h.Get("Access-Control-Allow-Origin") != "https://app" {
		p.t.Errorf("no CORS: %v", h)
	}
	if code == http.StatusNoContent {
		return nil
	}
	var a schemas.PublisherAnswer
	if err := json.Unmarshal([]byte(text), &a); err != nil || code != http.StatusOK || !a.Accepted || a.Command == nil {
		p.t.Fatalf("%d %s: %v", code, text, err)
	}
	return a.Command
}

// events gives what became of commands, as kind/by/reason.
func (p *publisherRig) events() (out []string) {
	p.t.Helper()
	s, err := p.at[0].bus.JS.Stream(p.t.Context(), schemas.StreamEvents)
	if err != nil {
		p.t.Fatal(err)
	}
	info, err := s.Info(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(p.t.Context(), seq)
		if err != nil {
			p.t.Fatal(err)
		}
		var e schemas.Event
		if err := schemas.DecodeRecord(m.Data, &e); err != nil {
			p.t.Fatal(err)
		}
		if strings.HasPrefix(string(e.Kind), "publisher_") {
			out = append(out, string(e.Kind)+" "+e.Detail["by"]+" "+e.Detail["bitrate_bps"]+" "+e.Reason)
		}
	}
	return out
}

// A command given by hand reaches the publisher at whichever collector it reports to, until it is acknowledged.
func TestPublisherCommandByHand(t *testing.T) {
	p := newPublisherRig(t)
	if c := p.report(0, `,"width":1280,"height":720,"dropped_frames":3,"encoder":"app 1.2","app_version":"7.1","background":true`); c != nil {
		t.Fatalf("command %+v out of nothing", c)
	}
	reg, err := entries.Open(t.Context(), p.at[0].bus.JS, schemas.BucketPublishers, schemas.ParsePublisherState)
	if err != nil {
		t.Fatal(err)
	}
	order := func(id string, until time.Time) {
		t.Helper()
		_, err := reg.Edit(t.Context(), "live.one", func(s *schemas.PublisherState, found bool) error {
			if !found || s.BitrateBps != 2_000_000 || s.FPS != 30 {
				t.Errorf("state %+v", s)
			}
			s.Order(&schemas.PublisherCommand{ID: id, BitrateBps: 800_000, FPS: 24, By: "hand", ExpiresUnixMs: until.UnixMilli()})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	order("void", time.Now().Add(-time.Second))
	if c := p.report(0, ""); c != nil {
		t.Errorf("an expired command was given: %+v", c)
	}
	order("c1", time.Now().Add(time.Hour))
	for range 3 { // both collectors
		if c := p.report(0, ""); c == nil || c.ID != "c1" || c.BitrateBps != 800_000 || c.FPS != 24 {
			t.Fatalf("command %+v", c)
		}
	}
	if c := p.report(0, `,"command_id":"another"`); c == nil {
		t.Error("an id that is not the command's ended it")
	}
	for range 2 {
		if c := p.report(0, `,"command_id":"c1","command_error":"encoder is fixed"`); c != nil {
			t.Errorf("acknowledged, and given again: %+v", c)
		}
	}
	await.Text(t, "events", func() string {
		if got := strings.Join(p.events(), ", "); got != "publisher_command hand 800000 , publisher_obeyed hand 800000 encoder is fixed" {
			return got
		}
		return ""
	})
	rows := p.at[0].rows(int(p.sn))
	if x := rows[0]; x.Source != schemas.SourcePublisherReport || x.SessionID != "" || x.FPS.V != 30 || x.PublishBps.V != 2_000_000 || x.VideoWidth.V != 1280 ||
		x.DroppedFrames.V != 3 || x.ClientVersion != "app 1.2" || !x.Background.V || !x.PublishStallMs.OK || x.App != "live" || x.Stream != "one" || x.Detail != `{"interval_ms":"5000","app_version":"7.1"}` {
		t.Errorf("%+v", x)
	}
}

// A publisher that falls behind real time is asked by policy to send less; the reports that show it went to two collectors.
func TestPublisherCommandByPolicy(t *testing.T) {
	p := newPublisherRig(t)
	kv, err := p.at[0].bus.JS.KeyValue(t.Context(), schemas.BucketApps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "live", `{"publisher_policy":{"behind_share":0.5,"window_sec":20,"lower_percent":50,"min_bitrate_bps":300000}}`); err != nil {
		t.Fatal(err)
	}
	for _, r := range p.at {
		await.True(t, "the settings are known", func() bool { _, ok := r.c.apps.Get("live"); return ok })
	}
	for range 3 {
		if c := p.report(4000, ""); c != nil {
			t.Fatalf("command %+v before the window is full", c)
		}
	}
	c := p.report(4000, "")
	if c == nil || c.BitrateBps != 1_000_000 || c.By != "policy" || !strings.Contains(c.Reason, "80 %") {
		t.Fatalf("command %+v", c)
	}
	if again := p.report(4000, ""); again == nil || again.ID != c.ID {
		t.Errorf("the other collector gives %+v", again)
	}
	if c := p.report(0, `,"command_id":"`+c.ID+`"`); c != nil {
		t.Errorf("obeyed, and then %+v", c)
	}
}

func TestPublisherReportsAreChecked(t *testing.T) {
	r := newRig(t, nil)
	key, err := r.sign.SignPublish(token.Publish{App: "live", Stream: "two", ExpiresUnix: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	good := `{"app":"live","stream":"one","sn":0,"interval_ms":5000}`
	for _, c := range []struct {
		body, key string
		code      int
		says      string
	}{
		{good, "", 403, "publish key"}, {good, "rubbish", 403, "publish key"}, {good, key, 403, "publish key"},
		{`{"app":"live","stream":"two","sn":0,"interval_ms":0}`, key, 400, "interval_ms"}, {`[]`, key, 400, "report"}, {`{"fps":"x"}`, key, 400, "fps"},
		{strings.Repeat(" ", maxPublisherReport+1), key, 413, "at most"},
	} {
		if code, _, text := r.do(http.MethodPost, "/v1/publisher?key="+c.key, c.body); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%.40s: %d %s, want %d with %q", c.body, code, text, c.code, c.says)
		}
	}
	if code, _, _ := r.do(http.MethodGet, "/v1/publisher", ""); code != 405 {
		t.Errorf("GET: %d", code)
	}
	for why, n := range map[string]float64{"publisher_key": 3, "publisher_field": 1, "bad_json": 2, "body_too_large": 1} {
		if have := r.counter("spillway_collect_rejected_records_total", why); have != n {
			t.Errorf("rejected for %s: %v, want %v", why, have, n)
		}
	}
}
