package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/analytics/sandbox/source"
	"github.com/spillway-live/spillway/analytics/sandbox/validate"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/workers/router/policy"
)

type sandboxFlags struct {
	base
	recording, exported, traces, holdout, write string
	last                                        time.Duration
	policy                                      string
	start, catchUp, target                      float64
	behind                                      int
	overflow                                    float64
	segment                                     float64
	levels                                      string
	ttl                                         time.Duration
	seed                                        uint64
	validate, sessions, jobs                    int
	asJSON, quiet                               bool
}

func (f *sandboxFlags) register(fs *flag.FlagSet) {
	f.base.register(fs)
	fs.StringVar(&f.recording, "recording", "", "`folder` with recording.json and sessions.ndjson; default: ClickHouse")
	fs.StringVar(&f.exported, "exported", "", "`folder` with v_sessions and, if there, decisions and telemetry as spillway export writes them (.parquet or .arrow); recording.json beside them, or the flags below and the CDN registry, say the rest")
	fs.StringVar(&f.traces, "traces", "", "`folder` of network traces (CSV with t_s and dl_kbps), in place of recorded sessions")
	fs.DurationVar(&f.last, "last", 24*time.Hour, "how much of the past to take from ClickHouse")
	fs.StringVar(&f.holdout, "holdout", "", "`folder` with a recording made under the candidate: the prediction's error is told")
	fs.StringVar(&f.write, "write", "", "`folder` to keep what was read from ClickHouse, for --recording")
	fs.StringVar(&f.policy, "policy", "", "candidate: a policy's `file`, a built-in one's name, or NAME or NAME@VERSION of the registry")
	fs.Float64Var(&f.start, "start-sec", -1, "candidate: seconds of media before the first frame; 0: the first key frame")
	fs.IntVar(&f.behind, "start-behind", 0, "candidate: segments behind the live edge at the start")
	fs.Float64Var(&f.catchUp, "catch-up", -1, "candidate: how much faster to play when late, 0.05 for 5 %")
	fs.Float64Var(&f.target, "target-latency", 0, "candidate: latency above which to catch up, s")
	fs.Float64Var(&f.overflow, "overflow-at", 0, "candidate: share of a CDN's capacity from which on new sessions spill to others (experiments' overflow_at)")
	fs.Float64Var(&f.segment, "segment-sec", 2, "segments of the recorded streams, s (ClickHouse and traces)")
	fs.StringVar(&f.levels, "levels", "", "bitrates on offer, bit/s, comma-separated (ClickHouse and traces)")
	fs.DurationVar(&f.ttl, "steering-ttl", 10*time.Second, "how often players ask (ClickHouse)")
	fs.Uint64Var(&f.seed, "seed", 1, "of what is drawn; the same seed gives the same answer")
	fs.IntVar(&f.validate, "validate", 0, "make up so many `worlds`, predict in each, and tell how often the interval held; uses --traces where given")
	fs.IntVar(&f.sessions, "sessions", 0, "sessions of each world (--validate, default 8000) or on the traces (default 2000)")
	fs.IntVar(&f.jobs, "jobs", 2, "worlds at once (--validate)")
	fs.BoolVar(&f.asJSON, "json", false, "print JSON instead of text")
	fs.BoolVar(&f.quiet, "quiet", false, "no progress on standard error")
}

