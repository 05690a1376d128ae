package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/need"
)

// pushLavfi publishes a source of ffmpeg's over RTMP until the test ends.
func pushLavfi(t *testing.T, source, url string) {
	t.Helper()
	bin := need.Program(t, "ffmpeg")
	background(t, "ffmpeg of "+source, func(ctx context.Context) error {
		err := exec.CommandContext(ctx, bin, "-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-f", "lavfi", "-i", source+":size=160x90:rate=10",
			"-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p", "-threads", "1", "-f", "flv", url).Run()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("it ended by itself: %w", err)
	})
}

// hotListFollows: a black and a frozen stream, of which only pictures tell, and one
// whose publisher says that it is in the background leave the hot list that apps
// read; the page marks them; the one comes back when it is in the foreground again.
func hotListFollows(t *testing.T, u *upProgram, tab context.Context) {
	if code, _, stderr := command(t, u.env, nil, "app", "set", demoApp, "--picture-interval", "1s", "--data", u.dir); code != 0 {
		t.Fatal(stderr)
	}
	code, key, stderr := command(t, u.env, nil, "key", demoApp+"/"+demoStream, "--data", u.dir)
	if code != 0 {
		t.Fatal(stderr)
	}
	pushLavfi(t, "color=c=black", u.Push+"/black")
	pushLavfi(t, "smptebars=duration=600", u.Push+"/frozen")
	want := func(what string, reasons ...string) {
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
			var left []string
			for _, s := range l.Left {
				left = append(left, s.Stream+": "+strings.Join(s.Reasons, ", "))
			}
			if !slices.Equal(left, reasons) {
				return errors.New(body)
			}
			return nil
		})
	}
	seq := int64(0)
	report := func(background bool) {
		t.Helper()
		seq++
		b, err := json.Marshal(schemas.PublisherReport{App: demoApp, Stream: demoStream, Seq: seq, IntervalMs: 1000, Background: &background})
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
	want("the black and the frozen stream leave", "black: black", "frozen: frozen")
	report(true)
	want("the stream in the background leaves", "black: black", demoStream+": background", "frozen: frozen")
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
	marked("the page marks all three", "live/black: black; live/demo: in background; live/frozen: frozen")
	report(false)
	want("it comes back", "black: black", "frozen: frozen")
	marked("the page, too", "live/black: black; live/demo: ; live/frozen: frozen")
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
