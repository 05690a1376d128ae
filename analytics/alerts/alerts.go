// Package alerts watches the pipeline by rules: it asks ClickHouse and the bus
// every few seconds, keeps at most one alert for each rule and subject in the
// bucket alerts, and tells when one opens and when it is over, by an event and a
// webhook. It also tells, as events, what walls mark and draw: changes and faults
// of CDNs, and how far consumers of the bus are behind.
//
// One process of all does the work (a lease). What is open lies in the bucket, so
// that neither a restart nor another process tells it again. When a rules'
// question is not answered, its alerts stay as they are.
package alerts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/lease"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/webhook"
)

// Settings of the role. JS, Conn and ClickHouse are required.
type Settings struct {
	JS         jetstream.JetStream
	Conn       *nats.Conn
	ClickHouse driver.Conn // as who may read; its database is the schema's
	// Every is the time between looks, default 10 s.
	Every      time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// ConsoleURL is how people reach the console, for links in webhooks; empty: they hold paths alone.
	ConsoleURL string
	// Client posts to webhooks; default webhook.Client.
	Client *http.Client
	Now    func() time.Time
}

// QueryTimeout bounds one question to ClickHouse.
const QueryTimeout = 10 * time.Second

// Run takes part until ctx ends.
func (s Settings) Run(ctx context.Context) error {
	s.Every = cmp.Or(s.Every, 10*time.Second)
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	s.ConsoleURL = strings.TrimSuffix(s.ConsoleURL, "/")
	if s.Client == nil {
		s.Client = webhook.Client()
	}
	m, err := newMetrics(s.Registerer)
	if err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	kv, err := schemas.OpenBucket(ctx, s.JS, schemas.BucketAlerts)
	if err != nil {
		return err
	}
	ledger, err := schemas.OpenBucket(ctx, s.JS, schemas.BucketLedger)
	if err != nil {
		return err
	}
	changed := mirror.New(schemas.BucketAlertRules, schemas.ParseAlertRule, s.Logger)
	ctx, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() { defer close(followed); _ = changed.Run(ctx, s.JS) }()
	defer func() { stop(); <-followed }()
	work := func(ctx context.Context, _ string) error {
		w := &watch{Settings: s, kv: kv, changed: changed, m: m, raised: newRaised(), hung: map[string]time.Time{}, patience: QueryTimeout}
		return w.run(ctx)
	}
	return lease.Pool{KV: ledger, Role: "alerts", Names: []string{"look"}, Work: work, Conn: s.Conn, Logger: s.Logger}.Run(ctx)
}

// watch is one holding of the lease.
type watch struct {
	Settings
	kv      jetstream.KeyValue
	changed *mirror.Table[*schemas.AlertRule]
	m       *metrics
	book    *book
	bus     busFacts
	raised  *raised
	told    chan note // what tellers have finished with
	telling map[string]note
	// answered is when ClickHouse answered last, took how long each question took, ms.
	answered time.Time
	took     map[string]float64
	hung     map[string]time.Time // when ClickHouse last let a rule's question wait to its end
	patience time.Duration        // with one question to ClickHouse
	minute   time.Time            // of the newest bus_state
}

// run looks at intervals until ctx ends.
func (w *watch) run(ctx context.Context) error {
	var err error
	if w.book, err = openBook(ctx, w.kv); err != nil {
		return err
	}
	select {
	case <-w.changed.Ready():
	case <-ctx.Done():
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	tellers := newGroup()
	defer func() { stop(); tellers.Wait() }()
	w.told, w.telling, w.took, w.answered = make(chan note), map[string]note{}, map[string]float64{}, w.Now()
	failed := make(chan error, 2)
	tellers.Go(func() { failed <- w.follow(ctx) })
	tellers.Go(func() { failed <- w.raised.follow(ctx, w.JS, w.Now) })
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	select { // else the first look cannot judge what others raised
	case <-w.raised.ready:
	case <-tick.C:
	case <-ctx.Done():
	}
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		w.tell(ctx, tellers)
	wait:
		for {
			select {
			case <-ctx.Done():
				return nil
			case err := <-failed:
				if ctx.Err() == nil {
					return err
				}
			case n := <-w.told:
				delete(w.telling, n.key)
				if err := w.book.markTold(ctx, n); err != nil {
					return err
				}
			case <-tick.C:
				break wait
			}
		}
	}
}

