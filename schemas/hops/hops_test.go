package hops_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

var part = schemas.PartName{Key: schemas.StreamKey{App: "live", Stream: "demo"}, Rendition: "src", Track: schemas.Video, Epoch: 2, MSN: 16, Part: 0}

const doneUs = 1_800_000_000_123_000

// What ingest tells reaches who listens at once, who joins it later, and TELEMETRY.
func TestToldOnceEverybodyKnows(t *testing.T) {
	b := bustest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	known := hops.NewKnown(2)
	heard := make(chan *nats.Msg, 16)
	if _, err := b.Conn.ChanSubscribe("hops.>", heard); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}, 2)
	go func() { _ = known.Run(ctx, b.Conn); done <- struct{}{} }()
	r := hops.NewReporter(b.JS, "test", nil)
	go func() { r.Run(ctx); done <- struct{}{} }()

	failed := hops.At(part, schemas.HopOrigin, "o1", doneUs+9000, doneUs)
	failed.ResponseCode = columnar.Some(int32(503))
	await.True(t, "the time of ingest is known", func() bool { // Run may not listen yet
		r.Tell(hops.At(part, schemas.HopIngest, "i1", doneUs, doneUs), failed)
		us, _ := known.Take(part, "x", "a", false, time.Now())
		return us == doneUs
	})
	notes, err := hops.DecodeNotes((<-heard).Data)
	if err != nil || len(notes) != 2 || notes[0].Failed() || !notes[1].Failed() || *notes[1].DelayMs != 9 || notes[1].Name(part.Key) != part {
		t.Fatalf("notes %+v, %v", notes, err)
	}
	for i := range 4 {
		if _, wanted := known.Take(part, schemas.HopEdge, "a", false, time.Now()); wanted != (i < 2) {
			t.Errorf("row %d of an edge is wanted: %v", i, wanted)
		}
	}
	if _, wanted := known.Take(part, schemas.HopEdge, "a", true, time.Now()); !wanted {
		t.Error("a failure is not wanted after good answers")
	}
	var silent *hops.Reporter
	silent.Tell(failed)

	cancel()
	<-done
	<-done
	st, err := b.JS.Stream(t.Context(), schemas.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	m, err := st.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatalf("no rows on the bus: %v", err)
	}
	rows, err := schemas.DecodeTelemetry(m.Data)
	if err != nil || len(rows) < 2 || rows[1].Hop != schemas.HopOrigin || rows[1].Source != schemas.SourceHop || rows[1].SessionID != "" {
		t.Errorf("rows %+v, %v", rows, err)
	}
}

func FuzzDecodeNotes(f *testing.F) {
	f.Add([]byte(`[{"hop":"edge","m":3,"p":-1,"at":1,"d":-2.5,"c":503}]`))
	f.Add([]byte(`[{"hop":"probe","fb":1,"kbps":2,"stale":3}]`))
	f.Add([]byte(`[{"p":-2}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		notes, err := hops.DecodeNotes(data)
		if err != nil {
			return
		}
		for i := range notes {
			if notes[i].Part < -1 {
				t.Fatalf("part %d", notes[i].Part)
			}
		}
	})
}

func TestNotesKeepWhatRowsSay(t *testing.T) {
	row := hops.At(part, schemas.HopEdge, "e1", doneUs+20_000, doneUs)
	row.CDN, row.FirstByteMs, row.ResponseCode = "a", columnar.Some(int32(30)), columnar.Some(int32(0))
	n := hops.NoteOf(&row)
	want := hops.Note{Hop: "edge", Rendition: "src", Track: "video", Epoch: 2, MSN: 16, AtUs: doneUs + 20_000, DelayMs: n.DelayMs, CDN: "a", Server: "e1", Code: -1, FirstByteMs: n.FirstByteMs}
	if !reflect.DeepEqual(n, want) || *n.DelayMs != 20 || *n.FirstByteMs != 30 || !n.Failed() {
		t.Errorf("%+v", n)
	}
}
