package sessioniser

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
)

const snapshotVersion = 1

// snapshotHead stands before the sessions in a snapshot.
type snapshotHead struct {
	Version            int
	Seq                uint64
	StreamMs, TickedMs int64
	Producers          map[string]producerState
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// snapshot writes the state after a tick; rows of later messages are replayed.
func (r *reader) snapshot(ctx context.Context) error {
	store, err := r.JetStream.ObjectStore(ctx, schemas.BucketSnapshots)
	if err != nil {
		return fmt.Errorf("open object store %s: %w", schemas.BucketSnapshots, err)
	}
	pr, pw := io.Pipe()
	c := &counter{w: pw}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := bufio.NewWriterSize(c, 1<<17)
		err := gob.NewEncoder(w).Encode(snapshotHead{snapshotVersion, r.seq, r.streamMs, r.tickedMs, r.producers})
		if err == nil {
			err = r.table.Snapshot(w)
		}
		if err == nil {
			err = w.Flush()
		}
		pw.CloseWithError(err)
	}()
	_, err = store.Put(ctx, jetstream.ObjectMeta{
		Name: SnapshotName(r.p), Description: "sessions of one telemetry partition",
		Metadata: map[string]string{MetaSeq: strconv.FormatUint(r.seq, 10)},
	}, pr)
	pr.CloseWithError(err) // ends the writer above where Put gave up early
	<-done
	if err != nil {
		return fmt.Errorf("write snapshot %s: %w", SnapshotName(r.p), err)
	}
	r.m.snapshotBytes.WithLabelValues(r.label).Set(float64(c.n))
	return nil
}

// restore loads the last snapshot. One that is missing, damaged or of another
// version is made good by reading what the bus still holds.
func (r *reader) restore(ctx context.Context) error {
	r.table, r.producers = session.New(r.Session), map[string]producerState{}
	store, err := r.JetStream.ObjectStore(ctx, schemas.BucketSnapshots)
	if err != nil {
		return fmt.Errorf("open object store %s: %w", schemas.BucketSnapshots, err)
	}
	obj, err := store.Get(ctx, SnapshotName(r.p))
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", SnapshotName(r.p), err)
	}
	defer obj.Close()
	// One reader for both decoders: a gob decoder takes no more than it needs from a ByteReader.
	br := bufio.NewReaderSize(obj, 1<<17)
	var h snapshotHead
	err = gob.NewDecoder(br).Decode(&h)
	if err == nil && h.Version != snapshotVersion {
		err = fmt.Errorf("%w: %d, not %d", session.ErrVersion, h.Version, snapshotVersion)
	}
	var t *session.Table
	if err == nil {
		t, err = session.Restore(br, r.Session)
	}
	if err == nil {
		// The digest is checked at the end of the object.
		_, err = io.Copy(io.Discard, br)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.Logger.Error("snapshot cannot be used, reading all telemetry there is", "partition", r.p, "err", err)
		return nil
	}
	r.table, r.seq, r.streamMs, r.tickedMs = t, h.Seq, h.StreamMs, h.TickedMs
	if h.Producers != nil {
		r.producers = h.Producers
	}
	return nil
}
