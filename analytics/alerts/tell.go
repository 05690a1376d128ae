package alerts

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/webhook"
)

// maxTelling bounds the webhooks that are posted to at once.
const maxTelling = 16

// tell starts to tell what was not told yet. A webhook that hangs keeps no rule waiting.
func (w *watch) tell(ctx context.Context, tellers *group) {
	changed := w.changes()
	byName := map[string]rules.Rule{}
	for _, r := range rules.All(changed) {
		byName[r.Name] = r
	}
	for key, e := range w.book.all {
		a := e.alert
		if a == nil || a.Told || a.State == schemas.AlertPending || len(w.telling) >= maxTelling {
			continue
		}
		if _, already := w.telling[key]; already {
			continue
		}
		n := note{key, a.State}
		w.telling[key] = n
		told, hook := *a, byName[a.Rule].Of(a.By, changed).WebhookURL
		tellers.Go(func() {
			if w.say(ctx, key, &told, hook) {
				select {
				case w.told <- n:
				case <-ctx.Done():
				}
				return
			}
			select { // not told: the next look tries again
			case w.told <- note{key: key}:
			case <-ctx.Done():
			}
		})
	}
}

// say publishes the event and posts to the webhook; false: the bus did not take the event.
func (w *watch) say(ctx context.Context, key string, a *schemas.Alert, hook string) bool {
	kind, at := schemas.EventAlertOpened, a.OpenedUs
	if a.State == schemas.AlertResolved {
		kind, at = schemas.EventAlertResolved, a.ResolvedUs
	}
	detail := map[string]string{"rule": a.Rule, "subject": a.Subject, "value": decimal(a.Value), "threshold": decimal(a.Threshold), "page": a.Page}
	if a.By != "" {
		detail["by"] = a.By
	}
	err := w.publish(ctx, &schemas.Event{
		ID: fmt.Sprintf("%s/%s/%d", kind, key, at), TimeUs: at, Kind: kind, App: a.App, Stream: a.Stream, CDN: a.CDN, Reason: a.Reason, Detail: detail,
	})
	if err != nil {
		w.Logger.Warn("an alert is not told yet", "rule", a.Rule, "subject", a.Subject, "err", err)
		return false
	}
	w.Logger.Warn("alert "+a.State, "rule", a.Rule, "subject", a.Subject, "reason", a.Reason)
	if hook == "" {
		return true
	}
	told := *a
	told.Told = false // says nothing to who is told
	if w.ConsoleURL != "" {
		told.Link = w.ConsoleURL + a.Page
	}
	if err := webhook.Post(ctx, w.Client, hook, &told); err != nil {
		if ctx.Err() != nil {
			return false
		}
		w.m.hookFailures.Inc()
		w.Logger.Error("the webhook was not told of an alert", "rule", a.Rule, "subject", a.Subject, "err", err)
	}
	return true
}

func (s *Settings) publish(ctx context.Context, e *schemas.Event) error {
	data, err := schemas.EncodeRecord(e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = s.JS.PublishMsg(ctx, &nats.Msg{Subject: schemas.EventSubject(e), Data: data}, jetstream.WithMsgID("e/"+e.ID))
	return err
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

type metrics struct {
	looks, hookFailures prometheus.Counter
	open                prometheus.Gauge
	failures            *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	name := func(n, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "spillway", Subsystem: "alerts", Name: n, Help: help}
	}
	m := &metrics{
		looks:        prometheus.NewCounter(prometheus.CounterOpts(name("looks_total", "Looks at all rules."))),
		hookFailures: prometheus.NewCounter(prometheus.CounterOpts(name("webhook_failures_total", "Alerts that a webhook was not told of."))),
		open:         prometheus.NewGauge(prometheus.GaugeOpts(name("open", "Alerts that are open."))),
		failures:     prometheus.NewCounterVec(prometheus.CounterOpts(name("unanswered_total", "Questions that were not answered, so that the rule was not judged.")), []string{"rule"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.looks, m.hookFailures, m.open, m.failures} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
