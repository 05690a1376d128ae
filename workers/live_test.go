package workers_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers"
)

func live(t *testing.T, l *workers.Live) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, nil, func() []string { return []string{"chunks.>"} }) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return stop
}

// Three processes get each announced message once; what is rejected is kept in
// DEAD with its reason; what was received is finished at the stop.
func TestLiveSharesAndBuries(t *testing.T) {
	b := bustest.Start(t)
	const processes, messages = 3, 300
	var counts [processes]atomic.Int64
	var stops []func() error
	for i := range processes {
		nc, err := b.Server.Connect(fmt.Sprint("p", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, live(t, &workers.Live{JetStream: js, Role: "test", Handler: workers.Each(func(_ context.Context, m workers.Message) ([]workers.Output, error) {
			counts[i].Add(1)
			switch {
			case string(m.Data) == "bad":
				return nil, workers.Reject(errors.New("bad one"))
			case m.Subject != "media.0.a.s.src" || m.Seq == 0:
				return nil, fmt.Errorf("message %s %d", m.Subject, m.Seq)
			}
			return []workers.Output{{Subject: "decisions.copy.a.s", Data: m.Data, MsgID: fmt.Sprintf("copy/%d", m.Seq)}}, nil
		})}))
	}
	put := func(data string) {
		if _, err := b.JS.Publish(t.Context(), "media.0.a.s.src", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	await.True(t, "all three listen", func() bool {
		put("x")
		return counts[0].Load() > 0 && counts[1].Load() > 0 && counts[2].Load() > 0
	})
	// Those put before somebody listened were heard by nobody.
	heard := func() int64 { return counts[0].Load() + counts[1].Load() + counts[2].Load() }
	await.True(t, "what was heard is handled", func() bool { return int64(stored(t, b.JS, schemas.StreamDecisions)) == heard() })
	before := stored(t, b.JS, schemas.StreamDecisions)
	for range messages {
		put("x")
	}
	put("bad")
	await.True(t, "the dead letter", func() bool { return stored(t, b.JS, schemas.StreamDead) == 1 })
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	if n := stored(t, b.JS, schemas.StreamDecisions) - before; n != messages {
		t.Errorf("%d outputs of %d messages", n, messages)
	}
	s, err := b.JS.Stream(t.Context(), schemas.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), "dead.test")
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get(schemas.HeaderReason) != "bad one" || string(m.Data) != "bad" {
		t.Errorf("dead letter %q %v", m.Data, m.Header)
	}
}