// sandboxCommand predicts what a policy or a player setting would do.
func (c *commands) sandboxCommand() *ffcli.Command {
	var f sandboxFlags
	return c.command("sandbox", "", "predict from recorded traffic what a routing policy or a player setting would do", 0, f.register, func(ctx ctx, _ []string) error {
		if f.validate > 0 {
			return c.validateSandbox(ctx, &f)
		}
		cand, err := c.candidate(ctx, &f)
		if err != nil {
			return err
		}
		if f.traces != "" {
			return c.sandboxTraces(ctx, &f, cand)
		}
		rec, err := f.read(ctx)
		if err != nil {
			return err
		}
		player := f.player(rec.Player)
		if player != nil {
			cand.Player = player
		}
		cand.OverflowAt = f.overflow
		if cand.Policy == nil && cand.Player == nil {
			return errors.New("there is no candidate: name a policy with --policy, or a player setting such as --start-behind")
		}
		answer := sandboxAnswer{}
		s := predict.Settings{Seed: f.seed, Progress: progress(ctx, c.stderr, f.quiet)}
		if answer.Prediction, err = predict.Predict(rec, cand, s); err != nil {
			return cmp.Or(ctx.Err(), err)
		}
		s.Progress = progress(ctx, c.stderr, f.quiet)
		if answer.SelfErrors, err = predict.SelfCheck(rec, s); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			answer.SelfWhy = err.Error()
		}
		if f.holdout != "" {
			held, err := source.Folder(f.holdout)
			if err != nil {
				return err
			}
			answer.Happened = stallOf(held)
		}
		return c.tellSandbox(&f, &answer)
	})
}

// sandboxAnswer is what is printed.
type sandboxAnswer struct {
	*predict.Prediction
	// SelfErrors are logarithms of predicted to seen of one half of the recording from the other.
	SelfErrors []float64 `json:"self_check_log_errors,omitempty"`
	SelfWhy    string    `json:"self_check_why,omitempty"`
	// Happened is the held-out recording's stall ratio.
	Happened *float64 `json:"happened_stall_ratio,omitempty"`
}

func stallOf(r *predict.Recording) *float64 {
	stalled, all := 0.0, 0.0
	for i := range r.Sessions {
		stalled += r.Sessions[i].StalledSec
		all += r.Sessions[i].StalledSec + r.Sessions[i].PlayedSec
	}
	x := stalled / max(all, 1e-9)
	return &x
}

// read gets the recorded sessions.
func (f *sandboxFlags) read(ctx ctx) (*predict.Recording, error) {
	if f.recording != "" {
		return source.Folder(f.recording)
	}
	if f.exported != "" {
		rec, err := source.Export(f.exported)
		if err != nil || len(rec.CDNs) > 0 {
			return rec, err
		}
		return f.complete(ctx, rec)
	}
	conn, err := f.openClickHouse()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	now := time.Now()
	rec, err := source.ClickHouse(ctx, conn, database, now.Add(-f.last), now)
	if err != nil {
		return nil, err
	}
	return f.complete(ctx, rec)
}

// complete adds what sessions do not say: the player and the CDNs.
func (f *sandboxFlags) complete(ctx ctx, rec *predict.Recording) (_ *predict.Recording, err error) {
	if rec.Player, err = f.basePlayer(); err != nil {
		return nil, err
	}
	rec.SteeringTTLSec = f.ttl.Seconds()
	_, js, err := f.connect(ctx, "spillway-sandbox", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("read the CDN registry: %w", err)
	}
	defer js.Conn().Close()
	r, err := registry.Open(ctx, js, schemas.BucketCDNs, schemas.ParseCDN)
	if err != nil {
		return nil, err
	}
	list, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.Value != nil {
			rec.CDNs = append(rec.CDNs, *e.Value)
		}
	}
	if f.write != "" {
		return rec, source.Write(f.write, rec)
	}
	return rec, nil
}

func (f *sandboxFlags) basePlayer() (sandbox.Player, error) {
	p := sandbox.Player{SegmentSec: f.segment, StartBehind: 3, Levels: []float64{3e6}}
	if f.levels != "" {
		p.Levels = nil
		for s := range strings.SplitSeq(f.levels, ",") {
			var x float64
			if _, err := fmt.Sscan(strings.TrimSpace(s), &x); err != nil || !(x > 0) {
				return p, fmt.Errorf("--levels %q: %q is no bitrate", f.levels, s)
			}
			p.Levels = append(p.Levels, x)
		}
		slices.Sort(p.Levels)
	}
	if !(p.SegmentSec >= 0.1 && p.SegmentSec <= 30) {
		return p, fmt.Errorf("--segment-sec %v: from 0.1 to 30 s", p.SegmentSec)
	}
	return p, nil
}

