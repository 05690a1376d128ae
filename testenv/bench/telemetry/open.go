package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/ordered"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

// OpenSettings say how many sessions one sessioniser holds before it is killed.
type OpenSettings struct {
	// Binary is the program, DataDir has the secrets of its bus, which is at NATS and has no sessioniser. Required.
	Binary, DataDir, NATS string
	// JetStream is a connection to the bus, which holds no telemetry. Required.
	JetStream jetstream.JetStream
	// Sessions are held open, each of which reports every ReportEvery. Required.
	Sessions    int
	ReportEvery time.Duration
	// SnapshotEvery is given to the sessionisers. Required.
	SnapshotEvery time.Duration
	Logger        *slog.Logger // required
}

// Check says what is wrong with the numbers.
func (s *OpenSettings) Check() error {
	if s.Sessions < 100 || s.ReportEvery < 100*time.Millisecond || s.ReportEvery > time.Minute || s.SnapshotEvery < 100*time.Millisecond {
		return errors.New("give at least 100 open sessions, a report of each every 100 ms to 1 min, and at least 100 ms between snapshots")
	}
	return nil
}

// OpenReport is what came out.
type OpenReport struct {
	Bench    string    `json:"bench"`
	Began    time.Time `json:"began"`
	Sessions int       `json:"open_sessions"`
	// ReportEverySeconds is how often each session reports, all the time.
	ReportEverySeconds float64 `json:"report_every_s"`
	// Overflow are rows left out because too many sessions were open.
	Overflow int64 `json:"overflow_rows"`

	// HeldSeconds is from the first row until the first process held all sessions.
	HeldSeconds float64 `json:"held_s"`
	// Of the process that is killed: memory held before, the most it ever was, CPU used.
	RSSBytes     int64   `json:"rss_bytes"`
	PeakRSSBytes int64   `json:"peak_rss_bytes"`
	CPUSeconds   float64 `json:"cpu_s"`

	// SnapshotBytes are those of all partitions, whole and parts.
	SnapshotBytes int64 `json:"snapshot_bytes"`
	// SnapshotAgeSeconds is the age of the oldest whole snapshot at the kill, ReplayFromSeconds that of the last piece
	// of the partition that is furthest behind: what came since is replayed.
	SnapshotAgeSeconds float64 `json:"snapshot_age_s"`
	ReplayFromSeconds  float64 `json:"replay_from_s"`

	// Takeover is by a process that begins after the kill; Move by one that runs already and has half of the partitions.
	Takeover Takeover `json:"takeover"`
	Move     Takeover `json:"move"`
	// SuccessorPeakRSSBytes is the most that the second process had, CPUSeconds what its takeover took.
	SuccessorPeakRSSBytes int64   `json:"successor_peak_rss_bytes"`
	SuccessorCPUSeconds   float64 `json:"successor_cpu_s"`

	// Rows published, and what slices account for: Exact says that every row and session is in them once.
	Rows           int64 `json:"rows"`
	SlicedReports  int64 `json:"sliced_reports"`
	SlicedSessions int64 `json:"sliced_sessions"`
	Exact          bool  `json:"exact"`
}

// Takeover are seconds since a kill.
type Takeover struct {
	// StartedSeconds: the next process runs; 0 where it did before.
	StartedSeconds float64 `json:"started_s"`
	// TakenSeconds: it had the leases of all partitions, RestoredSeconds: and their snapshots.
	TakenSeconds    float64 `json:"taken_s"`
	RestoredSeconds float64 `json:"restored_s"`
	// SliceSeconds: a report made after the kill, of a session begun before, was in a slice, in every partition; not told of a move.
	SliceSeconds float64 `json:"slice_s,omitempty"`
	// HeldSeconds: all sessions open again and no partition behind by more than 2 s.
	HeldSeconds float64 `json:"held_s"`
}

// openPatience is how long any one state is waited for.
const openPatience = 5 * time.Minute

// RunOpen fills one sessioniser with open sessions, kills it, and follows how another takes over.
func RunOpen(ctx context.Context, s OpenSettings) (*OpenReport, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := newFeed(s.JetStream, s.Sessions, s.ReportEvery)
	for p := range f.parts {
		if len(f.parts[p].ids) == 0 {
			return nil, fmt.Errorf("%d sessions leave partition %d without any: give more", s.Sessions, p)
		}
	}
	r := &openRun{s: s, f: f, rep: &OpenReport{
		Bench: "telemetry-open-sessions", Began: time.Now().UTC().Truncate(time.Second), Sessions: s.Sessions, ReportEverySeconds: s.ReportEvery.Seconds(),
	}}
	first, err := s.holder()
	if err != nil {
		return nil, err
	}
	defer func() { first.proc.Stop(5 * time.Second) }()
	fctx, stopFeed := context.WithCancel(ctx)
	fed := make(chan error, 1)
	begin := time.Now()
	go func() {
		err := f.run(fctx)
		if err != nil {
			cancel() // nothing else will be reached
		}
		fed <- err
	}()
	err = r.run(ctx, first, begin)
	stopFeed()
	if ferr := <-fed; ferr != nil {
		err = errors.Join(ferr, err)
	}
	if err == nil {
		err = r.account(ctx)
	}
	if r.second != nil {
		r.second.proc.Stop(10 * time.Second)
	}
	return r.rep, err
}

