package plan

import (
	"math"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

func experiment() *schemas.Experiment {
	return &schemas.Experiment{
		Name: "x", Status: schemas.ExperimentDraft, Salt: "s", Unit: schemas.UnitViewer, Layer: "player", Coverage: 1,
		Arms:          []schemas.Arm{{Name: "control", Weight: 1}, {Name: "test", Weight: 1}},
		PrimaryMetric: "stall_ratio", Guardrails: []schemas.Guardrail{{Metric: "first_screen_p90", Margin: 0.05}},
		Plan: &schemas.ExperimentPlan{Effect: 0.1, Mean: 2, Variance: 4, UnitsPerDay: 1000, Days: 14},
	}
}

// The textbook: n = (1.95996+0.84162)^2 x 2 x 4 / 0.2^2 = 1569.8 units an arm.
func TestSizeIsTheTextbooks(t *testing.T) {
	x := experiment()
	s, err := Of(x)
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * 1569.77; math.Abs(s.Needed-want) > 0.1 {
		t.Errorf("needed %v, want %v", s.Needed, want)
	}
	if s.Expected != 14000 || s.Days != 7 || !(s.Found > 0.04 && s.Found < 0.06) {
		t.Errorf("size %+v", s)
	}
	if err := Check(x); err != nil {
		t.Error(err)
	}
}

// Each of three further arms is compared at a third of the error rate: (2.39398+0.84162)^2 instead of 1.95996.
func TestSeveralArmsNeedMore(t *testing.T) {
	x := experiment()
	x.Arms = append(x.Arms, schemas.Arm{Name: "third", Weight: 1}, schemas.Arm{Name: "fourth", Weight: 1})
	s, err := Of(x)
	if want := 2 * 1569.77 * math.Pow((2.39398+0.84162)/(1.95996+0.84162), 2); err != nil || math.Abs(s.Needed-want) > 0.5 {
		t.Errorf("needed %v, want %v (%v)", s.Needed, want, err)
	}
}

func TestTooLittleTrafficIsRefused(t *testing.T) {
	for what, edit := range map[string]func(*schemas.Experiment){
		"units":    func(x *schemas.Experiment) { x.Plan.UnitsPerDay = 100 },
		"coverage": func(x *schemas.Experiment) { x.Coverage = 0.1 },
		"layer":    func(x *schemas.Experiment) { x.LayerFrom, x.LayerTo = 0.5, 0.6 },
		"days":     func(x *schemas.Experiment) { x.Plan.Days = 2 },
		"effect":   func(x *schemas.Experiment) { x.Plan.Effect = 0.01 },
		"a third arm takes most": func(x *schemas.Experiment) {
			x.Arms = append(x.Arms, schemas.Arm{Name: "big", Weight: 20})
		},
	} {
		x := experiment()
		edit(x)
		if err := x.Check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := Check(x); err == nil || !strings.Contains(err.Error(), "plan: too little traffic") {
			t.Errorf("%s: %v", what, err)
		}
	}
	x := experiment()
	x.Coverage, x.Ramp = 0.01, &schemas.Ramp{Steps: []float64{0.01, 0.5, 1}, HoldHours: 24}
	if err := Check(x); err != nil {
		t.Errorf("the end of the ramp counts: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	if w := Warnings(experiment()); len(w) != 0 {
		t.Errorf("a sound experiment is warned of: %q", w)
	}
	for want, edit := range map[string]func(*schemas.Experiment){
		"no plan":        func(x *schemas.Experiment) { x.Plan = nil },
		"whole week":     func(x *schemas.Experiment) { x.Plan.Days = 3 },
		"unit session":   func(x *schemas.Experiment) { x.Unit = schemas.UnitSession },
		"primary_metric": func(x *schemas.Experiment) { x.PrimaryMetric, x.Plan = "", nil },
		"no guardrails":  func(x *schemas.Experiment) { x.Guardrails = nil },
		"capacity":       func(x *schemas.Experiment) { x.Arms[1].Params = map[string]string{schemas.ParamPolicy: "cost"} },
	} {
		x := experiment()
		edit(x)
		if w := strings.Join(Warnings(x), "\n"); !strings.Contains(w, want) {
			t.Errorf("warnings %q, want one with %q", w, want)
		}
	}
}
