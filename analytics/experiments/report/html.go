package report

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/spillway-live/spillway/analytics/sandbox/plot"
	"github.com/spillway-live/spillway/schemas"
)

//go:embed report.html report.css
var files embed.FS

// Style is the style sheet of the HTML report. It colours light and dark by the reader's wish and by data-theme.
func Style() []byte {
	b, err := files.ReadFile("report.css")
	if err != nil {
		panic(err) // embedded
	}
	return b
}

// templates are read once; they cannot fail in a program whose tests passed.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"span": func(s Span) string { return spanText(s, 1, "") }, "percent": func(s Span) string { return spanText(s, 100, " %") },
	"p": pText, "figure": func(f Figure) string { return figureText(f, 1, "") }, "lost": func(f Figure) string { return figureText(f, 100, " %") },
	"stamp":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") },
	"color":      armColor,
	"whole":      func(v float64) string { return fmt.Sprintf("%.0f", v) },
	"percentage": func(v float64) string { return num(100*v) + " %" },
}).ParseFS(files, "report.html"))

// WriteHTML writes the report as one page that needs nothing else: no other host, no script.
func (r *Report) WriteHTML(w io.Writer) error {
	return r.execute(w, "page")
}

// Fragment is the report as markup for a page around it, which brings Style.
func (r *Report) Fragment() (template.HTML, error) {
	var b bytes.Buffer
	err := r.execute(&b, "report")
	return template.HTML(b.String()), err
}

