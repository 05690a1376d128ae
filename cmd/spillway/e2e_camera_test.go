package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/camera"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// TestPrivateCameraWholeWay: the first play request wakes a camera through the
// real program; only a play key opens it; a share plays it under another name
// until it is withdrawn; a puller killed under viewers is replaced by another;
// and the camera is left when the last viewer has gone.
func TestPrivateCameraWholeWay(t *testing.T) {
	t.Parallel()
	env, dir := environment(t), t.TempDir()
	u := up(t, env, dir, "--no-demo", "--only", "packager,origin,router,edge", "--cdns", "a")
	clip, err := camera.Make(t.Context(), camera.ClipSettings{})
	if err != nil {
		t.Fatal(err)
	}
	cam, err := camera.Start(camera.Settings{Clip: clip, User: "admin", Password: "hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cam.Stop)
	cli := func(args ...string) string {
		t.Helper()
		code, out, errs := command(t, env, nil, append(args, "--data", dir)...)
		if code != 0 {
			t.Fatalf("spillway %s: %d %s", strings.Join(args, " "), code, errs)
		}
		return strings.TrimSpace(out)
	}
	cli("app", "set", "home", "--private")
	cli("source", "set", "home/door", "--url", cam.URL(), "--on-demand", "--grace", "1s")
	pullers := []*program{launch(t, env, "puller", "--data", dir), launch(t, env, "puller", "--data", dir)}
	for _, p := range pullers {
		p.waitLog("role runs")
	}
	playURL := u.Router + "/v1/play/home/door/multivariant.m3u8"
	if code, body, err := httpGet(playURL); err != nil || code != http.StatusForbidden || !strings.Contains(body, "play key") {
		t.Fatalf("without a key: %d %s %v", code, body, err)
	}
	if cam.Describes() != 0 {
		t.Fatal("the camera was opened by somebody without a key")
	}
	key := cli("key", "play", "home/door", "--for", "1h")

	watch := func(c viewer.Config) (stop func() viewer.Report) {
		t.Helper()
		c.Dispatch, c.App, c.StartAhead = u.Router, "home", 500*time.Millisecond
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan viewer.Report, 1)
		go func() {
			r, err := viewer.Run(ctx, c)
			if err != nil {
				t.Logf("viewer of %s: %v", c.Stream, err)
			}
			done <- r
		}()
		return func() viewer.Report { cancel(); return <-done }
	}
	private := watch(viewer.Config{Stream: "door", PlayKey: key})
	within(t, time.Minute, "the first play request wakes the camera", func() error {
		if cam.Playing() != 1 {
			return fmt.Errorf("%d sessions", cam.Playing())
		}
		return nil
	})
	if code, body, err := httpGet(playURL + "?key=" + key); err != nil || code != 200 || !strings.Contains(body, "/home/door/src/video/") {
		t.Errorf("with a key: %d %s %v", code, body, err)
	}

	alias := cli("share", "create", "home/door", "--as", "home/link")
	var shared string
	within(t, time.Minute, "the share plays", func() error {
		code, body, err := httpGet(u.Router + "/v1/play/" + alias + "/multivariant.m3u8")
		if err != nil || code != 200 {
			return fmt.Errorf("%d %s %v", code, body, err)
		}
		for _, line := range strings.Split(body, "\n") {
			if strings.HasPrefix(line, "http") && strings.Contains(line, "/home/link/src/video/") {
				shared = line
			}
		}
		return nil
	})
	if code, body, err := httpGet(shared); err != nil || code != 200 || !strings.Contains(body, "#EXTINF") {
		t.Fatalf("playlist of the share: %d %s %v", code, body, err)
	}
	if _, body, _ := httpGet(strings.Replace(shared, "/home/link/", "/home/door/", 1)); !strings.Contains(body, "token is for home/link") {
		t.Errorf("the share's token opens the private address: %s", body)
	}
	cli("share", "withdraw", alias)
	withdrawn := time.Now()
	within(t, time.Minute, "the share ends", func() error {
		if code, body, err := httpGet(shared + "?_HLS_msn=0"); err != nil || code != http.StatusGone {
			return fmt.Errorf("%d %s %v", code, body, err)
		}
		return nil
	})
	t.Logf("the share ended %s after it was withdrawn", time.Since(withdrawn).Round(time.Millisecond))

	// The puller that has the camera is killed; the other goes on under the same address.
	holder := pullers[0]
	if !strings.Contains(holder.log.String(), "camera plays") {
		holder = pullers[1]
	}
	plays := cam.Plays()
	holder.kill()
	within(t, time.Minute, "another puller plays the camera", func() error {
		if cam.Plays() <= plays {
			return errors.New("it does not")
		}
		return nil
	})
	first := 0
	fresh := watch(viewer.Config{Stream: "door", PlayKey: key})
	within(t, time.Minute, "three more segments are there", func() error {
		n, err := lastSegment(u.Router, key)
		if err == nil && (first == 0 || n < first+3) {
			if first == 0 {
				first = n
			}
			err = fmt.Errorf("segment %d, at the takeover %d", n, first)
		}
		return err
	})
	r := private()
	if !r.Started || r.Played < 3*time.Second || r.End == "failed" {
		t.Errorf("the viewer from before the kill: %+v", r)
	}
	if r := fresh(); !r.Started || r.End == "failed" {
		t.Errorf("the viewer after the kill: %+v", r)
	}
	within(t, time.Minute, "the camera is left after the last viewer", func() error {
		if cam.Playing() != 0 || cam.Teardowns() == 0 {
			return fmt.Errorf("%d sessions, %d TEARDOWNs", cam.Playing(), cam.Teardowns())
		}
		return nil
	})
	for _, p := range append(pullers, u.program) {
		if strings.Contains(p.log.String(), "hunter2") {
			t.Errorf("the camera's password is in the log of %s", p.name)
		}
	}
}

var segmentName = regexp.MustCompile(`(?m)^\d+-(\d+)\.m4s$`)

// lastSegment is the number of the newest whole segment of home/door, asked for as a player would.
func lastSegment(router, key string) (int, error) {
	code, body, err := httpGet(router + "/v1/play/home/door/multivariant.m3u8?key=" + key)
	if err != nil || code != http.StatusOK {
		return 0, fmt.Errorf("multivariant playlist: %d %s %v", code, body, err)
	}
	for _, line := range strings.Split(body, "\n") {
		if !strings.HasPrefix(line, "http") {
			continue
		}
		code, body, err := httpGet(line)
		m := segmentName.FindAllStringSubmatch(body, -1)
		if err != nil || code != http.StatusOK || len(m) == 0 {
			return 0, fmt.Errorf("media playlist: %d %s %v", code, body, err)
		}
		return strconv.Atoi(m[len(m)-1][1])
	}
	return 0, errors.New("the multivariant playlist has no variant")
}
