package schemas

import (
	"fmt"
	"math"
	"path"
	"slices"
)

// Experiment statuses: a life goes draft, running, stopped, decided.
const (
	ExperimentDraft   = "draft"
	ExperimentRunning = "running"
	ExperimentStopped = "stopped"
	ExperimentDecided = "decided"
)

// Units of randomization.
const (
	UnitSession = "session"
	UnitViewer  = "viewer"
	UnitStream  = "stream"
	// UnitBlock is a region for BlockSec: a switchback, for strategies that move shared load.
	UnitBlock = "block"
)

// Experiment assigns units to arms. It is what the bucket experiments holds; the bucket keeps earlier versions.
type Experiment struct {
	Name       string `json:"name"`
	Hypothesis string `json:"hypothesis,omitempty"`
	Owner      string `json:"owner,omitempty"`
	Status     string `json:"status"`
	// Salt decides the assignment; a new salt is a new, independent phase.
	Salt string `json:"salt"`
	// Unit is what is randomised: session, viewer, stream or block.
	Unit string `json:"unit"`
	// BlockSec is the length of a block, seconds; BurnInSec its beginning that analysis leaves out, because caches
	// and sessions of the block before still show (carry-over). Unit block only.
	BlockSec  int64 `json:"block_s,omitempty"`
	BurnInSec int64 `json:"burn_in_s,omitempty"`
	// Targeting limits the experiment to some sessions; nil: all.
	Targeting *Targeting `json:"targeting,omitempty"`
	// Layer groups experiments that touch the same decision; a unit is in at most one of a layer.
	// It owns the segments [LayerFrom, LayerTo) of [0, 1); 0 and 0 mean all.
	Layer     string  `json:"layer"`
	LayerFrom float64 `json:"layer_from,omitempty"`
	LayerTo   float64 `json:"layer_to,omitempty"`
	// Coverage is the share of units taken into the experiment, 0 to 1; raising it never moves a unit.
	Coverage float64 `json:"coverage"`
	Arms     []Arm   `json:"arms"`
	// PrimaryMetric names the metric that decides, e.g. stall_ratio; see Metrics.
	PrimaryMetric string `json:"primary_metric,omitempty"`
	// Guardrails are metrics that must not become worse than their margins.
	Guardrails []Guardrail `json:"guardrails,omitempty"`
	// Plan is what is to be found and how long it takes; nil: no size was planned.
	Plan *ExperimentPlan `json:"plan,omitempty"`
	// Ramp raises coverage by steps while guardrails hold; nil: Coverage from the start.
	Ramp *Ramp `json:"ramp,omitempty"`
	// WebhookURL is told of starts, steps, stops and decisions (HTTP POST, see docs/experiments.md).
	WebhookURL string `json:"webhook_url,omitempty"`

	StartedUnixUs int64 `json:"started_us,omitempty"`
	StoppedUnixUs int64 `json:"stopped_us,omitempty"`
	// ChangedBy and ChangeReason are of the newest change of status or coverage, for the audit.
	ChangedBy    string `json:"changed_by,omitempty"`
	ChangeReason string `json:"change_reason,omitempty"`
	// Winner is the arm that was decided for.
	Winner string `json:"winner,omitempty"`
}

// Arm is one variant. The first arm is the control.
type Arm struct {
	Name string `json:"name"`
	// Weight is relative to the other arms' weights.
	Weight float64 `json:"weight"`
	// Params are obeyed by play page, dispatch and router; see docs/experiments.md.
	Params map[string]string `json:"params,omitempty"`
}

// Targeting names the sessions an experiment is for. Lists that are empty do not limit.
type Targeting struct {
	// Streams are patterns of path.Match over "app/stream", e.g. live/* or live/star-?.
	Streams []string `json:"streams,omitempty"`
	Regions []string `json:"regions,omitempty"`
	ISPs    []string `json:"isps,omitempty"`
}

// Guardrail is a metric that must not be harmed.
type Guardrail struct {
	Metric string `json:"metric"`
	// Margin is the harm that would still be accepted, relative to the control, e.g. 0.05; above 0.
	Margin float64 `json:"margin"`
}

// ExperimentPlan says what the experiment is to find.
type ExperimentPlan struct {
	// Effect is the smallest lift of the primary metric worth finding, relative, above 0.
	Effect float64 `json:"effect"`
	// Power is the chance to find it; default 0.8.
	Power float64 `json:"power,omitempty"`
	// Mean and Variance of the primary metric over one unit, from earlier data (spillway experiment plan prints them).
	Mean     float64 `json:"mean"`
	Variance float64 `json:"variance"`
	// UnitsPerDay is how many new units that the experiment targets come a day, before layer and coverage.
	UnitsPerDay float64 `json:"units_per_day"`
	// Days is how long it shall run at most; at least one whole week is sensible.
	Days float64 `json:"days"`
	// MinRunHours is how long it runs before it may be shipped; a guardrail may stop it earlier.
	MinRunHours float64 `json:"min_run_hours,omitempty"`
}

