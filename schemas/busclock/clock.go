// Package busclock tells the time of the bus, for who compares moments with those
// that the bus stamps on messages or that others have taken from it: so several
// processes agree whatever their own clocks say.
//
// It promises: a time to be read without waiting, that runs on by our own clock
// while the bus is away. Relays compare their clocks with other regions' by the same
// [Offset]. It leaves out how servers of a bus keep their clocks
// together (by NTP): it is the clock of the server that leads one stream.
package busclock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas/nap"
)

const (
	// every is how often the bus is asked, again how soon after it gave no answer.
	every = 30 * time.Second
	again = time.Second
	// asks is how many answers are taken together; the quickest counts.
	asks = 5
	// askTimeout bounds one.
	askTimeout = 2 * time.Second
	// warnFrom is from which difference on the log tells that clocks differ, and warnTo until which it does.
	warnFrom = time.Second
	warnTo   = warnFrom / 2
)

// Settings of a Clock. JS and Stream are required.
type Settings struct {
	JS jetstream.JetStream
	// Stream is the one whose leader is asked.
	Stream string
	// Own is our own clock; default time.Now.
	Own    func() time.Time
	Logger *slog.Logger
}

// Clock tells the bus's time. Make it with New; it tells its own until it has been set.
type Clock struct {
	s      Settings
	begin  time.Time // by our own clock
	wall   time.Time // the same without the monotonic reading
	offset Offset    // against our own clock as it was at begin and ran on: whoever sets the machine's does not move it
	warned bool
}

// New makes a clock.
func New(s Settings) *Clock {
	if s.Own == nil {
		s.Own = time.Now
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	begin := s.Own()
	return &Clock{s: s, begin: begin, wall: begin.Round(0)}
}

// own is our own clock, but for what it was set since begin.
func (c *Clock) own() time.Time { return c.wall.Add(c.s.Own().Sub(c.begin)) }

// Now is the time of the bus, as far as it is known.
func (c *Clock) Now() time.Time {
	ahead, _ := c.offset.Ahead()
	return c.own().Add(ahead)
}

// Ahead is how far the bus's clock is ahead of this machine's, as that is set now; 0 while it is not known.
func (c *Clock) Ahead() time.Duration {
	if _, known := c.offset.Ahead(); !known {
		return 0
	}
	return c.Now().Sub(c.s.Own().Round(0))
}

// Sync asks until the bus has answered once; the error is ctx's.
func (c *Clock) Sync(ctx context.Context) error {
	told := false
	for {
		err := c.ask(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !told {
			told = true
			c.s.Logger.Warn("the bus does not tell its time: waiting for it", "stream", c.s.Stream, "err", err)
		}
		if nap.For(ctx, again) != nil {
			return ctx.Err()
		}
	}
}

// Run keeps the clock set until ctx ends. While the bus is away it goes on as it was.
func (c *Clock) Run(ctx context.Context) error {
	wait, away := every, false
	for nap.For(ctx, wait) == nil {
		err := c.ask(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			wait, away = again, true
			c.offset.Again() // it may come back as another server
			c.s.Logger.Debug("the bus does not tell its time", "stream", c.s.Stream, "err", err)
		case away: // a bus that is just back answers slowly: what it said is asked for once more
			wait, away = again, false
		default:
			wait = every
		}
	}
	return nil
}

// ask sets the clock by what the bus says now: by the quickest of several answers.
func (c *Clock) ask(ctx context.Context) error {
	var at, theirs time.Time
	var took time.Duration
	var errs error
	for range asks {
		a, d, t, err := c.once(ctx)
		if errs = cmp.Or(errs, err); err == nil && (theirs.IsZero() || d < took) {
			at, took, theirs = a, d, t
		}
		if errs != nil { // one that is slow to answer need not be asked five times
			break
		}
	}
	if theirs.IsZero() {
		return errs
	}
	c.offset.Heard(at, took, theirs)
	c.warn()
	return nil
}

func (c *Clock) once(ctx context.Context) (at time.Time, took time.Duration, theirs time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	at = c.own()
	s, err := c.s.JS.Stream(ctx, c.s.Stream)
	took = c.own().Sub(at)
	if err != nil {
		return at, took, theirs, fmt.Errorf("ask the bus for its time: %w", err)
	}
	if theirs = s.CachedInfo().TimeStamp; theirs.IsZero() {
		return at, took, theirs, errors.New("ask the bus for its time: this nats-server does not tell it; use 2.10 or newer")
	}
	return at, took, theirs, nil
}

// warn says in the log when this machine's clock is wrong, or the bus's is.
func (c *Clock) warn() {
	ahead := c.Ahead()
	switch {
	case !c.warned && ahead.Abs() > warnFrom:
		c.warned = true
		c.s.Logger.Warn("clocks differ: the bus's is taken; see that NTP runs here and there", "bus_ahead", ahead.Round(time.Millisecond))
	case c.warned && ahead.Abs() < warnTo:
		c.warned = false
		c.s.Logger.Info("clocks agree again", "bus_ahead", ahead.Round(time.Millisecond))
	}
}
