// Package rules says when an alert opens and when it is over: pure functions of
// rows and times. It does no I/O; package alerts asks and tells.
package rules

import (
	"math"
	"time"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
)

// Row is one subject as a rule's question shows it now.
type Row struct {
	Subject, App, Stream, CDN string
	Value, Weight             float64
	// Past and Others are what the value is compared with; NaN: not known.
	Past, Others float64
	// Says is why, where the row itself tells it; empty: the rule's own words.
	Says string
	// Page is the console's page, where the row itself tells it.
	Page string
	// By is the rule of whoever raised it; empty: it is this process's own.
	By string
}

// Rule is a rule as operators have set it.
type Rule struct {
	queries.Alert
	Disabled   bool
	WebhookURL string
}

// All gives every rule, with what operators changed (entries of the bucket
// alertrules by name) in it.
func All(changed map[string]*schemas.AlertRule) []Rule {
	defaults := changed[schemas.AlertRuleDefaults]
	if defaults == nil {
		defaults = &schemas.AlertRule{}
	}
	var out []Rule
	for _, a := range queries.Alerts() {
		own := changed[a.Name]
		if own == nil {
			own = &schemas.AlertRule{}
		}
		r := Rule{Alert: a}
		r.take(defaults)
		r.take(own)
		if own.Threshold > 0 {
			r.Threshold = own.Threshold
		}
		if own.Factor > 0 && r.Factor > 0 {
			r.Factor = own.Factor
		}
		out = append(out, r)
	}
	return out
}

// take changes what holds for any rule: whether it is asked, its webhook and times.
func (r *Rule) take(c *schemas.AlertRule) {
	r.Disabled = r.Disabled || c.Disabled
	if c.WebhookURL != "" {
		r.WebhookURL = c.WebhookURL
	}
	if c.ForSec > 0 {
		r.For = time.Duration(c.ForSec) * time.Second
	}
	if c.ClearSec > 0 {
		r.Clear = time.Duration(c.ClearSec) * time.Second
	}
}

// Of gives the rule as it holds for what was raised under a rule of others: with
// what operators changed in the entry raised-NAME. Without by it is the rule itself.
func (r Rule) Of(by string, changed map[string]*schemas.AlertRule) Rule {
	if own := changed[schemas.AlertRuleRaised+by]; by != "" && own != nil {
		r.take(own)
	}
	return r
}

// margin is how much of a threshold a value must fall back before an open alert
// counts as quiet: what stays near the threshold is not told again and again.
const margin = 0.7

// Bad says whether a row is bad; open, whether the subject's alert is open already.
func (r *Rule) Bad(row *Row, open bool) bool {
	if row == nil || r.Disabled || row.Weight < r.MinWeight || math.IsNaN(row.Value) {
		return false
	}
	m := 1.0
	if open {
		m = margin
	}
	if r.Below {
		return row.Value < r.Threshold/m
	}
	if row.Value < r.Threshold*m {
		return false
	}
	if r.Factor == 0 || math.IsNaN(row.Past) && math.IsNaN(row.Others) {
		return true
	}
	f := max(r.Factor*m, 1)
	return row.Value >= f*row.Past || row.Value >= f*row.Others // comparisons with NaN are false
}

// seenEvery is how often an alert that only goes on is stored again.
const seenEvery = time.Minute

// Next is what becomes of a subject's alert: old is the stored one (nil: none),
// row what the question shows (nil: nothing of the subject), store whether the
// result differs enough to be stored. A nil result with store removes the entry.
func (r *Rule) Next(old *schemas.Alert, row *Row, now time.Time) (next *schemas.Alert, store bool) {
	us := now.UnixMicro()
	open := old != nil && old.State == schemas.AlertOpen
	bad := r.Bad(row, open)
	switch {
	case (old == nil || old.State == schemas.AlertResolved) && !bad:
		return old, false
	case old == nil || old.State == schemas.AlertResolved:
		a := &schemas.Alert{Rule: r.Name, Subject: row.Subject, State: schemas.AlertPending, SinceUs: us}
		r.fill(a, row, us)
		r.opens(a, us)
		return a, true
	case old.State == schemas.AlertPending && !bad:
		return nil, true
	}
	a := *old
	if bad {
		store = a.QuietUs != 0 || us-a.SeenUs >= seenEvery.Microseconds()
		a.QuietUs = 0
		r.fill(&a, row, us)
		return &a, r.opens(&a, us) || store
	}
	if a.QuietUs == 0 {
		a.QuietUs, store = us, true
	}
	if us-a.QuietUs >= r.Clear.Microseconds() || r.Disabled {
		a.State, a.ResolvedUs, a.Told, store = schemas.AlertResolved, us, false, true
	}
	return &a, store
}

// opens opens an alert whose condition has held for long enough.
func (r *Rule) opens(a *schemas.Alert, us int64) bool {
	if a.State != schemas.AlertPending || us-a.SinceUs < r.For.Microseconds() {
		return false
	}
	a.State, a.OpenedUs, a.Told = schemas.AlertOpen, us, false
	return true
}

// fill takes over what a row shows.
func (r *Rule) fill(a *schemas.Alert, row *Row, us int64) {
	a.App, a.Stream, a.CDN, a.By = row.App, row.Stream, row.CDN, row.By
	a.Value, a.Threshold, a.Unit, a.SeenUs = min(row.Value, math.MaxFloat64), r.Threshold, r.Unit, us // JSON has no infinity
	a.Reason, a.Page = row.Says, row.Page
	if a.Reason == "" {
		a.Reason = r.says(row)
	}
	if a.Page == "" {
		a.Page = r.page(row)
	}
}
