package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
)

// textLooks is how many looks of the primary metric the terminal shows.
const textLooks = 8

// writeParts prints what is beside the comparison of all data: the primary metric over time, peak hours, segments.
func (r *Report) writeParts(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if m := r.primary(); m != nil && len(m.Looks) > 1 {
		fmt.Fprintf(t, "\n%s OVER TIME, ALL DATA UNTIL (UTC)\tARM\tDIFFERENCE, EVERY LOOK\tLIFT\n", strings.ToUpper(m.Name))
		step := (len(m.Looks) + textLooks - 1) / textLooks
		for i := range m.Looks {
			if (len(m.Looks)-1-i)%step != 0 {
				continue
			}
			for _, c := range m.Looks[i].Comparisons {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", m.Looks[i].Until.Format("2006-01-02 15:04"), c.Arm, spanText(c.Sequence, 1, " "+m.Unit), spanText(c.Lift, 100, " %"))
			}
		}
	}
	header := false
	for i := range r.Metrics {
		m := &r.Metrics[i]
		if m.Peak == nil || m.Role == "" {
			continue
		}
		if !header {
			header = true
			fmt.Fprintf(t, "\nAT THE %d BUSIEST HOURS OF EACH DAY\tARM\tDIFFERENCE\tALL HOURS\n", peakHours)
		}
		for k, c := range m.Peak.Comparisons {
			fmt.Fprintf(t, "%s, %s\t%s\t%s\t%s\n", m.Name, m.Unit, c.Arm, spanText(c.Difference, 1, ""), spanText(m.Comparisons[k].Difference, 1, ""))
		}
	}
	t.Flush()
	r.writeCurves(w)
	if len(r.Segments) > 0 {
		fmt.Fprintf(w, "\nWHO IS HURT, AND WHO GAINS\n%s.\n", r.SegmentsText())
		for _, f := range r.Findings {
			mark := "better"
			if f.Hurt {
				mark = "HURT"
			}
			fmt.Fprintf(w, "  %s: %s; p = %.2g with all comparisons counted\n", mark, plain(f.Text), f.P)
		}
	}
	for i := range r.Segments {
		r.Segments[i].write(w, r.Arms, r.Alpha)
	}
}

func (s *Segment) write(w io.Writer, arms []ArmSize, alpha float64) {
	if len(s.Values) == 0 {
		return
	}
	if s.After != "" {
		fmt.Fprintf(w, "\nBy %s there is no fair comparison: %s.\n", s.Title(), s.After)
	} else if s.Caution != "" {
		fmt.Fprintf(w, "\nBy %s with care: %s.\n", s.Title(), s.Caution)
	} else {
		fmt.Fprintln(w)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tSESSIONS\tMETRIC\tARM\tVALUE\tDIFFERENCE\tLIFT\tP, ALL SEGMENTS\tSHOWN\n", strings.ToUpper(s.Title()))
	for _, v := range s.Values {
		name, sessions := plain(shown(v.Value)), strings.Trim(strings.ReplaceAll(fmt.Sprint(v.Sessions), " ", "/"), "[]")
		for _, m := range v.Metrics {
			for k, a := range m.Arms {
				difference, lift, p, word := "", "", "", ""
				if k > 0 && m.Comparisons != nil {
					c := &m.Comparisons[k-1]
					difference, lift, p, word = spanText(c.Difference, 1, ""), spanText(c.Lift, 100, " %"), pText(c.Holm), m.word(c, alpha)
				}
				fmt.Fprintf(t, "%s\t%s\t%s, %s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, sessions, m.Name, m.Unit, arms[k].Arm, spanText(a, 1, ""), difference, lift, p, word)
				name, sessions = "", ""
			}
		}
	}
	t.Flush()
}

// textShares are the shares of the control's values at which the terminal compares the curves.
var textShares = []float64{0.1, 0.25, 0.5, 0.75, 0.9, 0.95}

// writeCurves prints the distribution functions at a few values, with the bands that hold for all values and looks.
func (r *Report) writeCurves(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i := range r.Distributions {
		d := &r.Distributions[i]
		at := d.values(textShares)
		if len(at) == 0 {
			for _, a := range d.Arms {
				fmt.Fprintf(t, "\n%s, %s: no curve: %s\n", d.Name, a.Arm, a.Undefined)
			}
			continue
		}
		fmt.Fprintf(t, "\n%s: SHARE OF VALUES UP TO", strings.ToUpper(d.Name))
		for _, ms := range at {
			fmt.Fprintf(t, "\t%s ms", num(ms))
		}
		fmt.Fprintln(t)
		for _, a := range d.Arms {
			fmt.Fprint(t, a.Arm)
			for _, ms := range at {
				fmt.Fprintf(t, "\t%s", a.shareText(ms))
			}
			fmt.Fprintln(t)
		}
	}
	t.Flush()
}

// values are those up to which so large shares of the first arm that has a curve lie, each once.
func (d *Distribution) values(shares []float64) []float64 {
	var out []float64
	for i := range d.Arms {
		if len(d.Arms[i].Points) == 0 {
			continue
		}
		for _, share := range shares {
			if ms := d.Arms[i].reaches(share); ms > 0 && !slices.Contains(out, ms) {
				out = append(out, ms)
			}
		}
		return out
	}
	return nil
}

// reaches is the least value of the curve's up to which at least such a share lies; 0: there is none, because that many
// never started.
func (a *ArmDistribution) reaches(share float64) float64 {
	for _, p := range a.Points {
		if p.F >= share {
			return p.Ms
		}
	}
	return 0
}

// shareText is the share of values up to ms, with its band.
func (a *ArmDistribution) shareText(ms float64) string {
	if a.Undefined != "" {
		return "undefined"
	}
	var at CDFPoint
	for _, p := range a.Points {
		if p.Ms > ms {
			break
		}
		at = p
	}
	if at.Ms == 0 {
		return "0 %"
	}
	return spanText(Span{Estimate: at.F, Lower: at.Lower, Upper: at.Upper}, 100, " %")
}

// plain takes what could steer a terminal out of a value that telemetry brought.
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// WriteSQL prints how each metric comes from columns, and the statements that give them, each with its parameters.
func (r *Report) WriteSQL(w io.Writer) error {
	var b strings.Builder
	for i := range r.Metrics {
		fmt.Fprintf(&b, "-- %s, %s: %s\n", r.Metrics[i].Name, r.Metrics[i].Unit, r.Metrics[i].Formula)
	}
	for _, q := range r.Queries {
		fmt.Fprintf(&b, "\n-- %s\n", q.Purpose)
		for _, name := range sortedKeys(q.Parameters) {
			fmt.Fprintf(&b, "-- %s = %s\n", name, q.Parameters[name])
		}
		fmt.Fprintf(&b, "%s;\n", q.SQL)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
