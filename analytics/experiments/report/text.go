package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// WriteText prints the report for people: what is compared, whether it can be
// trusted, then a block per metric.
func (r *Report) WriteText(w io.Writer) error {
	x := &r.Experiment
	var b strings.Builder
	fmt.Fprintf(&b, "%s", strings.ToUpper(r.Decision.Verdict))
	if r.Decision.Arm != "" && (r.Decision.Verdict == Ship || r.Decision.Verdict == Stop) {
		fmt.Fprintf(&b, ": arm %s", r.Decision.Arm)
	}
	b.WriteByte('\n')
	for _, w := range r.Decision.Why {
		fmt.Fprintf(&b, "  %s\n", w)
	}
	fmt.Fprintf(&b, "\nExperiment %s (%s), unit: %s, salt %s\n", x.Name, x.Status, x.Unit, x.Salt)
	if x.Hypothesis != "" {
		fmt.Fprintf(&b, "Hypothesis: %s\n", x.Hypothesis)
	}
	fmt.Fprintf(&b, "Data from %s to %s UTC; intervals at %g %%%s\n", r.From.Format("2006-01-02 15:04:05"), r.Until.Format("2006-01-02 15:04:05"), 100*(1-r.Alpha), r.primaryLevel())
	fmt.Fprintf(&b, "Intervals of every look are tightest at %.0f units of control and arm\n\n", r.SequenceUnits)
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ARM\tEXPOSED UNITS\tWITH TELEMETRY\tSESSIONS\tREPORTS LOST")
	for i, a := range r.Arms {
		name := a.Arm
		if i == 0 {
			name += " (control)"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\n", name, a.Exposed, a.Units, a.Sessions, figureText(a.Lost, 100, " %"))
	}
	t.Flush()
	if r.SRMP.Undefined != "" {
		fmt.Fprintf(&b, "Split: cannot be checked (%s)\n", r.SRMP.Undefined)
	} else {
		fmt.Fprintf(&b, "Split: p = %.2g, at every look %s (below %g it is not as planned)\n", r.SRMP.Value, pText(r.SRMSequentialP), trusted)
	}
	for _, p := range r.Health.Problems {
		fmt.Fprintf(&b, "PROBLEM: %s; do not trust the comparison\n", p)
	}
	if r.Health.Interference != "" {
		fmt.Fprintf(&b, "WARNING: %s\n", r.Health.Interference)
	}
	for _, n := range r.Health.Notes {
		fmt.Fprintf(&b, "Note: %s\n", n)
	}
	b.WriteByte('\n')
	if len(r.Decision.Guardrails) > 0 {
		t = tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "GUARDRAIL\tARM\tMARGIN\tSTATE\tAGAINST THE CONTROL")
		for _, g := range r.Decision.Guardrails {
			fmt.Fprintf(t, "%s\t%s\t%g %%\t%s\t%s\n", title(g.Metric), g.Arm, 100*g.Margin, g.State, g.HarmText())
		}
		t.Flush()
		b.WriteByte('\n')
	}
	t = tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "METRIC\tARM\tVALUE\tDIFFERENCE\tLIFT\tP\tP, ALL LOOKED AT")
	for i := range r.Metrics {
		m := &r.Metrics[i]
		for j, s := range m.Arms {
			name := ""
			if j == 0 {
				name = m.Name + ", " + m.Unit
				if m.Role != "" {
					name += " (" + m.Role + ")"
				}
			}
			if j == 0 {
				fmt.Fprintf(t, "%s\t%s\t%s\t\t\t\t\n", name, r.Arms[j].Arm, spanText(s, 1, ""))
				continue
			}
			c := &m.Comparisons[j-1]
			holm := "decides"
			if c.Holm.Undefined == "" {
				holm = pText(c.Holm)
			} else if c.P.Undefined != "" {
				holm = "undefined"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, r.Arms[j].Arm, spanText(s, 1, ""), spanText(c.Difference, 1, ""), spanText(c.Lift, 100, " %"), pText(c.P), holm)
		}
	}
	t.Flush()
	r.writeParts(&b)
	if notes := r.notes(); len(notes) > 0 {
		b.WriteString("\nNot computed:\n")
		for _, n := range notes {
			fmt.Fprintf(&b, "  %s\n", n)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// primaryLevel says at what level the primary metric's intervals are, where it is another one.
func (r *Report) primaryLevel() string {
	m := r.primary()
	if m == nil || m.Alpha == r.Alpha {
		return ""
	}
	return fmt.Sprintf(", of the primary metric at %.4g %%, because %d arms may win", 100*(1-m.Alpha), len(m.Comparisons))
}

// notes lists the reasons of undefined figures once each.
func (r *Report) notes() []string {
	var out []string
	seen := map[string]bool{}
	add := func(what, why string) {
		if why != "" && !seen[what+why] {
			seen[what+why] = true
			out = append(out, what+": "+why)
		}
	}
	for i := range r.Metrics {
		m := &r.Metrics[i]
		for j, s := range m.Arms {
			add(m.Name+", "+r.Arms[j].Arm, s.Undefined)
		}
		for _, c := range m.Comparisons {
			if c.Difference.Undefined == "" {
				add(m.Name+", lift of "+c.Arm, c.Lift.Undefined)
			}
		}
	}
	return out
}

func spanText(s Span, scale float64, unit string) string {
	if s.Undefined != "" {
		return "undefined"
	}
	if s.Lower == s.Upper { // all units alike: an interval of no width would pretend certainty
		return num(s.Estimate*scale) + unit + " (no spread)"
	}
	return fmt.Sprintf("%s%s [%s, %s]", num(s.Estimate*scale), unit, num(s.Lower*scale), num(s.Upper*scale))
}

func pText(f Figure) string {
	if f.Undefined != "" {
		return "undefined"
	}
	return fmt.Sprintf("%.2g", f.Value)
}

// num prints three significant digits without an exponent where people read it easily.
func num(v float64) string {
	a := math.Abs(v)
	switch {
	case math.IsInf(v, 0):
		return "unbounded"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1 || a == 0:
		return fmt.Sprintf("%.2f", v)
	case a >= 0.01:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.2g", v)
}