// player is the base with what the flags change; nil: nothing.
func (f *sandboxFlags) player(p sandbox.Player) *sandbox.Player {
	changed := false
	set := func(to *float64, x float64, given bool) {
		if given {
			*to, changed = x, true
		}
	}
	set(&p.StartSec, f.start, f.start >= 0)
	set(&p.CatchUp, f.catchUp, f.catchUp >= 0)
	set(&p.TargetLatencySec, f.target, f.target > 0)
	if f.behind > 0 {
		p.StartBehind, changed = f.behind, true
	}
	if !changed {
		return nil
	}
	return &p
}

// candidate reads the policy that is to be tried.
func (c *commands) candidate(ctx ctx, f *sandboxFlags) (cand predict.Candidate, err error) {
	if f.policy == "" {
		return cand, nil
	}
	name, _, _ := strings.Cut(f.policy, "@")
	if schemas.CheckName("policy name", name) != nil || strings.ContainsAny(f.policy, "./") {
		p, err := c.readPolicy(f.policy)
		if err != nil {
			return cand, err
		}
		cand.Policy, err = policy.Compile(*p)
		return cand, err
	}
	var found *schemas.Policy
	err = policyKind.with(ctx, &f.base, func(r *policyRegistry) error {
		found, err = control.ResolvePolicy(ctx, r, f.policy)
		return err
	})
	if built := policy.Builtin(name); err != nil && name == f.policy && built != nil && (f.recording != "" || f.exported != "") {
		fmt.Fprintf(c.stderr, "the registry cannot be read (%v): the built-in policy %s is meant\n", err, name)
		return predict.Candidate{Policy: built}, nil
	}
	if err != nil {
		return cand, err
	}
	if found == nil {
		return cand, fmt.Errorf("there is no policy %s in the registry, and none of that name and version is built in; see spillway policy list", f.policy)
	}
	cand.Policy, err = policy.Compile(*found)
	return cand, err
}

func (c *commands) sandboxTraces(ctx ctx, f *sandboxFlags, cand predict.Candidate) error {
	traces, err := source.Traces(f.traces)
	if err != nil {
		return err
	}
	p, err := f.basePlayer()
	if err != nil {
		return err
	}
	cand.Player = f.player(p)
	answer := sandboxAnswer{SelfWhy: "traces hold no sessions to check against"}
	answer.Prediction, err = predict.PredictOnTraces(traces, cand, predict.TraceSettings{Settings: predict.Settings{Seed: f.seed, Progress: progress(ctx, c.stderr, f.quiet)}, Sessions: f.sessions, Base: p})
	if err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	return c.tellSandbox(f, &answer)
}

