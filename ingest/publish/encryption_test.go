package publish_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// Whether chunks are encrypted is decided when an epoch opens, and said in each of them.
func TestEncryptionHoldsForAnEpoch(t *testing.T) {
	b := bustest.Start(t)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketApps)
	if err != nil {
		t.Fatal(err)
	}
	want := schemas.Encryption{Scheme: "cbcs", KeyURL: "file:///keys", RotateSegments: 7}
	set, err := json.Marshal(schemas.AppSettings{Encryption: &want})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), demo.App, set); err != nil {
		t.Fatal(err)
	}
	svc, _ := serve(t, b, nil)
	f := &feed{t: t, p: admit(t, svc)}
	f.must(f.p.Video(video))
	f.run(50, false)
	if err := kv.Delete(t.Context(), demo.App); err != nil {
		t.Fatal(err)
	}
	f.run(50, false)
	if err := f.p.End(publish.ErrEnded); !errors.Is(err, publish.ErrEnded) {
		t.Errorf("ended because %v", err)
	}
	if r := record(t, b); len(r.opens) != 1 || r.opens[0].Encrypted != "cbcs" {
		t.Errorf("%+v", r.opens)
	}
	st, err := b.JS.Stream(t.Context(), schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	chunks := 0
	for seq := uint64(1); ; seq++ {
		m, err := st.GetMsg(t.Context(), seq, jetstream.WithGetMsgSubject(schemas.MediaSubject(demo, schemas.SourceRendition)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if seq = m.Sequence; m.Header.Get(schemas.HeaderKind) != schemas.KindChunk {
			continue
		}
		c, err := schemas.DecodeChunk([]byte(m.Header.Get(schemas.HeaderChunk)), m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if c.Encryption == nil || *c.Encryption != want {
			t.Errorf("chunk %d says %+v", c.Seq, c.Encryption)
		}
		chunks++
	}
	if chunks < 15 {
		t.Errorf("%d chunks", chunks)
	}
}
