package health

import "time"

// Failing is FailingIn of a CDN as a whole.
func (t *Table) Failing(cdn string, now time.Time) (is bool, since time.Time, probe float64) {
	in, since, probe := t.FailingIn(cdn, "", "", now)
	return in != "", since, probe
}

// Alone is AloneIn of a CDN as a whole.
func (t *Table) Alone(cdn string) bool { return t.AloneIn(cdn, "", "") != "" }