// Ramp raises Coverage to each step in turn.
type Ramp struct {
	// Steps are coverages, growing, at most 1.
	Steps []float64 `json:"steps"`
	// HoldHours is how long a step lasts at least. It should contain a peak hour: capacity shows only there.
	HoldHours float64 `json:"hold_hours"`
}

// Match says whether the experiment is for a session of stream k from a region and provider.
func (t *Targeting) Match(k StreamKey, region, isp string) bool {
	if t == nil {
		return true
	}
	in := func(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }
	if !in(t.Regions, region) || !in(t.ISPs, isp) {
		return false
	}
	if len(t.Streams) == 0 {
		return true
	}
	name := k.String()
	for _, p := range t.Streams {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return false
}

// ParseExperiment reads an entry of the bucket experiments.
func ParseExperiment(key string, value []byte) (*Experiment, error) {
	var x Experiment
	if err := UnmarshalStrict(value, &x); err != nil {
		return nil, err
	}
	if x.Name != key {
		return nil, fmt.Errorf("the experiment under key %s is named %q", key, x.Name)
	}
	return &x, x.Check()
}

// InForce says whether sessions that have an arm keep its parameters: a session that plays is never switched by an
// experiment's end.
func (x *Experiment) InForce() bool { return x.Status != ExperimentDraft }

// fieldError is what every check of an experiment returns: which field, and why.
func fieldError(field, format string, a ...any) error {
	return fmt.Errorf("%s: %s", field, fmt.Sprintf(format, a...))
}

// Check names the field that is wrong and says why.
func (x *Experiment) Check() error {
	if err := CheckName("name", x.Name); err != nil {
		return err
	}
	for _, check := range []func() error{x.checkUnit, x.checkLayer, x.checkArms, x.checkMetrics, x.checkPlan, x.checkRamp, x.checkLife} {
		if err := check(); err != nil {
			return fmt.Errorf("experiment %s: %w", x.Name, err)
		}
	}
	return nil
}

func (x *Experiment) checkUnit() error {
	switch x.Unit {
	case UnitSession, UnitViewer, UnitStream:
		if x.BlockSec != 0 || x.BurnInSec != 0 {
			return fieldError("block_s, burn_in_s", "only unit block has them, this is unit %s", x.Unit)
		}
	case UnitBlock:
		if x.BlockSec < 60 || x.BlockSec > 7*86400 {
			return fieldError("block_s", "%d is not between a minute and a week", x.BlockSec)
		}
		if x.BurnInSec < 0 || x.BurnInSec >= x.BlockSec {
			return fieldError("burn_in_s", "%d is not between 0 and the block's %d", x.BurnInSec, x.BlockSec)
		}
		if len(x.Arms) != 2 || x.Arms[0].Weight != x.Arms[1].Weight {
			return fieldError("arms", "blocks go to two arms of equal weight, in balanced pairs")
		}
	default:
		return fieldError("unit", "%q is not session, viewer, stream or block", x.Unit)
	}
	if x.Salt == "" || len(x.Salt) > MaxNameLen {
		return fieldError("salt", "has %d bytes: 1 to %d are allowed", len(x.Salt), MaxNameLen)
	}
	return nil
}

const maxTargets = 256

func (x *Experiment) checkLayer() error {
	if err := CheckName("layer", x.Layer); err != nil {
		return fieldError("layer", "%v", err)
	}
	if !(x.LayerFrom >= 0 && x.LayerTo <= 1 && (x.LayerFrom < x.LayerTo || x.LayerFrom == 0 && x.LayerTo == 0)) {
		return fieldError("layer_from, layer_to", "[%v, %v) is not a range inside [0, 1)", x.LayerFrom, x.LayerTo)
	}
	if !(x.Coverage >= 0 && x.Coverage <= 1) {
		return fieldError("coverage", "%v is not between 0 and 1", x.Coverage)
	}
	t := x.Targeting
	if t == nil {
		return nil
	}
	if n := len(t.Streams) + len(t.Regions) + len(t.ISPs); n > maxTargets {
		return fieldError("targeting", "%d values given: at most %d are allowed", n, maxTargets)
	}
	for i, p := range t.Streams {
		if _, err := path.Match(p, ""); err != nil {
			return fieldError(fmt.Sprintf("targeting.streams[%d]", i), "%.64q is not a pattern such as live/*: %v", p, err)
		}
	}
	return nil
}

func (x *Experiment) checkArms() error {
	if len(x.Arms) < 2 || len(x.Arms) > 16 {
		return fieldError("arms", "%d given: 2 to 16 are allowed", len(x.Arms))
	}
	seen := map[string]bool{}
	sum := 0.0
	for i, a := range x.Arms {
		field := fmt.Sprintf("arms[%d]", i)
		if err := CheckName("name", a.Name); err != nil {
			return fieldError(field, "%v", err)
		}
		if seen[a.Name] {
			return fieldError(field+".name", "%q is used twice", a.Name)
		}
		seen[a.Name] = true
		if !(a.Weight >= 0) || math.IsInf(a.Weight, 0) {
			return fieldError(field+".weight", "%v is not a number >= 0", a.Weight)
		}
		sum += a.Weight
		for name, v := range a.Params {
			if err := checkParam(name, v, x.Unit); err != nil {
				return fieldError(field+".params."+name, "%v", err)
			}
		}
	}
	if t := x.Targeting; t != nil && len(t.Regions)+len(t.ISPs) > 0 {
		for i, a := range x.Arms {
			if _, ok := a.Params[ParamPartTargetMs]; ok {
				return fieldError("targeting", "regions and isps are of viewers, and arms[%d].params.%s is decided when a publisher comes: target streams", i, ParamPartTargetMs)
			}
		}
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return fieldError("arms", "weights sum to %v: at least one must be above 0", sum)
	}
	return nil
}

func (x *Experiment) checkMetrics() error {
	if x.PrimaryMetric != "" {
		if _, ok := MetricNamed(x.PrimaryMetric); !ok {
			return fieldError("primary_metric", "%.64q is not known; known are %s", x.PrimaryMetric, metricNames())
		}
	}
	seen := map[string]bool{}
	for i, g := range x.Guardrails {
		field := fmt.Sprintf("guardrails[%d]", i)
		if _, ok := MetricNamed(g.Metric); !ok {
			return fieldError(field+".metric", "%.64q is not known; known are %s", g.Metric, metricNames())
		}
		if seen[g.Metric] {
			return fieldError(field+".metric", "%s is guarded twice", g.Metric)
		}
		seen[g.Metric] = true
		if !(g.Margin > 0 && g.Margin <= 10) {
			return fieldError(field+".margin", "%v is no margin: give the harm still accepted as a share of the control, e.g. 0.05; without one no arm could ever pass", g.Margin)
		}
	}
	return nil
}

func (x *Experiment) checkPlan() error {
	p := x.Plan
	if p == nil {
		return nil
	}
	if x.PrimaryMetric == "" {
		return fieldError("plan", "needs a primary_metric")
	}
	positive := func(v float64) bool { return v > 0 && !math.IsInf(v, 0) }
	for _, f := range []struct {
		name string
		v    float64
	}{
		{"plan.effect", p.Effect}, {"plan.mean", p.Mean}, {"plan.variance", p.Variance}, {"plan.units_per_day", p.UnitsPerDay}, {"plan.days", p.Days},
	} {
		if !positive(f.v) {
			return fieldError(f.name, "%v is not above 0", f.v)
		}
	}
	if !(p.Power >= 0 && p.Power < 1) {
		return fieldError("plan.power", "%v is not between 0 and 1, e.g. 0.8", p.Power)
	}
	if !(p.MinRunHours >= 0 && p.MinRunHours <= p.Days*24) {
		return fieldError("plan.min_run_hours", "%v is not between 0 and the planned %v days", p.MinRunHours, p.Days)
	}
	return nil
}

func (x *Experiment) checkRamp() error {
	r := x.Ramp
	if r == nil {
		return nil
	}
	if x.Unit == UnitBlock {
		return fieldError("ramp", "blocks take whole regions: raise coverage by hand, as a new phase")
	}
	if len(r.Steps) == 0 || len(r.Steps) > 20 {
		return fieldError("ramp.steps", "%d given: 1 to 20 are allowed", len(r.Steps))
	}
	last := 0.0
	for i, s := range r.Steps {
		if !(s > last && s <= 1) {
			return fieldError(fmt.Sprintf("ramp.steps[%d]", i), "%v: steps are coverages that grow, at most 1", s)
		}
		last = s
	}
	if !(r.HoldHours > 0 && r.HoldHours <= 24*30) {
		return fieldError("ramp.hold_hours", "%v is not between 0 and 720", r.HoldHours)
	}
	return nil
}

// MaxChangeReasonLen is how long ChangeReason may be, bytes.
const MaxChangeReasonLen = 1024

func (x *Experiment) checkLife() error {
	switch x.Status {
	case ExperimentDraft, ExperimentRunning, ExperimentStopped:
		if x.Winner != "" {
			return fieldError("winner", "only a decided experiment has one, this one is %s", x.Status)
		}
	case ExperimentDecided:
		if !slices.ContainsFunc(x.Arms, func(a Arm) bool { return a.Name == x.Winner }) {
			return fieldError("winner", "%.64q is not an arm", x.Winner)
		}
	default:
		return fieldError("status", "%q is not draft, running, stopped or decided", x.Status)
	}
	if len(x.ChangedBy) > 256 || len(x.ChangeReason) > MaxChangeReasonLen {
		return fieldError("changed_by, change_reason", "at most 256 and %d bytes are allowed", MaxChangeReasonLen)
	}
	if x.WebhookURL == "" {
		return nil
	}
	if !isWebURL(x.WebhookURL) {
		return fieldError("webhook_url", "is not an http or https URL of at most 1024 bytes")
	}
	return nil
}
