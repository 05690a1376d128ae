package sessioniser

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
)

const (
	snapshotVersion = 2
	// replayWork is how much may have to be replayed before a part is added to the snapshot: rows, and four for each
	// session that they touched in a tick, which is what a session costs beside its rows. It takes a core about 0.1 s.
	replayWork = 60_000
	// partEvery is the least time between two pieces, maxParts the most parts behind a whole one.
	partEvery, maxParts = 2 * time.Second, 60
	// saveAgain is how long after a failure a snapshot is tried again.
	saveAgain = 5 * time.Second
	// atOnce is how many partitions of a process read or write a whole snapshot at the same time: more would only
	// stand in each other's way, and in that of leases and slices.
	atOnce = 2
	// maxSnapshot bounds what is read into memory.
	maxSnapshot = 4 << 30
)

// partName is the name in the object store of the k-th part behind a whole snapshot, from 1 on.
func partName(partition, k int) string { return SnapshotName(partition) + "." + strconv.Itoa(k) }

// snapshotHead stands before the sessions in a piece of a snapshot.
type snapshotHead struct {
	Version int
	// ID is this piece's, Prev that of the piece on which it builds; a whole snapshot has none. So pieces of
	// different writers are never taken together.
	ID, Prev           string
	Seq                uint64
	StreamMs, TickedMs int64
	Producers          map[string]producerState
}

// saver knows what of a reader's state is in the object store.
type saver struct {
	id        string // of the last piece; "": only a whole one can follow
	parts     int    // behind the whole one
	stale     int    // highest number of a part that may be there
	work      int64  // of the table at the last piece
	lastWhole time.Time
	lastPiece time.Time
	notBefore time.Time
	running   chan error // of the piece on its way, nil: none is
}

func (r *reader) work() int64 {
	st := r.table.Stats()
	return st.Rows + 4*st.Touched
}

// save puts the state after a tick into the object store where it is time for that: whole, or what has changed. It
// does not wait for the store unless now is set, which asks for a whole one at once.
func (r *reader) save(ctx context.Context, now bool) {
	s := &r.saver
	if s.running != nil {
		if !now && len(s.running) == 0 {
			return
		}
		r.saved(ctx, <-s.running)
	}
	if now {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		r.startWhole(ctx)
		r.saved(ctx, <-s.running)
		return
	}
	much := r.work()-s.work >= replayWork && time.Since(s.lastPiece) >= partEvery
	switch {
	case time.Now().Before(s.notBefore):
	case time.Since(s.lastWhole) >= r.SnapshotEvery || much && (s.id == "" || s.parts >= maxParts):
		select {
		case r.slots <- struct{}{}:
			r.startWhole(ctx)
		default: // others are at it: the next tick
		}
	case much:
		r.startPart(ctx)
	}
}

func (r *reader) head(prev string) snapshotHead {
	r.forgetProducers()
	return snapshotHead{snapshotVersion, rand.Text(), prev, r.seq, r.streamMs, r.tickedMs, r.producers}
}

// startWhole must be called with a slot, which it gives back.
func (r *reader) startWhole(ctx context.Context) {
	s := &r.saver
	h := r.head("")
	data, err := encodeHead(h)
	if err == nil {
		data = r.table.AppendSnapshot(data)
	}
	stale := s.stale
	s.id, s.parts, s.lastWhole, s.stale = h.ID, 0, time.Now(), 0
	r.start(func() error {
		defer func() { <-r.slots }()
		if err != nil {
			return err
		}
		return r.put(ctx, SnapshotName(r.p), h.Seq, data, stale)
	})
	r.m.snapshotBytes.WithLabelValues(r.label).Set(float64(len(data)))
}

func (r *reader) startPart(ctx context.Context) {
	s := &r.saver
	h := r.head(s.id)
	data, err := encodeHead(h)
	ok := false
	if err == nil {
		if data, ok = r.table.AppendPart(data); !ok {
			s.id = "" // the next is a whole one
			return
		}
	}
	s.id, s.parts = h.ID, s.parts+1
	s.stale = max(s.stale, s.parts)
	name := partName(r.p, s.parts)
	r.start(func() error {
		if err != nil {
			return err
		}
		return r.put(ctx, name, h.Seq, data, 0)
	})
}

func (r *reader) start(put func() error) {
	s := &r.saver
	s.lastPiece, s.work = time.Now(), r.work()
	done := make(chan error, 1)
	s.running = done
	go func() { done <- put() }()
}

// saved notes how the last piece fared. After a failure a whole one is due.
func (r *reader) saved(ctx context.Context, err error) {
	s := &r.saver
	s.running = nil
	if err == nil || ctx.Err() != nil {
		return
	}
	s.id, s.lastWhole, s.stale, s.notBefore = "", time.Time{}, maxParts, time.Now().Add(min(saveAgain, r.SnapshotEvery))
	// What was written last still serves; only a takeover becomes longer.
	r.Logger.Warn("cannot write the sessioniser snapshot", "partition", r.p, "err", err)
}

