package router_test

import (
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/dash"
	"github.com/spillway-live/spillway/workers/router"
)

// origin answers MPDs as an origin writes them.
func origin(t *testing.T) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	m := dash.MPD{WindowUs: 16_000_000, Periods: []dash.Period{{
		Epoch: 1, Line: schemas.Line{ZeroUnixUs: 1_790_000_000_000_000, SegmentUs: 2_000_000},
		Sets: []dash.Representation{{Rendition: "src", Track: schemas.Video, Epoch: 1, InitID: strings.Repeat("0", 32), Codec: "avc1.64001f", Timescale: 90000}},
	}}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/live/demo/manifest.mpd" {
			http.Error(w, "no such stream", http.StatusNotFound)
			return
		}
		_, _ = w.Write(m.Append(nil))
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestManifestOfASession(t *testing.T) {
	b := world(t)
	u, asked := origin(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	r := start(t, b.JS, func(s *router.Settings) {
		s.Origins = []string{dead.URL, u + "/"}
		s.Collector = "http://collect.example"
	})
	d := r.dispatch(t, "")
	a := r.get(t, "/v1/play/live/demo/manifest.mpd?s="+d.Token)
	if a.status != 200 || a.header.Get("Content-Type") != dash.TypeMPD || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	var m struct {
		Location string
		BaseURL  []struct {
			ID  string `xml:"serviceLocation,attr"`
			URL string `xml:",chardata"`
		}
		ContentSteering struct {
			Default string `xml:"defaultServiceLocation,attr"`
			URL     string `xml:",chardata"`
		}
		UTCTiming struct {
			Value string `xml:"value,attr"`
		}
	}
	if err := xml.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%v\n%s", err, a.body)
	}
	if len(m.BaseURL) != 3 || m.BaseURL[0].ID != "a" || m.BaseURL[0].URL != "http://a.example/t/"+d.Token+"/live/demo/" ||
		m.ContentSteering.Default != "a" || !strings.HasPrefix(m.ContentSteering.URL, r.URL()+"/v1/steering?s=") ||
		m.Location != r.URL()+"/v1/play/live/demo/manifest.mpd?s="+d.Token || m.UTCTiming.Value != "http://collect.example/v1/clock?form=xsdate" {
		t.Errorf("%+v\n%s", m, a.body)
	}
	if st := steeringState(t, m.ContentSteering.URL); st.SessionID != d.SessionID || st.Format != "dash" || strings.Join(st.Pathways, " ") != "a b c" {
		t.Errorf("state of the steering address: %+v", st)
	}
	if again := r.get(t, "/v1/play/live/demo/manifest.mpd?s="+d.Token); !strings.Contains(again.body, m.ContentSteering.URL) {
		t.Error("the next MPD names another steering address: players would ask it at once, each time")
	}
	// It is fetched again and again: that is one decision, and not one origin request each.
	for range 20 {
		r.get(t, "/v1/play/live/demo/manifest.mpd?s="+d.Token)
	}
	if n := asked.Load(); n > 15 {
		t.Errorf("the origin was asked %d times", n)
	}
	edge := r.get(t, "/live/demo/manifest.mpd", "X-Spillway-Edge-Key", edgeKey, "X-Spillway-CDN", "b")
	if !strings.Contains(edge.body, `defaultServiceLocation="b"`) || strings.Contains(edge.body, d.Token) {
		t.Errorf("through edge b: %s", edge.body)
	}
	await.True(t, "one decision for the session that an edge opened", func() bool { return len(decisions(t, b.JS, schemas.DecisionMultivariant)) == 1 })
	if a := r.get(t, "/live/demo/manifest.mpd"); a.status != 403 {
		t.Errorf("without the edges' key: %d", a.status)
	}
	// A stream that no origin has.
	put(t, b.JS, schemas.BucketStreams, "live.other", state(schemas.StreamKey{App: "live", Stream: "other"}, "a"))
	await.True(t, "404 with the origin's reason", func() bool {
		a := r.get(t, "/v1/play/live/other/manifest.mpd")
		return a.status == 404 && strings.Contains(a.body, "no such stream")
	})
	if a := r.get(t, "/v1/play/live/demo/ts.m3u8?s="+d.Token); !strings.Contains(a.body, "http://a.example/t/"+d.Token+"/live/demo/src/ts/playlist.m3u8") || strings.Contains(a.body, "EXT-X-MEDIA:") {
		t.Errorf("TS: %s", a.body)
	}
}
