// Package hotlist keeps the list of live streams that are worth showing to
// viewers who choose: a stream leaves it while its publisher is in the
// background, its video has stopped, its pictures are black or stand still, or a
// verdict hides it.
//
// It promises that a stream leaves within 3 s of a report that says so or of its
// last frame, and within two picture intervals and 1 s where only pictures tell
// ([look.Pace] says what an interval is where key frames are far apart); that it comes
// back once nothing has been wrong for 5 s; and that each change is told as an
// event, however many processes run and whichever dies. Who reads the list needs
// no process of it: live streams without an entry in the bucket hot are on it.
//
// It leaves out the answer to apps, which is the router's, and what a picture
// shows, which is the screenshot worker's to measure.
package hotlist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/workers"
)

// Role is the service's name.
const Role = "hotlist"

// every is how often streams are looked at.
const every = 250 * time.Millisecond

// atOnce is how many streams' changes are written at a time: when many go black
// together, the last is not to wait for all others.
const atOnce = 16

// forget is when the entry of a stream that has ended is removed.
const forget = 10 * time.Minute

// past is when a stream that nothing was heard of is not looked at any more: the
// bucket has every stream that there ever was.
const past = 24 * time.Hour

// List is the service. Fill in the fields and call Run. Any number may run.
type List struct {
	JetStream  jetstream.JetStream
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	streams    *mirror.Table[*schemas.StreamState]
	recent     *mirror.Recent[*schemas.StreamState]
	publishers *mirror.Table[*schemas.PublisherState]
	reviews    *mirror.Table[*schemas.ReviewState]
	apps       *mirror.Table[*schemas.AppSettings]
	hot        *mirror.Table[*schemas.HotState]
	pictures   pictures
	frames     frames
	off        prometheus.Gauge
	writes     *registry.Registry[schemas.HotState]
}

// Run keeps the list until ctx ends, and then returns nil.
func (l *List) Run(ctx context.Context) error {
	if l.Logger == nil {
		l.Logger = slog.New(slog.DiscardHandler)
	}
	l.off = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: Role, Name: "off", Help: "Live streams that are not on the hot list."})
	if l.Registerer != nil {
		if err := l.Registerer.Register(l.off); err != nil {
			return fmt.Errorf("register metrics of %s: %w", Role, err)
		}
	}
	var err error
	if l.writes, err = registry.Open(ctx, l.JetStream, schemas.BucketHot, schemas.ParseHotState); err != nil {
		return fmt.Errorf("%s: %w", Role, err)
	}
	l.streams = mirror.New(schemas.BucketStreams, schemas.ParseStreamState, l.Logger)
	l.recent = mirror.Recently(l.streams)
	l.publishers = mirror.New(schemas.BucketPublishers, schemas.ParsePublisherState, l.Logger)
	l.reviews = mirror.New(schemas.BucketReviews, schemas.ParseReviewState, l.Logger)
	l.apps = mirror.New(schemas.BucketApps, schemas.ParseAppSettings, l.Logger)
	l.hot = mirror.New(schemas.BucketHot, schemas.ParseHotState, l.Logger)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	follow := func(run func(context.Context, jetstream.JetStream) error) {
		wg.Go(func() { _ = run(ctx, l.JetStream) })
	}
	follow(l.streams.Run)
	follow(l.publishers.Run)
	follow(l.reviews.Run)
	follow(l.apps.Run)
	follow(l.hot.Run)
	wg.Go(func() { l.pictures.follow(ctx, l.JetStream, l.Logger) })
	for _, ready := range []<-chan struct{}{l.streams.Ready(), l.publishers.Ready(), l.reviews.Ready(), l.apps.Ready(), l.hot.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil
		}
	}
	for told := false; ; {
		err := l.round(ctx, time.Now())
		if err != nil && ctx.Err() == nil && !told {
			l.Logger.Warn("the hot list cannot be changed: trying again", "err", err)
		}
		told = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// past reports whether there is nothing to do for a stream until its state changes.
func (l *List) past(key string, s *schemas.StreamState, now time.Time) bool {
	if now.Sub(time.UnixMicro(s.UpdatedUnixUs)) <= past {
		return false
	}
	_, left := l.hot.Get(key) // an entry to remove
	return !left
}

// round judges every stream of late and stores what has changed.
func (l *List) round(ctx context.Context, now time.Time) error {
	var todo errgroup.Group
	todo.SetLimit(atOnce)
	off := 0
	l.frames.begin()
	for key, s := range l.recent.All(func(key string, s *schemas.StreamState) bool { return l.past(key, s, now) }) {
		prev, _ := l.hot.Get(key)
		in := l.inputs(key, s)
		if prev != nil && prev.Off && in.live(now) {
			off++
		}
		switch {
		case prev != nil && !in.live(now) && now.Sub(time.UnixMicro(s.UpdatedUnixUs)) > forget:
			todo.Go(func() error { return l.writes.KV.Delete(ctx, key) })
		case Judge(prev, in, now) != nil:
			todo.Go(func() error { return l.change(ctx, key, in, now) })
		case prev != nil && !prev.Told:
			todo.Go(func() error { return l.tell(ctx, prev) })
		}
		if ctx.Err() != nil {
			break
		}
	}
	l.off.Set(float64(off))
	return todo.Wait()
}

func (l *List) inputs(key string, s *schemas.StreamState) Inputs {
	in := Inputs{Stream: s, NoVideoMs: l.frames.noneMs(s), Picture: l.pictures.get(s.Key()), Settings: schemas.SettingsOf(s.Key(), l.apps.Get).Pictures}
	in.Publisher, _ = l.publishers.Get(key)
	in.Review, _ = l.reviews.Get(key)
	return in
}

var errSame = errors.New("another process was faster")

// change stores a new state on what is there, which may be newer than what was
// seen, and tells of it.
func (l *List) change(ctx context.Context, key string, in Inputs, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	next, err := l.writes.Edit(ctx, key, func(h *schemas.HotState, found bool) error {
		prev := h
		if !found {
			prev = nil
		}
		n := Judge(prev, in, now)
		if n == nil {
			return errSame
		}
		*h = *n
		return nil
	})
	if errors.Is(err, errSame) {
		return nil
	}
	if err != nil {
		return err
	}
	if next.Told {
		return nil
	}
	return l.tell(ctx, next)
}

// tell publishes the event of a state and notes that it is out. Who dies in
// between leaves it to the next; the event's id makes two of them one.
func (l *List) tell(ctx context.Context, h *schemas.HotState) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	e := schemas.Event{
		ID: "hot/" + h.Key().String() + "/" + strconv.FormatInt(h.SinceUs, 10), TimeUs: h.SinceUs, Kind: schemas.EventHotBack,
		App: h.App, Stream: h.Stream, Reason: "nothing has been wrong for " + settle.String(),
	}
	if h.Off {
		e.Kind, e.Reason = schemas.EventHotLeft, strings.Join(h.Reasons, ", ")
		e.Detail = map[string]string{"reasons": strings.Join(h.Reasons, ",")}
	}
	b, err := schemas.EncodeRecord(&e)
	if err != nil {
		return err
	}
	if err := workers.Publish(ctx, l.JetStream, []workers.Output{{Subject: schemas.EventSubject(&e), Data: b, MsgID: e.ID}}, 5*time.Second); err != nil {
		return err
	}
	_, err = l.writes.Edit(ctx, h.Key().KVKey(), func(now *schemas.HotState, found bool) error {
		if !found || now.SinceUs != h.SinceUs || now.Told {
			return errSame
		}
		now.Told = true
		return nil
	})
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}
