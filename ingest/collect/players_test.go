package collect

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
)

// Whatever hls.js, dash.js and shaka send arrives: one row for each record,
// recorded posts as events and recorded media requests through an edge's log.
// More recordings are read from the folder that SPILLWAY_PLAYER_RECORDINGS names.
func TestPlayersRecordings(t *testing.T) {
	files, err := filepath.Glob("../cmcd/testdata/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings (%v)", err)
	}
	if dir := os.Getenv("SPILLWAY_PLAYER_RECORDINGS"); dir != "" {
		more, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
		if err != nil || len(more) == 0 {
			t.Fatalf("no recordings in %s (%v)", dir, err)
		}
		files = append(files, more...)
	}
	start := time.UnixMilli(1_795_167_643_634)
	r := newRig(t, func(s *Settings) { s.Now = func() time.Time { return start } })
	events, requests := 0, 0
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		var lines strings.Builder
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			var x struct {
				Method, Path, Query string
				Headers             map[string]string `json:"cmcd_headers"`
				Type                *string           `json:"content_type"`
				Body                *string
			}
			if err := json.Unmarshal(sc.Bytes(), &x); err != nil {
				t.Fatal(err)
			}
			switch {
			case x.Body != nil:
				events += strings.Count(*x.Body, "\n")
				r.post("/v1/cmcd?x="+filepath.Base(file), *x.Body, "Content-Type", *x.Type)
			case x.Method == http.MethodGet && (x.Query != "" || len(x.Headers) > 0):
				requests++
				l := schemas.CDNLogLine{TsMs: start.UnixMilli(), CDN: "a", Path: x.Path, Method: "GET", Status: 200, Boot: filepath.Base(file), Seq: uint64(requests)}
				req := httptest.NewRequest(http.MethodGet, "/"+x.Query, nil)
				l.CMCD = req.URL.Query().Get("CMCD")
				var sent []string
				for _, v := range x.Headers {
					sent = append(sent, v)
				}
				l.CMCDHeaders = strings.Join(sent, ",")
				b, err := json.Marshal(l)
				if err != nil {
					t.Fatal(err)
				}
				lines.Write(append(b, '\n'))
			}
		}
		if err := sc.Err(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		r.post("/v1/cdnlog", lines.String())
	}
	states := map[string]int{}
	for _, x := range r.rows(events + requests) {
		if x.SessionID == "" || x.ContentID != "c1" || x.CMCDVersion.V < 1 {
			t.Errorf("%s of session %q, content %q, version %d: %s", x.Source, x.SessionID, x.ContentID, x.CMCDVersion.V, x.Detail)
		}
		if x.Source == schemas.SourceCMCDEvent {
			events--
			states[x.State]++
			if x.FirstByteMs.OK && x.FirstByteMs.V > x.LastByteMs.V || x.Client == "dash.js" && (x.StartDelayMs.OK || x.FirstByteMs.OK) {
				t.Errorf("not corrected: session %s, seq %d of %s", x.SessionID, x.Seq.V, x.Client)
			}
		} else {
			requests--
		}
	}
	if events != 0 || requests != 0 {
		t.Errorf("%d events and %d requests are missing", events, requests)
	}
	for _, s := range []cmcd.State{cmcd.StatePlaying, cmcd.StateRebuffering, cmcd.StateStarting, cmcd.StateSeeking, cmcd.StatePaused, cmcd.StateEnded} {
		if states[s.String()] == 0 {
			t.Errorf("no event in state %s", s)
		}
	}
	if n := r.counter("spillway_collect_rejected_records_total"); n != 0 {
		t.Errorf("%v records were rejected", n)
	}
}
