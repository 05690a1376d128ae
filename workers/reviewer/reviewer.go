// Package reviewer does what verdicts on pictures ask for: hide a stream, raise
// an alert, mark a recording, as the rules of the stream's application say
// (schemas.AppSettings.Review). Operators say what they see, never what follows.
//
// It promises that a verdict which the bus has taken has its effect once,
// however often it is delivered, and that one that is not understood is put
// aside with the reason. It leaves out models; docs/review has two operators to begin with.
package reviewer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/store"
)

// Role is the worker's role, durable consumer and dead-letter name.
const Role = "reviewer"

// Reviewer is the service. Fill in the fields and call Run.
type Reviewer struct {
	JetStream jetstream.JetStream
	// Store holds the recordings that are marked; nil: a rule that marks is told as an event without.
	Store      store.Objects
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Run does what verdicts ask for until ctx ends.
func (r *Reviewer) Run(ctx context.Context) error {
	reviews, err := registry.Open(ctx, r.JetStream, schemas.BucketReviews, schemas.ParseReviewState)
	if err != nil {
		return fmt.Errorf("%s: %w", Role, err)
	}
	apps := mirror.New(schemas.BucketApps, schemas.ParseAppSettings, r.Logger)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { _ = apps.Run(ctx, r.JetStream) }) // nil once ctx ends
	select {
	case <-apps.Ready():
	case <-ctx.Done():
		return nil
	}
	h := &handler{
		rules: func(k schemas.StreamKey) []schemas.ReviewRule { return schemas.SettingsOf(k, apps.Get).Review },
		hide: func(ctx context.Context, k schemas.StreamKey, v *schemas.Verdict, rule *schemas.ReviewRule) error {
			_, err := reviews.Edit(ctx, k.KVKey(), func(s *schemas.ReviewState, _ bool) error {
				if !s.Hide(v, rule) {
					return errSame
				}
				return nil
			})
			if errors.Is(err, errSame) {
				return nil
			}
			return err
		},
		store: r.Store,
	}
	return (&workers.Runner{
		JetStream: r.JetStream, Handler: workers.Each(h.handle), Role: Role, Stream: schemas.StreamVerdicts,
		Concurrency: 2, AckWait: 5 * time.Second, Logger: r.Logger, Registerer: r.Registerer,
	}).Run(ctx)
}

var errSame = errors.New("nothing changes")

// handler does the work of one verdict.
type handler struct {
	rules func(schemas.StreamKey) []schemas.ReviewRule
	hide  func(context.Context, schemas.StreamKey, *schemas.Verdict, *schemas.ReviewRule) error
	store store.Objects
}

func (h *handler) handle(ctx context.Context, m workers.Message) ([]workers.Output, error) {
	k, v, err := schemas.ParseVerdict(m.Subject, m.Data)
	if err != nil {
		return nil, workers.Reject(err)
	}
	rules := v.Rules(h.rules(k))
	if len(rules) == 0 {
		return nil, nil
	}
	var did []string
	var alert bool
	for i := range rules {
		rule := &rules[i]
		if rule.Hide {
			if err := h.hide(ctx, k, v, rule); err != nil {
				return nil, fmt.Errorf("hide %s: %w", k, err)
			}
			did = appendNew(did, "hide")
		}
		if rule.Mark && h.store != nil {
			if err := h.mark(ctx, k, v); err != nil {
				return nil, fmt.Errorf("mark the recording of %s: %w", k, err)
			}
			did = appendNew(did, "mark")
		}
		if rule.Alert {
			alert = true
			did = appendNew(did, "alert")
		}
	}
	return outputs(k, v, m.Seq, did, alert)
}

func appendNew(list []string, s string) []string {
	for _, x := range list {
		if x == s {
			return list
		}
	}
	return append(list, s)
}

// mark puts the verdict beside the recording, whose blocks are kept then.
func (h *handler) mark(ctx context.Context, k schemas.StreamKey, v *schemas.Verdict) error {
	b, err := json.Marshal(v)
	if err != nil {
		return workers.Reject(err)
	}
	for _, key := range archive.Marks(k, v.WallUnixUs, v.Label) {
		if err := h.store.Put(ctx, key, b); err != nil {
			return err
		}
	}
	return nil
}

// outputs are the events of a verdict that did something.
func outputs(k schemas.StreamKey, v *schemas.Verdict, seq uint64, did []string, alert bool) ([]workers.Output, error) {
	page := "/streams/" + k.String()
	events := []schemas.Event{{
		ID: "verdict/" + strconv.FormatUint(seq, 10), Kind: schemas.EventVerdict,
		Detail: map[string]string{
			"label": v.Label, "score": strconv.FormatFloat(v.Score, 'f', 3, 64), "model": v.Model,
			"wall_us": strconv.FormatInt(v.WallUnixUs, 10), "did": strings.Join(did, ","),
		},
	}}
	if alert {
		events = append(events, schemas.Event{
			ID: "verdict/" + strconv.FormatUint(seq, 10) + "/alert", Kind: schemas.EventAlertRaised,
			Detail: map[string]string{"rule": "review-" + v.Label, "page": page},
		})
	}
	var out []workers.Output
	for i := range events {
		e := &events[i]
		e.App, e.Stream, e.TimeUs = k.App, k.Stream, v.WallUnixUs
		e.Reason = fmt.Sprintf("%s says %s with a score of %.2f of the picture of %s", v.Model, v.Label, v.Score, time.UnixMicro(v.WallUnixUs).UTC().Format(time.TimeOnly))
		b, err := schemas.EncodeRecord(e)
		if err != nil {
			return nil, workers.Reject(err)
		}
		out = append(out, workers.Output{Subject: schemas.EventSubject(e), Data: b, MsgID: e.ID})
	}
	return out, nil
}
