package reviewer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/store"
)

var demo = schemas.StreamKey{App: "live", Stream: "demo"}

const wall = 1_795_167_643_634_000

func verdict(t *testing.T, subject, text string) workers.Message {
	t.Helper()
	return workers.Message{Subject: subject, Data: []byte(text), Header: nats.Header{}, Seq: 7, Attempt: 1}
}

// A verdict that is delivered again has the same effect, under the same ids.
func TestTwiceIsOnce(t *testing.T) {
	hidden := 0
	h := &handler{
		rules: func(schemas.StreamKey) []schemas.ReviewRule {
			return []schemas.ReviewRule{{Label: "bad", MinScore: 0.5, Hide: true, Alert: true}, {Label: "bad", MinScore: 0.9, Mark: true}}
		},
		hide: func(context.Context, schemas.StreamKey, *schemas.Verdict, *schemas.ReviewRule) error {
			hidden++
			return nil
		},
	}
	m := verdict(t, "verdicts.live.demo", fmt.Sprintf(`{"label":"bad","score":0.8,"model":"m","wall_us":%d}`, wall))
	first, err := h.handle(t.Context(), m)
	if err != nil || len(first) != 2 || hidden != 1 || !strings.Contains(string(first[0].Data), `"did":"hide,alert"`) {
		t.Fatalf("%v %+v", err, first)
	}
	again, err := h.handle(t.Context(), m)
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("%v %+v", err, again)
	}
	for _, text := range []string{`{"label":"bad","score":0.4,"model":"m","wall_us":%d}`, `{"label":"good","score":1,"model":"m","wall_us":%d}`} {
		if out, err := h.handle(t.Context(), verdict(t, "verdicts.live.demo", fmt.Sprintf(text, wall))); err != nil || len(out) != 0 || hidden != 2 {
			t.Errorf("%s: %v %+v", text, err, out)
		}
	}
}

func TestRefusedVerdicts(t *testing.T) {
	h := &handler{}
	for _, c := range [][2]string{
		{"verdicts.live", `{}`}, {"verdicts.a b.c", `{}`}, {"verdicts.live.demo", `no`}, {"verdicts.live.demo", `{"label":"<b>","score":1,"model":"m","wall_us":1}`},
		{"verdicts.live.demo", fmt.Sprintf(`{"label":"x","score":2,"model":"m","wall_us":%d}`, wall)},
		{"verdicts.live.demo", fmt.Sprintf(`{"label":"x","score":1,"model":"","wall_us":%d}`, wall)},
		{"verdicts.live.demo", `{"label":"x","score":1,"model":"m","wall_us":5}`},
		{"verdicts.live.demo", strings.Repeat(" ", 5000)},
	} {
		if _, err := h.handle(t.Context(), verdict(t, c[0], c[1])); !workers.Rejected(err) {
			t.Errorf("%s %.60s: %v", c[0], c[1], err)
		}
	}
}

func TestHideAndLift(t *testing.T) {
	v := &schemas.Verdict{Label: "bad", Score: 1, Model: "m", WallUnixUs: wall}
	at := time.UnixMicro(wall)
	s := &schemas.ReviewState{}
	if !s.Hide(v, &schemas.ReviewRule{Hide: true, HideSec: 60}) || !s.Hidden(at.Add(59*time.Second)) || s.Hidden(at.Add(61*time.Second)) {
		t.Errorf("%+v", s)
	}
	if s.Hide(v, &schemas.ReviewRule{Hide: true, HideSec: 30}) {
		t.Error("a shorter time shortens what is")
	}
	s.HiddenUntilUs, s.LiftedUs = 0, wall+1
	if s.Hide(v, &schemas.ReviewRule{Hide: true}) {
		t.Error("what was lifted is hidden again by the same picture")
	}
	later := *v
	later.WallUnixUs += 10
	if !s.Hide(&later, &schemas.ReviewRule{Hide: true}) || !s.Hidden(at.Add(1000*time.Hour)) {
		t.Errorf("%+v", s)
	}
}

