package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/bus"
)

// Roles of telemetry whose processes are killed, beside the bus and ClickHouse.
const (
	Collector   = "collector"
	Bus         = "bus"
	Sessioniser = "sessioniser"
	Loader      = "loader"
	ClickHouse  = "clickhouse"
)

// TelemetrySettings of a run that kills what telemetry goes through: collectors, the bus, sessionisers, loaders and
// ClickHouse.
type TelemetrySettings struct {
	// Binary is the spillway program. Required.
	Binary string
	// Dir is an empty directory for bus, ClickHouse, spools and logs; the caller removes it. Required.
	Dir string
	// SecretsFile is a file of secrets for every process; Signer signs tokens with them, and EdgeKey is theirs. Required.
	SecretsFile string
	Signer      *token.Signer
	EdgeKey     string
	// NewReporter makes what sends an ingest's rows about publishers. Required.
	NewReporter func(jetstream.JetStream) (Reporter, error)
	// BusDisk says that Dir/data/nats is a small file system of its own, which may be filled to the last byte.
	BusDisk bool
	// Kills is how many processes are killed; 300 when 0.
	Kills int
	// TakeoverOnly kills sessionisers and loaders alone, without faults, to see how fast others take over.
	TakeoverOnly bool
	// Seed chooses roles, moments, pauses and faults; the same seed gives the same plan.
	Seed uint64
	// Between is the longest time from one kill to the next; 7 s when 0. The least is a quarter of it.
	Between time.Duration
	// EventsPerSecond of all players together; 1,500 when 0. Players is how many play at once; 150 when 0.
	EventsPerSecond, Players int
	// Collectors, Sessionisers and Loaders are the processes of each role; 2 when 0.
	Collectors, Sessionisers, Loaders int
	Logger                            *slog.Logger
}

func (s *TelemetrySettings) defaults() error {
	set(&s.Kills, 300)
	set(&s.Between, 7*time.Second)
	set(&s.EventsPerSecond, 1500)
	set(&s.Players, 150)
	set(&s.Collectors, 2)
	set(&s.Sessionisers, 2)
	set(&s.Loaders, 2)
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Binary == "" || s.Dir == "" || s.SecretsFile == "" || s.Signer == nil || s.EdgeKey == "" || s.NewReporter == nil {
		return errors.New("chaos: Binary, Dir, SecretsFile, Signer, EdgeKey and NewReporter are required")
	}
	if s.Kills < 1 || s.Kills > 10_000 {
		return fmt.Errorf("%d kills: choose 1 to 10000", s.Kills)
	}
	if s.EventsPerSecond < 1 || s.EventsPerSecond > 100_000 || s.Players < 1 || s.Players > 10_000 {
		return fmt.Errorf("%d events/s of %d players: choose 1 to 100000 and 1 to 10000", s.EventsPerSecond, s.Players)
	}
	if s.Collectors < 1 || s.Sessionisers < 1 || s.Loaders < 1 {
		return errors.New("run at least one collector, sessioniser and loader")
	}
	return nil
}

// telemetryRun is one run.
type telemetryRun struct {
	s     TelemetrySettings
	log   *slog.Logger
	began time.Time
	stack telemetryStack
	found *findings
	crowd *crowd
	wire  *wire
	js    jetstream.JetStream

	kills   map[string]int
	faults  map[string]int
	spooled atomic.Int64 // most bytes in spools
	told    atomic.Int64 // rows about publishers that ingest has told
	hand    handover
}

// watchSpools notes how much collectors keep on their own disks, until ctx ends.
func (r *telemetryRun) watchSpools(ctx context.Context) {
	for nap.For(ctx, 200*time.Millisecond) == nil {
		sum := int64(0)
		files, _ := filepath.Glob(filepath.Join(r.s.Dir, Collector+"-*", "spool", "*"))
		for _, f := range files {
			if st, err := os.Stat(f); err == nil && st.Mode().IsRegular() {
				sum += st.Size()
			}
		}
		r.spooled.Store(max(r.spooled.Load(), sum))
	}
}

// RunTelemetry does it all and gives the report, also of a run that failed checks ([TelemetryReport.Failures]). The
// error says why a run could not be done.
func RunTelemetry(ctx context.Context, s TelemetrySettings) (*TelemetryReport, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &telemetryRun{s: s, log: s.Logger, began: time.Now(), found: &findings{}, kills: map[string]int{}, faults: map[string]int{}}
	defer r.stack.stop()
	explain := func(err error) error { return fmt.Errorf("%w\n%s", err, r.stack.tails()) }
	if err := r.stack.start(ctx, &r.s); err != nil {
		return nil, explain(err)
	}
	nc, err := bus.Connect(r.stack.nats, "chaos", r.log)
	if err != nil {
		return nil, explain(err)
	}
	defer nc.Close()
	if r.js, err = bus.JetStream(ctx, nc, schemas.BusSettings{}); err != nil {
		return nil, explain(err)
	}
	if err := r.hand.follow(ctx, r.js); err != nil {
		return nil, explain(err)
	}
	r.wire = newWire(r.js, r.s.Seed, r.log)
	following, stopFollowing := context.WithCancel(ctx)
	defer stopFollowing()
	wireDone := make(chan struct{})
	go func() { defer close(wireDone); r.wire.follow(following) }()

	r.crowd = newCrowd(&r.s, r.stack.collectorURLs())
	playing, stopPlaying := context.WithCancel(ctx)
	defer stopPlaying()
	go r.watchSpools(playing)
	if err := r.ingest(ctx, playing, r.js, &r.told); err != nil {
		return nil, explain(err)
	}
	crowdDone := make(chan error, 2)
	go func() { crowdDone <- r.crowd.run(playing) }()
	go func() { crowdDone <- r.crowd.apps(playing) }()

	if err := r.killAll(ctx); err != nil {
		return nil, explain(err)
	}
	stopPlaying() // players say goodbye and post what is left
	r.log.Info("players leave; waiting until all is accounted for")
	for range cap(crowdDone) {
		if err := <-crowdDone; err != nil {
			return nil, explain(err)
		}
	}
	rep, err := r.balance(ctx)
	if err != nil {
		return nil, explain(err)
	}
	stopFollowing()
	<-wireDone
	if len(rep.Failures) > 0 {
		rep.Logs = r.stack.tails()
	}
	return rep, nil
}
