package telemetry

import (
	"context"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

// takeover kills the first process and follows the second.
func (r *openRun) takeover(ctx context.Context, first *holder) error {
	probes, err := watchProbes(r.s.JetStream.Conn(), r.f)
	if err != nil {
		return err
	}
	defer probes.stop()
	killed, err := first.kill()
	if err != nil {
		return err
	}
	r.s.Logger.Info("the sessioniser is killed; another is started")
	if r.second, err = r.s.holder(); err != nil {
		return err
	}
	r.f.probing.Store(true)
	held, sliced := time.Time{}, time.Time{}
	err = until(ctx, "wait for the takeover", 50*time.Millisecond, func() (bool, error) {
		if held.IsZero() {
			ok, err := r.holds(ctx, r.second)
			if err != nil {
				return false, err
			}
			if ok {
				held = time.Now()
			}
		}
		sliced = probes.done()
		return !held.IsZero() && !sliced.IsZero(), nil
	})
	if err != nil {
		return err
	}
	h := r.second
	h.mu.Lock()
	defer h.mu.Unlock()
	r.rep.Takeover = Takeover{
		StartedSeconds: h.runs.Sub(killed).Seconds(), TakenSeconds: latest(h.taken).Sub(killed).Seconds(),
		RestoredSeconds: latest(h.reads).Sub(killed).Seconds(), HeldSeconds: held.Sub(killed).Seconds(), SliceSeconds: sliced.Sub(killed).Seconds(),
	}
	u, err := procstat.Read(h.proc.PID())
	if err != nil {
		return err
	}
	r.rep.SuccessorCPUSeconds = u.CPUSeconds
	r.rep.SuccessorPeakRSSBytes, err = procstat.PeakRSS(h.proc.PID())
	return err
}

// move lets a third process share the work, kills the second, and follows how its partitions move.
func (r *openRun) move(ctx context.Context) error {
	third, err := r.s.holder()
	if err != nil {
		return err
	}
	second := r.second
	defer func() { second.proc.Stop(5 * time.Second) }()
	r.second = third
	err = until(ctx, "wait until two processes share the partitions", 100*time.Millisecond, func() (bool, error) {
		a, err := second.state(ctx)
		if err != nil {
			return false, err
		}
		b, err := third.state(ctx)
		return a.open+b.open == int64(r.s.Sessions) && a.partitions+b.partitions == schemas.TelemetryPartitions &&
			b.partitions >= schemas.TelemetryPartitions/2 && max(a.lag, b.lag) < 2*time.Second, err
	})
	if err != nil {
		return err
	}
	killed, err := second.kill()
	if err != nil {
		return err
	}
	r.s.Logger.Info("one of two sessionisers is killed")
	err = until(ctx, "wait until its partitions have moved", 50*time.Millisecond, func() (bool, error) { return r.holds(ctx, third) })
	if err != nil {
		return err
	}
	held := time.Now()
	third.mu.Lock()
	defer third.mu.Unlock()
	r.rep.Move = Takeover{
		TakenSeconds: latest(third.taken).Sub(killed).Seconds(), RestoredSeconds: latest(third.reads).Sub(killed).Seconds(), HeldSeconds: held.Sub(killed).Seconds(),
	}
	return nil
}