func (c *commands) tellSandbox(f *sandboxFlags, a *sandboxAnswer) error {
	if f.asJSON {
		return c.printJSON(a)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\tRECORDED\tPREDICTED\t95 % INTERVAL")
	line := func(name, format string, scale float64, i predict.Interval) {
		if !i.Bounded() {
			fmt.Fprintf(w, "%s\t"+format+"\t"+format+"\tnot bounded\n", name, scale*i.Recorded, scale*i.Value)
			return
		}
		fmt.Fprintf(w, "%s\t"+format+"\t"+format+"\t"+format+" to "+format+"\n", name, scale*i.Recorded, scale*i.Value, scale*i.Low, scale*i.High)
	}
	line("stall ratio", "%.3f %%", 100, a.StallRatio)
	line("first screen, mean", "%.3f s", 1, a.FirstScreenSec)
	line("latency, mean", "%.2f s", 1, a.LatencySec)
	if len(a.Share) > 0 {
		line("cost, USD per GB", "%.5f", 1, a.CostUSDPerGB)
	}
	switch {
	case a.OffPolicy != nil:
		line("stall ratio, off-policy", "%.3f %%", 100, *a.OffPolicy)
	case a.OffPolicyWhy != "":
		fmt.Fprintf(w, "stall ratio, off-policy\tnone: %s\t\t\n", a.OffPolicyWhy)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Share)) {
		fmt.Fprintf(c.stdout, "%.1f %% of new sessions to %s\n", 100*a.Share[name], name)
	}
	if len(a.SelfErrors) > 0 {
		for i, e := range a.SelfErrors {
			fmt.Fprintf(c.stdout, "self-check, half %d from the other: stall ratio off by %+.0f %%\n", i+1, 100*(math.Exp(e)-1))
		}
	} else {
		fmt.Fprintf(c.stdout, "self-check: none: %s\n", a.SelfWhy)
	}
	if a.Happened != nil {
		in := "inside"
		if *a.Happened < a.StallRatio.Low || *a.Happened > a.StallRatio.High {
			in = "outside"
		}
		fmt.Fprintf(c.stdout, "held-out recording: stall ratio %.3f %%, %s the interval, prediction off by %+.0f %%\n", 100**a.Happened, in, 100*(a.StallRatio.Value / *a.Happened - 1))
	}
	switch h := a.StallRatio.HalfWidth(); {
	case !a.StallRatio.Bounded():
		fmt.Fprintln(c.stdout, "the stall ratio is not bounded: nobody stalls in the simulator, and so many sessions do not say how rare it is")
	case h > validate.MaxHalfWidth:
		fmt.Fprintf(c.stdout, "the interval is wide (+- %.0f %%): record about %.0f times as many sessions\n", 100*h, math.Pow(h/validate.MaxHalfWidth, 2))
	}
	fmt.Fprintf(c.stdout, "%d recorded sessions, %.0f simulated session-hours; the interval holds sampling and a model error of %.0f %%\n", a.Sessions, a.Hours, 100*predict.ModelError)
	return nil
}

// validateSandbox measures how often predictions hold.
func (c *commands) validateSandbox(ctx ctx, f *sandboxFlags) error {
	s := validate.Settings{Cases: f.validate, Sessions: f.sessions, Seed: f.seed, Jobs: f.jobs, Progress: progress(ctx, c.stderr, f.quiet)}
	if f.traces != "" {
		traces, err := source.Traces(f.traces)
		if err != nil {
			return err
		}
		s.Traces = validate.Normalise(traces)
	}
	r, err := validate.Run(s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		return c.printJSON(r)
	}
	return tellValidation(c.stdout, r)
}

func tellValidation(out io.Writer, r *validate.Report) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CASE\tWORLD\tCANDIDATE\tPREDICTED\tINTERVAL\tHAPPENED\t")
	for i := range r.Cases {
		x := &r.Cases[i]
		if x.Refused != "" {
			fmt.Fprintf(w, "%d\t%s\t%s\trefused: %s\t\t\t\n", x.Number, x.World, x.Candidate, x.Refused)
			continue
		}
		mark := ""
		if !x.Covered() {
			mark = "outside"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%.2f %%\t%.2f to %.2f %%\t%.2f %%\t%s\n", x.Number, x.World, x.Candidate, 100*x.Predicted.Value, 100*x.Predicted.Low, 100*x.Predicted.High, 100*x.Happened, mark)
	}
	fmt.Fprintf(w, "\n%d asked, %d refused, %d answered with an interval wider than +- %.0f %% (%d of them held)\n", r.Asked, r.Refused, r.Wide, 100*validate.MaxHalfWidth, r.CoveredWide)
	fmt.Fprintf(w, "of the other %d the stall ratio that happened was inside the interval in %d, %.1f %%; median half width %.0f %%, median error %.0f %%\n",
		r.Answered, r.Covered, 100*float64(r.Covered)/float64(max(r.Answered, 1)), 100*r.MedianHalfWidth, 100*r.MedianError)
	fmt.Fprintf(w, "of all %d asked, %d (%.1f %%) were answered within +- %.0f %% and held; %.0f session-hours were simulated\n",
		r.Asked, r.Covered, 100*float64(r.Covered)/float64(max(r.Asked, 1)), 100*validate.MaxHalfWidth, r.Hours)
	fmt.Fprintf(w, "first screen inside in %.1f %%, latency in %.1f %%; model error beyond sampling %.3f\n", 100*r.FirstScreenCovered, 100*r.LatencyCovered, r.ModelError)
	return w.Flush()
}