func (r *Report) execute(w io.Writer, name string) error {
	var b bytes.Buffer // a page is whole or not at all
	if err := templates.ExecuteTemplate(&b, name, r.page()); err != nil {
		return fmt.Errorf("write the report of %s as HTML: %w", r.Experiment.Name, err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// page is what the template is made from.
type page struct {
	*Report
	Style template.CSS
	// Class is the verdict in one word, Headline in a sentence, Next what a reader does now.
	Class, Headline, Next string
	Ran                   string
	Primary               *metricView
	Guards, Others        []metricView
	Curves                []curveView
	Notes                 []string
	Peak                  []metricView // metrics with a role at the busiest hours
	// Names are the arms in order, the first is the control.
	Names []string
}

// metricView is a metric with its pictures.
type metricView struct {
	*MetricReport
	Values, Difference, Lifts template.HTML
	Sentence                  string
	Arm                       []string // names of all arms
	Level                     string   // of the intervals, percent
}

type curveView struct {
	Distribution
	Picture template.HTML
}

func (r *Report) page() *page {
	p := &page{Report: r, Style: template.CSS(Style()), Notes: r.notes(), Ran: ran(r.Until.Sub(r.From))}
	for _, a := range r.Experiment.Arms {
		p.Names = append(p.Names, a.Name)
	}
	p.Class, p.Headline, p.Next = r.headline()
	for i := range r.Metrics {
		v := r.view(&r.Metrics[i])
		switch r.Metrics[i].Role {
		case "primary":
			p.Primary = &v
		case "guardrail":
			p.Guards = append(p.Guards, v)
		default:
			p.Others = append(p.Others, v)
		}
		if r.Metrics[i].Role != "" && r.Metrics[i].Peak != nil {
			p.Peak = append(p.Peak, v)
		}
	}
	for _, d := range r.Distributions {
		p.Curves = append(p.Curves, curveView{d, picture(r.curveChart(&d))})
	}
	return p
}

// ran says how long a run is for people.
func ran(d time.Duration) string {
	if d < 48*time.Hour {
		return hours(d)
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}

// headline says the verdict for people who read no further.
func (r *Report) headline() (class, headline, next string) {
	switch d := &r.Decision; d.Verdict {
	case Ship:
		return "ship", "Ship arm " + d.Arm, "Stop the experiment, decide for the arm and roll it out."
	case Stop:
		return "stop", "Stop: arm " + d.Arm + " is worse", "Stop the experiment. Sessions that play keep their arm; new ones are in none."
	case KeepRunning:
		return "keep", "Keep running", "Leave it alone: nothing can be told yet, and looking does no harm."
	}
	return "cannot", "Cannot tell", "Read why below. What the numbers say must not be used as a result."
}

func (r *Report) view(m *MetricReport) metricView {
	v := metricView{MetricReport: m, Sentence: r.sentence(m), Level: fmt.Sprintf("%.4g", 100*(1-m.Alpha))}
	for _, a := range r.Experiment.Arms {
		v.Arm = append(v.Arm, a.Name)
	}
	if len(m.Looks) > 1 {
		v.Values, v.Difference, v.Lifts = picture(r.valuesChart(m)), picture(r.differenceChart(m)), picture(r.liftChart(m))
	}
	return v
}

// sentence says a metric's comparisons in plain words.
func (r *Report) sentence(m *MetricReport) string {
	var out []string
	for i, c := range m.Comparisons {
		switch {
		case c.Difference.Undefined != "":
			out = append(out, fmt.Sprintf("%s cannot be compared with %s: %s", c.Arm, r.Arms[0].Arm, c.Difference.Undefined))
		default:
			s := fmt.Sprintf("%s: %s %s, %s: %s %s", r.Arms[0].Arm, num(m.Arms[0].Estimate), m.Unit, c.Arm, num(m.Arms[i+1].Estimate), m.Unit)
			if c.Lift.Undefined == "" {
				s += fmt.Sprintf(" (%+.3g %%, between %+.3g %% and %+.3g %%)", 100*c.Lift.Estimate, 100*c.Lift.Lower, 100*c.Lift.Upper)
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}

// armColor is the colour of an arm in every picture.
func armColor(arm int) string { return plot.ColorOf(arm) }

// elapsed gives times since the start in a unit that suits the length of the run.
func (r *Report) elapsed(t time.Time) (float64, string) {
	switch run, d := r.Until.Sub(r.From), t.Sub(r.From); {
	case run < 3*time.Hour:
		return d.Minutes(), "minutes since the start"
	case run < 4*24*time.Hour:
		return d.Hours(), "hours since the start"
	default:
		return d.Hours() / 24, "days since the start"
	}
}

func (r *Report) valuesChart(m *MetricReport) *plot.Chart {
	c := &plot.Chart{Title: m.Name + " of each arm over time", YLabel: m.Unit, Page: true, Fit: true}
	for i, a := range r.Experiment.Arms {
		r.draw(c, m, i, 1, func(l *Look) Span { return l.Arms[i] })
		if s := m.Arms[i]; s.Undefined == "" {
			c.Text += fmt.Sprintf("At the end %s: %s. ", a.Name, spanText(s, 1, " "+m.Unit))
		}
	}
	return c
}

func (r *Report) differenceChart(m *MetricReport) *plot.Chart {
	c := &plot.Chart{Title: m.Name + ", difference from " + r.Arms[0].Arm + " over time, with the interval that holds at every look", YLabel: m.Unit, Page: true, Fit: true}
	for i, end := range m.Comparisons {
		r.draw(c, m, i+1, 1, func(l *Look) Span { return l.Comparisons[i].Sequence })
		if end.Sequence.Undefined == "" {
			c.Text += fmt.Sprintf("At the end %s: %s. ", end.Arm, spanText(end.Sequence, 1, " "+m.Unit))
		}
	}
	return c
}

func (r *Report) liftChart(m *MetricReport) *plot.Chart {
	c := &plot.Chart{Title: m.Name + ", lift over " + r.Arms[0].Arm + " over time", YLabel: "%", Page: true, Fit: true}
	for i, end := range m.Comparisons {
		r.draw(c, m, i+1, 100, func(l *Look) Span { return l.Comparisons[i].Lift })
		if end.Lift.Undefined == "" {
			c.Text += fmt.Sprintf("At the end %s: %s. ", end.Arm, spanText(end.Lift, 100, " %"))
		}
	}
	return c
}

// draw adds a line with its band, in the metric's unit times scale; times at which there is no figure are left out.
func (r *Report) draw(c *plot.Chart, m *MetricReport, color int, scale float64, of func(*Look) Span) {
	l, b := plot.Line{Color: color}, plot.Band{Color: color}
	for i := range m.Looks {
		s := of(&m.Looks[i])
		if s.Undefined != "" {
			continue
		}
		var x float64
		x, c.XLabel = r.elapsed(m.Looks[i].Until)
		l.X, l.Y = append(l.X, x), append(l.Y, s.Estimate*scale)
		b.X, b.Lower, b.Upper = append(b.X, x), append(b.Lower, s.Lower*scale), append(b.Upper, s.Upper*scale)
	}
	c.Lines, c.Bands = append(c.Lines, l), append(c.Bands, b)
}

func (r *Report) curveChart(d *Distribution) *plot.Chart {
	c := &plot.Chart{Title: d.Name + ": share of values up to so many milliseconds", XLabel: "ms", YLabel: "%", Page: true, LogX: true}
	for i, a := range d.Arms {
		l, b := plot.Line{Color: i}, plot.Band{Color: i}
		half := 0.0
		for _, p := range a.Points {
			l.X, l.Y = append(l.X, p.Ms), append(l.Y, 100*p.F)
			b.X, b.Lower, b.Upper = append(b.X, p.Ms), append(b.Lower, 100*p.Lower), append(b.Upper, 100*p.Upper)
			if half == 0 && p.F >= 0.5 {
				half = p.Ms
			}
		}
		if half > 0 {
			c.Text += fmt.Sprintf("Half of %s: up to %s ms. ", a.Arm, num(half))
		}
		c.Lines, c.Bands = append(c.Lines, l), append(c.Bands, b)
	}
	return c
}

// picture is a chart as markup; nothing when it has no line of two points. Names in it are escaped by the chart.
func picture(c *plot.Chart) template.HTML {
	for _, l := range c.Lines {
		if len(l.X) > 1 {
			return template.HTML(c.SVG())
		}
	}
	return ""
}

func figureText(f Figure, scale float64, unit string) string {
	if f.Undefined != "" {
		return "undefined"
	}
	return num(f.Value*scale) + unit
}

// Title is the dimension's name for people.
func (s *Segment) Title() string {
	return map[string]string{"cdn": "CDN", "region": "Region", "isp": "Internet provider", "device": "Device"}[s.Dimension]
}

// MetricTitle names a guardrail's metric for people.
func (s GuardrailState) MetricTitle() string { return title(s.Metric) }

// HarmText says how much worse, or better, the arm is, and what is shown at every look together.
func (s GuardrailState) HarmText() string {
	if s.Shown != "" {
		return s.Shown
	}
	if s.Harm.Undefined != "" || s.Reason != "" {
		return cmp.Or(s.Reason, s.Harm.Undefined)
	}
	m, _ := schemas.MetricNamed(s.Metric)
	text := "worse by " + num(s.Harm.Estimate) + " " + apart(m.Unit)
	if s.Harm.Estimate < 0 {
		text = "better by " + num(-s.Harm.Estimate) + " " + apart(m.Unit)
	}
	if s.Harm.Lower > 0 {
		return text + ", at every look at least " + num(s.Harm.Lower)
	}
	return text + ", no harm shown"
}
