package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// vector is a case of the public file, with what other engines answered.
type vector struct {
	ID        string
	Method    string
	Input     json.RawMessage
	Expected  map[string]any
	Tolerance struct {
		Abs, Rel float64
		Fields   map[string]struct{ Abs, Rel float64 }
	}
	Optional []string
}

func readVectors(t testing.TB) (raw []byte, cases []vector) {
	t.Helper()
	raw, err := os.ReadFile("../testdata/vectors_public.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []vector }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return raw, file.Cases
}

// Every public vector, answered through Eval, lies within its tolerance of what
// the named engines compute.
func TestPublicVectors(t *testing.T) {
	raw, cases := readVectors(t)
	var out bytes.Buffer
	if err := Eval(bytes.NewReader(raw), &out); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 1<<20)
	passed := 0
	for _, v := range cases {
		if !lines.Scan() {
			t.Fatalf("no line for %s", v.ID)
		}
		var got struct {
			ID, Method string
			Result     map[string]any
		}
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.ID != v.ID || got.Method != v.Method {
			t.Fatalf("line of %s %s where %s was due", got.ID, got.Method, v.ID)
		}
		if problems := v.compare(got.Result); len(problems) > 0 {
			t.Errorf("%s: %s", v.ID, strings.Join(problems, "; "))
			continue
		}
		passed++
	}
	t.Logf("%d of %d public vectors pass", passed, len(cases))
}

func (v vector) compare(got map[string]any) (problems []string) {
	if v.Expected["undefined"] == true {
		if got["undefined"] != true || got["reason"] == "" {
			return []string{fmt.Sprintf("want undefined (%v), got %v", v.Expected["reason"], got)}
		}
		for _, k := range []string{"estimate", "p_value", "ci_lower"} {
			if _, ok := got[k]; ok {
				problems = append(problems, "undefined, and yet "+k)
			}
		}
		return problems
	}
	for name, want := range v.Expected {
		g, ok := got[name]
		if !ok {
			if !slices.Contains(v.Optional, name) {
				problems = append(problems, name+" is missing")
			}
			continue
		}
		abs, rel := v.Tolerance.Abs, v.Tolerance.Rel
		if f, ok := v.Tolerance.Fields[name]; ok {
			abs, rel = f.Abs, f.Rel
		}
		if !within(g, want, abs, rel) {
			problems = append(problems, fmt.Sprintf("%s = %v, want %v", name, g, want))
		}
	}
	return problems
}

func within(got, want any, abs, rel float64) bool {
	switch w := want.(type) {
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !within(g[i], w[i], abs, rel) {
				return false
			}
		}
		return true
	case float64:
		g, ok := got.(float64)
		return ok && math.Abs(g-w) <= math.Max(abs, rel*math.Abs(w))
	}
	return got == want
}

func evalString(t *testing.T, in string) (lines []map[string]any, err error) {
	t.Helper()
	var out bytes.Buffer
	err = Eval(strings.NewReader(in), &out)
	dec := json.NewDecoder(&out)
	for dec.More() {
		var l map[string]any
		if e := dec.Decode(&l); e != nil {
			t.Fatal(e)
		}
		lines = append(lines, l)
	}
	return lines, err
}