type openRun struct {
	s      OpenSettings
	f      *feed
	rep    *OpenReport
	second *holder
}

func (r *openRun) run(ctx context.Context, first *holder, begin time.Time) error {
	if err := r.fill(ctx, first, begin); err != nil {
		return err
	}
	if err := r.takeover(ctx, first); err != nil {
		return err
	}
	return r.move(ctx)
}

// until asks again and again until done says so; what names what is waited for.
func until(ctx context.Context, what string, every time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
}

// holds says whether a process has all sessions and is not behind.
func (r *openRun) holds(ctx context.Context, h *holder) (bool, error) {
	st, err := h.state(ctx)
	if err != nil {
		return false, err
	}
	r.rep.Overflow = max(r.rep.Overflow, st.overflow)
	return st.open == int64(r.s.Sessions) && st.partitions == schemas.TelemetryPartitions && st.lag < 2*time.Second, nil
}

// fill waits until the first process and its snapshots have every session.
func (r *openRun) fill(ctx context.Context, first *holder, begin time.Time) error {
	log := r.s.Logger
	err := until(ctx, "wait until all sessions have begun", 200*time.Millisecond, func() (bool, error) {
		if r.f.full.Load() < schemas.TelemetryPartitions {
			return false, nil
		}
		return r.holds(ctx, first)
	})
	if err != nil {
		return err
	}
	held := time.Now()
	r.rep.HeldSeconds = held.Sub(begin).Seconds()
	log.Info("all sessions are held; waiting for their snapshots to be old", "sessions", r.s.Sessions)
	var snap snapshotState
	err = until(ctx, "wait for snapshots", 200*time.Millisecond, func() (done bool, err error) {
		snap, err = r.snapshots(ctx)
		// Nearly the most there can be to read: the next whole snapshot is not far.
		return err == nil && snap.whole.After(held) && time.Since(snap.whole) >= r.s.SnapshotEvery*8/10, err
	})
	if err != nil {
		return err
	}
	u, err := procstat.Read(first.proc.PID())
	if err != nil {
		return err
	}
	r.rep.RSSBytes, r.rep.CPUSeconds = u.RSSBytes, u.CPUSeconds
	r.rep.PeakRSSBytes, err = procstat.PeakRSS(first.proc.PID())
	r.rep.SnapshotBytes = snap.bytes
	r.rep.SnapshotAgeSeconds, r.rep.ReplayFromSeconds = time.Since(snap.whole).Seconds(), time.Since(snap.piece).Seconds()
	return err
}

// snapshotState is what the object store has of all partitions.
type snapshotState struct {
	bytes int64
	// whole is when the oldest partition's was written whole, piece when anything of the one that is furthest
	// behind; zero where a partition has none.
	whole, piece time.Time
}

func (r *openRun) snapshots(ctx context.Context) (st snapshotState, err error) {
	store, err := r.s.JetStream.ObjectStore(ctx, schemas.BucketSnapshots)
	if err != nil {
		return st, fmt.Errorf("open object store %s: %w", schemas.BucketSnapshots, err)
	}
	all, err := store.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return st, fmt.Errorf("look for snapshots: %w", err)
	}
	var whole, piece [schemas.TelemetryPartitions]time.Time
	for _, i := range all {
		st.bytes += int64(i.Size)
		for p := range piece {
			name := sessioniser.SnapshotName(p)
			if i.Name == name {
				whole[p] = i.ModTime
			}
			if (i.Name == name || strings.HasPrefix(i.Name, name+".")) && i.ModTime.After(piece[p]) {
				piece[p] = i.ModTime
			}
		}
	}
	st.whole = slices.MinFunc(whole[:], time.Time.Compare)
	st.piece = slices.MinFunc(piece[:], time.Time.Compare)
	return st, nil
}

var sliceColumns = schemas.SliceTable().Want("session_id", "sessions", "reports", "dropped_frames")

// account adds up all slices: they must say of every row and session once.
func (r *openRun) account(ctx context.Context) error {
	rep := r.rep
	rep.Rows = r.f.rows.Load()
	in, err := ordered.Open(ctx, r.s.JetStream, schemas.StreamSlices, []string{"slices.*"}, 1, jetstream.PullMaxMessages(64))
	if err != nil {
		return err
	}
	defer in.Close()
	var rows []schemas.Slice
	for end := time.Now().Add(openPatience); time.Now().Before(end) && !rep.Exact; {
		m, err := in.Next(ctx, time.Second)
		if errors.Is(err, ordered.ErrNothing) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read slices: %w", err)
		}
		if m.Headers().Get(schemas.HeaderKind) == sessioniser.KindMark {
			continue
		}
		if rows, err = schemas.SliceTable().DecodeColumns(m.Data(), sliceColumns, rows[:0]); err != nil {
			return fmt.Errorf("read slices: %w", err)
		}
		for i := range rows {
			rep.SlicedReports += rows[i].Reports
			rep.SlicedSessions += rows[i].Sessions
		}
		rep.Exact = rep.SlicedReports == rep.Rows && rep.SlicedSessions == int64(rep.Sessions)
	}
	if !rep.Exact {
		return fmt.Errorf("slices account for %d rows of %d and %d sessions of %d", rep.SlicedReports, rep.Rows, rep.SlicedSessions, rep.Sessions)
	}
	return nil
}
