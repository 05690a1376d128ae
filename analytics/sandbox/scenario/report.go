// Package scenario holds the simulations by which routing is judged: a flash
// crowd, an outage, a week with prices, lies, and noise at a threshold. Each
// makes its worlds, runs them and says what came out against what was wanted.
//
// It promises: the same report for the same settings; no I/O. It leaves out
// what the simulator takes for granted (sandbox.Assumptions), which every report
// repeats.
package scenario

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/plot"
)

// Settings of a simulation. The zero value is what docs/benchmarks.md shows.
type Settings struct {
	Seed uint64 `json:"seed"`
	// Viewers is the size: 100,000 at the peak of the crowd, 2,000 in an outage, 40
	// on the mean in the week, 1,000 under attack, 1,000 around the threshold.
	Viewers int `json:"viewers"`
	// Routers is their number; default 10 for the crowd, 1 in the week, 3 elsewhere.
	Routers int `json:"routers"`
	// Jobs is how many runs go at once; default 1.
	Jobs int `json:"-"`
	// Progress is told of the part that is done, 0 to 1, and must be safe for
	// concurrent use; false stops. May be nil.
	Progress func(part float64) bool `json:"-"`
}

// Report is what a scenario found.
type Report struct {
	Scenario    string                     `json:"scenario"`
	Question    string                     `json:"question"`
	Settings    Settings                   `json:"settings"`
	World       []string                   `json:"world"`
	Assumptions []string                   `json:"assumptions"`
	Hours       float64                    `json:"session_hours"`
	Tables      []Table                    `json:"tables"`
	Checks      []Check                    `json:"checks"`
	Runs        map[string]*sandbox.Result `json:"runs"`
	Charts      map[string]*plot.Chart     `json:"-"`
}

// Table is rows for people.
type Table struct {
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Check is a figure against what was wanted.
type Check struct {
	Name string `json:"name"`
	Got  string `json:"got"`
	Want string `json:"want"`
	OK   bool   `json:"ok"`
}

// Passed says whether all checks did.
func (r *Report) Passed() bool {
	for _, c := range r.Checks {
		if !c.OK {
			return false
		}
	}
	return true
}

// WriteText writes the report for a terminal.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", r.Scenario, r.Question)
	for _, l := range r.World {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "\n%s\n%s", t.Title, t.text())
	}
	b.WriteString("\n")
	for _, c := range r.Checks {
		mark := "ok  "
		if !c.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(&b, "%s  %s: %s (wanted: %s)\n", mark, c.Name, c.Got, c.Want)
	}
	fmt.Fprintf(&b, "\nTaken for granted, seed %d, %.0f session-hours:\n", r.Settings.Seed, r.Hours)
	for _, a := range r.Assumptions {
		fmt.Fprintf(&b, "  - %s\n", a)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) text() string {
	width := make([]int, len(t.Columns))
	for _, row := range append([][]string{t.Columns}, t.Rows...) {
		for i, c := range row {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	line := func(row []string) {
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if i == 0 {
				b.WriteString("  " + c + pad)
			} else {
				b.WriteString("  " + pad + c)
			}
		}
		b.WriteString("\n")
	}
	line(t.Columns)
	for _, row := range t.Rows {
		line(row)
	}
	return b.String()
}

// Scenarios by name.
func Scenarios() map[string]func(Settings) (*Report, error) {
	return map[string]func(Settings) (*Report, error){
		"flash": Flash, "outage": Outage, "week": Week, "attack": Attack, "noise": Noise,
	}
}

func newReport(name, question string, s Settings) *Report {
	return &Report{
		Scenario: name, Question: question, Settings: s, Assumptions: sandbox.Assumptions(),
		Runs: map[string]*sandbox.Result{}, Charts: map[string]*plot.Chart{},
	}
}

// job is a world to run under a name.
type job struct {
	name  string
	world sandbox.World
}

// run simulates the jobs, Settings.Jobs at once.
func (r *Report) run(jobs []job) error {
	done := make([]float64, len(jobs))
	var mu sync.Mutex
	var first error
	slots := make(chan struct{}, max(r.Settings.Jobs, 1))
	var wg sync.WaitGroup
	for i := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			w := jobs[i].world
			w.Progress = func(sec float64) bool {
				mu.Lock()
				defer mu.Unlock()
				done[i] = sec / w.Seconds
				all := 0.0
				for _, d := range done {
					all += d
				}
				return first == nil && (r.Settings.Progress == nil || r.Settings.Progress(all/float64(len(jobs))))
			}
			res, err := sandbox.Run(w)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil {
				first = fmt.Errorf("simulate %s: %w", jobs[i].name, err)
			}
			if res != nil {
				r.Runs[jobs[i].name] = res
				r.Hours += res.Hours
			}
			done[i] = 1
		})
	}
	wg.Wait()
	return first
}

func or[T comparable](x, def T) T {
	var zero T
	if x == zero {
		return def
	}
	return x
}

func pct(x float64) string { return fmt.Sprintf("%.2f %%", 100*x) }
