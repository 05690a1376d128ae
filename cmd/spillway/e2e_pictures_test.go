package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
)

// maxPicture is how many bytes a picture of the documentation may have.
const maxPicture = 150_000

// TestPicturesOfPages leaves a picture of each page of the console, the walls among them, in the folder
// SPILLWAY_PICTURES: of a running "spillway up" in which CDN b has a fault. ./dev screenshots runs it.
func TestPicturesOfPages(t *testing.T) {
	dir := os.Getenv("SPILLWAY_PICTURES")
	if dir == "" {
		t.Skip("pictures of the documentation are made by ./dev screenshots")
	}
	env := environment(t)
	u := up(t, env, t.TempDir())
	run := func(args ...string) {
		t.Helper()
		if code, _, stderr := command(t, env, nil, args...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	get := func(path string, v any) error {
		code, body, err := httpGet(u.Console + path)
		if err == nil && code != 200 {
			err = fmt.Errorf("%s: %d %s", path, code, body)
		}
		if err == nil {
			err = json.Unmarshal([]byte(body), v)
		}
		return err
	}
	within(t, 2*time.Minute, "viewers play on every CDN", func() error {
		var a struct {
			CDNs []struct{ Viewers *float64 }
		}
		if err := get("/v1/cdns", &a); err != nil {
			return err
		}
		for _, c := range a.CDNs {
			if c.Viewers == nil || *c.Viewers < 4 {
				return fmt.Errorf("%d CDNs, not all with viewers", len(a.CDNs))
			}
		}
		return nil
	})
	time.Sleep(45 * time.Second) // so that the charts show what was before the fault
	run("cdn", "fault", "b", "--rate", "300kbps")
	within(t, 3*time.Minute, "the alert about CDN b", func() error {
		var a struct{ Alerts []schemas.Alert }
		if err := get("/v1/alerts", &a); err != nil {
			return err
		}
		if !slices.ContainsFunc(a.Alerts, func(a schemas.Alert) bool { return a.CDN == "b" && a.State == schemas.AlertOpen }) {
			return fmt.Errorf("%d alerts, none about b", len(a.Alerts))
		}
		return nil
	})
	var sessions struct{ Rows [][]any }
	if err := get("/v1/streams/"+demoApp+"/"+demoStream+"/sessions", &sessions); err != nil || len(sessions.Rows) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	id := url.PathEscape(sessions.Rows[0][0].(string))
	secrets, err := loadSecrets(u.dir)
	if err != nil {
		t.Fatal(err)
	}
	chromium := browsertest.Start(t)
	if err := chromedp.Run(chromium.Tab, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(u.Console+"/settings"),
		chromedp.Evaluate(fmt.Sprintf(`sessionStorage.setItem("token", %q)`, secrets.AdminToken), nil)); err != nil {
		t.Fatal(err)
	}
	for _, p := range [][2]string{
		{"console", "/"}, {"console-cdns", "/cdns"}, {"console-stream", "/streams/" + demoApp + "/" + demoStream}, {"console-session", "/sessions/" + id},
		{"console-alerts", "/alerts"}, {"console-settings", "/settings"}, {"experiment-list", "/experiments"}, {"picture-wall", "/pictures"},
		{"wall-cdn-health", "/walls/spillway-cdn-health?range=15m"}, {"wall-streams", "/walls/spillway-streams?range=15m"}, {"wall-qoe", "/walls/spillway-qoe?range=15m"},
		{"wall-experiments", "/walls/spillway-experiments?range=15m"}, {"wall-pipeline", "/walls/spillway-pipeline?range=15m"}, {"wall-session", "/walls/spillway-session?range=15m&session=" + id},
	} {
		var shot []byte
		if err := chromedp.Run(chromium.Tab, chromedp.Navigate(u.Console+p[1]), chromedp.WaitReady("main"), chromedp.Sleep(5*time.Second)); err != nil {
			t.Fatalf("%s: %v", p[1], err)
		}
		var known bool
		if err := chromedp.Run(chromium.Tab, chromedp.Evaluate(`document.documentElement.dataset.page !== undefined`, &known)); err != nil || !known {
			t.Logf("there is no page %s (%v)", p[1], err)
			continue
		}
		if err := chromedp.Run(chromium.Tab, chromedp.CaptureScreenshot(&shot)); err != nil {
			t.Fatalf("%s: %v", p[1], err)
		}
		small, err := fewColours(shot)
		if err != nil {
			t.Fatalf("%s: %v", p[1], err)
		}
		if len(small) > maxPicture {
			t.Errorf("%s has %d bytes", p[0], len(small))
		}
		if err := os.WriteFile(filepath.Join(dir, p[0]+".png"), small, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fewColours makes a picture of the documentation smaller: a palette of its most frequent colours.
func fewColours(data []byte) ([]byte, error) {
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	b := img.Bounds()
	key := func(c color.Color) color.RGBA {
		r, g, bl, _ := c.RGBA()
		return color.RGBA{uint8(r >> 11 << 3), uint8(g >> 11 << 3), uint8(bl >> 11 << 3), 255}
	}
	count, exact := map[color.RGBA]int{}, map[color.RGBA]color.Color{}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := img.At(x, y)
			count[key(c)]++
			exact[key(c)] = c
		}
	}
	keys := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return cmp.Compare(count[b], count[a]) })
	if len(keys) == 0 {
		return nil, errors.New("an empty picture")
	}
	var p color.Palette
	for _, k := range keys[:min(len(keys), 128)] {
		p = append(p, exact[k])
	}
	index := map[color.RGBA]uint8{}
	out := image.NewPaletted(b, p)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := img.At(x, y)
			i, ok := index[key(c)]
			if !ok {
				i = uint8(p.Index(c))
				index[key(c)] = i
			}
			out.SetColorIndex(x, y, i)
		}
	}
	var w bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&w, out)
	return w.Bytes(), err
}
