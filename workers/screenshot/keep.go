package screenshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/store"
)

// KeeperRole is the keeper's durable consumer and dead-letter name.
const KeeperRole = "picturekeeper"

// Keeper writes the pictures of streams whose settings want it to an object
// store, and deletes those that have aged out:
//
//	pictures/<app>/<stream>/<block>/<wall_us>_<hash>.jpg
//
// with blocks as those of recordings. What the store does not take waits on the
// bus, an hour long. Any number may run.
type Keeper struct {
	JetStream jetstream.JetStream
	Store     store.Objects
	// SweepEvery is how often what has aged out is deleted; default 1 minute.
	SweepEvery time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// classPictures begins the keys of kept pictures.
const classPictures = "pictures"

// Run keeps pictures until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	def(&k.SweepEvery, time.Minute)
	if k.Logger == nil {
		k.Logger = slog.New(slog.DiscardHandler)
	}
	apps := mirror.New(schemas.BucketApps, schemas.ParseAppSettings, k.Logger)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { _ = apps.Run(ctx, k.JetStream) }) // nil once ctx ends
	select {
	case <-apps.Ready():
	case <-ctx.Done():
		return nil
	}
	keep := func(key schemas.StreamKey) time.Duration {
		if p := schemas.SettingsOf(key, apps.Get).Pictures; p != nil {
			return time.Duration(p.KeepSec) * time.Second
		}
		return 0
	}
	wg.Go(func() { k.sweeps(ctx, keep) })
	return (&workers.Runner{
		JetStream: k.JetStream, Role: KeeperRole, Stream: schemas.StreamPictures, Concurrency: 4, AckWait: 10 * time.Second,
		Handler: workers.Each(func(ctx context.Context, m workers.Message) ([]workers.Output, error) {
			return nil, keepOne(ctx, k.Store, m, keep)
		}),
		Logger: k.Logger, Registerer: k.Registerer,
	}).Run(ctx)
}

func keepOne(ctx context.Context, o store.Objects, m workers.Message, keep func(schemas.StreamKey) time.Duration) error {
	p, err := schemas.ParsePicture(m.Subject, m.Header.Get(schemas.HeaderPicture))
	if err != nil {
		return workers.Reject(err)
	}
	if keep(p.Key()) <= 0 {
		return nil
	}
	key := classPictures + "/" + p.App + "/" + p.Stream + "/" + archive.Block(p.WallUnixUs) + "/" + pictureName(p)
	if err := o.Put(ctx, key, m.Data); err != nil {
		return fmt.Errorf("keep %s: %w", key, err)
	}
	return nil
}

func pictureName(p *schemas.Picture) string {
	return strconv.FormatInt(p.WallUnixUs, 10) + "_" + fmt.Sprintf("%016x", uint64(p.Hash)) + ".jpg"
}

func (k *Keeper) sweeps(ctx context.Context, keep func(schemas.StreamKey) time.Duration) {
	for told := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(k.SweepEvery/2 + rand.N(k.SweepEvery)):
		}
		err := SweepPictures(ctx, k.Store, time.Now(), keep)
		if err != nil && ctx.Err() == nil && !told {
			k.Logger.Warn("cannot delete all pictures that have aged out; trying again", "err", err)
		}
		told = err != nil
	}
}

// SweepPictures deletes the blocks of pictures that ended longer ago than keep
// says for their stream. It goes on after errors.
func SweepPictures(ctx context.Context, o store.Objects, now time.Time, keep func(schemas.StreamKey) time.Duration) error {
	apps, err := o.Dirs(ctx, classPictures+"/")
	if err != nil {
		return err
	}
	var errs []error
	for _, app := range apps {
		streams, err := o.Dirs(ctx, classPictures+"/"+app+"/")
		errs = append(errs, err)
		for _, stream := range streams {
			errs = append(errs, sweepStream(ctx, o, schemas.StreamKey{App: app, Stream: stream}, now, keep))
		}
	}
	return errors.Join(errs...)
}

func sweepStream(ctx context.Context, o store.Objects, key schemas.StreamKey, now time.Time, keep func(schemas.StreamKey) time.Duration) error {
	prefix := classPictures + "/" + key.App + "/" + key.Stream + "/"
	blocks, err := o.Dirs(ctx, prefix)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		at, err := archive.ParseBlock(strings.TrimSuffix(b, "/"))
		if err != nil || at.Add(archive.BlockDuration).After(now.Add(-keep(key))) {
			continue // what was not written by a keeper stays
		}
		for {
			list, err := o.List(ctx, prefix+b+"/", "", 1000)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
			keys := make([]string, len(list))
			for i := range list {
				keys[i] = list[i].Key
			}
			if err := o.Delete(ctx, keys...); err != nil {
				return err
			}
		}
	}
	return nil
}