func TestForms(t *testing.T) {
	const a = `{"id":"a","method":"design_effect","input":{"mean_cluster_size":4,"cv":0.5,"icc":0.1}}`
	const b = `{"id":7,"method":"no_such_method","input":{}}`
	for name, in := range map[string]string{
		"object":     `{"header":{"format":"x"},"cases":[` + a + `,` + b + `]}`,
		"array":      `[` + a + `,` + b + `]`,
		"JSON lines": a + "\n" + b + "\n",
		"two files":  `{"cases":[` + a + `]} {"cases":[` + b + `]}`,
	} {
		lines, err := evalString(t, in)
		if err != nil {
			t.Fatal(name, err)
		}
		if len(lines) != 2 || lines[0]["id"] != "a" || lines[1]["id"] != "7" {
			t.Fatalf("%s: %v", name, lines)
		}
		if got := lines[0]["result"].(map[string]any)["design_effect"]; got != 1.4 {
			t.Errorf("%s: design effect %v", name, got)
		}
		if lines[1]["result"].(map[string]any)["unsupported"] != true {
			t.Errorf("%s: unknown method gave %v", name, lines[1])
		}
	}
	for name, in := range map[string]string{
		"list":   `[` + a + `,{"id":`,
		"object": `{"header":{},"cases":[` + a + `,{"id"}]}`,
	} {
		if lines, err := evalString(t, in); err == nil || len(lines) != 1 {
			t.Errorf("%s that breaks off: error %v after %d answers", name, err, len(lines))
		}
	}
	if lines, err := evalString(t, ""); err != nil || len(lines) != 0 {
		t.Errorf("nothing: %v, %v", lines, err)
	}
	for _, input := range []string{"", `,"input":null`, `,"input":[]`, `,"input":"x"`, `,"input":{}`} {
		for _, m := range Methods() {
			lines, err := evalString(t, `{"id":"x","method":"`+m+`"`+input+`}`)
			if err != nil {
				t.Fatal(err)
			}
			if r := lines[0]["result"].(map[string]any); r["undefined"] != true {
				t.Errorf("%s without input: %v", m, r)
			}
		}
	}
}