// Two operators, of the repository's own, see a black picture and a skin-coloured
// one over a real bus; rules hide the stream, raise an alert and mark the recording.
func TestOperators(t *testing.T) {
	b := bustest.Start(t)
	objects, err := store.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	apps, err := registry.Open(t.Context(), b.JS, schemas.BucketApps, schemas.ParseAppSettings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apps.Put(t.Context(), demo.App, &schemas.AppSettings{Review: []schemas.ReviewRule{
		{Label: "black", MinScore: 0.9, Mark: true}, {Label: "skin", MinScore: 0.9, Hide: true, Alert: true},
	}}); err != nil {
		t.Fatal(err)
	}
	running.Start(t, (&Reviewer{JetStream: b.JS, Store: objects}).Run)
	operator(t, need.Program(t, "python3"), "../../docs/review/review.py", b.Server.ReviewURL())
	operator(t, built(t, "../../docs/review/go"), b.Server.ReviewURL())

	black, skin := color.YCbCr{Y: 0, Cb: 128, Cr: 128}, color.YCbCr{Y: 150, Cb: 110, Cr: 150}
	publish(t, b, black, 1)
	publish(t, b, skin, 0)
	await.Text(t, "the stream is hidden", func() string {
		reviews, err := registry.Open(t.Context(), b.JS, schemas.BucketReviews, schemas.ParseReviewState)
		if err != nil {
			return err.Error()
		}
		s, err := reviews.Get(t.Context(), demo.KVKey())
		if err != nil || !s.Hidden(time.Now()) || s.Verdict.Label != "skin" {
			return fmt.Sprintf("%+v %v", s, err)
		}
		return ""
	})
	await.Text(t, "the recording is marked", func() string {
		for _, key := range archive.Marks(demo, wall, "black") {
			if _, err := objects.Stat(t.Context(), key); err != nil {
				return err.Error()
			}
		}
		return ""
	})
	events, err := b.JS.Stream(t.Context(), schemas.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []schemas.EventKind{schemas.EventVerdict, schemas.EventAlertRaised} {
		await.Text(t, "the event "+string(kind), func() string {
			m, err := events.GetLastMsgForSubject(t.Context(), "events."+string(kind)+".live.demo")
			if err != nil {
				return err.Error()
			}
			var e schemas.Event
			if err := schemas.DecodeRecord(m.Data, &e); err != nil {
				t.Fatal(err)
			}
			if kind == schemas.EventAlertRaised && (e.Detail["rule"] != "review-skin" || e.Detail["page"] != "/streams/live/demo") {
				t.Fatalf("%+v", e)
			}
			return ""
		})
	}
	leastPrivilege(t, b)
}

// operator runs a program until the test ends, and waits until it is ready.
func operator(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	if err != nil || !strings.Contains(line, "ready") {
		cancel()
		_ = cmd.Wait()
		t.Fatalf("%s %v: %q %v %s", name, args, line, err, said.String())
	}
}

// built is a program of this repository. "go run" would leave it behind when it is ended.
func built(t *testing.T, pkg string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if out, err := exec.Command(need.Program(t, "go"), "build", "-o", file, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", pkg, err, out)
	}
	return file
}

func publish(t *testing.T, b *bustest.Bus, c color.YCbCr, share float64) {
	t.Helper()
	img := image.NewYCbCr(image.Rect(0, 0, 64, 36), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		img.Y[i] = c.Y
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = c.Cb, c.Cr
	}
	var data bytes.Buffer
	if err := jpeg.Encode(&data, img, nil); err != nil {
		t.Fatal(err)
	}
	head, err := json.Marshal(schemas.Picture{Version: 1, App: demo.App, Stream: demo.Stream, WallUnixUs: wall, Width: 64, Height: 36, Black: share})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.JS.PublishMsg(t.Context(), &nats.Msg{Subject: schemas.PictureSubject(demo), Header: nats.Header{schemas.HeaderPicture: {string(head)}}, Data: data.Bytes()}); err != nil {
		t.Fatal(err)
	}
}

// leastPrivilege: the user of operators sees pictures and says verdicts, and nothing else.
func leastPrivilege(t *testing.T, b *bustest.Bus) {
	t.Helper()
	refused := make(chan error, 16)
	nc, err := nats.Connect(b.Server.ReviewURL(), nats.CustomInboxPrefix(schemas.ReviewInbox), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	next := func(what string) {
		t.Helper()
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(await.Limit):
			t.Errorf("%s is allowed", what)
		}
	}
	for _, subject := range []string{"media.>", "events.>", "telemetry.>", "_INBOX.>", "verdicts.>", ">"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		next("listening to " + subject)
	}
	for _, subject := range []string{"pictures.live.demo", "events.verdict.live.demo", "$KV.hot.live.demo", "$JS.API.STREAM.PURGE.MEDIA", "$JS.API.STREAM.MSG.GET.MEDIA", "verdicts.live.demo.more"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		next("publishing to " + subject)
	}
}
