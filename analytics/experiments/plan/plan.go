// Package plan says how large an experiment must be, and refuses one that cannot find what it asks for.
//
// It is pure. Its figures hold for the primary metric as planned: a two-sided comparison of one arm with the control
// at the end of the run, at Alpha divided by the number of further arms, each of which may win. Methods: docs/experiments.md.
package plan

import (
	"fmt"
	"math"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Defaults of what an experiment leaves out.
const (
	Alpha = 0.05
	Power = 0.8
)

// Size is what an experiment needs and gets.
type Size struct {
	// Needed is the units of control and the smallest further arm together that find the planned effect.
	Needed float64
	// Expected is the units that come to those two arms within the planned days.
	Expected float64
	// Days the experiment takes at the expected traffic, in whole weeks; 0 when it takes more than ten years.
	Days int
	// Found is the smallest lift that the planned days find; +Inf: none.
	Found float64
}

// Of computes the size of an experiment with a plan and a Check passed.
func Of(x *schemas.Experiment) (Size, error) {
	p := x.Plan
	if p == nil {
		return Size{}, fmt.Errorf("experiment %s: plan: is missing", x.Name)
	}
	control, treatment, sum := shares(x)
	if control == 0 || treatment == 0 {
		return Size{}, fmt.Errorf("experiment %s: arms: the control and at least one other arm need weight", x.Name)
	}
	design := stats.Plan{Alpha: Alpha / float64(len(x.Arms)-1), Power: power(p), Ratio: treatment / control}
	need, err := design.SizeMean(p.Variance, p.Effect*p.Mean)
	if err != nil {
		return Size{}, fmt.Errorf("experiment %s: plan: %w", x.Name, err)
	}
	perDay := p.UnitsPerDay * layerShare(x) * coverage(x) * (control + treatment) / sum
	s := Size{Needed: need.Control + need.Treatment, Expected: perDay * p.Days, Found: math.Inf(1)}
	if perDay > 0 {
		if s.Days, err = stats.DurationDays(need, perDay); err != nil {
			s.Days = 0 // more than ten years
		}
		// The harmonic mean: what two unequal arms are worth as two equal ones.
		equal := 2 / (1/(s.Expected*control/(control+treatment)) + 1/(s.Expected*treatment/(control+treatment)))
		design.Ratio = 1
		if lift, err := design.MDELift(p.Mean, p.Variance, equal); err == nil {
			s.Found = lift
		}
	}
	return s, nil
}

// Check refuses an experiment whose plan its traffic cannot keep.
func Check(x *schemas.Experiment) error {
	if x.Plan == nil {
		return nil
	}
	s, err := Of(x)
	if err != nil {
		return err
	}
	if s.Expected >= s.Needed {
		return nil
	}
	advice := "ask for a larger effect, more days, more coverage, or a metric that varies less"
	if s.Days > 0 {
		advice = fmt.Sprintf("it takes %d days, or ask for a larger effect, more coverage, or a metric that varies less", s.Days)
	}
	found := "no effect at all"
	if !math.IsInf(s.Found, 1) {
		found = fmt.Sprintf("a lift of %.3g %%", 100*s.Found)
	}
	return fmt.Errorf("experiment %s: plan: too little traffic: a lift of %.3g %% needs %.0f units in control and smallest arm together, %g days bring %.0f, which find %s: %s",
		x.Name, 100*x.Plan.Effect, s.Needed, x.Plan.Days, s.Expected, found, advice)
}

// Warnings are what does not make an experiment wrong, and its result less than it seems.
func Warnings(x *schemas.Experiment) []string {
	var out []string
	add := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	if p := x.Plan; p == nil {
		add("no plan: how long it must run is not known, and stopping when the result looks good finds effects that are not there")
	} else if p.Days < stats.MinRunDays {
		add("planned for %g days: less than a whole week does not see every hour and day of the week", p.Days)
	}
	if x.Unit == schemas.UnitSession {
		add("unit session: a viewer may meet several arms, and sessions of a viewer are not independent: intervals are too narrow for figures about viewers")
	}
	if x.PrimaryMetric == "" {
		add("no primary_metric: nothing decides, whatever looks best will be picked")
	}
	if len(x.Guardrails) == 0 {
		add("no guardrails: nothing stops a harmful arm")
	}
	if x.Unit != schemas.UnitBlock && MovesLoad(x) {
		add("arms route differently: they share the CDNs' capacity, so one arm's load changes the other's figures; for a large change take unit block (switchback)")
	}
	return out
}

// MovesLoad says whether arms differ in where sessions go.
func MovesLoad(x *schemas.Experiment) bool {
	for _, name := range []string{schemas.ParamPolicy, schemas.ParamOverflowAt} {
		for _, a := range x.Arms {
			if a.Params[name] != x.Arms[0].Params[name] {
				return true
			}
		}
	}
	return false
}

func power(p *schemas.ExperimentPlan) float64 {
	if p.Power == 0 {
		return Power
	}
	return p.Power
}

// shares gives the weights of the control, of the lightest further arm that has one, and of all arms.
func shares(x *schemas.Experiment) (control, treatment, sum float64) {
	for i, a := range x.Arms {
		sum += a.Weight
		if i > 0 && a.Weight > 0 && (treatment == 0 || a.Weight < treatment) {
			treatment = a.Weight
		}
	}
	return x.Arms[0].Weight, treatment, sum
}

func layerShare(x *schemas.Experiment) float64 {
	if x.LayerFrom == 0 && x.LayerTo == 0 {
		return 1
	}
	return x.LayerTo - x.LayerFrom
}

// coverage is the last step of a ramp: a plan is for the whole run.
func coverage(x *schemas.Experiment) float64 {
	if x.Ramp != nil {
		return max(x.Coverage, x.Ramp.Steps[len(x.Ramp.Steps)-1])
	}
	return x.Coverage
}
