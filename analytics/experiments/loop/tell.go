package loop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/webhook"
)

// Notice is what a webhook gets (HTTP POST, JSON) when an experiment changes.
type Notice struct {
	Experiment string    `json:"experiment"`
	Revision   uint64    `json:"revision"`
	At         time.Time `json:"at"`
	Status     string    `json:"status"`
	Coverage   float64   `json:"coverage"`
	Winner     string    `json:"winner,omitempty"`
	By         string    `json:"by"`
	Reason     string    `json:"reason"`
}

// maxPosts is how many webhooks are posted to at once; one that hangs keeps its place for half a minute.
const maxPosts = 8

// teller tells webhooks: of one experiment in order, of several at once.
type teller struct {
	posts chan struct{} // room for maxPosts
	wg    sync.WaitGroup

	mu sync.Mutex
	// busy are the experiments whose changes are being told; true: there are newer ones.
	busy map[string]bool
	// told is the newest revision told of by this process, also where it could not be noted.
	told map[string]uint64
}

func newTeller() *teller {
	return &teller{posts: make(chan struct{}, maxPosts), busy: map[string]bool{}, told: map[string]uint64{}}
}

// changed lets the webhook of an experiment be told of what is new, in the background: one that hangs keeps no guardrail
// waiting.
func (l *loop) changed(ctx context.Context, kv jetstream.KeyValue, name string) {
	t := l.teller
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, busy := t.busy[name]; busy {
		t.busy[name] = true
		return
	}
	t.busy[name] = false
	t.wg.Go(func() {
		for again := true; again; {
			if err := l.tellAll(ctx, kv, name); err != nil && ctx.Err() == nil {
				l.Logger.Error("what an experiment's webhook is to be told cannot be read or noted; trying again", "experiment", name, "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(l.Every):
				}
				t.mu.Lock()
				t.busy[name] = true
				t.mu.Unlock()
			}
			t.mu.Lock()
			if again = t.busy[name] && ctx.Err() == nil; again {
				t.busy[name] = false
			} else {
				delete(t.busy, name)
			}
			t.mu.Unlock()
		}
	})
}

// tellAll tells the webhook of every version since the last one it was told of, oldest first: of several changes in a
// row, and of those made while no experimenter ran. The bucket keeps 64 versions; older ones are not told.
func (l *loop) tellAll(ctx context.Context, kv jetstream.KeyValue, name string) error {
	told, err := l.toldRevision(ctx, name)
	if err != nil {
		return err
	}
	versions, err := kv.History(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	for _, e := range versions {
		if e.Revision() <= told || e.Operation() != jetstream.KeyValuePut {
			continue
		}
		x, err := schemas.ParseExperiment(name, e.Value())
		if err != nil || x.WebhookURL == "" || x.Status == schemas.ExperimentDraft {
			continue
		}
		if err := l.tell(ctx, x, e); err != nil {
			return err
		}
	}
	return nil
}

// toldRevision is the newest revision that the webhook of an experiment was told of, by this process or another.
func (l *loop) toldRevision(ctx context.Context, name string) (uint64, error) {
	l.teller.mu.Lock()
	told := l.teller.told[name]
	l.teller.mu.Unlock()
	e, err := l.checks.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return told, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read what was told: %w", err)
	}
	if c, err := schemas.ParseExperimentCheck(name, e.Value()); err == nil {
		told = max(told, c.ToldRevision)
	}
	return told, nil
}

// tell posts a version of an experiment to its webhook and notes that. A hook that fails three times is not told of that
// version: the history has it.
func (l *loop) tell(ctx context.Context, x *schemas.Experiment, e jetstream.KeyValueEntry) error {
	select {
	case l.teller.posts <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	n := Notice{x.Name, e.Revision(), e.Created().UTC(), x.Status, x.Coverage, x.Winner, x.ChangedBy, x.ChangeReason}
	err := webhook.Post(ctx, l.Client, x.WebhookURL, n)
	<-l.teller.posts
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		l.m.hookFailures.Inc()
		l.Logger.Error("the webhook of an experiment was not told", "experiment", x.Name, "revision", e.Revision(), "err", err)
	}
	l.teller.mu.Lock()
	l.teller.told[x.Name] = e.Revision()
	l.teller.mu.Unlock()
	if err := l.note(ctx, x.Name, func(c *schemas.ExperimentCheck) { c.ToldRevision = max(c.ToldRevision, e.Revision()) }); err != nil {
		return fmt.Errorf("note what was told: %w", err)
	}
	return nil
}

type metrics struct {
	looks, stops, hookFailures prometheus.Counter
	held                       *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "experimenter", Name: name, Help: help})
	}
	m := &metrics{
		looks: counter("looks_total", "looks at running experiments"), stops: counter("stops_total", "experiments stopped by a guardrail"),
		hookFailures: counter("webhook_failures_total", "changes that a webhook was not told of"),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "experimenter", Name: "held_total",
			Help: "looks that judged nothing, because data was old or missing"}, []string{"experiment"}),
	}
	if reg != nil {
		reg.MustRegister(m.looks, m.stops, m.hookFailures, m.held)
	}
	return m
}