// What cannot be read as a case has an answer that says so, and the cases after it have theirs.
func TestUnreadableCases(t *testing.T) {
	const good = `{"id":"good","method":"design_effect","input":{"mean_cluster_size":4,"cv":0.5,"icc":0.1}}`
	for _, c := range []struct{ bad, id, method string }{
		{`{"id":"x","method":"msprt","input":{"estimate":0.1,}}`, "x", "msprt"},
		{`{"method":"msprt", "id" : 12, "input":{`, "12", "msprt"},
		{`{"id":`, "", ""},
		{`{"id":"x","id`, "x", ""},
		{`{"id":{"a":`, "", ""},
		{`"`, "", ""},
		{`[1,2`, "", ""},
		{`}`, "", ""},
		{`17`, "", ""},
		{`null`, "", ""},
		{`{"id":"x","method":3,"input":{}}`, "x", ""},
		{`{"id":"x","input":{}}`, "x", ""},
		{`{"id":null,"method":"msprt"}`, "", "msprt"},
		{`{"id":"x","method":"msprt","input":{"estimate":NaN,"variance":Infinity,"tau2":-Infinity}}`, "x", "msprt"},
		{`{"id":"NaN -Infinity \"","method":"msprt"}`, `NaN -Infinity "`, "msprt"},
		{`{"id":"x","method":"msprt","input":{"estimate":1e999,"variance":1,"tau2":1}}`, "x", "msprt"},
	} {
		lines, err := evalString(t, good+"\n"+c.bad+"\n"+good+"\n")
		if err != nil || len(lines) != 3 || lines[2]["id"] != "good" || lines[2]["result"].(map[string]any)["design_effect"] != 1.4 {
			t.Errorf("%s: %v, %v", c.bad, lines, err)
			continue
		}
		r := lines[1]["result"].(map[string]any)
		if r["undefined"] != true || r["reason"] == "" || lines[1]["id"] != c.id || lines[1]["method"] != c.method {
			t.Errorf("%s: %v", c.bad, lines[1])
		}
	}
	lines, err := evalString(t, `{"cases":[`+good+`,3,`+good+`,{"id":"m","method":["x"]},null]}`)
	if err != nil || len(lines) != 5 || lines[4]["result"].(map[string]any)["undefined"] != true || lines[2]["id"] != "good" {
		t.Errorf("in a list: %v, %v", lines, err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestBrokenWriter(t *testing.T) {
	raw, _ := readVectors(t)
	if err := Eval(bytes.NewReader(raw), brokenWriter{}); err == nil {
		t.Error("a failing writer went unnoticed")
	}
}

// Answers that follow from the rules rather than from another engine.
func TestCases(t *testing.T) {
	const arms = `"control":{"n":100,"sum":20},"treatment":{"n":110,"sum":44},"metric":"proportion","alpha":0.05`
	for _, c := range []struct{ method, input, want string }{
		{"two_sample", `{` + arms + `,"alternative":"greater"}`, `"ci_upper":"+inf"`},
		{"two_sample", `{` + arms + `,"alternative":"less"}`, `"ci_lower":"-inf"`},
		{"two_sample", `{` + arms + `,"distribution":"normal"}`, `"estimate":0.2,`},
		{"two_sample", `{` + arms + `,"alternative":"sideways"}`, "invalid_parameter"},
		{"two_sample", `{"metric":"proportion","control":{"n":10,"sum":0},"treatment":{"n":10,"sum":3},"alpha":0.05}`, "zero_variance"},
		{"two_sample", `{"metric":"proportion","control":{"n":10,"sum":11},"treatment":{"n":10,"sum":3},"alpha":0.05}`, "inconsistent_sums"},
		{"two_sample", `{"metric":"mean","control":{"n":5,"sum":10,"sum_squares":1},"treatment":{"n":5,"sum":10,"sum_squares":30},"alpha":0.05}`, "inconsistent_sums"},
		{"two_sample", `{"metric":"mean","control":{"n":3,"sum":0.3,"sum_squares":0.03},"treatment":{"n":5,"sum":10,"sum_squares":30},"alpha":0.05}`, "zero_variance"},
		{"two_sample", `{"metric":"novel","control":{},"treatment":{},"alpha":0.05}`, "unsupported"},
		{"asymptotic_cs", `{"estimate":0.05,"se":0.02,"n":9000,"alpha":0.05,"n_star":0,"alternative":"two_sided"}`, "invalid_parameter"},
		{"asymptotic_cs", `{"estimate":0.05,"se":0.01,"n":9000,"alpha":0.05,"n_star":10000,"alternative":"greater"}`, `"ci_upper":"+inf"`},
		{"asymptotic_cs", `{"estimate":-0.05,"se":0.01,"n":9000,"alpha":0.05,"n_star":10000,"alternative":"greater"}`, `"p_value":1`},
		{"fieller_lift_ci", `{"treatment_mean":1,"treatment_variance_of_mean":0.1,"control_mean":0.1,"control_variance_of_mean":0.1,"alpha":0.05}`, "unbounded_interval"},
		{"msprt_sequence", `{"looks":[{"estimate":0.1,"variance":0.01},{"estimate":0.5,"variance":0.01},{"estimate":0.1,"variance":0.01}],"tau2":0.01}`, `"p_values":[1,`},
		{"msprt_sequence", `{"estimates":[0.1,0.5],"variances":[0.01,0.01],"tau2":0.01}`, `"p_values":[1,`},
		{"msprt_sequence", `{"looks":[],"tau2":0.01}`, "invalid_parameter"},
		{"srm_chi2", `{"observed":[10,12,1],"weights":[1,1,0]}`, "users_in_zero_weight_arm"},
		{"srm_chi2", `{"observed":[10,12,0],"weights":[1,1,0]}`, `"df":1`},
		{"srm_sequential", `{"batches":[[0,0]],"probabilities":[0.5,0.5],"dirichlet_concentration":100}`, "empty_arm"},
		{"srm_sequential", `{"batches":[[5,5]],"probabilities":[0.5,0.6],"dirichlet_concentration":100}`, "invalid_parameter"},
		{"srm_sequential", `{"batches":[[1000000,1]],"probabilities":[0.5,0.5],"dirichlet_concentration":10000}`, `"bayes_factors":["+inf"]`},
		{"quantile_order_statistic_ci", `{"values":[1,2,3],"level":0.9,"alpha":0.05}`, `"ci_upper":"+inf"`},
		{"quantile_order_statistic_ci", `{"values":[3,1,"+inf",2,5,4,8,9,7,6],"level":0.5,"alpha":0.05}`, `"quantile":5`},
		{"quantile_order_statistic_ci", `{"values":[],"level":0.9,"alpha":0.05}`, "empty_arm"},
		{"quantile_lil_bound", `{"t":1000,"t_min":100,"alpha":0.05}`, `"half_width":0.08204`},
		{"adjust_p_values", `{"p_values":[0.01,null,0.04]}`, `"holm":[0.02,null,0.04]`},
		{"adjust_p_values", `{"p_values":[0.01,1.2]}`, "invalid_p_value"},
		{"adjust_p_values", `{"p_values":[]}`, "invalid_parameter"},
		{"sample_size_proportion", `{"baseline_proportion":0.1,"mde_relative":0.5,"alpha":0.05,"power":0.8}`, `"n_control":682.85`},
		{"sample_size_mean", `{"baseline_mean":0,"variance":4,"mde_relative":0.1,"alpha":0.05,"power":0.8}`, "zero_control_mean"},
		{"power_mean", `{"variance":2500,"effect":3,"n_control":4360.478060711,"n_treatment":4360.478060711,"alpha":0.05}`, `"power":0.7999999999`},
		{"mde_mean", `{"variance":2500,"n_control":4360.478060711,"n_treatment":4360.478060711,"alpha":0.05,"power":0.8,"baseline_mean":100}`, `"mde_relative":0.0`},
		{"non_inferiority", `{` + arms + `,"margin_relative":0.1,"preferred_direction":"increase"}`, `"non_inferior":true`},
		{"non_inferiority_exact", `{` + arms + `,"margin_relative":0.1,"preferred_direction":"decrease"}`, `"non_inferior":false`},
		{"switchback_paired_log_ratio", `{"pairs":[{"control":{"num":1,"den":2},"treatment":{"num":0,"den":2}}],"alpha":0.05}`, "log_of_zero"},
		{"bucket_hash_growthbook", `{"cases":[{"seed":"s","value":"v","version":3}]}`, "invalid_parameter"},
		{"cluster_bootstrap_ratio_ci", `{"units":[[1,10],[2,11],[3,9],[1,12]],"alpha":0.05,"replicates":500}`, `"estimate":0.166666`},
		{"cluster_bootstrap_ratio_ci", `{"units":[[1,10]],"alpha":0.05}`, "too_few_units"},
		{"ratio_from_rows", `{"rows":[["a",1,0],["b",2,0]]}`, "zero_denominator"},
		{"ratio_from_rows", `{"rows":[["a",1,10],["b",2,20]]}`, "zero_variance"},
		{"ratio_from_rows", `{"rows":[["a",1],["b",2,20]]}`, `"undefined":true`},
		{"ratio_from_rows", `{"rows":[]}`, "empty_arm"},
		{"off_policy_evaluation", `{"actions":[0,1],"rewards":[1,2],"propensities":[0.5,0.5],"target_probabilities":[[0.5,0.6],[0.5,0.5]]}`, "invalid_propensity"},
		{"off_policy_evaluation", `{"actions":[0,2],"rewards":[1,2],"propensities":[0.5,0.5],"target_probabilities":[[0.5,0.5],[0.5,0.5]]}`, "invalid_parameter"},
		{"off_policy_evaluation", `{"actions":[0,0],"rewards":[1,2],"propensities":[0.5,0.5],"target_probabilities":[[0,1],[0,1]]}`, "no_overlap"},
		{"group_sequential_bounds", `{"information_fractions":[0.5,0.4],"alpha":0.05}`, "invalid_parameter"},
		{"group_sequential_bounds", `{"information_fractions":[0.5,1],"alpha":0.025,"sides":1,"spending":"obf"}`, `"z_bounds":[2.96`},
		{"group_sequential_bounds", `{"information_fractions":[0.5,1],"alpha":0.05,"sides":2,"spending":"power","power_rho":2}`, `"cumulative_alpha":[0.0125,0.05]`},
	} {
		var out bytes.Buffer
		if err := Eval(strings.NewReader(`{"id":"c","method":"`+c.method+`","input":`+c.input+`}`), &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("%s %s gives %s want %s", c.method, c.input, out.String(), c.want)
		}
	}
}

// The bootstrap of the ratio lies on the delta method's interval.
func TestBootstrapCase(t *testing.T) {
	var rows []string
	for i := range 300 {
		rows = append(rows, fmt.Sprintf("[%d,%d]", i*i%97, 100+i*31%203))
	}
	in := fmt.Sprintf(`{"units":[%s],"alpha":0.05,"replicates":4000}`, strings.Join(rows, ","))
	r := Run(Case{Method: "cluster_bootstrap_ratio_ci", Input: json.RawMessage(in)})
	est, lo, hi, se := r["estimate"].(float64), r["ci_lower"].(float64), r["ci_upper"].(float64), r["se"].(float64)
	if math.Abs((hi-lo)/(2*1.96*se)-1) > 0.05 || lo >= est || hi <= est {
		t.Errorf("%v in [%v, %v], se %v", est, lo, hi, se)
	}
}

// A ratio with covariate has the same answer whatever spelling its sums use.
func TestCUPEDRatioSpellings(t *testing.T) {
	arm := func(first, second string) string {
		return `{"n":4,"num_sum":10,"num_sum_squares":30,"den_sum":40,"den_sum_squares":420,"pre_num_sum":9,"pre_num_sum_squares":27,` +
			`"pre_den_sum":41,"pre_den_sum_squares":445,"num_den_sum_products":105,"pre_num_pre_den_sum_products":97,` +
			first + second + `"num_pre_num_sum_products":27,"den_pre_den_sum_products":415}`
	}
	const a, b = `"num_pre_den_sum_products":104,`, `"den_pre_num_sum_products":91,`
	const a2, b2 = `"pre_den_num_sum_products":104,`, `"pre_num_den_sum_products":91,`
	var results []string
	for _, p := range [][2]string{{a, b}, {a2, b2}, {a, b2}, {a2, b}} {
		other := strings.Replace(arm(p[0], p[1]), `"num_sum_squares":30`, `"num_sum_squares":32`, 1)
		r := Run(Case{Method: "two_sample", Input: json.RawMessage(`{"metric":"cuped_ratio","alpha":0.05,"control":` + arm(p[0], p[1]) + `,"treatment":` + other + `}`)})
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if r["undefined"] == true {
			t.Fatalf("%s", out)
		}
		results = append(results, string(out))
	}
	for _, r := range results[1:] {
		if r != results[0] {
			t.Errorf("%s differs from %s", r, results[0])
		}
	}
}

// No input makes Eval panic, hang, or write what is not JSON.
func FuzzEval(f *testing.F) {
	_, cases := readVectors(f)
	for _, v := range cases {
		f.Add(v.Method, string(v.Input))
	}
	f.Add("group_sequential_bounds", `{"information_fractions":[0.1,0.10001,1],"alpha":1e-9,"sides":1}`)
	f.Add("two_sample", `{"metric":"mean","control":{"n":1e15,"sum":"nan"}}`)
	f.Fuzz(func(t *testing.T, method, input string) {
		if len(input) > 4000 {
			return
		}
		name, err := json.Marshal(method)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if Eval(strings.NewReader(`{"id":"f","method":`+string(name)+`,"input":`+input+`}`), &out) != nil {
			return
		}
		for _, line := range bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n")) {
			if len(line) > 0 && !json.Valid(line) {
				t.Fatalf("not JSON: %s", line)
			}
		}
	})
}
