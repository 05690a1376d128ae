package alerts

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
)

// ruleOf gives a rule as it comes.
func ruleOf(t *testing.T, name string) *rules.Rule {
	t.Helper()
	for _, r := range rules.All(nil) {
		if r.Name == name {
			return &r
		}
	}
	t.Fatalf("no rule %s", name)
	return nil
}

// TestManyRows: however many good rows a question gives, and in whatever order, the bad one is judged, and so is
// whoever has an alert; the alerts of one rule stay bounded.
func TestManyRows(t *testing.T) {
	r := ruleOf(t, queries.AlertPublisher)
	row := func(i int, fps float64) rules.Row {
		return rules.Row{Subject: fmt.Sprintf("live/%d", i), Value: fps, Weight: 9, Past: 30, Others: math.NaN()}
	}
	var rows []rules.Row
	for i := range 300 {
		rows = append(rows, row(i, 25))
	}
	rows[270].Value = 0
	b := &book{all: map[string]entry{}}
	if seen := b.subjects(r, nil, rows); len(seen) != 1 || seen["live/270"] != &rows[270] {
		t.Fatalf("of 300 rows, the 271st bad: %v", seen)
	}
	stand := func(subject, state string) {
		b.all[schemas.AlertKey(r.Name, subject)] = entry{&schemas.Alert{Rule: r.Name, Subject: subject, State: state}, 1}
	}
	stand("live/280", schemas.AlertOpen)
	stand("live/281", schemas.AlertPending)
	stand("live/282", schemas.AlertResolved)
	stand("gone", schemas.AlertOpen)
	seen := b.subjects(r, nil, rows)
	if _, has := seen["gone"]; !has || seen["gone"] != nil || seen["live/280"] != &rows[280] || seen["live/281"] != &rows[281] || len(seen) != 4 {
		t.Errorf("with alerts that stand: %v", seen)
	}

	// A thousand are bad: as many alerts as are allowed, the same at each look, and those that stand are among them.
	rows = nil
	for i := range 1000 {
		rows = append(rows, row(i, 0))
	}
	stand("live/999", schemas.AlertOpen)
	for range 2 {
		seen = b.subjects(r, nil, rows)
		if len(seen) != maxSubjects || seen["live/999"] != &rows[999] {
			t.Fatalf("of 1000 bad rows %d are judged, the one with an open alert: %v", len(seen), seen["live/999"])
		}
		for subject, row := range seen {
			if next, store := r.Next(b.get(schemas.AlertKey(r.Name, subject)), row, time.Unix(1, 0)); store {
				b.all[schemas.AlertKey(r.Name, subject)] = entry{next, 1}
			}
		}
	}
}

// TestManyRaised: what is raised under a rule that operators disabled takes nobody's place either.
func TestManyRaised(t *testing.T) {
	r := ruleOf(t, queries.AlertRaised)
	noise := map[string]*schemas.AlertRule{"raised-noise": {Name: "raised-noise", Disabled: true}}
	var rows []rules.Row
	for i := range 250 {
		rows = append(rows, rules.Row{Subject: fmt.Sprint("noise ", i), By: "noise", Value: 1, Weight: 1})
	}
	rows = append(rows, rules.Row{Subject: "review a", By: "review", Value: 1, Weight: 1})
	b := &book{all: map[string]entry{}}
	if seen := b.subjects(r, noise, rows); len(seen) != 1 || seen["review a"] == nil {
		t.Errorf("%v", seen)
	}
}
