package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// Arms that move load which they share are warned of, everywhere a reader looks; others, and blocks, are not.
func TestInterference(t *testing.T) {
	for name, c := range map[string]struct {
		params map[string]string
		unit   string
		want   bool
	}{
		"policy":       {map[string]string{schemas.ParamPolicy: "mine"}, schemas.UnitViewer, true},
		"overflow":     {map[string]string{"overflow_at": "0.8"}, schemas.UnitSession, true},
		"player":       {map[string]string{"live_sync_duration_s": "2"}, schemas.UnitViewer, false},
		"blocks route": {map[string]string{schemas.ParamPolicy: "mine"}, schemas.UnitBlock, false},
	} {
		x := experiment("x")
		x.Unit, x.Arms[1].Params = c.unit, c.params
		r := made("plain")
		r.Experiment = *x
		r.Health = r.health(&units{}, false)
		if got := r.Health.Interference != ""; got != c.want {
			t.Errorf("%s: interference %q, want a warning: %v", name, r.Health.Interference, c.want)
		}
		var text, page bytes.Buffer
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "share the CDNs' capacity") != c.want || strings.Contains(page.String(), `id="interference"`) != c.want {
			t.Errorf("%s: the warning must be in text and page: %v", name, c.want)
		}
	}
}
