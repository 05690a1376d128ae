// Package chaos kills processes under load and checks that nothing is lost: of the media plane (Run) and of
// telemetry (RunTelemetry).
//
// Media: it runs the real program, one process for each role, with publishers and viewers; kills one process after the
// other with SIGKILL, at random moments, and starts each again after a pause. All the while it reads what the bus
// acknowledged (the truth) and, at every origin by itself, every part and segment of every playlist. It promises
// to find each name with two contents, each part that is missing, doubled, out of order or other than the truth,
// each playlist that breaks the rules, and each stall of a viewer. It leaves out the bus itself, which is one
// server here: losing it is another test.
//
// Telemetry: bus and ClickHouse are killed too, disks are full and clocks jump. It promises to find each event that
// was accepted and is not in the raw table, each that is there more often than it was accepted, and each roll-up
// whose sums are not those of the slices or raw rows it is made of.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Settings of a run.
type Settings struct {
	// Binary is the spillway program. Required.
	Binary string
	// Dir is an empty directory for the bus and logs; the caller removes it. Required.
	Dir string
	// Clip is what publishers send in a loop: FLV, H.264 and AAC. Required.
	Clip string
	// Kills is how many processes are killed; 50 when 0.
	Kills int
	// Seed chooses roles, moments and pauses; the same seed gives the same plan.
	Seed uint64
	// Publishers and Viewers are at once; 6 publishers and one viewer for each of them when 0.
	Publishers, Viewers int
	// Renditions is how many of the streams have a rung; 2 when 0, none when negative.
	Renditions int
	// Ingests, Packagers, Origins and Transcoders are the processes of each role; 3, 3, 2 and 2 when 0.
	Ingests, Packagers, Origins, Transcoders int
	// Between is the longest time from one kill to the next; 6 s when 0. The least is a quarter of it.
	Between time.Duration
	Logger  *slog.Logger
}

const (
	settle    = 5 * time.Second // after the last restart, before the end
	startWait = 60 * time.Second
)

func (s *Settings) defaults() error {
	set(&s.Kills, 50)
	set(&s.Publishers, 6)
	set(&s.Viewers, s.Publishers)
	set(&s.Renditions, 2)
	set(&s.Ingests, 3)
	set(&s.Packagers, 3)
	set(&s.Origins, 2)
	set(&s.Transcoders, 2)
	set(&s.Between, 6*time.Second)
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Binary == "" || s.Dir == "" || s.Clip == "" {
		return errors.New("chaos: Binary, Dir and Clip are required")
	}
	if s.Kills < 1 || s.Kills > 10_000 {
		return fmt.Errorf("%d kills: choose 1 to 10000", s.Kills)
	}
	if s.Publishers < 1 || s.Publishers > 200 || s.Viewers < 1 || s.Viewers > 1000 {
		return fmt.Errorf("%d publishers and %d viewers: choose 1 to 200 and 1 to 1000", s.Publishers, s.Viewers)
	}
	if s.Ingests < 2 || s.Origins < 2 || s.Packagers < 1 || s.Transcoders < 1 {
		return errors.New("a killed ingest or origin needs another of its role: run at least two")
	}
	s.Renditions = min(max(s.Renditions, 0), s.Publishers)
	return nil
}

func set[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run does it all and gives the report, also of a run that failed checks ([Report.Failures]). The error says why
// a run could not be done.
func Run(ctx context.Context, s Settings) (*Report, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{s: s, log: s.Logger, began: time.Now(), found: &findings{}}
	defer r.stack.stop()
	if err := r.stack.start(ctx, &r.s); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.stack.tails())
	}
	if err := r.watch(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.stack.tails())
	}
	if err := r.killAll(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.stack.tails())
	}
	rep := r.end()
	if len(rep.Failures) > 0 {
		rep.Logs = r.stack.tails()
	}
	return rep, nil
}

// Write writes what failed, with the ends of the processes' logs.
func (r *Report) Write(w io.Writer) {
	for _, f := range r.Failures {
		fmt.Fprintln(w, f)
	}
	if r.Logs != "" {
		fmt.Fprintln(w, r.Logs)
	}
}