func encodeHead(h snapshotHead) ([]byte, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(h); err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	return b.Bytes(), nil
}

// put writes a piece and then deletes the parts of an earlier snapshot, the last first, so that none is left behind
// a gap. Until then the earlier pieces serve.
func (r *reader) put(ctx context.Context, name string, seq uint64, data []byte, stale int) error {
	store, err := r.JetStream.ObjectStore(ctx, schemas.BucketSnapshots)
	if err != nil {
		return fmt.Errorf("open object store %s: %w", schemas.BucketSnapshots, err)
	}
	_, err = store.Put(ctx, jetstream.ObjectMeta{
		Name: name, Description: "sessions of one telemetry partition",
		Metadata: map[string]string{MetaSeq: strconv.FormatUint(seq, 10)},
	}, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("write snapshot %s: %w", name, err)
	}
	for k := stale; k > 0; k-- {
		if err := store.Delete(ctx, partName(r.p, k)); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
			return fmt.Errorf("delete snapshot %s: %w", partName(r.p, k), err)
		}
	}
	return nil
}

// restore loads the last snapshot. One that is missing, damaged or of another
// version is made good by reading what the bus still holds.
func (r *reader) restore(ctx context.Context) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	store, err := r.JetStream.ObjectStore(ctx, schemas.BucketSnapshots)
	if err != nil {
		return fmt.Errorf("open object store %s: %w", schemas.BucketSnapshots, err)
	}
	for most := maxParts; ; {
		failed, err := r.restoreUpTo(ctx, store, most)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case failed < 0:
			return err // the store did not answer: the next attempt begins anew
		}
		r.Logger.Error("a piece of the snapshot cannot be used, replaying more telemetry", "partition", r.p, "piece", failed, "err", err)
		most = failed - 1
	}
}

// restoreUpTo loads a whole snapshot and the most first of its parts; with most below 0 it begins anew. With an error
// it gives the number of the piece that is damaged, 0 for the whole one, or -1 where the store is at fault.
func (r *reader) restoreUpTo(ctx context.Context, store jetstream.ObjectStore, most int) (failed int, err error) {
	r.table, r.producers, r.seq, r.streamMs, r.tickedMs = session.New(r.Session), map[string]producerState{}, 0, 0, 0
	// Partitions take turns, so that they do not all write at the same time.
	r.saver = saver{lastWhole: time.Now().Add(-r.SnapshotEvery / 2 * time.Duration(r.p) / schemas.TelemetryPartitions)}
	if most < 0 {
		r.saver.stale = maxParts
		return -1, nil
	}
	for k := 0; k <= most; k++ {
		name, prev := SnapshotName(r.p), ""
		if k > 0 {
			name, prev = partName(r.p, k), r.saver.id
		}
		data, err := readObject(ctx, store, name)
		switch {
		case errors.Is(err, jetstream.ErrObjectNotFound):
			return 0, nil
		case errors.Is(err, jetstream.ErrDigestMismatch):
			return k, err
		case err != nil:
			return -1, err
		}
		// Those that are there and not taken are to be deleted with the next whole one.
		r.saver.stale = maxParts
		if err := r.load(data, prev); errors.Is(err, errOther) {
			return 0, nil
		} else if err != nil {
			return k, err
		}
		r.saver.parts, r.saver.lastPiece = k, time.Now()
	}
	return 0, nil
}

// errOther says that a part is not of the snapshot that is restored.
var errOther = errors.New("a part of another snapshot")

// load takes a piece, which must build on prev.
func (r *reader) load(data []byte, prev string) error {
	in := bytes.NewReader(data) // a gob decoder takes no more than it needs from it
	var h snapshotHead
	if err := gob.NewDecoder(in).Decode(&h); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if h.Version != snapshotVersion {
		return fmt.Errorf("%w: %d, not %d", session.ErrVersion, h.Version, snapshotVersion)
	}
	if h.Prev != prev {
		return errOther
	}
	rest := data[len(data)-in.Len():]
	if prev == "" {
		t, err := session.Restore(rest, r.Session)
		if err != nil {
			return err
		}
		r.table = t
	} else if err := r.table.Apply(rest); err != nil {
		return err
	}
	r.seq, r.streamMs, r.tickedMs, r.saver.id = h.Seq, h.StreamMs, h.TickedMs, h.ID
	if r.producers = h.Producers; r.producers == nil {
		r.producers = map[string]producerState{}
	}
	return nil
}

// readObject gives a whole object, whose digest is checked at its end.
func readObject(ctx context.Context, store jetstream.ObjectStore, name string) ([]byte, error) {
	obj, err := store.Get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	defer obj.Close()
	info, err := obj.Info()
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	if info.Size > maxSnapshot {
		return nil, fmt.Errorf("read snapshot %s: %d bytes are more than fit", name, info.Size)
	}
	data := make([]byte, info.Size)
	if _, err := io.ReadFull(obj, data); err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	if _, err := io.Copy(io.Discard, obj); err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	return data, nil
}
