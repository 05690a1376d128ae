package collect

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/cmcd"
)

type metrics struct {
	requests *prometheus.CounterVec // path, code
	rows     *prometheus.CounterVec // source
	rejected *prometheus.CounterVec // reason
	issues   *prometheus.CounterVec // key, reason, client
	fixes    *prometheus.CounterVec // fix, client
	tokens   *prometheus.CounterVec // result
	shed     prometheus.Counter
	repeated prometheus.Counter
	tally    *tally // of this collector alone; the vectors are shared by those of a process
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "collect", Name: name, Help: help}, labels)
	}
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "collect", Name: name, Help: help})
	}
	m := &metrics{
		tally:    newTally(time.Now()),
		requests: vec("requests_total", "Requests answered, by path and status code.", "path", "code"),
		rows:     vec("accepted_rows_total", "Rows accepted, by source.", "source"),
		rejected: vec("rejected_records_total", "Records of which nothing was kept, by reason.", "reason"),
		issues:   vec("dropped_members_total", "Members dropped from records that were kept, by key, reason and player.", "key", "reason", "client"),
		fixes:    vec("corrected_values_total", "Values dropped as implausible or as a known mistake of the player, by name and player.", "name", "client"),
		tokens:   vec("tokens_total", "Session tokens seen, by result: good, expired, bad, absent.", "result"),
		shed:     count("shed_rows_total", "Rows that were not accepted for lack of room, and answered so."),
		repeated: count("repeated_lines_total", "Log lines of edges that had been accepted before."),
	}
	if reg == nil {
		return m, nil
	}
	var err error
	m.requests = shared(reg, m.requests, &err)
	m.rows = shared(reg, m.rows, &err)
	m.rejected = shared(reg, m.rejected, &err)
	m.issues = shared(reg, m.issues, &err)
	m.fixes = shared(reg, m.fixes, &err)
	m.tokens = shared(reg, m.tokens, &err)
	m.shed = shared(reg, m.shed, &err)
	m.repeated = shared(reg, m.repeated, &err)
	return m, err
}

// shared registers c, or gives the one registered before: several collectors of one process count together.
func shared[C prometheus.Collector](reg prometheus.Registerer, c C, err *error) C {
	e := reg.Register(c)
	var dup prometheus.AlreadyRegisteredError
	if errors.As(e, &dup) {
		if old, ok := dup.ExistingCollector.(C); ok {
			return old
		}
	}
	*err = errors.Join(*err, e)
	return c
}

func (m *metrics) request(path string, code int) {
	m.requests.WithLabelValues(path, strconv.Itoa(code)).Inc()
}

func (m *metrics) accepted(source string, n int) {
	m.rows.WithLabelValues(source).Add(float64(n))
	m.tally.add("accepted."+source, n)
}

func (m *metrics) reject(reason string, n int) {
	m.rejected.WithLabelValues(reason).Add(float64(n))
	m.tally.add("rejected."+reason, n)
}

func (m *metrics) shedRows(n int) {
	m.shed.Add(float64(n))
	m.tally.add("shed", n)
}

func (m *metrics) repeatedLine() {
	m.repeated.Inc()
	m.tally.add("repeated", 1)
}

// record counts what a CMCD record lost.
func (m *metrics) record(r *cmcd.Record, fixes cmcd.Fixes) {
	for _, i := range r.Issues() {
		m.issues.WithLabelValues(i.Key.String(), i.Reason.String(), r.Player.String()).Inc()
	}
	if r.MoreIssues > 0 {
		m.issues.WithLabelValues("more", "more", r.Player.String()).Add(float64(r.MoreIssues))
	}
	if r.UnknownKeys > 0 {
		m.issues.WithLabelValues(cmcd.Unknown.String(), "unknown_key", r.Player.String()).Add(float64(r.UnknownKeys))
	}
	for f := range fixes.All() {
		m.fixes.WithLabelValues(f.String(), r.Player.String()).Inc()
	}
}
