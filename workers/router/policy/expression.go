package policy

import (
	"fmt"
	"math"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/spillway-live/spillway/schemas"
)

// costLimit bounds one evaluation, in CEL's own units (about one a step): far
// above any sensible rule, and some tens of microseconds.
const costLimit = 10_000

// Variable is a name that expressions may use.
type Variable struct {
	Name string
	// Type is string, bool or double.
	Type string
	// Meaning with unit.
	Meaning string
	value   func(*Input, *candidate) any
}

// Variables of expressions: what is known of the session and of one candidate CDN.
func Variables() []Variable { return variables }

var variables = []Variable{
	{"region", "string", "the viewer's region; empty if unknown", func(in *Input, _ *candidate) any { return in.Region }},
	{"isp", "string", "the viewer's internet provider; empty if unknown", func(in *Input, _ *candidate) any { return in.ISP }},
	{"app", "string", "application", func(in *Input, _ *candidate) any { return in.App }},
	{"stream", "string", "stream", func(in *Input, _ *candidate) any { return in.Stream }},
	{"is_new", "bool", "the session is on no CDN yet", func(in *Input, _ *candidate) any { return in.Current == "" }},
	{"cdn", "string", "name of the candidate", func(_ *Input, c *candidate) any { return c.cdn.Name }},
	{"cdn_region", "string", "region the candidate is registered in", func(_ *Input, c *candidate) any { return c.cdn.Region }},
	{"affinity", "bool", "the stream's publisher came through the candidate", func(in *Input, c *candidate) any { return in.PublishCDN == c.cdn.Name }},
	{"strong", "bool", "the candidate is registered as strong in the viewer's region or provider", func(in *Input, c *candidate) any { return strong(c.cdn, in.Region, in.ISP) }},
	{"current", "bool", "the session is on the candidate", func(in *Input, c *candidate) any { return in.Current == c.cdn.Name }},
	{"order", "double", "the candidate's rank in the registry, lower first", func(_ *Input, c *candidate) any { return float64(c.cdn.Order) }},
	{"viewers", "double", "sessions on the candidate", func(_ *Input, c *candidate) any { return float64(c.facts.Viewers) }},
	{"load", "double", "share of the candidate's capacity in use, or of the viewers that one stream may have there, as forecast; 0 without limits", func(_ *Input, c *candidate) any { return c.load }},
	{"growth_10s", "double", "factor by which viewers and bandwidth of the candidate are forecast to change in ten seconds, 1 at least; load has it in", func(_ *Input, c *candidate) any { return factor(c.facts.Growth) }},
	{"growth_1m", "double", "the same in a minute; below 1 where they fall, 1 while nothing is known", func(_ *Input, c *candidate) any { return factor(c.facts.GrowthAhead[0]) }},
	{"growth_3m", "double", "the same in three minutes", func(_ *Input, c *candidate) any { return factor(c.facts.GrowthAhead[1]) }},
	{"growth_5m", "double", "the same in five minutes", func(_ *Input, c *candidate) any { return factor(c.facts.GrowthAhead[2]) }},
	{"harm", "double", "share of a one-minute view lost: stalls, failed starts, first screen", func(_ *Input, c *candidate) any { return c.facts.Harm() }},
	{"stall_ratio", "double", "stalled time to stalled and played time; 0 if unknown", func(_ *Input, c *candidate) any { return known(c.facts.StallRatio) }},
	{"start_failure_ratio", "double", "failed starts to start attempts; 0 if unknown", func(_ *Input, c *candidate) any { return known(c.facts.StartFailRatio) }},
	{"error_ratio", "double", "failed media requests to media requests; 0 if unknown", func(_ *Input, c *candidate) any { return known(c.facts.ErrorRatio) }},
	{"first_screen_ms", "double", "start-up time, milliseconds; 0 if unknown", func(_ *Input, c *candidate) any { return known(c.facts.FirstScreenMs) }},
	{"bitrate_bps", "double", "mean bitrate that its viewers play, bit/s; 0 if unknown", func(_ *Input, c *candidate) any { return known(c.facts.BitrateBps) }},
	{"throughput_bps", "double", "mean throughput that its viewers measure, bit/s; 0 if unknown", func(_ *Input, c *candidate) any { return known(c.facts.ThroughputBps) }},
	{"samples", "double", "sessions behind the estimates; 0: nothing is known", func(_ *Input, c *candidate) any { return max(c.facts.Samples, 0) }},
	{"age_s", "double", "age of the newest of them, seconds", func(_ *Input, c *candidate) any { return c.facts.AgeSec }},
	{"price_usd_per_gb", "double", "what the next gigabyte costs, with tiers and commitment", func(_ *Input, c *candidate) any { return PriceUSDPerGB(c.cdn, c.facts) }},
	{"month_gb", "double", "gigabytes delivered this month", func(_ *Input, c *candidate) any { return c.facts.MonthGB }},
}

