package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"

	"golang.org/x/net/html"
)

// made is a report without a database, with every part filled and every text hostile.
func made(hostile string) *Report {
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	x := schemas.Experiment{
		Name: hostile, Hypothesis: hostile, Unit: hostile, Salt: hostile, Status: "running",
		Arms: []schemas.Arm{{Name: hostile, Params: map[string]string{hostile: hostile}}, {Name: "b" + hostile}},
	}
	s := Span{Estimate: 2, Lower: 1, Upper: 3}
	c := []Comparison{{Arm: "b" + hostile, Difference: s, Lift: s, Sequence: s}}
	r := &Report{
		Experiment: x, From: at, Until: at.Add(48 * time.Hour), Alpha: 0.05,
		Decision: Decision{Verdict: Ship, Arm: hostile, Why: []string{hostile}, Guardrails: []GuardrailState{{Metric: "stall_ratio", Arm: hostile, State: GuardOpen, Reason: hostile}}},
		Health:   Health{Problems: []string{hostile}, Notes: []string{hostile}, Interference: hostile},
		Arms:     []ArmSize{{Arm: hostile, Exposed: 100}, {Arm: "b" + hostile, Exposed: 100}},
		Queries:  []Query{{Purpose: hostile, SQL: hostile, Parameters: map[string]string{hostile: hostile}}},
		Segments: []Segment{{Dimension: "isp", Values: []SegmentValue{{Value: hostile, Sessions: []int64{1, 2}, Metrics: []SegmentMetric{{Key: "stall_ratio", Name: "stall ratio", Unit: "%", Arms: []Span{s, s}, Comparisons: c}}}}},
			{Dimension: "cdn", After: hostile, Values: []SegmentValue{{Value: hostile, Sessions: []int64{1, 2}}}}},
		Findings: []Finding{{Dimension: "isp", Value: hostile, Arm: hostile, Metric: "stall_ratio", Hurt: true, Text: hostile}, {Dimension: "isp", Text: hostile}}, Compared: 9,
		Distributions: []Distribution{{Key: "latency", Name: hostile, Arms: []ArmDistribution{{Arm: hostile, Points: []CDFPoint{{Ms: 100, F: 0.4, Lower: 0.3, Upper: 0.5}, {Ms: 200, F: 0.9, Lower: 0.8, Upper: 1}}}, {Arm: hostile, Undefined: hostile}}}},
	}
	looks := []Look{{Until: at.Add(time.Hour), Arms: []Span{s, s}, Comparisons: c}, {Until: at.Add(48 * time.Hour), Arms: []Span{s, s}, Comparisons: c}}
	for i, m := range schemas.Metrics() {
		mr := MetricReport{Key: m.Name, Name: m.Title, Unit: m.Unit, Arms: []Span{s, s}, Comparisons: c, Looks: looks, Peak: &looks[1]}
		mr.Role = []string{"primary", "guardrail", ""}[min(i, 2)]
		r.Metrics = append(r.Metrics, mr)
	}
	return r
}

const hostile = `</style></script><script>alert(1)</script>"'><img src=x onerror=alert(1)>`

// The page is one file without script, nothing in it points elsewhere, and names stay names.
func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := made(hostile).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	labels := 0
	z := html.NewTokenizer(bytes.NewReader(b.Bytes()))
	for {
		if z.Next() == html.ErrorToken {
			if !errors.Is(z.Err(), io.EOF) {
				t.Fatal(z.Err())
			}
			break
		}
		tok := z.Token()
		switch tok.Data {
		case "script", "img", "link", "iframe", "object":
			if tok.Type == html.StartTagToken {
				t.Errorf("element %s in the page: %s", tok.Data, tok)
			}
		}
		for _, a := range tok.Attr {
			switch {
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("id %q is used twice", a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			case a.Key == "src" || a.Key == "href" && !strings.HasPrefix(a.Val, "#") || a.Key == "style" || strings.HasPrefix(a.Key, "on"):
				t.Errorf("attribute %s=%q of %s", a.Key, a.Val, tok.Data)
			case tok.Data == "svg" && a.Key == "aria-label":
				labels++
			}
		}
	}
	for _, id := range []string{"decision", "primary", "guardrails", "distributions", "peak", "segments", "health", "metrics", "statistics", "sql", "interference", "hurt"} {
		if !ids[id] {
			t.Errorf("the page has no part %q", id)
		}
	}
	if metrics := len(schemas.Metrics()); labels != 3*metrics+1 {
		t.Errorf("%d pictures with a text, want three for each of %d metrics and one distribution", labels, metrics)
	}
	if m := regexp.MustCompile(`(?i)https?://[a-z0-9.]+`).FindAllString(strings.ReplaceAll(b.String(), "http://www.w3.org/2000/svg", ""), -1); m != nil {
		t.Errorf("the page names hosts: %v", m)
	}
	if d := b.String(); !strings.Contains(d, "prefers-color-scheme: dark") || !strings.Contains(d, `name="viewport"`) || strings.Index(d, "Ship arm") > strings.Index(d, "What decides") {
		t.Error("the page lacks dark colours, a viewport, or the decision at its begin")
	}
	wide := made("plain")
	for i := range wide.Metrics {
		wide.Metrics[i].Alpha = 0.07
	}
	f, err := wide.Fragment()
	if n := strings.Count(string(f), "with 93 % intervals of a single look"); n != 2*len(schemas.Metrics()) || strings.Contains(string(f), "with 95 %") {
		t.Errorf("the level of 93 %% is named %d times", n)
	}
	if err != nil || strings.Contains(string(f), "<style") || !strings.HasPrefix(string(f), "<article") {
		t.Errorf("fragment (%v): %.60s", err, f)
	}
}

// Text, JSON and HTML are views of one model: each names the verdict, the arms and the undefined.
func TestViewsAgree(t *testing.T) {
	r := made("plain")
	r.Metrics[0].Comparisons = []Comparison{{Arm: "bplain", Difference: Span{Undefined: "nobody came"}, Lift: Span{Undefined: "nobody came"}}}
	r.Metrics[0].Arms[1] = Span{Undefined: "nobody came"}
	var text, page bytes.Buffer
	if err := errors.Join(r.WriteText(&text), r.WriteHTML(&page)); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for name, view := range map[string]string{"text": text.String(), "HTML": page.String(), "JSON": string(data)} {
		if !strings.Contains(strings.ToLower(view), "ship") || !strings.Contains(view, "bplain") || !strings.Contains(view, "nobody came") || !strings.Contains(view, `"isp"`) && !strings.Contains(strings.ToLower(view), "internet provider") {
			t.Errorf("%s lacks something:\n%.3000s", name, view)
		}
	}
}

func TestSteps(t *testing.T) {
	from := time.Date(2026, 5, 1, 10, 17, 30, 0, time.UTC)
	for _, d := range []time.Duration{time.Second, 10 * time.Minute, 3 * time.Hour, 26 * time.Hour, 7 * 24 * time.Hour, 90 * 24 * time.Hour, 12 * 365 * 24 * time.Hour} {
		s := newSteps(from, from.Add(d))
		if s.n < 1 || s.n > maxSteps || !s.end(s.n-1).Equal(from.Add(d)) || s.n > 1 && !s.end(s.n-2).Before(from.Add(d)) {
			t.Errorf("%s: %+v, last ends %s", d, s, s.end(s.n-1))
		}
		if s.of(-5) != 0 || s.of(1<<40) != s.n-1 {
			t.Errorf("%s: steps beyond the ends are %d, %d", d, s.of(-5), s.of(1<<40))
		}
	}
}
