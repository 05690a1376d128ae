package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/store"
)

// TestPicturesTakeStreamsOffTheHotList: ffmpeg publishes over RTMP what is black,
// what stands still and what moves; nothing but the pictures tells which is which.
// The review operator of the documentation looks at them, too: its verdict hides the
// black one and marks its recording.
func TestPicturesTakeStreamsOffTheHotList(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	need.Program(t, "ffmpeg")
	sec, err := loadSecrets(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sec.signer()
	if err != nil {
		t.Fatal(err)
	}
	d := &deps{js: c.bus.JS, logger: quiet(), reg: prometheus.NewRegistry(), secrets: sec, signer: signer, dataDir: c.dir}
	c.ok("app", "set", "live", "--picture-interval", "1s")
	c.ok("review", "rule", "live/black", "black", "--hide", "--mark")
	objects, err := store.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	python := need.Program(t, "python3")
	background(t, "review.py", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, python, "../../docs/review/review.py", c.bus.Server.ReviewURL()).CombinedOutput()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("it ended by itself: %w: %s", err, out)
	})
	ingest, servers, err := d.ingestRole(t.Context(), ingestFlags{rtmp: "127.0.0.1:0", open: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []role{ingest, d.screenshotRole(pictureFlags{}), d.hotListRole(), d.reviewerRole(objects)} {
		background(t, r.name, r.run)
	}
	<-servers.rtmp.Ready()
	for name, source := range map[string]string{"black": "color=c=black", "frozen": "smptebars=duration=600", "moving": "testsrc2=duration=600"} {
		pushLavfi(t, source+smallSource, "rtmp://"+servers.rtmp.Addr().String()+"/live/"+name)
	}
	hot, err := registry.Open(t.Context(), c.bus.JS, schemas.BucketHot, schemas.ParseHotState)
	if err != nil {
		t.Fatal(err)
	}
	pictures, err := c.bus.JS.Stream(t.Context(), schemas.StreamPictures)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"black": schemas.HotBlack + "," + schemas.HotHidden, "frozen": schemas.HotFrozen} {
		await.Text(t, "the "+name+" stream leaves", func() string {
			h, err := hot.Get(t.Context(), "live."+name)
			if err != nil || !h.Off || !h.Told || strings.Join(h.Reasons, ",") != want {
				return fmt.Sprintf("%+v %v", h, err)
			}
			return ""
		})
	}
	await.True(t, "the recording of the black stream is marked", func() bool {
		marks, err := objects.List(t.Context(), archive.MarksPrefix(schemas.StreamKey{App: "live", Stream: "black"}), "", 1)
		return err == nil && len(marks) == 1
	})
	await.Text(t, "pictures of what moves", func() string {
		m, err := pictures.GetLastMsgForSubject(t.Context(), "pictures.live.moving")
		if err != nil {
			return err.Error()
		}
		p, err := schemas.ParsePicture(m.Subject, m.Header.Get(schemas.HeaderPicture))
		if err != nil || p.Distance < 0 {
			return fmt.Sprintf("%+v %v", p, err)
		}
		if p.StillMs > 0 || p.BlackMs > 0 {
			t.Fatalf("what moves counts as still or black: %+v", p)
		}
		return ""
	})
	// Where this machine gives ffmpeg nothing for a second its video has stopped, which is true, and over soon.
	await.Text(t, "what moves is on the list", func() string {
		if h, err := hot.Get(t.Context(), "live.moving"); err == nil && h.Off {
			return fmt.Sprintf("%+v", h)
		}
		return ""
	})
}