var variablesByName = func() map[string]*Variable {
	m := make(map[string]*Variable, len(variables))
	for i := range variables {
		m[variables[i].Name] = &variables[i]
	}
	return m
}()

// activation finds a variable's value only when an expression asks for it.
type activation struct {
	in *Input
	c  *candidate
}

// ResolveName implements cel's Activation.
func (a activation) ResolveName(name string) (any, bool) {
	v := variablesByName[name]
	if v == nil {
		return nil, false
	}
	return v.value(a.in, a.c), true
}

// Parent implements cel's Activation.
func (activation) Parent() cel.Activation { return nil }

// environment is what expressions may use: the variables, CEL's operators and
// functions. None of these has a side effect or sees the time.
func environment() (*cel.Env, error) {
	opts := []cel.EnvOption{cel.ClearMacros(), cel.ParserExpressionSizeLimit(4096), cel.ParserRecursionLimit(50)}
	for _, v := range variables {
		t := cel.DoubleType
		switch v.Type {
		case "string":
			t = cel.StringType
		case "bool":
			t = cel.BoolType
		}
		opts = append(opts, cel.Variable(v.Name, t))
	}
	return cel.NewEnv(opts...)
}

// compile makes a program of an expression that gives the type wanted.
func compile(env *cel.Env, field, text string, want *cel.Type) (cel.Program, error) {
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", field, err) // cel marks the place with a caret
	}
	if got := ast.OutputType(); !got.IsExactType(want) {
		hint := ""
		if want == cel.DoubleType && got.IsExactType(cel.IntType) {
			hint = ": write numbers with a point, 1.0 and not 1"
		}
		return nil, fmt.Errorf("%s: the expression gives %s, not %s%s", field, got, want, hint)
	}
	return env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(costLimit))
}

// RunError is a policy that failed on an input.
type RunError struct {
	Policy  string
	Version int
	CDN     string
	Err     error
}

func (e *RunError) Error() string {
	return fmt.Sprintf("policy %s version %d fails for CDN %s: %v", e.Policy, e.Version, e.CDN, e.Err)
}

// Unwrap gives what went wrong.
func (e *RunError) Unwrap() error { return e.Err }

func (p *Policy) failed(c *schemas.CDN, err error) error {
	return &RunError{p.s.Name, p.s.Version, c.Name, err}
}

// eval gives the score of an expression.
func (p *Policy) eval(in *Input, c *candidate) (float64, error) {
	v, _, err := p.score.Eval(activation{in, c})
	if err != nil {
		return 0, p.failed(c.cdn, fmt.Errorf("score: %w", err))
	}
	s, ok := v.(types.Double)
	if !ok || math.IsNaN(float64(s)) {
		return 0, p.failed(c.cdn, fmt.Errorf("score: gives %v, which is no number", v.Value()))
	}
	return float64(s), nil
}

// allowed applies the hard rules of the policy to a candidate.
func (p *Policy) allowed(in *Input, c *candidate) (string, error) {
	if regions := p.s.Regions[c.cdn.Name]; len(regions) > 0 && !contains(regions, in.Region) {
		return ExcludedRegion, nil
	}
	if p.eligible == nil {
		return "", nil
	}
	v, _, err := p.eligible.Eval(activation{in, c})
	if err != nil {
		return "", p.failed(c.cdn, fmt.Errorf("eligible: %w", err))
	}
	if v != types.True {
		return ExcludedRule, nil
	}
	return "", nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
