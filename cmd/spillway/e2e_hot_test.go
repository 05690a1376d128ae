package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/need"
)

// pushLavfi publishes a source of ffmpeg's over RTMP until the test ends.
func pushLavfi(t testing.TB, source, url string) {
	t.Helper()
	bin := need.Program(t, "ffmpeg")
	background(t, "ffmpeg of "+source, func(ctx context.Context) error {
		err := exec.CommandContext(ctx, bin, "-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-f", "lavfi", "-i", source,
			"-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p", "-threads", "1", "-f", "flv", url).Run()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("it ended by itself: %w", err)
	})
}

// smallSource is the end of a source that is small and slow, to be cheap.
const smallSource = ":size=160x90:rate=10"

// sayBackground reports for the publisher of demoApp/stream whether it is in the background; seq counts its reports.
func sayBackground(t *testing.T, u *upProgram, stream string, seq int64, background bool) {
	t.Helper()
	code, key, stderr := command(t, u.env, nil, "key", demoApp+"/"+stream, "--data", u.dir)
	if code != 0 {
		t.Fatal(stderr)
	}
	b, err := json.Marshal(schemas.PublisherReport{App: demoApp, Stream: stream, Seq: seq, IntervalMs: 1000, Background: &background})
	if err != nil {
		t.Fatal(err)
	}
	target := strings.TrimSuffix(u.Collector, collectorPath) + "/v1/publisher?key=" + strings.TrimSpace(key)
	resp, err := http.Post(target, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("report of the publisher: %s", resp.Status)
	}
}

// hotListFollows: a stream whose publisher says that it is in the background leaves
// the hot list that apps read, the page marks it, and it comes back when it is in the
// foreground again. What only pictures tell is in TestPicturesTakeStreamsOffTheHotList.
func hotListFollows(t *testing.T, u *upProgram, tab context.Context) {
	left := func(what, want string) {
		t.Helper()
		within(t, time.Minute, what, func() error {
			code, body, err := httpGet(u.Router + "/v1/hot?all=1&app=" + demoApp)
			var l schemas.HotList
			if err == nil {
				err = json.Unmarshal([]byte(body), &l)
			}
			if err != nil || code != http.StatusOK {
				return fmt.Errorf("%d %s %w", code, body, err)
			}
			got := ""
			for _, s := range l.Left {
				if s.Stream == demoStream {
					got = strings.Join(s.Reasons, ", ")
				}
			}
			if got != want {
				return errors.New(body)
			}
			return nil
		})
	}
	if err := chromedp.Run(tab, chromedp.Navigate(u.Console+"/pictures")); err != nil {
		t.Fatal(err)
	}
	marked := func(what, marks string) {
		t.Helper()
		within(t, time.Minute, what, func() error {
			got, err := browser.Evaluate[string](tab, `[...document.querySelectorAll(".pictures > li")].map(e => e.querySelector(".title")?.textContent + ": " + e.querySelector(".marks")?.textContent).join("; ")`)
			if err == nil && got != marks {
				err = errors.New(got)
			}
			return err
		})
	}
	demo := demoApp + "/" + demoStream
	marked("the page shows it unmarked", demo+": ")
	sayBackground(t, u, demoStream, 1, true)
	left("it leaves", schemas.HotBackground)
	marked("the page marks it", demo+": in background")
	sayBackground(t, u, demoStream, 2, false)
	left("it comes back", "")
	marked("the page, too", demo+": ")
	for _, kind := range []schemas.EventKind{schemas.EventHotLeft, schemas.EventHotBack} {
		within(t, time.Minute, "event "+string(kind), func() error {
			got := rows[struct{ Stream string }](t, u.ClickHouse, "SELECT stream FROM spillway.events WHERE kind = '%s' AND stream = '"+demoStream+"'", string(kind))
			if len(got) == 0 {
				return errors.New("not in ClickHouse")
			}
			return nil
		})
	}
}
