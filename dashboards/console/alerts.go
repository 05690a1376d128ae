package console

import (
	"errors"
	"slices"

	"github.com/spillway-live/spillway/schemas"
)

var errTooLong = errors.New("a session's id has at most 200 bytes")

// maxAlerts bounds what a page shows.
const maxAlerts = 500

// alertViews gives the alerts that are open, then those that are over, newest first.
func (st *store) alertViews() []*schemas.Alert {
	out := []*schemas.Alert{}
	for _, a := range st.alerts.All() {
		if a.State != schemas.AlertPending {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *schemas.Alert) int {
		if (a.State == schemas.AlertOpen) != (b.State == schemas.AlertOpen) {
			if a.State == schemas.AlertOpen {
				return -1
			}
			return 1
		}
		return int(max(b.OpenedUs, b.ResolvedUs) - max(a.OpenedUs, a.ResolvedUs))
	})
	return out[:min(len(out), maxAlerts)]
}
