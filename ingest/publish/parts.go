package publish

import (
	"cmp"
	"slices"

	"github.com/spillway-live/spillway/analytics/experiments/assign"
	"github.com/spillway-live/spillway/schemas"
)

// partUs is the part target of a publication: that of the arm its stream is in, of
// the stream's settings, or the service's. Where two experiments give one, the first
// by name wins, as in routers.
func (s *Service) partUs(k schemas.StreamKey, app *schemas.AppSettings) int64 {
	var in []*schemas.Experiment
	for _, x := range s.running.All() {
		if x.Status == schemas.ExperimentRunning && x.Unit == schemas.UnitStream && x.Targeting.Match(k, "", "") {
			in = append(in, x)
		}
	}
	slices.SortFunc(in, func(a, b *schemas.Experiment) int { return cmp.Compare(a.Name, b.Name) })
	layers := map[string]bool{}
	for _, x := range in {
		i, _, ok := assign.Assign(x, k.String())
		if !ok || layers[x.Layer] {
			continue
		}
		layers[x.Layer] = true
		if ms := schemas.NumberParam(x.Arms[i].Params, schemas.ParamPartTargetMs); ms > 0 {
			return int64(1000 * ms)
		}
	}
	if ms := schemas.NumberParam(app.Params, schemas.ParamPartTargetMs); ms > 0 {
		return int64(1000 * ms)
	}
	return s.s.PartUs
}
