package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// publisherPolicyFlags say when a publisher that reports is asked to send less.
type publisherPolicyFlags struct {
	behind, minFPS float64
	window         time.Duration
	lower          int64
	minBitrate     string
}

// publisherPolicyNames are their names.
var publisherPolicyNames = []string{"publisher-behind", "publisher-window", "publisher-lower", "publisher-min-bitrate", "publisher-min-fps"}

// The policy of an application that only says how far publishers may be behind.
const (
	defaultPublisherWindowSec = 20
	defaultPublisherLower     = 30 // per cent
	defaultPublisherMinBps    = 400_000
)

func (f *publisherPolicyFlags) register(fs *flag.FlagSet) {
	fs.Float64Var(&f.behind, "publisher-behind", 0, "`share` of the time, such as 0.3, that a publisher whose app reports may be behind real time before it is asked to send less; 0: it never is")
	fs.DurationVar(&f.window, "publisher-window", defaultPublisherWindowSec*time.Second, "over how much time that share is taken")
	fs.Int64Var(&f.lower, "publisher-lower", defaultPublisherLower, "by how many `per cent` its bitrate is lowered each time")
	fs.StringVar(&f.minBitrate, "publisher-min-bitrate", "400k", "`bitrate` below which it is not lowered")
	fs.Float64Var(&f.minFPS, "publisher-min-fps", 0, "frame rate that is asked for once the bitrate is at its least; 0: the frame rate is left alone")
}

// edit turns the flags that were given into a change; what is not given keeps its value, or gets its default.
func (f *publisherPolicyFlags) edit(set map[string]bool) (func(*schemas.AppSettings) error, error) {
	given := false
	for _, n := range publisherPolicyNames {
		given = given || set[n]
	}
	if !given {
		return func(*schemas.AppSettings) error { return nil }, nil
	}
	minBps, err := parseRate(f.minBitrate)
	if err != nil {
		return nil, fmt.Errorf("--publisher-min-bitrate: %w", err)
	}
	if f.window%time.Second != 0 {
		return nil, fmt.Errorf("--publisher-window %s: whole seconds are kept", f.window)
	}
	return func(a *schemas.AppSettings) error {
		if set["publisher-behind"] && f.behind == 0 {
			a.PublisherPolicy = nil
			return nil
		}
		p := schemas.PublisherPolicy{WindowSec: defaultPublisherWindowSec, LowerPercent: defaultPublisherLower, MinBitrateBps: defaultPublisherMinBps}
		if a.PublisherPolicy != nil {
			p = *a.PublisherPolicy
		} else if !set["publisher-behind"] {
			return errors.New("publishers are not asked to send less: say from when on, with --publisher-behind, too")
		}
		if set["publisher-behind"] {
			p.BehindShare = f.behind
		}
		if set["publisher-window"] {
			p.WindowSec = int64(f.window / time.Second)
		}
		if set["publisher-lower"] {
			p.LowerPercent = f.lower
		}
		if set["publisher-min-bitrate"] {
			p.MinBitrateBps = minBps
		}
		if set["publisher-min-fps"] {
			p.MinFPS = f.minFPS
		}
		if err := p.Check(); err != nil {
			return err
		}
		a.PublisherPolicy = &p
		return nil
	}, nil
}

// publisherPolicyText writes a policy as the flags that make it.
func publisherPolicyText(p *schemas.PublisherPolicy) []string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	out := []string{
		"--publisher-behind " + number(p.BehindShare), "--publisher-window " + (time.Duration(p.WindowSec) * time.Second).String(),
		fmt.Sprintf("--publisher-lower %d", p.LowerPercent), fmt.Sprintf("--publisher-min-bitrate %d", p.MinBitrateBps),
	}
	if p.MinFPS > 0 {
		out = append(out, "--publisher-min-fps "+number(p.MinFPS))
	}
	return out
}
