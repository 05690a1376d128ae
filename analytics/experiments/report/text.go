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
	fmt.Fprintf(&b, "Experiment %s (%s), unit: %s, salt %s\n", x.Name, x.Status, x.Unit, x.Salt)
	if x.Hypothesis != "" {
		fmt.Fprintf(&b, "Hypothesis: %s\n", x.Hypothesis)
	}
	fmt.Fprintf(&b, "Data from %s to %s UTC; intervals at %g %%\n\n", r.From.Format("2006-01-02 15:04:05"), r.Until.Format("2006-01-02 15:04:05"), 100*(1-r.Alpha))
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ARM\tEXPOSED UNITS\tWITH TELEMETRY\tSESSIONS")
	for i, a := range r.Arms {
		name := a.Arm
		if i == 0 {
			name += " (control)"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", name, a.Exposed, a.Units, a.Sessions)
	}
	t.Flush()
	switch {
	case r.SRMP.Undefined != "":
		fmt.Fprintf(&b, "Split: cannot be checked (%s)\n", r.SRMP.Undefined)
	case r.SRMP.Value < 0.001:
		fmt.Fprintf(&b, "Split: NOT as planned (p = %.2g): something assigns or loses units unevenly; do not trust the comparison\n", r.SRMP.Value)
	default:
		fmt.Fprintf(&b, "Split: as planned (p = %.2g)\n", r.SRMP.Value)
	}
	b.WriteByte('\n')
	t = tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "METRIC\tARM\tVALUE\tDIFFERENCE\tLIFT\tP")
	for i := range r.Metrics {
		m := &r.Metrics[i]
		for j, s := range m.Arms {
			name := ""
			if j == 0 {
				name = m.Name + ", " + m.Unit
			}
			if j == 0 {
				fmt.Fprintf(t, "%s\t%s\t%s\t\t\t\n", name, r.Arms[j].Arm, span(s, 1, ""))
				continue
			}
			c := &m.Comparisons[j-1]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", name, r.Arms[j].Arm, span(s, 1, ""), span(c.Difference, 1, ""), span(c.Lift, 100, " %"), pText(c.P))
		}
	}
	t.Flush()
	if notes := r.notes(); len(notes) > 0 {
		b.WriteString("\nNot computed:\n")
		for _, n := range notes {
			fmt.Fprintf(&b, "  %s\n", n)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
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

func span(s Span, scale float64, unit string) string {
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
