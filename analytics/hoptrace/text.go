package hoptrace

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s, %.0f s\n\n", r.Stream, r.Seconds)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "HOP\t\tPARTS\tMISSING\tFAILED\tDELAY p50\tp95\tADDED p50\tp95")
	for i := range r.Hops {
		h := &r.Hops[i]
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", h.Hop, h.Name, h.Parts, h.Missing, h.Failed,
			ms(h.DelayP50Ms), ms(h.DelayP95Ms), ms(h.AddedP50Ms), ms(h.AddedP95Ms))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if len(r.Probes) > 0 {
		fmt.Fprintln(w)
		fmt.Fprintln(tw, "PROBES\tREQUESTS\tFAILED\tFIRST BYTE\tTHROUGHPUT\tSTREAM\tNEWEST PART")
		for _, p := range r.Probes {
			fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%s\t%s\t%s old\n", p.CDN, p.Requests, p.Failed, ms(p.FirstByteP50Ms), mbps(p.ThroughputKbps), mbps(p.BitrateKbps), ms(p.StalenessP50Ms))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	if len(r.Bad) == 0 {
		fmt.Fprintln(w, "No hop is bad.")
	}
	for _, f := range r.Bad {
		fmt.Fprintln(w, "BAD  "+f.Text)
	}
	for _, c := range r.Clocks {
		fmt.Fprintln(w, "CLOCK  "+c)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note: "+n)
	}
	_, err := fmt.Fprintln(w, "Delays count from the moment when ingest had a part's last frame, each by its own machine's clock.")
	return err
}

func mbps(kbps *float64) string {
	if kbps == nil {
		return "-"
	}
	return fmt.Sprintf("%.3g Mbit/s", *kbps/1000)
}

func ms(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", *v)
}
