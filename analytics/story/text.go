package story

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/workers/router/policy"
)

// tiers are those of candidates that need a word.
var tiers = map[string]string{
	"full": "full", "failing": "failing",
	policy.TierFailingRegion: "failing for viewers of its region", policy.TierFailingISP: "failing for viewers of its provider there",
}

// words says reason codes in plain words.
var words = map[string]string{
	policy.ReasonAffinity:   "the publisher came through it",
	policy.ReasonSpill:      "the publisher's CDN was full, or for this stream",
	policy.ReasonDraining:   "the publisher's CDN takes nobody new",
	policy.ReasonOff:        "the publisher's CDN is off",
	policy.ReasonFailing:    "the CDN it would have been is failing",
	policy.ReasonRule:       "a rule keeps such sessions off the publisher's CDN",
	policy.ReasonRegion:     "it is in the viewer's region",
	policy.ReasonStrong:     "it is registered as strong where the viewer is",
	policy.ReasonOrder:      "it is first in the registry",
	policy.ReasonFull:       "every CDN was full, it least so",
	policy.ReasonAllFailing: "every CDN is failing",
	policy.ReasonScore:      "its score was best",
	policy.ReasonBalance:    "it had the least share of its capacity in use",
	policy.ReasonLot:        "by lot, in proportion to the weights",
	policy.ReasonExplore:    "by lot, so that every CDN stays known",
	policy.ReasonProbe:      "by lot, to see whether it is back",
	policy.ReasonProbed:     "the viewer's own measurement had it answer much sooner than the first choice",
	policy.ReasonStay:       "the session was there",
	policy.ReasonShed:       "the CDN it was on was over its capacity, or over what it may have of this stream",
	policy.ReasonTrial:      "the CDN it was on lost much and nobody was on another, so a few were sent to see how that serves",
	policy.ReasonBetter:     "it had become better than the one it was on",
	policy.ReasonPinned:     "the session asked for it",
	policy.ReasonPinOff:     "the session asked for one that is off",
}

// WriteText tells the story in plain words, oldest first.
func (s *Story) WriteText(w io.Writer) error {
	p := &printer{w: w}
	p.f("Session %s watched %s/%s%s.\n", s.SessionID, s.App, s.Stream, s.who())
	if s.Arms != "" {
		p.f("It was in the experiments %s.\n", strings.ReplaceAll(s.Arms, ",", ", "))
	}
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	for i := range s.Decisions {
		lines = append(lines, line{s.Decisions[i].At, s.Decisions[i].text()})
	}
	for i := range s.Stays {
		lines = append(lines, line{s.Stays[i].From, s.Stays[i].text(i > 0)})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		p.f("\n%s  %s\n", l.at.UTC().Format("2006-01-02 15:04:05.000"), l.text)
	}
	switch s.EndReason {
	case "":
		p.f("\nIt had not ended when this was stored.\n")
	default:
		p.f("\nIt ended: %s.\n", strings.ReplaceAll(s.EndReason, "_", " "))
	}
	return p.err
}

func (s *Story) who() string {
	var out []string
	for _, x := range []struct{ before, v string }{{"from ", s.Region}, {"through ", s.ISP}, {"with ", s.Client}, {"on ", s.Device}} {
		if x.v != "" {
			out = append(out, x.before+x.v)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " " + strings.Join(out, " ")
}

func (d *Decision) text() string {
	verb := "A router sent it to "
	switch {
	case d.Previous == d.Chosen && d.Previous != "":
		verb = "A router left it on "
	case d.Previous != "":
		verb = "A router moved it from " + d.Previous + " to "
	}
	why := words[d.ReasonCode]
	if why == "" {
		why = d.ReasonCode
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s: %s (%s, policy %s %s", verb, d.Chosen, why, d.Kind, d.Policy, d.PolicyVersion)
	if d.Probability < 1 {
		fmt.Fprintf(&b, ", probability %.4g", d.Probability)
	}
	if d.InputAgeMs >= 0 {
		fmt.Fprintf(&b, ", what it knew was %d ms old", d.InputAgeMs)
	}
	b.WriteString(").")
	if d.QueuedMs > 0 {
		fmt.Fprintf(&b, " It had waited %.1f s for a place.", float64(d.QueuedMs)/1000)
	}
	if d.CapBps > 0 {
		fmt.Fprintf(&b, " All was nearly full: it got nothing above %.2f Mbit/s.", float64(d.CapBps)/1e6)
	}
	for _, c := range d.Candidates {
		fmt.Fprintf(&b, "\n    %-12s score %-10.4g %d viewers", c.CDN, c.Score, c.Viewers)
		if c.Load > 0 {
			fmt.Fprintf(&b, ", %.0f %% of its capacity", 100*c.Load)
		}
		if c.Harm > 0 {
			fmt.Fprintf(&b, ", %.2g %% of a view lost", 100*c.Harm)
		}
		if t := tiers[c.Tier]; t != "" {
			b.WriteString(", " + t)
		}
		if c.Excluded != "" {
			fmt.Fprintf(&b, ", out: %s", c.Excluded)
		}
	}
	if d.Repeated > 0 {
		fmt.Fprintf(&b, "\n    said again %d times", d.Repeated)
	}
	return b.String()
}

func (x *Stay) text(moved bool) string {
	cdn := x.CDN
	if cdn == "" {
		cdn = "a CDN that is not known"
	}
	var b strings.Builder
	if moved {
		fmt.Fprintf(&b, "From here on %s served it", cdn)
	} else {
		fmt.Fprintf(&b, "%s served it", cdn)
	}
	fmt.Fprintf(&b, " until %s:", x.To.UTC().Format("15:04:05.000"))
	if x.Starts > 0 {
		fmt.Fprintf(&b, " first picture after %s,", ms(x.StartupMs))
	}
	fmt.Fprintf(&b, " %s played, ", ms(x.PlayedMs))
	switch x.Stalls {
	case 0:
		b.WriteString("no stall")
	case 1:
		fmt.Fprintf(&b, "one stall of %s", ms(x.StalledMs))
	default:
		fmt.Fprintf(&b, "%d stalls of %s together", x.Stalls, ms(x.StalledMs))
	}
	for _, y := range []struct {
		n    int64
		what string
	}{{x.StartFailures, "failed start"}, {x.PlayFailures, "playback failure"}, {x.RequestErrors, "failed request"}, {x.LostReports, "lost report"}} {
		if y.n > 0 {
			fmt.Fprintf(&b, ", %d %s", y.n, y.what)
			if y.n > 1 {
				b.WriteString("s")
			}
		}
	}
	if x.LatencyMs > 0 {
		fmt.Fprintf(&b, ", %s behind live", ms(x.LatencyMs))
	}
	b.WriteString(".")
	return b.String()
}

func ms(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d ms", n)
	}
	return (time.Duration(n) * time.Millisecond).Round(100 * time.Millisecond).String()
}

// printer keeps the first error of many prints.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, a ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, a...)
	}
}
