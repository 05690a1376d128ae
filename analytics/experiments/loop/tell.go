package loop

import (
	"context"
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

// tell posts a version of an experiment to its webhook, once. A hook that fails three times is not told of that
// version: the history has it.
func (l *loop) tell(ctx context.Context, e jetstream.KeyValueEntry) {
	x, err := schemas.ParseExperiment(e.Key(), e.Value())
	if err != nil || x.WebhookURL == "" || x.Status == schemas.ExperimentDraft {
		return
	}
	told := false
	if c, err := l.checks.Get(ctx, x.Name); err == nil {
		if old, err := schemas.ParseExperimentCheck(x.Name, c.Value()); err == nil {
			told = old.ToldRevision >= e.Revision()
		}
	}
	if told {
		return
	}
	n := Notice{x.Name, e.Revision(), e.Created().UTC(), x.Status, x.Coverage, x.Winner, x.ChangedBy, x.ChangeReason}
	err = webhook.Post(ctx, l.Client, x.WebhookURL, n)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		l.m.hookFailures.Inc()
		l.Logger.Error("the webhook of an experiment was not told", "experiment", x.Name, "revision", e.Revision(), "err", err)
	}
	if err := l.note(ctx, x.Name, func(c *schemas.ExperimentCheck) { c.ToldRevision = max(c.ToldRevision, e.Revision()) }); err != nil {
		l.Logger.Error("the check of an experiment cannot be stored", "experiment", x.Name, "err", err)
	}
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
