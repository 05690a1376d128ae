package demand_test

import (
	"context"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func TestWhatIsSaidIsHeard(t *testing.T) {
	b := bustest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	heard := make(chan schemas.StreamKey, 16)
	w := demand.Listen(b.Conn, func(k schemas.StreamKey) { heard <- k })
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	k := schemas.StreamKey{App: "live", Stream: "cam"}
	for again := true; again; { // until the subscription is there
		if err := demand.Say(b.Conn, k); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-heard:
			if got != k {
				t.Fatalf("heard %v", got)
			}
			again = false
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("nothing was heard")
		}
	}
	now := time.Now()
	if !w.Is(k, now) || len(w.All(now)) != 1 {
		t.Error("a stream just wanted is not known as such")
	}
	if late := now.Add(demand.HoldsFor + time.Second); w.Is(k, late) || len(w.All(late)) != 0 {
		t.Error("a stream is wanted for ever")
	}
	if w.Is(schemas.StreamKey{App: "live", Stream: "other"}, now) {
		t.Error("a stream nobody asked for is wanted")
	}
	if err := demand.Say(b.Conn, schemas.StreamKey{App: "a.b", Stream: ">"}); err == nil {
		t.Error("a name with wildcards was taken")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run gave %v after its context ended", err)
	}
}