// look asks every rule's question and stores what became of its alerts.
func (w *watch) look(ctx context.Context) error {
	now := w.Now()
	all := w.changes()
	if err := w.bus.read(ctx, w.JS, now); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		w.m.failures.WithLabelValues("bus").Inc()
		w.Logger.Warn("the bus does not say how far its consumers are; trying again", "err", err)
	}
	if err := w.judgeAll(ctx, all, now); err != nil || ctx.Err() != nil {
		return err
	}
	w.book.forget(now)
	w.m.looks.Inc()
	w.m.open.Set(float64(w.book.open()))
	w.tellBus(ctx, now)
	return nil
}

// judgeAll asks the questions one after another. Once ClickHouse has let one wait to its end, the others of this look
// are not asked: they would wait as long, and the rules over the bus with them.
func (w *watch) judgeAll(ctx context.Context, all map[string]*schemas.AlertRule, now time.Time) error {
	hangs := false
	for _, r := range inOrder(rules.All(all), w.hung) {
		at := now
		if r.Name == queries.AlertClickHouseAway {
			at = w.Now() // not when the bus was asked
		}
		if hangs && asksClickHouse(&r) {
			w.m.failures.WithLabelValues(r.Name).Inc()
			continue
		}
		rows, err := w.rows(ctx, &r, at)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if timedOut(err) && asksClickHouse(&r) {
				hangs, w.hung[r.Name] = true, w.Now()
			}
			w.m.failures.WithLabelValues(r.Name).Inc()
			w.Logger.Warn("a rule is not judged: its question was not answered", "rule", r.Name, "err", err, "others_skipped", hangs)
			continue
		}
		if err := w.judge(ctx, &r, all, rows, at); err != nil {
			return err
		}
	}
	return nil
}

// maxSubjects bounds the alerts of one rule: a fault of everything is one fault.
const maxSubjects = 200

// changes are the entries of operators, by key.
func (w *watch) changes() map[string]*schemas.AlertRule {
	all := map[string]*schemas.AlertRule{}
	for name, r := range w.changed.All() {
		all[name] = r
	}
	return all
}

// judge brings the alerts of a rule up to date.
func (w *watch) judge(ctx context.Context, r *rules.Rule, changed map[string]*schemas.AlertRule, rows []rules.Row, now time.Time) error {
	for subject, row := range w.book.subjects(r, changed, rows) {
		key := schemas.AlertKey(r.Name, subject)
		old := w.book.get(key)
		own := r.Of(raisedBy(old, row), changed)
		next, store := own.Next(old, row, now)
		if !store {
			continue
		}
		if err := w.book.put(ctx, key, next); err != nil {
			return err
		}
	}
	return nil
}

// subjects are those whose alerts rows can change, with their rows (nil: none): all with an alert that is not over,
// and bad ones without, of these only as many as fit into maxSubjects. Good rows, of which there may be any number,
// take nobody's place.
func (b *book) subjects(r *rules.Rule, changed map[string]*schemas.AlertRule, rows []rules.Row) map[string]*rules.Row {
	seen := map[string]*rules.Row{}
	for _, a := range b.of(r.Name) {
		seen[a.Subject] = nil
	}
	for i := range rows {
		row := &rows[i]
		if _, known := seen[row.Subject]; !known {
			if own := r.Of(row.By, changed); len(seen) >= maxSubjects || !own.Bad(row, false) {
				continue
			}
		}
		seen[row.Subject] = row
	}
	return seen
}

// raisedBy is the rule of whoever raised an alert, empty for our own.
func raisedBy(old *schemas.Alert, row *rules.Row) string {
	if row != nil {
		return row.By
	}
	if old != nil {
		return old.By
	}
	return ""
}

var errOvertaken = errors.New("another process stored an alert first: reading them again")
