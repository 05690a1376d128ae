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
	for i := range r.Segments {
		r.Segments[i].write(w, r.Arms)
	}
}

func (s *Segment) write(w io.Writer, arms []ArmSize) {
	if len(s.Values) == 0 {
		return
	}
	if s.After != "" {
		fmt.Fprintf(w, "\nBy %s there is no fair comparison: %s.\n", s.Title(), s.After)
	} else {
		fmt.Fprintln(w)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tSESSIONS\tMETRIC\tARM\tVALUE\tLIFT\tP, ALL SEGMENTS\n", strings.ToUpper(s.Title()))
	for _, v := range s.Values {
		name, sessions := plain(v.Value), strings.Trim(strings.ReplaceAll(fmt.Sprint(v.Sessions), " ", "/"), "[]")
		if name == "" {
			name = "(not known)"
		}
		for _, m := range v.Metrics {
			for k, a := range m.Arms {
				lift, p := "", ""
				if k > 0 && m.Comparisons != nil {
					lift, p = spanText(m.Comparisons[k-1].Lift, 100, " %"), pText(m.Comparisons[k-1].Holm)
				}
				fmt.Fprintf(t, "%s\t%s\t%s, %s\t%s\t%s\t%s\t%s\n", name, sessions, m.Name, m.Unit, arms[k].Arm, spanText(a, 1, ""), lift, p)
				name, sessions = "", ""
			}
		}
	}
	t.Flush()
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

// WriteSQL prints the statements behind the figures, each with its parameters.
func (r *Report) WriteSQL(w io.Writer) error {
	var b strings.Builder
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
