package transcode

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// childEnv makes the test binary a worker of its own, on the bus it names.
const childEnv = "SPILLWAY_TEST_TRANSCODER"

func TestMain(m *testing.M) {
	if url := os.Getenv(childEnv); url != "" {
		if err := child(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return (&Worker{JetStream: js, LeaseTTL: 800 * time.Millisecond}).Run(ctx)
}

// A worker that is killed in the middle of a segment: another goes on where it
// stopped, and what they made together decodes as one.
func TestTakeoverAfterKill(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder)
	src := follow(t, b.JS, key, schemas.SourceRendition)
	rungs := map[string]*follower{"144p": follow(t, b.JS, key, "144p"), "90p": follow(t, b.JS, key, "90p")}
	stop := pushing(t, b.JS, &media.Publisher{Clip: media.Load(t), Key: key, Start: time.Now()})
	watch(t, b.Conn, key)

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	first := exec.Command(exe)
	first.Env = append(os.Environ(), childEnv+"="+b.Server.URL())
	first.Stderr = os.Stderr
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Process.Kill() }()
	got := map[string][]made{}
	for name, f := range rungs {
		got[name] = f.next(12)
	}
	start(t, &Worker{JetStream: b.JS, LeaseTTL: 800 * time.Millisecond})
	for { // to the middle of a segment
		c := rungs["144p"].next(1)
		got["144p"] = append(got["144p"], c...)
		if p := c[0].Fragments[0].Part; p >= 3 && p <= 6 {
			break
		}
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	killed := time.Now()
	var gap time.Duration
	for name, f := range rungs {
		var last time.Time
		for {
			c := f.next(1)
			got[name] = append(got[name], c...)
			if !last.IsZero() {
				gap = max(gap, c[0].at.Sub(last))
			}
			last = c[0].at
			if c[0].at.Sub(killed) > 3*time.Second && c[0].Fragments[0].SegmentEnd {
				break
			}
		}
	}
	stop()
	last := got["144p"][len(got["144p"])-1]
	if l := got["90p"][len(got["90p"])-1]; l.Seq > last.Seq {
		last = l
	}
	source := src.source(last)
	for name, chunks := range got {
		joints := 0
		for i, c := range chunks {
			if i > 0 && c.Seq != chunks[i-1].Seq+1 {
				t.Errorf("%s: chunk %d comes after %d", name, c.Seq, chunks[i-1].Seq)
			}
			if f := &c.Fragments[0]; f.Independent && !f.SegmentStart {
				joints++
			}
		}
		// The rungs may stand a chunk apart; each gets a key frame at both joints.
		if joints < 1 || joints > 2 {
			t.Errorf("%s has %d key frames inside segments, a joint is expected", name, joints)
		}
		compare(t, b.JS, chunks, source)
	}
	t.Logf("longest time without a chunk: %v", gap)
}

// Two workers that both hold the stream: one is heard, and nothing is mixed.
func TestOverlappingWorkers(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder[1:2])
	src := follow(t, b.JS, key, schemas.SourceRendition)
	f := follow(t, b.JS, key, "90p")
	stop := pushing(t, b.JS, &media.Publisher{Clip: media.Load(t), Key: key, Start: time.Now()})
	watch(t, b.Conn, key)
	one := &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond, leaseRole: "one"}
	two := &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond, leaseRole: "two"}
	stopOne := start(t, one)
	start(t, two)
	got := f.next(25)
	await.True(t, "one worker has lost a race", func() bool { return counter(t, one.m.lost)+counter(t, two.m.lost) > 0 })
	stopOne() // whichever it was, the other goes on
	got = append(got, f.next(25)...)
	stop()
	compare(t, b.JS, got, src.source(got[len(got)-1]))
}
