// Package publishtest reads back what a publication has put on the bus, for the tests
// of protocols: it verifies every chunk and has ffmpeg decode the media.
package publishtest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// Recording is everything on a stream's subject.
type Recording struct {
	Check  cutcheck.Checker
	Opens  []*schemas.EpochOpen
	Ends   int
	Chunks []*schemas.Chunk
	// Media is the fragments in a row, by epoch and track.
	Media map[uint32]map[schemas.Track][]byte
	js    jetstream.JetStream
}

// Record reads the stream's subject and verifies it.
func Record(t testing.TB, js jetstream.JetStream, k schemas.StreamKey) *Recording {
	t.Helper()
	r := &Recording{Media: map[uint32]map[schemas.Track][]byte{}, js: js}
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	subject := schemas.MediaSubject(k, schemas.SourceRendition)
	st, err := js.Stream(ctx, schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	last, err := st.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		t.Fatalf("nothing on %s: %v", subject, err)
	}
	c, err := js.OrderedConsumer(ctx, schemas.StreamMedia, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		t.Fatal(err)
	}
	it, err := c.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer it.Stop()
	for seq := uint64(0); seq < last.Sequence; {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		seq = meta.Sequence.Stream
		r.take(t, m)
	}
	return r
}

func (r *Recording) take(t testing.TB, m jetstream.Msg) {
	t.Helper()
	switch kind := m.Headers().Get(schemas.HeaderKind); kind {
	case schemas.KindEpoch:
		var o schemas.EpochOpen
		if err := json.Unmarshal(m.Data(), &o); err != nil {
			t.Fatal(err)
		}
		if err := r.Check.Open(&o); err != nil {
			t.Error(err)
		}
		r.Opens = append(r.Opens, &o)
		r.Media[o.Epoch] = map[schemas.Track][]byte{}
	case schemas.KindChunk:
		c, err := schemas.DecodeChunk([]byte(m.Headers().Get(schemas.HeaderChunk)), m.Data())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check.Chunk(c, m.Data()); err != nil {
			t.Error(err)
		}
		r.Chunks = append(r.Chunks, c)
		for _, f := range c.Fragments {
			r.Media[c.Epoch][f.Track] = append(r.Media[c.Epoch][f.Track], m.Data()[f.Offset:f.Offset+f.Size]...)
		}
	case schemas.KindEnd:
		r.Ends++
	}
}

// Decode has ffmpeg decode an epoch's tracks, which must go without a warning, and gives
// how many frames each has.
func (r *Recording) Decode(t testing.TB, o *schemas.EpochOpen) map[schemas.Track]int {
	t.Helper()
	kv, err := r.js.KeyValue(context.Background(), schemas.BucketInits)
	if err != nil {
		t.Fatal(err)
	}
	frames := map[schemas.Track]int{}
	for _, track := range o.Tracks {
		init, err := kv.Get(context.Background(), track.InitID)
		if err != nil {
			t.Fatalf("init of %s: %v", track.Track, err)
		}
		file := filepath.Join(t.TempDir(), string(track.Track)+".mp4")
		if err := os.WriteFile(file, append(bytes.Clone(init.Value()), r.Media[o.Epoch][track.Track]...), 0o600); err != nil {
			t.Fatal(err)
		}
		// Times as they are: rounded to a guessed frame rate, two pictures of a live encoder may fall on the same one.
		out, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "warning", "-nostdin", "-i", file,
			"-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "null", "-").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("ffmpeg on %s of epoch %d: %v: %s", track.Track, o.Epoch, err, out)
		}
		out, err = exec.Command("ffprobe", "-loglevel", "error", "-show_entries", "packet=dts_time", "-of", "csv=p=0", file).CombinedOutput()
		if err != nil {
			t.Errorf("ffprobe on %s: %v: %s", track.Track, err, out)
		}
		frames[track.Track] = len(strings.Fields(string(out)))
	}
	return frames
}

// State reads a stream's state; false: there is none.
func State(t testing.TB, js jetstream.JetStream, k schemas.StreamKey) (schemas.StreamState, bool) {
	t.Helper()
	var st schemas.StreamState
	kv, err := js.KeyValue(context.Background(), schemas.BucketStreams)
	if err != nil {
		t.Fatal(err)
	}
	v, err := kv.Get(context.Background(), k.KVKey())
	if err != nil {
		return st, false
	}
	if err := json.Unmarshal(v.Value(), &st); err != nil {
		t.Fatal(err)
	}
	return st, true
}

// WaitEnd waits until the stream's state says that it is not live any more.
func WaitEnd(t testing.TB, js jetstream.JetStream, k schemas.StreamKey) (st schemas.StreamState) {
	t.Helper()
	await.True(t, "the stream has ended", func() bool {
		var ok bool
		st, ok = State(t, js, k)
		return ok && !st.Live
	})
	return st
}

// Events gives the events of a kind so far.
func Events(t testing.TB, js jetstream.JetStream, kind schemas.EventKind) (out []schemas.Event) {
	t.Helper()
	st, err := js.Stream(context.Background(), schemas.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	info, err := st.Info(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; info.State.Msgs > 0 && seq <= info.State.LastSeq; seq++ {
		m, err := st.GetMsg(context.Background(), seq)
		if err != nil {
			t.Fatal(err)
		}
		var v schemas.Event
		if err := schemas.DecodeRecord(m.Data, &v); err != nil {
			t.Error(err)
		}
		if v.Kind == kind {
			out = append(out, v)
		}
	}
	return out
}
